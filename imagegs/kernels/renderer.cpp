#include "renderer.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "parallel.h"

namespace imagegs {

namespace {

constexpr int64_t kMaxTopKList = 1 << 24; // list positions are kept as floats

int64_t longest_list(const Bins &bins) {
  int64_t longest = 0;
  for (size_t tile = 0; tile + 1 < bins.first_entry.size(); tile++)
    longest = std::max(longest, bins.first_entry[tile + 1] - bins.first_entry[tile]);
  return longest;
}

// A sum that overflowed says nothing about the way to go.
float finite_or_zero(double value) {
  const float rounded = float(value);
  return std::isfinite(rounded) ? rounded : 0.0f;
}

} // namespace

// More channels mean more planes a tile: fewer rows keep them in the first-level cache.
int tile_height(int channels) { return channels <= 4 ? 32 : (channels <= 10 ? 16 : 8); }

void Renderer::prepare(const GaussianArrays &gaussians, int height, int width, const Viewport &view, int blend,
                       int top_k) {
  kept_ = false;
  plan_.grid = {}; // should the lists not fit in memory, there is nothing to draw
  gaussians_ = {};
  const TileGrid grid = make_grid(height, width, tile_height(gaussians.channels), kTileWidth);
  bin(gaussians, view, grid, plan_.bins);
  if (blend == kTopK && longest_list(plan_.bins) >= kMaxTopKList)
    throw std::length_error("too many Gaussians in one tile for the blend topk");
  gaussians_ = gaussians;
  plan_.grid = grid;
  plan_.view = view;
  plan_.channels = gaussians.channels;
  plan_.blend = blend;
  plan_.top_k = top_k;
}

ForwardArrays Renderer::arrays(const float *background, float *image, bool keep) {
  const size_t pixels = size_t(plan_.grid.height) * plan_.grid.width;
  const bool top_k = plan_.blend == kTopK;
  if (keep) {
    total_.resize(pixels);
    threshold_.resize(top_k ? pixels : 0);
    last_.resize(top_k ? pixels : 0);
  }
  return {gaussians_.colors,
          background,
          image,
          keep ? total_.data() : nullptr,
          keep && top_k ? threshold_.data() : nullptr,
          keep && top_k ? last_.data() : nullptr};
}

void Renderer::forward(const float *background, float *image, bool keep) {
  kernels().forward(plan_, arrays(background, image, keep));
  kept_ = keep;
}

LossSums Renderer::backward(const float *background, float *image, const Loss &loss, bool fused, const Gradients &out) {
  const int64_t n = gaussians_.count, width = kMomentCount + plan_.channels;
  const int tiles = plan_.grid.count();
  partials_.resize(size_t(pairs()) * width);
  v_background_.resize(size_t(tiles) * plan_.channels);
  sums_.resize(tiles);
  ForwardArrays from = arrays(background, image, !fused);
  kernels().backward(plan_, from, loss, fused, {partials_.data(), v_background_.data(), sums_.data()});

  // add up the pairs of every Gaussian, in slot order
  constexpr int64_t kChunk = 256;
  parallel_for(int((n + kChunk - 1) / kChunk), [&](int chunk, int) {
    for (int64_t i = chunk * kChunk; i < std::min(n, (chunk + 1) * kChunk); i++) {
      double sums[kMomentCount + kMaxChannels] = {};
      for (int64_t slot = plan_.bins.first_slot[i]; slot < plan_.bins.first_slot[i + 1]; slot++)
        for (int64_t k = 0; k < width; k++) sums[k] += partials_[slot * width + k];
      float *v_local = out.local + i * kLocalGradients;
      if (plan_.bins.first_slot[i] == plan_.bins.first_slot[i + 1]) {
        std::fill_n(v_local, kLocalGradients, 0.0f);
      } else {
        const Moments moments{float(sums[0]), float(sums[1]), float(sums[2]),
                              float(sums[3]), float(sums[4]), float(sums[5])};
        local_gradient(moments, plan_.bins.splats[i], gaussians_.scales + 2 * i, gaussians_.rotations[i], plan_.view,
                       v_local);
        for (int k = 0; k < kLocalGradients; k++) v_local[k] = finite_or_zero(v_local[k]);
      }
      for (int c = 0; c < plan_.channels; c++)
        out.colors[i * plan_.channels + c] = finite_or_zero(sums[kMomentCount + c]);
    }
  });
  LossSums total{0.0, 0.0};
  std::vector<double> background_sum(plan_.channels);
  for (int tile = 0; tile < tiles; tile++) {
    total.loss += sums_[tile].loss;
    total.squared_error += sums_[tile].squared_error;
    for (int c = 0; c < plan_.channels; c++) background_sum[c] += v_background_[size_t(tile) * plan_.channels + c];
  }
  for (int c = 0; c < plan_.channels; c++)
    out.background[c] = plan_.blend == kSum ? 0.0f : finite_or_zero(background_sum[c]);
  return total;
}

void Renderer::removal(const float *background, float *image, const Loss &loss, float *growth) {
  partials_.resize(pairs());
  kernels().removal(plan_, arrays(background, image, true), loss, partials_.data());
  for (int64_t i = 0; i < gaussians_.count; i++) {
    double sum = 0.0;
    for (int64_t slot = plan_.bins.first_slot[i]; slot < plan_.bins.first_slot[i + 1]; slot++) sum += partials_[slot];
    growth[i] = float(sum);
  }
}

} // namespace imagegs
