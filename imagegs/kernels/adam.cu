// Adam (Kingma and Ba 2015) and steps in Gaussians' own frames, on a GPU. What changes from step to step is read from
// the device, so that a captured graph can be replayed: clock = factor of the rates, 1 - beta1^step, 1 - beta2^step.
#include "device.h"

using namespace imagegs;

// A thread is a number.
extern "C" __global__ void adam(long long count,
                                const float *gradient, // [count]
                                const float *clock,    // [3]
                                float beta1, float beta2, float epsilon,
                                // outputs
                                float *first,  // [count] both moments take in the gradient
                                float *second, // [count]
                                float *update  // [count]
) {
  const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= count) return;
  const float g = gradient[i];
  const float m = fmaf(beta1, first[i], (1.0f - beta1) * g), v = fmaf(beta2, second[i], (1.0f - beta2) * g * g);
  first[i] = m;
  second[i] = v;
  update[i] = m * (1.0f / clock[1]) / (sqrtf(v * (1.0f / clock[2])) + epsilon);
}

// Moves Gaussians by -rates * factor * update in their own frames; scales stay in [low, high] px. A thread is a
// Gaussian.
extern "C" __global__ void apply_local(long long count,
                                       const float *update, // [N, 5]
                                       const float *clock,  // [3]
                                       float position, float scale, float rotation, float low, float high,
                                       // outputs
                                       float *means,    // [N, 2]
                                       float *scales,   // [N, 2]
                                       float *rotations // [N]
) {
  const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= count) return;
  const float *step = update + i * kLocalGradients;
  const float factor = clock[0], c = cosf(rotations[i]), s = sinf(rotations[i]);
  const float along = position * factor * step[0] * scales[2 * i];
  const float across = position * factor * step[1] * scales[2 * i + 1];
  means[2 * i] -= c * along - s * across;
  means[2 * i + 1] -= s * along + c * across;
  for (int axis = 0; axis < 2; axis++)
    scales[2 * i + axis] = clamped(scales[2 * i + axis] * expf(-scale * factor * step[2 + axis]), low, high);
  rotations[i] -= rotation * factor * step[4];
}
