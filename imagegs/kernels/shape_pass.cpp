// Second pass: size, elongation, direction and place of every Gaussian, box by box; docs/format.md, section 10.5.
#include <algorithm>

#include "block_state.h"
#include "neighbors.h"

namespace imagegs::entropy {
namespace {

constexpr int kFirstCentre = 20; // size that is expected of the first Gaussian

// How many Gaussians there are around the boxes of a level's tree.
class Crowd {
public:
  Crowd(const Box &block, const Level &level) : block_(block), densities_(level.densities) {
    const auto cells_log2 = [&](int depth) { return densities_.columns_log2(depth) + densities_.rows_log2(depth); };
    while (densities_.kept(depth_ + 1) && (int64_t(4) << cells_log2(depth_ + 1)) <= level.count) depth_++;
    usual_ = (level.count * 9 * 256) >> cells_log2(depth_);
    share_ = std::max<int64_t>(1, int64_t(block.width) * block.height * 256 / level.count);
  }

  // Class of the number of Gaussians around a box: in 3 x 3 boxes of the depth at which one holds four or more.
  int density(const Box &box) const {
    const auto at = [](int64_t from, int64_t side, int64_t whole, int cells_log2) {
      return int(((2 * from + side) << cells_log2) / (2 * whole));
    };
    const int column = at(box.x - block_.x, box.width, block_.width, densities_.columns_log2(depth_));
    const int row = at(box.y - block_.y, box.height, block_.height, densities_.rows_log2(depth_));
    int64_t around = 0;
    for (int dy = -1; dy <= 1; dy++)
      for (int dx = -1; dx <= 1; dx++) around += densities_.at(depth_, column + dx, row + dy);
    return clamp_class(half_octaves(around * 16 / usual_));
  }

