// Which Gaussians reach which tile, on a GPU. A thread is a Gaussian.
//
// project() prepares the Gaussians and counts their tiles; the caller adds the counts up; scatter() writes the pairs of
// Gaussian and tile one Gaussian after the other, so that a pair's place, its slot, is the same in every run. The
// caller then sorts the slots by tile, keeping their order, which lists each tile's Gaussians by index as tiles.cpp
// does.
#include "device.h"

using namespace imagegs;

extern "C" __global__ void project(long long count, int channels,
                                   const float *means,     // [N, 2] px
                                   const float *scales,    // [N, 2] px
                                   const float *rotations, // [N] rad
                                   const float *colors,    // [N, C], looked at only to leave out what is not finite
                                   double x0, double y0, double step_x, double step_y, int height, int width,
                                   const Frame *frames, // [pictures] or null
                                   const int *frame_of, // [N] picture of each Gaussian, of a batch
                                   // outputs
                                   Splat *splats,    // [N]
                                   long long *counts // [N]
) {
  const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= count) return;
  Splat splat = prepare(means + 2 * i, scales + 2 * i, rotations[i], {x0, y0, step_x, step_y});
  if (!finite_row(colors + i * channels, channels)) splat.extent_x = -1.0f;
  long long tiles = 0;
  const Frame frame = frame_at(frames, frame_of, i, height, width);
  visit_tiles(splat, tile_grid(frame.height, frame.width), [&](int first, int last, int) { tiles += last - first; });
  splats[i] = splat;
  counts[i] = tiles;
}

extern "C" __global__ void scatter(long long count, int height, int width,
                                   const Frame *frames,         // [pictures] or null
                                   const int *frame_of,         // [N] of a batch
                                   const Splat *splats,         // [N]
                                   const long long *first_slot, // [N + 1]
                                   long long capacity,          // pairs that there is room for; others are left out
                                   // outputs
                                   int *tiles, // [capacity] by slot
                                   int *owners // [capacity] Gaussian, by slot
) {
  const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= count) return;
  const Frame frame = frame_at(frames, frame_of, i, height, width);
  const TileGrid grid = tile_grid(frame.height, frame.width);
  long long slot = first_slot[i];
  visit_tiles(splats[i], grid, [&](int first, int last, int row) {
    for (int column = first; column < last && slot < capacity; column++, slot++) {
      tiles[slot] = frame.first_tile + row * grid.columns + column;
      owners[slot] = int(i);
    }
  });
}
