// Where Gaussians are: a tree of halved boxes with the number of Gaussians in each; docs/format.md, section 10.4.
//
// Boxes are halved along their longer side, all of one depth along the same, so that those of a depth stand in rows and
// columns. A box is halved as long as it has two Gaussians or more and is not too small. The Gaussians of a box are
// numbered from left to right or from top to bottom of its halves: boxes that are not halved any more come in the
// order of their first Gaussian.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "binarization.h"
#include "lattice.h"

namespace imagegs::entropy {

constexpr int kSmallestCell = 4; // px; a box is halved no more if the sides of its depth are both shorter

// How boxes of a depth are halved.
struct Halving {
  bool along_x;
  int columns_log2, rows_log2; // of the halves
};

bool can_halve(const Box &block, int columns_log2, int rows_log2, Halving &halving);
std::pair<Box, Box> halves(const Box &box, bool along_x);

// A box of the tree, with the Gaussians first, first + 1 ... of the block.
struct Cell {
  Box box;
  int column, row;
  int64_t first, count;
};

// Gaussians in the boxes of each depth, as far as there are not many more boxes than Gaussians.
class Densities {
public:
  explicit Densities(int64_t count) : most_(4 * (count + 16)) {}

  void add_depth(int columns_log2, int rows_log2);
  int depths() const { return int(grids_.size()); }
  bool kept(int depth) const { return depth < depths() && !grids_[size_t(depth)].counts.empty(); }
  int columns_log2(int depth) const { return grids_[size_t(depth)].columns_log2; }
  int rows_log2(int depth) const { return grids_[size_t(depth)].rows_log2; }

  void set(int depth, int column, int row, int64_t count);

  // Gaussians in a box, in 1/256, 0 outside of the block; a box that was not looked into has its share of the
  // smallest box around it that was.
  int64_t at(int depth, int column, int row) const;

private:
  struct Grid {
    int columns_log2, rows_log2;
    std::vector<int32_t> counts; // -1: not looked into

    size_t index(int column, int row) const { return (size_t(row) << columns_log2) + size_t(column); }
  };

  int64_t most_;
  std::vector<Grid> grids_;
};

// Contexts of the number of Gaussians in a box's first half.
std::array<int, 4> split_contexts(const Densities &densities, int depth, const Cell &cell, const Halving &halving);

constexpr int kExactCount = 8;   // up to which counts have codes of their own
constexpr int kExactNodes = 35;  // of the codes of the counts 2 to 8
constexpr int kCountClasses = 4; // of larger counts
constexpr int kCountDepth = 3;   // of their codes, as far as they are modelled
constexpr int kCountNodes = kExactNodes + (kCountClasses << kCountDepth);

using SplitModel = ContextModel<4>;
inline SplitModel make_split_model() { return SplitModel({1, 7 * 8, 7 * 8, 7 * 7}, kCountNodes); }

// How many of `count` Gaussians, two or more, are in the first half: by bisection.
template <typename Coder> int64_t code_split(Coder &coder, SplitModel &model, int64_t count, int64_t value) {
  int64_t low = 0, high = count;
  const bool small = count <= kExactCount;
  const int exact = small ? int(count * (count - 1) / 2 - 1) : 0;
  const int from = small ? 0 : kExactNodes + (std::min(ilog2(uint64_t(count)) - 3, kCountClasses - 1) << kCountDepth);
  for (int path = 1, depth = 0; low < high; depth++) {
    if (!small && depth == kCountDepth) return low + code_even(coder, high - low + 1, value - low);
    const int64_t middle = (low + high) / 2;
    const int upper = model.code(coder, value > middle, small ? exact + int(middle) : from + path);
    (upper ? low : high) = middle + upper;
    path = 2 * path + upper;
  }
  return low;
}

// Halves boxes, depth by depth, asking `split(depth, cell, halving)` how many Gaussians are in a cell's first half.
// Gives the boxes that are not halved, in order.
template <typename Split>
std::vector<Cell> grow_tree(const Box &block, int64_t count, Densities &densities, Split split) {
  std::vector<Cell> leaves, cells{{block, 0, 0, 0, count}}, halved;
  densities.add_depth(0, 0);
  densities.set(0, 0, 0, count);
  Halving halving{};
  for (int depth = 0; !cells.empty(); depth++) {
    const bool last = count < 2 || !can_halve(block, halving.columns_log2, halving.rows_log2, halving);
    if (!last) densities.add_depth(halving.columns_log2, halving.rows_log2);
    halved.clear();
    for (const Cell &cell : cells) {
      if (last || cell.count < 2) {
        leaves.push_back(cell);
        continue;
      }
      const int64_t before = split(depth, cell, halving);
      const auto [first, second] = halves(cell.box, halving.along_x);
      const int column = cell.column << halving.along_x, row = cell.row << !halving.along_x;
      densities.set(depth + 1, column, row, before);
      densities.set(depth + 1, column + halving.along_x, row + !halving.along_x, cell.count - before);
      if (before) halved.push_back({first, column, row, cell.first, before});
      if (before < cell.count)
        halved.push_back(
            {second, column + halving.along_x, row + !halving.along_x, cell.first + before, cell.count - before});
    }
    std::swap(cells, halved);
  }
  return leaves;
}

} // namespace imagegs::entropy
