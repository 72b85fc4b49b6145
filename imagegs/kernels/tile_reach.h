// Which tiles a Gaussian's support reaches: an exact test of ellipse against tile, shared by every backend. Includes
// nothing when compiled by NVRTC.
#pragma once

#include "gaussian2d.h"

namespace imagegs {

struct TileGrid {
  int height, width;           // output, px
  int tile_height, tile_width; // px
  int rows, columns;           // in tiles
  IMAGEGS_INLINE int count() const { return rows * columns; }
};

// How far from a pixel's edges the points lie that are drawn: its centre alone, or any point of it.
constexpr float kCenters = 0.5f, kAnywhere = 0.0f;

// First and last + 1 pixel of [0, size) whose points, from j + inset to j + 1 - inset, lie between low and high in
// part.
struct Span {
  int begin, end;
};

IMAGEGS_INLINE float clamped(float value, float low, float high) {
  return value < low ? low : (high < value ? high : value);
}

IMAGEGS_INLINE Span pixels_between(float low, float high, int size, float inset) {
  const float begin = ceil(low - (1.0f - inset)), end = floor(high - inset) + 1.0f;
  return {int(clamped(begin, 0.0f, float(size))), int(clamped(end, 0.0f, float(size)))};
}

// Half width of the support at dy, px.
IMAGEGS_INLINE float half_width(const Splat &splat, float dy) {
  const float left = kRadius * kRadius - splat.row_precision * dy * dy;
  return left > 0.0f ? sqrt(left / splat.precision) : 0.0f;
}

// Calls visit(first tile column, last + 1, tile row) for every row of tiles of which the Gaussian's support reaches
// points.
template <typename Visit>
IMAGEGS_INLINE void visit_tiles(const Splat &splat, const TileGrid &grid, Visit visit, float inset = kCenters) {
  if (!(splat.extent_x >= 0.0f)) return;
  const Span y = pixels_between(splat.mean_y - splat.extent_y, splat.mean_y + splat.extent_y, grid.height, inset);
  const float margin = 1e-3f + 1e-5f * splat.extent_x; // the row-wise test of the renderer decides; this may not miss
  for (int row = y.begin / grid.tile_height; row * grid.tile_height < y.end; row++) {
    const int row_top = row * grid.tile_height, row_bottom = row_top + grid.tile_height;
    const int top = y.begin > row_top ? y.begin : row_top, bottom = y.end < row_bottom ? y.end : row_bottom;
    const float low = float(top) + inset - splat.mean_y, high = float(bottom) - inset - splat.mean_y;
    // the support's part in this band is convex: its tips, if inside, else the nearer edge of the band
    const float right_dy = clamped(splat.tip_dy, low, high), left_dy = clamped(-splat.tip_dy, low, high);
    const float right = splat.mean_x + splat.slope * right_dy + half_width(splat, right_dy) + margin;
    const float left = splat.mean_x + splat.slope * left_dy - half_width(splat, left_dy) - margin;
    const Span x = pixels_between(left, right, grid.width, inset);
    if (x.begin < x.end) visit(x.begin / grid.tile_width, (x.end - 1) / grid.tile_width + 1, row);
  }
}

} // namespace imagegs
