// Which Gaussians reach which tile: lists in index order.
#pragma once

#include <cstdint>
#include <vector>

#include "tile_reach.h"

namespace imagegs {

constexpr int kMaxSide = 1 << 24; // px; pixel centres are floats

// Throws std::length_error when the output has more pixels than can be numbered.
TileGrid make_grid(int height, int width, int tile_height, int tile_width);

// One Gaussian in one tile. Slots number the pairs Gaussian by Gaussian, so that a backward pass can leave each pair's
// partial sums in its slot and add them up in an order that does not depend on the threads.
struct Entry {
  int32_t gaussian;
  int32_t slot;
};

struct Bins {
  std::vector<Splat> splats;        // [N]
  std::vector<int64_t> first_slot;  // [N + 1]
  std::vector<int64_t> first_entry; // [tiles + 1]
  std::vector<Entry> entries;       // [pairs], by tile, then by Gaussian
};

// Inputs of a render; colors are looked at only to leave out Gaussians whose colour is not finite.
struct GaussianArrays {
  int64_t count;          // N
  int channels;           // C
  const float *means;     // [N, 2] px
  const float *scales;    // [N, 2] px
  const float *rotations; // [N] rad
  const float *colors;    // [N, C]
};

// Throws std::length_error when there are more pairs than a slot can number.
void bin(const GaussianArrays &gaussians, const Viewport &view, const TileGrid &grid, Bins &out,
         float inset = kCenters);

} // namespace imagegs
