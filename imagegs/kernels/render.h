// Rendering, its loss and its gradient on the CPU. One tile is one item of work; a thread keeps a tile's planes in its
// cache.
//
// Forward adds every Gaussian of a tile's list, row by row of its support, to the tile's planes (sum of weights, C sums
// of weighted colours), then divides. It saves the sum of weights and, for top-K, each pixel's threshold: the K-th
// largest weight and the last list position that is taken at exactly that weight. Backward recomputes the weights (same
// code, same bits) and leaves six moments and C colour sums in the slot of each pair of Gaussian and tile; they are
// added up per Gaussian in slot order, so results do not depend on the number of threads.
#pragma once

#include <cstdint>
#include <vector>

#include "tiles.h"

namespace imagegs {

constexpr int kTileWidth = 64;
constexpr int kMomentCount = 6;

struct RenderPlan {
  TileGrid grid;
  Bins bins;
  Viewport view;
  int channels, blend, top_k;
};

struct Loss {
  const float *target;  // [C, H, W] or null
  const float *weights; // [H, W] or null
  const float *v_image; // [C, H, W], gradient that comes from elsewhere, or null
  float l1, l2;         // loss = mean over pixels and channels of weight * (l1 |d| + l2 d^2)
};

struct LossSums {
  double loss;          // sum over pixels and channels of weight * (l1 |d| + l2 d^2)
  double squared_error; // sum over pixels and channels of d^2, the render clamped to [0, 1]
};

struct ForwardArrays {
  const float *colors;     // [N, C]
  const float *background; // [C]
  // outputs
  float *image;     // [C, H, W]
  float *total;     // [H, W] sum of weights; null when no backward pass follows
  float *threshold; // [H, W] top-K only, else null
  float *last;      // [H, W] top-K only, else null
};

struct BackwardArrays {
  float *partials;     // [slots, kMomentCount + C]
  float *v_background; // [tiles, C]
  LossSums *sums;      // [tiles]
};

// The operations in each instruction set; kernels() picks the best this machine runs.
struct Kernels {
  const char *name;
  void (*forward)(const RenderPlan &, const ForwardArrays &);
  // fused: also renders each tile first, so that its planes stay in the cache; the image is then left out if null
  void (*backward)(const RenderPlan &, const ForwardArrays &, const Loss &, bool fused, const BackwardArrays &);
  // Growth of the weighted squared error without each Gaussian, by slot [slots]; after forward()
  void (*removal)(const RenderPlan &, const ForwardArrays &, const Loss &, float *partials);
  // Structural similarity (Wang et al. 2004), 11 x 11 Gaussian window, zeros outside: see ssim.cpp
  double (*ssim)(int planes, int height, int width, const float *image, const float *target, const float *weights,
                 float scale, float *v_image);
  // Adam (Kingma and Ba 2015) on flat arrays: see adam.cpp
  void (*adam)(int64_t count, const float *gradient, float *first, float *second, float beta1, float beta2,
               float epsilon, float correction1, float correction2, float *update);
};

const Kernels &kernels();
// Chooses an instruction set by name ("avx512", "avx2", "baseline", "auto"); false if this machine cannot run it.
bool select_kernels(const char *name);

int tile_height(int channels);

} // namespace imagegs
