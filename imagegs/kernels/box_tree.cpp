#include "box_tree.h"

#include <algorithm>

namespace imagegs::entropy {
namespace {

// The share of a in a + b, from 0 to 6 in sevenths; 3 if there is nothing.
int compare(int64_t a, int64_t b) { return a + b <= 0 ? 3 : int(std::min<int64_t>(6, 7 * a / (a + b))); }

} // namespace

bool can_halve(const Box &block, int columns_log2, int rows_log2, Halving &halving) {
  const int width = block.width >> columns_log2, height = block.height >> rows_log2;
  if (std::max(width, height) < kSmallestCell) return false;
  const bool along_x = width >= height;
  halving = {along_x, columns_log2 + along_x, rows_log2 + !along_x};
  return true;
}

std::pair<Box, Box> halves(const Box &box, bool along_x) {
  Box first = box, second = box;
  if (along_x) {
    first.width = box.width / 2;
    second.x += first.width;
    second.width -= first.width;
  } else {
    first.height = box.height / 2;
    second.y += first.height;
    second.height -= first.height;
  }
  return {first, second};
}

void Densities::add_depth(int columns_log2, int rows_log2) {
  const bool kept = (int64_t(1) << (columns_log2 + rows_log2)) <= most_;
  grids_.push_back({columns_log2, rows_log2, {}});
  if (kept) grids_.back().counts.assign(size_t(1) << (columns_log2 + rows_log2), -1);
}

void Densities::set(int depth, int column, int row, int64_t count) {
  if (!kept(depth)) return;
  Grid &grid = grids_[size_t(depth)];
  grid.counts[grid.index(column, row)] = int32_t(count);
}

int64_t Densities::at(int depth, int column, int row) const {
  const Grid *grid = &grids_[size_t(depth)];
  if (column < 0 || row < 0 || column >> grid->columns_log2 || row >> grid->rows_log2) return 0;
  int halvings = 0;
  for (;; halvings++) {
    const int32_t found = grid->counts[grid->index(column, row)];
    if (found >= 0) return int64_t(found) * 256 >> halvings;
    const Grid *above = grid - 1; // ends at the block itself, which is always set
    column >>= grid->columns_log2 - above->columns_log2;
    row >>= grid->rows_log2 - above->rows_log2;
    grid = above;
  }
}

std::array<int, 4> split_contexts(const Densities &densities, int depth, const Cell &cell, const Halving &halving) {
  const int bucket = int(std::min<int64_t>(cell.count, kExactCount + 1)) - 2;
  int beside = 3, across = 3, before_half = 3;
  if (densities.kept(depth)) {
    const int dx = halving.along_x, dy = !halving.along_x;
    const int64_t before = densities.at(depth, cell.column - dx, cell.row - dy);
    const int64_t after = densities.at(depth, cell.column + dx, cell.row + dy);
    beside = compare(before, after);
    if (densities.kept(depth + 1)) {
      const int column = cell.column << dx, row = cell.row << dy; // of the first half
      across = compare(densities.at(depth + 1, column - dy, row - dx),
                       densities.at(depth + 1, column - dy + dx, row - dx + dy));
      before_half = compare(2 * densities.at(depth + 1, column - dx, row - dy), after);
    }
  }
  return {0, bucket * 7 + before_half, bucket * 7 + across, beside * 7 + across};
}

} // namespace imagegs::entropy
