// Quantiser 1: which shapes, directions and places a lattice tells apart; docs/format.md, section 9.
#pragma once

#include <array>
#include <cstdint>

#include "fixed_point.h"

namespace imagegs::entropy {

constexpr int kMostChannels = 32;
constexpr int kLeastRoot = 1 << 9; // of the sizes' roots, in 1/4096
constexpr int kMostRoot = 1 << 19;
constexpr int kMostStep = 1 << 20;      // of shapes and places, in 1/4096
constexpr int kMostColorStep = 1 << 24; // in 1/65536
constexpr int kMostRatio = 1 << 20;     // symbol
constexpr int kMostOctaves = 12;        // of the ratio of the scales
constexpr int kMostAngles = 1024;
constexpr int kMostPlaces = 4096;                     // in a row or column of a box
constexpr int kMostColor = 1 << 24;                   // symbol
constexpr int64_t kMostColorValue = int64_t(1) << 34; // symbol times step, in 1/65536
constexpr int kMostSide = 1 << 20;                    // of the canvas, px
constexpr int kPlaceBits = 10;                        // positions are in 1/1024 px
constexpr int64_t kPixel = int64_t(1) << kPlaceBits;

// Steps in 1/4096, those of colours in 1/65536.
struct Lattice {
  int root, root_step, ratio_step, place_step, angle_step;
  int channels;
  std::array<int, kMostChannels> color_step;
};

struct Box {
  int x, y, width, height; // px
};

struct Symbols {
  int32_t size, ratio, angle;
  int32_t x, y; // canvas, 1/1024 px
};

// What size and ratio mean; lengths are relative to the root of the product of both scales.
struct Scales {
  int root;           // fourth root of the product of the scales, in 1/4096 sqrt(px)
  int ratio, inverse; // of the larger to the smaller scale, and one over it, in 1/4096
  int angles;         // number of directions that are told apart
};

// Covariance over the product of the scales, in 1/4096.
struct Covariance {
  int xx, xy, yy;
};

bool has_size(const Lattice &lattice, int64_t size);
Scales scales_of(const Lattice &lattice, int size, int ratio);
Covariance covariance_of(const Scales &scales, int angle);

// Places along x and y that are told apart within a box, for a Gaussian with that much variance along y.
std::array<int, 2> places_of(const Lattice &lattice, const Scales &scales, int yy, const Box &box);

// Step of a colour component at a size, in 1/65536.
int64_t color_step(const Lattice &lattice, int channel, int root);

// Largest magnitude of a colour symbol with this step.
int64_t most_color(int64_t step);

} // namespace imagegs::entropy
