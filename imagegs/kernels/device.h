// What every kernel of the CUDA back end shares: the tile, a Gaussian as a tile sees it, sums over a warp.
#pragma once

#include "tile_reach.h"

namespace imagegs {

constexpr int kTileSide = 16;                 // px
constexpr int kBlock = kTileSide * kTileSide; // threads of a block; in a tile one for each pixel, row by row
constexpr int kWarp = 32, kWarps = kBlock / kWarp;
constexpr unsigned kEveryLane = 0xffffffffu;
constexpr int kMomentCount = 6;

__device__ __forceinline__ TileGrid tile_grid(int height, int width) {
  return {
      height, width, kTileSide, kTileSide, (height + kTileSide - 1) / kTileSide, (width + kTileSide - 1) / kTileSide};
}

// One picture of a batch. The pictures stand one after the other: their tiles, and their pixels in every plane.
struct Frame {
  int height, width; // px
  int first_tile, index;
  long long first_pixel;
};

// A picture of a batch; where there is no batch, the only one.
__device__ __forceinline__ Frame frame_at(const Frame *frames, const int *which, long long item, int height,
                                          int width) {
  return frames ? frames[which[item]] : Frame{height, width, 0, 0, 0};
}

__device__ __forceinline__ int smaller(int a, int b) { return a < b ? a : b; }

// The same sum in every lane, added up in an order that is always the same. Every lane must call it.
__device__ __forceinline__ float warp_sum(float value) {
  for (int step = kWarp / 2; step > 0; step /= 2) value += __shfl_xor_sync(kEveryLane, value, step);
  return value;
}

// A Gaussian relative to a tile's corner. The one place that evaluates weights: forward and backward get the same bits,
// since multiplications and additions are fused only where it is written (the compiler is told not to).
struct Placed {
  float mean_x, mean_y, slope, precision, row_precision, log2_amplitude, cutoff;

  // Offset from the middle of the Gaussian's row.
  __device__ __forceinline__ float t(float x, float dy) const { return x - fmaf(slope, dy, mean_x); }
  // Weight before the cutoff is taken off.
  __device__ __forceinline__ float unclipped(float t, float dy) const {
    return exp2f(fmaf(t * t, precision, fmaf(row_precision * dy, dy, log2_amplitude)));
  }
};

__device__ __forceinline__ Placed placed_at(const Splat &splat, int left, int top) {
  constexpr float kFactor = -0.5f * kLog2E;
  return {splat.mean_x - float(left),    splat.mean_y - float(top), splat.slope, kFactor * splat.precision,
          kFactor * splat.row_precision, splat.log2_amplitude,      splat.cutoff};
}

// A sum that overflowed says nothing about the way to go.
__device__ __forceinline__ float finite_or_zero(float value) { return isfinite(value) ? value : 0.0f; }

} // namespace imagegs
