// The Gaussians of one block <-> range-coded bytes, one level after the other; docs/format.md, section 10.
//
// A level is coded in three passes. First where its Gaussians are: a tree of halved boxes with the number of Gaussians
// in each, so that no order is paid for. Then, box by box, each one's size, elongation, direction and place within its
// box. Last, from the largest to the smallest, the colours, predicted from those that are already there. Contexts come
// from what has been coded before, earlier levels included.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <vector>

#include "lattice.h"

namespace imagegs::entropy {

enum Part { kTree, kSize, kRatio, kAngle, kPlace, kColor, kParts };

// Gaussians of a level, and bits spent on them.
struct LevelSymbols {
  std::vector<Symbols> symbols;
  std::vector<int32_t> colors; // [N, C]
  std::array<double, kParts> bits{};
};

class Malformed : public std::runtime_error {
public:
  using std::runtime_error::runtime_error;
};

struct BlockState;

// State that goes from level to level. After an exception, or a level that was cut, it is of no more use.
class BlockCodec {
public:
  BlockCodec(const Lattice &lattice, const Box &block);
  ~BlockCodec();
  BlockCodec(const BlockCodec &) = delete;
  BlockCodec &operator=(const BlockCodec &) = delete;

  // Box of the tree that each of the points falls into, in the order given.
  std::vector<Box> cells(const std::vector<Symbols> &points) const;

  // Codes one level; it comes back as a decoder finds it, in its order. `rows` receives that order as rows of the
  // input. Takes symbols that the lattice has, within the block.
  std::vector<uint8_t> encode(LevelSymbols &level, std::vector<int32_t> &rows, const std::vector<double> &wanted = {},
                              const std::vector<double> &bit_worth = {});

  // Decodes one level of `count` Gaussians; with `cut`, those that are whole, else Malformed.
  LevelSymbols decode(const uint8_t *data, size_t size, int64_t count, bool cut);

private:
  std::unique_ptr<BlockState> state_;
};

} // namespace imagegs::entropy
