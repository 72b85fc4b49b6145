// Structural similarity (Wang et al. 2004) of one plane on a GPU, value and gradient in two sweeps; see ssim.cpp for
// the mathematics. A block is a tile, a thread one of its pixels; the tile and its halo lie in shared memory, where
// they are blurred along the rows and then down the columns.
#include "device.h"

using namespace imagegs;

namespace {

constexpr int kReach = 5, kTaps = 2 * kReach + 1;
constexpr int kSide = kTileSide + 2 * kReach; // of the tile with its halo
constexpr float kC1 = 0.01f * 0.01f, kC2 = 0.03f * 0.03f;

struct Corner {
  int left, top;
};

__device__ __forceinline__ Corner this_corner(int width) {
  const int columns = (width + kTileSide - 1) / kTileSide;
  return {int(blockIdx.x) % columns * kTileSide, int(blockIdx.x) / columns * kTileSide};
}

// The window's mean of a field [kSide][kSide] at the thread's pixel. Every thread of the block must call it; when it
// returns, all of them have read the field.
__device__ __forceinline__ float blur(const float (*field)[kSide], const float *taps) {
  __shared__ float rows[kSide][kTileSide];
  const int thread = int(threadIdx.x);
  __syncthreads(); // the field is there, the rows before have been used
  for (int k = thread; k < kSide * kTileSide; k += kBlock) {
    const int row = k / kTileSide, column = k % kTileSide;
    float sum = 0.0f;
    for (int tap = 0; tap < kTaps; tap++) sum = fmaf(field[row][column + tap], taps[tap], sum);
    rows[row][column] = sum;
  }
  __syncthreads();
  float sum = 0.0f;
  for (int tap = 0; tap < kTaps; tap++) sum = fmaf(rows[thread / kTileSide + tap][thread % kTileSide], taps[tap], sum);
  return sum;
}

} // namespace

// S, and its derivatives in E[x], E[x^2] and E[xy].
extern "C" __global__ void __launch_bounds__(kBlock) ssim_forward(int height, int width,
                                                                  const float *image,   // [H, W]
                                                                  const float *target,  // [H, W]
                                                                  const float *weights, // [H, W] or null
                                                                  const float *taps,    // [11]
                                                                  // outputs
                                                                  float *derivatives, // [3, H, W] or null
                                                                  float *tile_sums    // [tiles] sums of weight * S
) {
  __shared__ float x[kSide][kSide], y[kSide][kSide], product[kSide][kSide], sums[kWarps];
  const Corner corner = this_corner(width);
  const int thread = int(threadIdx.x);
  for (int k = thread; k < kSide * kSide; k += kBlock) {
    const int row = corner.top + k / kSide - kReach, column = corner.left + k % kSide - kReach;
    const bool inside = row >= 0 && row < height && column >= 0 && column < width;
    const size_t at = size_t(inside ? row : 0) * width + (inside ? column : 0);
    x[k / kSide][k % kSide] = inside ? image[at] : 0.0f;
    y[k / kSide][k % kSide] = inside ? target[at] : 0.0f;
  }
  const float mx = blur(x, taps), my = blur(y, taps);
  for (int k = thread; k < kSide * kSide; k += kBlock) {
    const float a = x[k / kSide][k % kSide], b = y[k / kSide][k % kSide];
    product[k / kSide][k % kSide] = fmaf(a, a, b * b);
  }
  const float squared = blur(product, taps);
  for (int k = thread; k < kSide * kSide; k += kBlock)
    product[k / kSide][k % kSide] = x[k / kSide][k % kSide] * y[k / kSide][k % kSide];
  const float crossed = blur(product, taps);

  const int row = corner.top + thread / kTileSide, column = corner.left + thread % kTileSide;
  const bool inside = row < height && column < width;
  const size_t at = size_t(row) * width + column, plane = size_t(height) * width;
  const float mxy = mx * my, squares = fmaf(mx, mx, my * my), vxy = crossed - mxy;
  const float a1 = mxy + mxy + kC1, a2 = vxy + vxy + kC2, b1 = squares + kC1, b2 = squared - squares + kC2;
  const float by_b1 = 1.0f / b1, by_b2 = 1.0f / b2, by_both = by_b1 * by_b2, s = a1 * a2 * by_both;
  const float weight = !inside ? 0.0f : (weights ? weights[at] : 1.0f);
  if (inside && derivatives) {
    const float in_xx = -s * by_b2, in_xy = 2.0f * a1 * by_both, half = my * a2 * by_both - mx * s * by_b1;
    derivatives[at] = weight * fmaf(-my, in_xy, fmaf(-2.0f * mx, in_xx, 2.0f * half));
    derivatives[plane + at] = weight * in_xx;
    derivatives[2 * plane + at] = weight * in_xy;
  }
  const float sum = warp_sum(weight * s);
  if (thread % kWarp == 0) sums[thread / kWarp] = sum;
  __syncthreads();
  if (thread == 0) {
    float total = 0.0f;
    for (int w = 0; w < kWarps; w++) total += sums[w];
    tile_sums[blockIdx.x] = total;
  }
}

// Carries the derivatives back through the window, which is symmetric.
extern "C" __global__ void __launch_bounds__(kBlock) ssim_backward(int height, int width,
                                                                   const float *image,       // [H, W]
                                                                   const float *target,      // [H, W]
                                                                   const float *derivatives, // [3, H, W]
                                                                   const float *taps,        // [11]
                                                                   float scale,
                                                                   // outputs
                                                                   float *v_image // [H, W], added to
) {
  __shared__ float field[kSide][kSide];
  const Corner corner = this_corner(width);
  const int thread = int(threadIdx.x);
  const size_t plane = size_t(height) * width;
  float means[3];
  for (int f = 0; f < 3; f++) {
    for (int k = thread; k < kSide * kSide; k += kBlock) {
      const int row = corner.top + k / kSide - kReach, column = corner.left + k % kSide - kReach;
      const bool inside = row >= 0 && row < height && column >= 0 && column < width;
      field[k / kSide][k % kSide] = inside ? derivatives[plane * f + size_t(row) * width + column] : 0.0f;
    }
    means[f] = blur(field, taps);
  }
  const int row = corner.top + thread / kTileSide, column = corner.left + thread % kTileSide;
  if (row >= height || column >= width) return;
  const size_t at = size_t(row) * width + column;
  const float v_pixel = fmaf(target[at], means[2], fmaf(2.0f * image[at], means[1], means[0]));
  v_image[at] = fmaf(scale, v_pixel, v_image[at]);
}
