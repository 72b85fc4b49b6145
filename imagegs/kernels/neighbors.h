// Who is near whom, in buckets of a block; positions are canvas coordinates in 1/16 px. docs/format.md, sections 10.5
// and 10.6.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "fixed_point.h"
#include "lattice.h"

namespace imagegs::entropy {

constexpr int kSpotBits = 4; // of the fraction of positions here

// Squares over a block, of which `count` Gaussians have about one each.
class Squares {
public:
  // `larger` doublings of the side.
  Squares(const Box &block, int64_t count, int larger) : block_(block) {
    const int64_t share = std::max<int64_t>(1, int64_t(block.width) * block.height / std::max<int64_t>(1, count));
    shift_ = std::max(2, (ilog2(uint64_t(share)) + 1) / 2 + larger);
  }

  int shift() const { return shift_; } // of the side, px
  int columns() const { return (block_.width >> shift_) + 1; }
  int rows() const { return (block_.height >> shift_) + 1; }
  int column(int64_t x) const { return int((x - (int64_t(block_.x) << kSpotBits)) >> (shift_ + kSpotBits)); }
  int row(int64_t y) const { return int((y - (int64_t(block_.y) << kSpotBits)) >> (shift_ + kSpotBits)); }

private:
  Box block_;
  int shift_;
};

// The latest Gaussian of each square, with a border of two empty squares around the block.
class LatestInSquares {
public:
  struct Item {
    int32_t number, x, y; // number < 0: none
  };

  LatestInSquares(const Box &block, int64_t count)
      : squares_(block, count, 0), stride_(squares_.columns() + 4),
        items_(size_t(stride_) * size_t(squares_.rows() + 4), Item{-1, 0, 0}) {}

  void add(int32_t number, int x, int y) { items_[index(x, y)] = {number, x, y}; }

  // The two nearest to a place of those in the 3 x 3 squares around it, or if these are fewer than two, in the 5 x 5.
  struct Nearest {
    int32_t number[2] = {-1, -1};
    int64_t distance[2] = {INT64_MAX, INT64_MAX}; // squared

    void look(const Item &item, int x, int y) {
      if (item.number < 0) return;
      const int64_t dx = item.x - x, dy = item.y - y, apart = dx * dx + dy * dy;
      if (apart < distance[0]) {
        number[1] = number[0], distance[1] = distance[0];
        number[0] = item.number, distance[0] = apart;
      } else if (apart < distance[1]) {
        number[1] = item.number, distance[1] = apart;
      }
    }
  };

  Nearest nearest(int x, int y) const {
    Nearest found;
    const size_t middle = index(x, y), stride = size_t(stride_);
    for (size_t row = middle - stride - 1; row <= middle + stride - 1; row += stride)
      for (size_t at = row; at < row + 3; at++) found.look(items_[at], x, y);
    if (found.number[1] >= 0) return found;
    const size_t corner = middle - 2 * stride - 2;
    for (size_t row = 0; row < 5; row++)
      for (size_t column = 0; column < 5; column += row == 0 || row == 4 ? 1 : 4)
        found.look(items_[corner + row * stride + column], x, y);
    return found;
  }

private:
  size_t index(int x, int y) const {
    return size_t(squares_.row(y) + 2) * size_t(stride_) + size_t(squares_.column(x) + 2);
  }

  Squares squares_;
  int stride_;
  std::vector<Item> items_;
};

// Gaussians that wait for their turn, by squares, in their order within each. The next in order is always the first of
// its square.
class Queues {
public:
  struct Slots {
    int32_t begin, end;
  };

  Queues(const Box &block, int64_t count) : squares_(block, count, 1) {}

  const Squares &squares() const { return squares_; }
  Slots waiting(int column, int row) const { return slots_[index(column, row)]; }
  int32_t slot(size_t number) const { return slot_[number]; }
  int32_t x(int32_t slot) const { return x_[size_t(slot)]; }
  int32_t y(int32_t slot) const { return y_[size_t(slot)]; }

  // Takes `count` Gaussians in; `at(i)` gives x and y of the i-th.
  template <typename At> void fill(size_t count, At at) {
    slots_.assign(size_t(squares_.columns()) * size_t(squares_.rows()), {0, 0});
    for (size_t i = 0; i < count; i++) slots_[index(at(i))].end++;
    int32_t next = 0;
    for (Slots &slots : slots_) {
      const int32_t size = slots.end;
      slots = {next, next};
      next += size;
    }
    slot_.resize(count), x_.resize(count), y_.resize(count);
    for (size_t i = 0; i < count; i++) {
      const auto spot = at(i);
      const int32_t slot = slots_[index(spot)].end++;
      slot_[i] = slot;
      x_[size_t(slot)] = spot.x, y_[size_t(slot)] = spot.y;
    }
  }

  // The next of a square has had its turn.
  template <typename Spot> void pop(const Spot &spot) { slots_[index(spot)].begin++; }

private:
  size_t index(int column, int row) const { return size_t(row) * size_t(squares_.columns()) + size_t(column); }
  template <typename Spot> size_t index(const Spot &spot) const {
    return index(squares_.column(spot.x), squares_.row(spot.y));
  }

  Squares squares_;
  std::vector<Slots> slots_;
  std::vector<int32_t> slot_, x_, y_;
};

} // namespace imagegs::entropy
