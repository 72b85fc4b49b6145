// Structural similarity (Wang, Bovik, Sheikh, Simoncelli 2004): value and gradient in two sweeps. 11 x 11 Gaussian window
// of standard deviation 1.5; outside the picture both images are zero. Compiled once per instruction set.
//
// With E the windowed mean, S = f(E[x], E[x^2], E[xy]); the first sweep leaves S's derivatives in those three, the second
// carries them back through the (symmetric) window: dS/dx = E[m] + 2 x E[a] + y E[b].
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
constexpr int kBlockHeight = 32, kBlockWidth = 128;              // pixels that one item of work answers for
constexpr int kRows = kBlockHeight + 2 * kReach;                 // with halo
constexpr int kStride = kBlockWidth + 2 * kReach + kLanes;       // rows of halo and a vector's overhang
constexpr float kC1 = 0.01f * 0.01f, kC2 = 0.03f * 0.03f;

struct Window {
  float taps[kTaps];
  Window() {
    double total = 0.0, value[kTaps];
    for (int k = 0; k < kTaps; k++) total += value[k] = std::exp(-0.5 * (k - kReach) * (k - kReach) / (kSigma * kSigma));
    for (int k = 0; k < kTaps; k++) taps[k] = float(value[k] / total);
  }
};

struct Block {
  int top, left, height, width; // px
};

// One plane's block with its halo, zero outside the picture.
void fetch(const float *plane, int height, int width, const Block &block, float *out) {
  std::fill_n(out, kRows * kStride, 0.0f);
  const int first = std::max(0, block.left - kReach), last = std::min(width, block.left + block.width + kReach);
  for (int r = 0; r < kRows; r++) {
    const int y = block.top - kReach + r;
    if (y < 0 || y >= height) continue;
    const float *row = plane + size_t(y) * width;
    std::copy(row + first, row + last, out + r * kStride + (first - (block.left - kReach)));
  }
}

// Windowed mean of the product of two fetched blocks (or of one, if b is null): [kBlockHeight, kBlockWidth].
void blur(const Window &window, const float *a, const float *b, const Block &block, float *rows, float *out) {
  const int height = block.height + 2 * kReach;
  Floats tap[kTaps];
  for (int k = 0; k < kTaps; k++) tap[k] = Floats(window.taps[k]);
  for (int r = 0; r < height; r++)
    for (int x = 0; x < block.width; x += kLanes) {
      Floats total(0.0f);
      for (int k = 0; k < kTaps; k++) {
        const int at = r * kStride + x + k;
        total = fma(b ? load(a + at) * load(b + at) : load(a + at), tap[k], total);
      }
      store(rows + r * kBlockWidth + x, total);
    }
  for (int r = 0; r < block.height; r++)
    for (int x = 0; x < block.width; x += kLanes) {
      Floats total(0.0f);
      for (int k = 0; k < kTaps; k++) total = fma(load(rows + (r + k) * kBlockWidth + x), tap[k], total);
      store(out + r * kBlockWidth + x, total);
    }
}

struct Workspace {
  std::vector<float> x = std::vector<float>(kRows * kStride), y = x;
  std::vector<float> rows = std::vector<float>(kRows * kBlockWidth);
  std::vector<float> mean[5] = {std::vector<float>(kBlockHeight * kBlockWidth), mean[0], mean[0], mean[0], mean[0]};
};

} // namespace

// Adds scale * weight * dS/dimage to v_image (if not null); returns the sum of weight * S over planes and pixels.
double ssim(int planes, int height, int width, const float *image, const float *target, const float *weights, float scale,
            float *v_image) {
  static const Window window;
  const int down = (height + kBlockHeight - 1) / kBlockHeight, across = (width + kBlockWidth - 1) / kBlockWidth;
  const size_t size = size_t(height) * width;
  const auto block_of = [&](int item) {
    const int top = item / across * kBlockHeight, left = item % across * kBlockWidth;
    return Block{top, left, std::min(kBlockHeight, height - top), std::min(kBlockWidth, width - left)};
  };
  std::vector<double> sums(size_t(down) * across);
  std::vector<float> derivatives(v_image ? 3 * size : 0);
  std::vector<std::unique_ptr<Workspace>> scratch(kMaxThreads);
  const auto workspace = [&](int thread) -> Workspace & {
    if (!scratch[thread]) scratch[thread] = std::make_unique<Workspace>();
    return *scratch[thread];
  };
  double total = 0.0;
  for (int plane = 0; plane < planes; plane++) {
    const float *x = image + size * plane, *y = target + size * plane;

    // 1. S and its derivatives in E[x], E[x^2], E[xy]
    parallel_for(down * across, [&](int item, int thread) {
      const Block block = block_of(item);
      Workspace &work = workspace(thread);
      fetch(x, height, width, block, work.x.data());
      fetch(y, height, width, block, work.y.data());
      const float *const px = work.x.data(), *const py = work.y.data();
      const float *const factors[5][2] = {{px, nullptr}, {py, nullptr}, {px, px}, {py, py}, {px, py}};
      for (int i = 0; i < 5; i++)
        blur(window, factors[i][0], factors[i][1], block, work.rows.data(), work.mean[i].data());
      double sum = 0.0;
      for (int r = 0; r < block.height; r++)
        for (int c = 0; c < block.width; c++) {
          const int at = r * kBlockWidth + c;
          const size_t pixel = size_t(block.top + r) * width + block.left + c;
          const float mx = work.mean[0][at], my = work.mean[1][at];
          const float vxx = work.mean[2][at] - mx * mx, vyy = work.mean[3][at] - my * my, vxy = work.mean[4][at] - mx * my;
          const float a1 = 2 * mx * my + kC1, a2 = 2 * vxy + kC2, b1 = mx * mx + my * my + kC1, b2 = vxx + vyy + kC2;
          const float inverse = 1.0f / (b1 * b2), s = a1 * a2 * inverse;
          const float weight = weights ? weights[pixel] : 1.0f;
          sum += weight * s;
          if (!v_image) continue;
          const float in_xx = -s / b2, in_xy = 2 * a1 * inverse;
          const float in_mx = 2 * my * a2 * inverse - 2 * mx * s / b1;
          derivatives[pixel] = weight * (in_mx - 2 * mx * in_xx - my * in_xy);
          derivatives[size + pixel] = weight * in_xx;
          derivatives[2 * size + pixel] = weight * in_xy;
        }
      sums[item] = sum;
    });
    for (const double sum : sums) total += sum;
    if (!v_image) continue;

    // 2. back through the window
    parallel_for(down * across, [&](int item, int thread) {
      const Block block = block_of(item);
      Workspace &work = workspace(thread);
      for (int i = 0; i < 3; i++) {
        fetch(derivatives.data() + size * i, height, width, block, work.x.data());
        blur(window, work.x.data(), nullptr, block, work.rows.data(), work.mean[i].data());
      }
      for (int r = 0; r < block.height; r++)
        for (int c = 0; c < block.width; c++) {
          const int at = r * kBlockWidth + c;
          const size_t pixel = size_t(block.top + r) * width + block.left + c;
          v_image[size * plane + pixel] +=
              scale * (work.mean[0][at] + 2 * x[pixel] * work.mean[1][at] + y[pixel] * work.mean[2][at]);
        }
    });
  }
  return total;
}

} // namespace imagegs::IMAGEGS_ISA
