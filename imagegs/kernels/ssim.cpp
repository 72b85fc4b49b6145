// Structural similarity (Wang, Bovik, Sheikh, Simoncelli 2004): value and gradient in two sweeps. 11 x 11 Gaussian
// window of standard deviation 1.5; outside the picture both images are zero. Compiled once per instruction set.
//
// With E the windowed mean, S = f(E[x], E[y], E[x^2 + y^2], E[xy]); the first sweep leaves S's derivatives in E[x],
// E[x^2] and E[xy], the second carries them back through the (symmetric) window: dS/dx = E[m] + 2 x E[a] + y E[b].
//
// One block is one item of work. Its means are taken a few rows at a time, down the columns and then along the rows, so
// that what lies between the two stays in the first-level cache and nothing is blurred twice.
#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "parallel.h"
#include "render.h"
#include "simd.h"

namespace imagegs::IMAGEGS_ISA {
namespace {

constexpr int kLanes = Floats::kLanes;
constexpr int kReach = 5, kTaps = 2 * kReach + 1;
constexpr float kSigma = 1.5f;
constexpr int kGroup = kLanes == 16 ? 4 : 2;                   // rows whose sums fit in the registers
constexpr int kHalo = (kReach + kLanes - 1) / kLanes * kLanes; // whole vectors on either side
constexpr int kBlockHeight = 32, kBlockWidth = 256;            // pixels that one item of work answers for
constexpr int kStride = kHalo + kBlockWidth + kHalo;
constexpr float kC1 = 0.01f * 0.01f, kC2 = 0.03f * 0.03f;
static_assert(kBlockHeight % kGroup == 0 && kBlockWidth % kLanes == 0);

struct Window {
  float taps[kTaps];
  Window() {
    double total = 0.0, value[kTaps];
    for (int k = 0; k < kTaps; k++)
      total += value[k] = std::exp(-0.5 * (k - kReach) * (k - kReach) / (kSigma * kSigma));
    for (int k = 0; k < kTaps; k++) taps[k] = float(value[k] / total);
  }
};

struct Block {
  int top, left, height, width; // px
};

// Windowed means of F fields of pictures of height x width pixels, a vector at a time. read(row, column, count, field)
// makes the fields [F] of a vector of pixels, of which count are inside; write(row, column, mean) takes their means
// [F].
template <int F, typename Read, typename Write>
void blur(const Window &window, int height, int width, const Block &block, Read read, Write write) {
  alignas(64) float columns[F][kGroup][kStride]; // blurred downwards
  Floats tap[kTaps];
  for (int k = 0; k < kTaps; k++) tap[k] = Floats(window.taps[k]);
  for (int top = block.top; top < block.top + block.height; top += kGroup) {
    for (int x = -kHalo; x < block.width + kHalo; x += kLanes) {
      Floats sum[kGroup][F];
      for (int g = 0; g < kGroup; g++)
        for (int f = 0; f < F; f++) sum[g][f] = Floats(0.0f);
      const int column = block.left + x;
      if (column >= 0 && column < width) {
#pragma GCC unroll 16
        for (int k = 0; k < kTaps + kGroup - 1; k++) {
          const int row = top - kReach + k;
          if (row < 0 || row >= height) continue;
          Floats field[F];
          read(row, column, width - column, field);
#pragma GCC unroll 4
          for (int g = 0; g < kGroup; g++)
            if (k >= g && k - g < kTaps)
              for (int f = 0; f < F; f++) sum[g][f] = fma(field[f], tap[k - g], sum[g][f]);
        }
      }
      for (int g = 0; g < kGroup; g++)
        for (int f = 0; f < F; f++) store(&columns[f][g][kHalo + x], sum[g][f]);
    }
    for (int g = 0; g < std::min(kGroup, block.top + block.height - top); g++)
      for (int x = 0; x < block.width; x += kLanes) {
        Floats mean[F];
        for (int f = 0; f < F; f++) {
          const float *from = &columns[f][g][kHalo - kReach + x];
          mean[f] = load(from) * tap[0];
#pragma GCC unroll 10
          for (int k = 1; k < kTaps; k++) mean[f] = fma(load(from + k), tap[k], mean[f]);
        }
        write(top + g, block.left + x, mean);
      }
  }
}

} // namespace

// Adds scale * weight * dS/dimage to v_image (if not null); returns the sum of weight * S over planes and pixels.
double ssim(int planes, int height, int width, const float *image, const float *target, const float *weights,
            float scale, float *v_image) {
  static const Window window;
  const int down = (height + kBlockHeight - 1) / kBlockHeight, across = (width + kBlockWidth - 1) / kBlockWidth;
  const size_t size = size_t(height) * width;
  const size_t stride = size_t(width + kLanes - 1) / kLanes * kLanes, padded = stride * height; // whole vectors
  std::vector<double> sums(size_t(down) * across);
  const std::unique_ptr<float[]> derivatives(v_image ? new float[3 * padded] : nullptr); // in E[x], E[x^2], E[xy]
  const auto for_blocks = [&](const auto &task) {
    parallel_for(down * across, [&](int item, int) {
      const int top = item / across * kBlockHeight, left = item % across * kBlockWidth;
      task(item, Block{top, left, std::min(kBlockHeight, height - top), std::min(kBlockWidth, width - left)});
    });
  };
  const Floats zero(0.0f), one(1.0f), c1(kC1), c2(kC2), gain(scale);
  double total = 0.0;
  for (int plane = 0; plane < planes; plane++) {
    const float *x = image + size * plane, *y = target + size * plane;
    float *const v = v_image ? v_image + size * plane : nullptr;

    // 1. S and its derivatives
    for_blocks([&](int item, const Block &block) {
      double sum_block = 0.0;
      Floats sum_row = zero;
      const auto read = [&](int row, int column, int count, Floats *field) {
        const size_t at = size_t(row) * width + column;
        field[0] = load_first(x + at, count);
        field[1] = load_first(y + at, count);
        field[2] = fma(field[0], field[0], field[1] * field[1]);
        field[3] = field[0] * field[1];
      };
      const auto write = [&](int row, int column, const Floats *mean) {
        const int count = width - column;
        const Floats mx = mean[0], my = mean[1], mxy = mx * my, squares = fma(mx, mx, my * my);
        const Floats vxy = mean[3] - mxy, a1 = mxy + mxy + c1, a2 = vxy + vxy + c2;
        const Floats b1 = squares + c1, b2 = mean[2] - squares + c2;
        const Floats by_b1 = one / b1, by_b2 = one / b2, by_both = by_b1 * by_b2, s = a1 * a2 * by_both;
        Floats weight = weights ? load_first(weights + size_t(row) * width + column, count) : one;
        if (count < kLanes) weight = where(Floats(float(count)) > lane_index(), weight);
        sum_row = fma(weight, s, sum_row);
        if (v) {
          const Floats in_xx = zero - s * by_b2, in_xy = (a1 + a1) * by_both, half = my * a2 * by_both - mx * s * by_b1;
          const Floats in_x = fnma(my, in_xy, fnma(mx + mx, in_xx, half + half));
          float *at = &derivatives[size_t(row) * stride + column];
          store(at, weight * in_x);
          store(at + padded, weight * in_xx);
          store(at + 2 * padded, weight * in_xy);
        }
        if (column + kLanes >= block.left + block.width) { // a row at most is added up in float
          sum_block += sum(sum_row);
          sum_row = zero;
        }
      };
      blur<4>(window, height, width, block, read, write);
      sums[item] = sum_block;
    });
    for (const double sum : sums) total += sum;
    if (!v) continue;

    // 2. back through the window
    for_blocks([&](int, const Block &block) {
      const auto read = [&](int row, int column, int, Floats *field) {
        const float *at = &derivatives[size_t(row) * stride + column];
        for (int i = 0; i < 3; i++) field[i] = load(at + padded * i);
      };
      const auto write = [&](int row, int column, const Floats *mean) {
        const size_t at = size_t(row) * width + column;
        const int count = width - column;
        const Floats px = load_first(x + at, count), py = load_first(y + at, count);
        const Floats v_pixel = fma(py, mean[2], fma(px + px, mean[1], mean[0]));
        store_first(v + at, fma(gain, v_pixel, load_first(v + at, count)), count);
      };
      blur<3>(window, height, width, block, read, write);
    });
  }
  return total;
}

} // namespace imagegs::IMAGEGS_ISA
