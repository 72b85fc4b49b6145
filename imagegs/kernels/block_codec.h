// The Gaussians of one block <-> range-coded bytes, one level after the other; docs/format.md, coding 1.
//
// A level is coded in three passes. First where its Gaussians are: a tree of halved boxes with the number of Gaussians
// in each, so that no order is paid for. Then, box by box, each one's size, elongation, direction and place within its
// box. Last, from the largest to the smallest, the colours, predicted from those that are already there. Contexts come
// from what has been coded before, earlier levels included.
#pragma once

#include <array>
#include <cstdint>
#include <stdexcept>
#include <vector>

#include "range_coder.h"

namespace imagegs::entropy {

constexpr int kPlaceBits = 10; // positions are in 1/1024 px
constexpr int kMostChannels = 32;
constexpr int kMostScale = 1 << 19; // root of the size, in 1/4096
constexpr int kMostOctaves = 12;    // of the elongation
constexpr int kMostAngles = 1024;
constexpr int kMostPlaces = 4096;
constexpr int kMostRatio = 1 << 20;
constexpr int kMostColor = 1 << 24;
constexpr int kMostStep = 1 << 24;
constexpr int kMostSide = 1 << 20; // px

// Quantiser 1; steps in 1/4096, those of colours in 1/65536.
struct Lattice {
  int root, root_step, ratio_step, place_step, angle_step;
  int channels;
  std::array<int, kMostChannels> color_step;
};

struct Box {
  int x, y, width, height; // px
};

// What a Gaussian's shape symbols say, as far as decisions need it.
struct Shape {
  int root;           // square root of the geometric mean of the scales, in 1/4096 sqrt(px)
  int ratio, inverse; // of the larger to the smaller scale, and 1 / ratio, in 1/4096
  int angles;         // number of directions that are told apart
  int xx, xy, yy;     // covariance over the product of the scales, in 1/4096
};

struct Symbols {
  int32_t size, ratio, angle; // of the shape
  int32_t x, y;               // canvas, 1/1024 px
};

enum Part { kTree, kSize, kRatio, kAngle, kPlace, kColor, kParts };

class Malformed : public std::runtime_error {
public:
  using std::runtime_error::runtime_error;
};

int size_root(const Lattice &lattice, int size);
Shape shape_of(const Lattice &lattice, int size, int ratio, int angle); // angle < 0: directions only
// Places along x and y that are told apart within a box.
std::array<int, 2> places(const Lattice &lattice, const Shape &shape, const Box &box);

// State that goes from level to level.
class BlockCodec {
public:
  BlockCodec(const Lattice &lattice, Box box);
  ~BlockCodec();
  BlockCodec(const BlockCodec &) = delete;
  BlockCodec &operator=(const BlockCodec &) = delete;

  // Box of the tree that each of the points falls into, in the order given.
  std::vector<Box> cells(const std::vector<Symbols> &points) const;

  // Codes one level; `order` receives the input's rows in the order of decoding, `symbols` what a decoder will find.
  std::vector<uint8_t> encode(std::vector<Symbols> &symbols, std::vector<int32_t> &colors, std::vector<int32_t> &order,
                              std::array<double, kParts> &bits);

  // Decodes one level of `count` Gaussians; with `cut`, those that are whole, else Malformed.
  void decode(const uint8_t *data, size_t size, int64_t count, bool cut, std::vector<Symbols> &symbols,
              std::vector<int32_t> &colors, std::array<double, kParts> &bits);

private:
  struct Models;
  struct Level;
  template <typename Coder> void run(Coder &coder, Level &level);

  Lattice lattice_;
  Box box_;
  Models *models_;
};

} // namespace imagegs::entropy