  // Class of a box's area, over the mean area per Gaussian.
  int room(const Box &box) const { return clamp_class(half_octaves(int64_t(box.width) * box.height * 4096 / share_)); }

private:
  const Box &block_;
  const Densities &densities_;
  int depth_ = 0;
  int64_t usual_, share_;
};

// What the shape of a Gaussian is expected from.
struct Surroundings {
  int density, room;           // of its box, classes
  int level;                   // class
  int centre;                  // size
  int closeness = 0;           // of the nearest, 0 to 2
  const Coded *near = nullptr; // the nearest that is coded
  const Coded *next = nullptr; // the second nearest, or the same
};

template <typename Coder> int code_size(Coder &coder, BlockState &state, const Surroundings &around, int given) {
  int near = 8, both = 8;
  if (around.near) {
    near = clamp_class((around.near->size - around.centre + 24) / 3, kNearClasses);
    both = clamp_class((around.near->size + around.next->size - 2 * around.centre + 40) / 5, kNearClasses);
  }
  state.size.see(
      {around.level, around.density, around.room, near * 3 + around.closeness, both * 4 + around.density / 4});
  const int64_t size = around.centre + code_signed(coder, state.size, int64_t(given) - around.centre);
  if (!has_size(state.lattice, size)) throw Malformed("size: out of range");
  return int(size);
}

template <typename Coder>
int code_ratio(Coder &coder, BlockState &state, const Surroundings &around, int size, int given) {
  int near = kRatioClasses - 1, both = kRatioClasses - 1;
  if (around.near) {
    near = std::min(around.near->ratio, kRatioClasses - 2);
    both = std::min((around.near->ratio + around.next->ratio) / 2, kRatioClasses - 2);
  }
  const int own = clamp_class(half_octaves(size));
  state.ratio.see({own, around.density, near * 4 + own / 4, both * 4 + around.closeness});
  const int64_t ratio = code_unsigned(coder, state.ratio, given);
  if (ratio > kMostRatio) throw Malformed("ratio: out of range");
  return int(ratio);
}

// By bisection. The range starts a sixteenth early, so that upright and level ones lie within its parts.
template <typename Coder>
int code_angle(Coder &coder, BlockState &state, const Surroundings &around, int angles, int given) {
  int near = 0, next = 0;
  if (around.near) {
    near = around.near->direction * 3 + around.near->lean;
    next = around.next->direction * 3 + around.next->lean;
  }
  state.angle.see({ilog2(uint64_t(angles)), near * 3 + around.closeness, next, 0});
  const int shift = angles / 16, turned = (given + shift) % angles;
  int low = 0, high = angles;
  for (int path = 1, depth = 0; high - low > 1; depth++) {
    if (depth == kAngleDepth) {
      low += coder.even(turned - low, high - low);
      break;
    }
    const int middle = (low + high) / 2;
    const int upper = state.angle.code(coder, turned >= middle, path);
    (upper ? low : high) = middle;
    path = 2 * path + upper;
  }
  return (low + angles - shift) % angles;
}

// One coordinate, in 1/1024 px, of the places within a side.
template <typename Coder> int32_t code_place(Coder &coder, int from, int side, int places, int32_t given) {
  const int64_t start = from * kPixel, length = side * kPixel;
  const int64_t place = std::clamp<int64_t>(floor_div((given - start) * places, length), 0, places - 1);
  return int32_t(start + (2 * coder.even(int(place), places) + 1) * length / (2 * places));
}

Coded coded_of(const Symbols &symbols, const Scales &scales, const Covariance &covariance) {
  Coded coded{};
  coded.x = symbols.x >> (kPlaceBits - kSpotBits), coded.y = symbols.y >> (kPlaceBits - kSpotBits);
  coded.size = symbols.size, coded.ratio = symbols.ratio;
  coded.direction = ((symbols.angle * 1024 / scales.angles + 32) >> 6) & (kDirections - 1);
  coded.lean = (scales.ratio >= 6000) + (scales.ratio >= 12000);
  coded.root = scales.root;
  coded.covariance = covariance;
  if (scales.ratio > kMostElongation) {
    Scales shorter = scales;
    shorter.ratio = kMostElongation, shorter.inverse = kUnit * kUnit / kMostElongation;
    coded.covariance = covariance_of(shorter, symbols.angle);
  }
  return coded;
}

} // namespace

template <typename Coder> void code_shapes(Coder &coder, BlockState &state, Level &level) {
  Meter meter(coder, level.found);
  const Crowd crowd(state.block, level);
  const int64_t seen = level.earlier - level.recent + level.count;
  const int64_t spacing = int64_t(state.block.width) * state.block.height * 256 / seen; // mean area, 1/256 px²
  LatestInSquares latest(state.block, seen);
  for (int64_t i = level.recent; i < level.earlier; i++)
    latest.add(int32_t(i), state.coded[size_t(i)].x, state.coded[size_t(i)].y);
  Surroundings around{};
  around.level = std::min(state.level, kLevelClasses - 1);
  for (int64_t at = 0; at < level.count;) {
    const Cell &cell = level.cells[size_t(level.cell_at[size_t(at)])];
    const Box &box = cell.box;
    const int x = 16 * box.x + 8 * box.width, y = 16 * box.y + 8 * box.height;
    around.density = crowd.density(box), around.room = crowd.room(box);
    for (const int64_t end = at + cell.count; at < end; at++) {
      const auto nearest = latest.nearest(x, y);
      around.near = around.next = nullptr;
      around.closeness = 0;
      if (nearest.number[0] >= 0) {
        around.near = around.next = &state.coded[size_t(nearest.number[0])];
        if (nearest.number[1] >= 0) around.next = &state.coded[size_t(nearest.number[1])];
        around.closeness = (4 * nearest.distance[0] >= spacing) + (nearest.distance[0] >= spacing);
      }
      around.centre = int(state.mean_size(kFirstCentre));

      const Symbols given = level.given ? level.given->symbols[size_t(level.given->rows[size_t(at)])] : Symbols{};
      Symbols found{};
      found.size = code_size(coder, state, around, given.size);
      meter.charge(kSize);
      found.ratio = code_ratio(coder, state, around, found.size, given.ratio);
      meter.charge(kRatio);
      const Scales scales = scales_of(state.lattice, found.size, found.ratio);
      found.angle = code_angle(coder, state, around, scales.angles, given.angle);
      meter.charge(kAngle);
      const Covariance covariance = covariance_of(scales, found.angle);
      const auto [columns, rows] = places_of(state.lattice, scales, covariance.yy, box);
      found.y = code_place(coder, box.y, box.height, rows, given.y);
      found.x = code_place(coder, box.x, box.width, columns, given.x);
      meter.charge(kPlace);
      if (coder.exhausted()) throw Malformed("shapes: the payload ends too early");

      const Coded coded = coded_of(found, scales, covariance);
      latest.add(int32_t(state.coded.size()), coded.x, coded.y);
      state.coded.push_back(coded);
      state.size_sum += found.size;
      level.found.symbols.push_back(found);
    }
  }
}

template void code_shapes(Encoder &, BlockState &, Level &);
template void code_shapes(Decoder &, BlockState &, Level &);

} // namespace imagegs::entropy
