// From the sums that pairs of Gaussian and tile have left to the gradients of Gaussians.
#include "device.h"

using namespace imagegs;

// Adds up the slots of every Gaussian, in their order. A warp is a Gaussian, a lane one of the sums.
extern "C" __global__ void sum_slots(long long count, int columns,
                                     const long long *first_slot, // [N + 1]
                                     long long capacity,          // slots that there are; others were left out
                                     const float *partials,       // [capacity, columns]
                                     // outputs
                                     float *sums // [N, columns]
) {
  const long long i = ((long long)blockIdx.x * blockDim.x + threadIdx.x) / kWarp;
  if (i >= count) return;
  const long long begin = first_slot[i], end = first_slot[i + 1] < capacity ? first_slot[i + 1] : capacity;
  for (int column = int(threadIdx.x) % kWarp; column < columns; column += kWarp) {
    double sum = 0.0;
    for (long long slot = begin; slot < end; slot++) sum += partials[slot * columns + column];
    sums[i * columns + column] = float(sum);
  }
}

// Turns moments into gradients in the Gaussian's own frame. A thread is a Gaussian.
extern "C" __global__ void finish(long long count, int channels,
                                  const Splat *splats,    // [N]
                                  const float *scales,    // [N, 2]
                                  const float *rotations, // [N]
                                  double x0, double y0, double step_x, double step_y,
                                  const float *sums, // [N, kMomentCount + C]
                                  // outputs
                                  float *v_local, // [N, 5]
                                  float *v_colors // [N, C]
) {
  const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= count) return;
  const float *sum = sums + i * (kMomentCount + channels);
  float local[kLocalGradients] = {};
  const Splat splat = splats[i];
  if (splat.extent_x >= 0.0f)
    local_gradient({sum[0], sum[1], sum[2], sum[3], sum[4], sum[5]}, splat, scales + 2 * i, rotations[i],
                   {x0, y0, step_x, step_y}, local);
  for (int k = 0; k < kLocalGradients; k++) v_local[i * kLocalGradients + k] = finite_or_zero(local[k]);
  for (int c = 0; c < channels; c++) v_colors[i * channels + c] = finite_or_zero(sum[kMomentCount + c]);
}
