#include "lattice.h"

#include <algorithm>

namespace imagegs::entropy {
namespace {

constexpr int64_t kMostTurn = 64 * kUnit; // beyond this elongation directions become no finer
constexpr int64_t kPi = 12868;            // in 1/4096

int count_places(int64_t side, int64_t step) {
  return int(std::clamp<int64_t>(round_div(side * kUnit, step), 1, std::min<int64_t>(kMostPlaces, side * 256)));
}

} // namespace

bool has_size(const Lattice &lattice, int64_t size) {
  return size >= 0 && lattice.root + size * lattice.root_step <= kMostRoot;
}

Scales scales_of(const Lattice &lattice, int size, int ratio) {
  Scales scales{};
  scales.root = lattice.root + size * lattice.root_step;
  const int64_t octaves = int64_t(ratio) * lattice.ratio_step * kUnit / scales.root;
  scales.ratio = int(exp2_unit(std::min<int64_t>(octaves, kMostOctaves * kUnit)));
  scales.inverse = kUnit * kUnit / scales.ratio;
  // half a turn over the step of the direction, which is angle_step / (root (ratio - 1 / ratio))
  const int64_t turn = std::min<int64_t>(scales.ratio, kMostTurn) - scales.inverse;
  const int64_t angles = round_div(((turn * scales.root) >> kUnitBits) * kPi, int64_t(lattice.angle_step) * kUnit);
  scales.angles = int(std::clamp<int64_t>(angles, 1, kMostAngles));
  return scales;
}

Covariance covariance_of(const Scales &scales, int angle) {
  const int64_t turn = int64_t(angle) * kUnit / scales.angles; // of half a turn
  const int64_t sine = sine_squared(turn), cosine = kUnit - sine;
  const int64_t product = isqrt(sine * cosine); // |sin cos|
  Covariance found{};
  found.xx = int(std::max<int64_t>(1, (scales.ratio * cosine + scales.inverse * sine) >> kUnitBits));
  found.yy = int(std::max<int64_t>(1, (scales.ratio * sine + scales.inverse * cosine) >> kUnitBits));
  found.xy = int((product * (scales.ratio - scales.inverse)) >> kUnitBits);
  if (2 * turn > kUnit) found.xy = -found.xy;
  return found;
}

std::array<int, 2> places_of(const Lattice &lattice, const Scales &scales, int yy, const Box &box) {
  const int64_t step = std::max<int64_t>(1, (int64_t(lattice.place_step) * scales.root) >> kUnitBits);
  const int64_t spread = isqrt(int64_t(yy) * kUnit); // along y; along x, in a row, it is one over that
  const int64_t y_step = std::max<int64_t>(1, (step * spread) >> kUnitBits);
  const int64_t x_step = std::max<int64_t>(1, step * kUnit / spread);
  return {count_places(box.width, x_step), count_places(box.height, y_step)};
}

int64_t color_step(const Lattice &lattice, int channel, int root) {
  const int64_t area = (int64_t(root) * root) >> kUnitBits;
  return std::max<int64_t>(1, int64_t(lattice.color_step[size_t(channel)]) * kUnit / area);
}

int64_t most_color(int64_t step) { return std::min<int64_t>(kMostColor, kMostColorValue / step); }

} // namespace imagegs::entropy
