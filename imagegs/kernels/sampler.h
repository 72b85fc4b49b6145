// Colours at single points: what a texture unit would do. Each point looks at the list of its cell, a few pixels wide.
#pragma once

#include <vector>

#include "tiles.h"

namespace imagegs {

class Sampler {
public:
  // Lists the Gaussians of every cell of a canvas; copies what it needs.
  Sampler(const GaussianArrays &gaussians, int height, int width, int cell, int blend, int top_k);

  // Blends at points [count, 2], canvas pixels; those off the canvas look at the nearest point on it. Writes colors
  // [count, C] and, if not null, how many Gaussians each point looked at and how many of them it took, costs [count,
  // 2].
  void sample(int64_t count, const float *points, const float *background, float *colors, int32_t *costs) const;

  int channels() const { return channels_; }
  int64_t pairs() const { return int64_t(bins_.entries.size()); }

private:
  TileGrid grid_;
  Bins bins_;
  std::vector<float> colors_; // [N, C]
  int channels_, blend_, top_k_;
};

} // namespace imagegs
