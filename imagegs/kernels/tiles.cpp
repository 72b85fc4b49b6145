#include "tiles.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "parallel.h"

namespace imagegs {
namespace {

constexpr size_t kMaxPairs = std::numeric_limits<int32_t>::max();
constexpr const char *kTooManyPairs = "too many pairs of Gaussian and tile";

} // namespace

TileGrid make_grid(int height, int width, int tile_height, int tile_width) {
  if (height > kMaxSide || width > kMaxSide ||
      int64_t(height / tile_height + 1) * (width / tile_width + 1) > std::numeric_limits<int32_t>::max())
    throw std::length_error("the output is too large");
  return {height,
          width,
          tile_height,
          tile_width,
          (height + tile_height - 1) / tile_height,
          (width + tile_width - 1) / tile_width};
}

void bin(const GaussianArrays &gaussians, const Viewport &view, const TileGrid &grid, Bins &out, float inset) {
  const int64_t n = gaussians.count;
  if (n > int64_t(kMaxPairs)) throw std::length_error("too many Gaussians");
  const int tiles = grid.count();
  // Chunks of consecutive Gaussians; a tile's list joins the chunks in order, so their number does not matter.
  const int chunks = int(std::clamp<int64_t>(n / 256, 1, threads()));
  std::vector<std::vector<int32_t>> found(chunks); // tiles of a chunk's Gaussians, one after another
  std::vector<std::vector<int64_t>> place(chunks); // [tiles] pairs in the chunk, then where they go
  out.splats.resize(n);
  out.first_slot.assign(n + 1, 0);
  const auto range = [&](int chunk) { return std::pair(n * chunk / chunks, n * (chunk + 1) / chunks); };

  // 1. prepare every Gaussian, list its tiles
  parallel_for(chunks, [&](int chunk, int) {
    auto &mine = found[chunk];
    auto &histogram = place[chunk];
    histogram.assign(tiles, 0);
    const auto [begin, end] = range(chunk);
    for (int64_t i = begin; i < end; i++) {
      Splat splat = prepare(gaussians.means + 2 * i, gaussians.scales + 2 * i, gaussians.rotations[i], view);
      if (!finite_row(gaussians.colors + i * gaussians.channels, gaussians.channels)) splat.extent_x = -1.0f;
      out.splats[i] = splat;
      const size_t before = mine.size();
      visit_tiles(
          splat, grid,
          [&](int first, int last, int row) {
            for (int column = first; column < last; column++) {
              mine.push_back(row * grid.columns + column);
              histogram[row * grid.columns + column]++;
            }
          },
          inset);
      out.first_slot[i + 1] = int64_t(mine.size() - before);
      if (mine.size() > kMaxPairs) throw std::length_error(kTooManyPairs);
    }
  });

  // 2. prefix sums: slots by Gaussian, entries by tile and chunk
  for (int64_t i = 0; i < n; i++) out.first_slot[i + 1] += out.first_slot[i];
  if (out.first_slot[n] > int64_t(kMaxPairs)) throw std::length_error(kTooManyPairs);
  out.first_entry.resize(size_t(tiles) + 1);
  int64_t total = 0;
  for (int tile = 0; tile < tiles; tile++) {
    out.first_entry[tile] = total;
    for (int chunk = 0; chunk < chunks; chunk++) {
      const int64_t count = place[chunk][tile];
      place[chunk][tile] = total;
      total += count;
    }
  }
  out.first_entry[tiles] = total;

  // 3. fill the lists
  out.entries.resize(total);
  parallel_for(chunks, [&](int chunk, int) {
    const auto [begin, end] = range(chunk);
    size_t at = 0;
    for (int64_t i = begin; i < end; i++)
      for (int64_t slot = out.first_slot[i]; slot < out.first_slot[i + 1]; slot++)
        out.entries[place[chunk][found[chunk][at++]]++] = {int32_t(i), int32_t(slot)};
  });
}

} // namespace imagegs
