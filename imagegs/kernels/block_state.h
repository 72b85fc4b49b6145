// What the passes over a level share; docs/format.md, section 10.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "block_codec.h"
#include "box_tree.h"
#include "context_model.h"
#include "lattice.h"

namespace imagegs::entropy {

constexpr int kClasses = 16; // of most contexts
constexpr int kLevelClasses = 4;
constexpr int kNearClasses = 17;  // of sizes of neighbours
constexpr int kRatioClasses = 16; // of ratios of neighbours; the last is for none
constexpr int kDirections = 16;   // of neighbours
constexpr int kAngleClasses = 11; // of the number of directions
constexpr int kAngleDepth = 3;    // of the code of directions, as far as it is modelled
constexpr int kErrorClasses = 9;  // of colours

constexpr int kMostElongation = 64 * kUnit; // of the ellipses that predict colours

constexpr int clamp_class(int64_t value, int classes = kClasses) {
  return value < 0 ? 0 : value < classes ? int(value) : classes - 1;
}

// What later Gaussians see of a coded one.
struct Coded {
  int x, y; // canvas, 1/16 px
  int size, ratio;
  int direction;         // of kDirections to half a turn
  int lean;              // 0 round, 1 longish, 2 long
  int root;              // as in Scales
  Covariance covariance; // no longer than kMostElongation
};

// Everything that is learnt, and every Gaussian so far.
struct BlockState {
  Lattice lattice;
  Box block;
  SplitModel split = make_split_model();
  ContextModel<5> size{{kLevelClasses, kClasses, kClasses, kNearClasses * 3, kNearClasses * 4}, kIntegerNodes};
  ContextModel<4> ratio{{kClasses, kClasses, kRatioClasses * 4, kRatioClasses * 4}, kIntegerNodes};
  ContextModel<4> angle{{kAngleClasses, kDirections * 3 * 3, kDirections * 3, 1}, 1 << kAngleDepth};
  std::vector<ContextModel<5>> color; // of each channel
  std::vector<Coded> coded;
  std::vector<int64_t> values; // [N, C] colours of the coded, 1/65536
  int64_t size_sum = 0;        // of the coded
  int level = 0;
  bool usable = true;

  BlockState(const Lattice &lattice_, const Box &block_);

  int64_t mean_size(int64_t otherwise) const { return coded.empty() ? otherwise : size_sum / int64_t(coded.size()); }
};

// What an encoder is given, and the order in which it comes.
struct Given {
  const std::vector<Symbols> &symbols;
  const std::vector<int32_t> &colors;   // [N, C]
  std::vector<int32_t> rows;            // of these, in the order of decoding
  const std::vector<double> &wanted;    // [N, C] colours before rounding, in steps; or nothing
  const std::vector<double> &bit_worth; // [N] squared steps of a colour that a bit is worth; as `wanted`
};

// A level while it is coded.
struct Level {
  int64_t count;
  const Given *given;           // nothing for a decoder
  int64_t earlier, recent;      // Gaussians of earlier levels, and the first of those that are looked back at
  Densities densities;          // of its tree
  std::vector<Cell> cells;      // of its tree, in the order of depth
  std::vector<int32_t> cell_at; // of a cell's first Gaussian
  LevelSymbols found;
};

// Counts the bits between two calls to what they were spent on.
template <typename Coder> class Meter {
public:
  Meter(const Coder &coder, LevelSymbols &level) : coder_(coder), bits_(level.bits), before_(coder.spent()) {}
  void charge(Part part) {
    const double now = coder_.spent();
    bits_[size_t(part)] += now - before_;
    before_ = now;
  }

private:
  const Coder &coder_;
  std::array<double, kParts> &bits_;
  double before_;
};

// The second and the third pass; each adds to what the level has found. The third keeps those that are whole and gives
// their number, smaller than that of the level if the decoder is exhausted.
template <typename Coder> void code_shapes(Coder &coder, BlockState &state, Level &level);
template <typename Coder> int64_t code_colors(Coder &coder, BlockState &state, Level &level);

} // namespace imagegs::entropy
