// Types for Python of the lattice and of the block codec.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <tuple>

#include "block_codec.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace imagegs::entropy;

namespace {

using Ints = nb::ndarray<const int32_t, nb::shape<-1, -1>, nb::c_contig, nb::device::cpu>;
using Doubles = nb::ndarray<const double, nb::shape<-1, -1>, nb::c_contig, nb::device::cpu>;
using Made = nb::ndarray<nb::numpy, int32_t, nb::ndim<2>>;
using Corners = std::tuple<int, int, int, int>;

void require(bool condition, const char *message) {
  if (!condition) throw nb::value_error(message);
}

Lattice to_lattice(const std::vector<int> &steps) {
  require(steps.size() > 5 && steps.size() <= 5 + kMostChannels, "expected five steps and one for each channel");
  require(steps[0] >= kLeastRoot && steps[0] <= kMostRoot, "root out of range");
  const auto within = [](int most) { return [most](int step) { return step >= 1 && step <= most; }; };
  require(std::all_of(steps.begin() + 1, steps.begin() + 5, within(kMostStep)), "step out of range");
  require(std::all_of(steps.begin() + 5, steps.end(), within(kMostColorStep)), "step of a color out of range");
  Lattice lattice{steps[0], steps[1], steps[2], steps[3], steps[4], int(steps.size()) - 5, {}};
  std::copy(steps.begin() + 5, steps.end(), lattice.color_step.begin());
  return lattice;
}

Box to_box(Corners corners) {
  const auto [x, y, width, height] = corners;
  require(x >= 0 && y >= 0 && width > 0 && height > 0, "box must be positive");
  require(x <= kMostSide - width && y <= kMostSide - height, "box out of range");
  return {x, y, width, height};
}

Made to_array(const int32_t *values, size_t rows, size_t columns) {
  auto *copy = new int32_t[std::max<size_t>(1, rows * columns)];
  std::copy_n(values, rows * columns, copy);
  nb::capsule owner(copy, [](void *memory) noexcept { delete[] static_cast<int32_t *>(memory); });
  return Made(copy, {rows, columns}, owner);
}

std::vector<Symbols> to_symbols(const Ints &rows) {
  require(rows.shape(1) == 5, "symbols must be [N, 5]");
  std::vector<Symbols> symbols(rows.shape(0));
  for (size_t i = 0; i < symbols.size(); i++) {
    const int32_t *row = rows.data() + 5 * i;
    symbols[i] = {row[0], row[1], row[2], row[3], row[4]};
  }
  return symbols;
}

Made from_symbols(const std::vector<Symbols> &symbols) {
  static_assert(sizeof(Symbols) == 5 * sizeof(int32_t));
  return to_array(reinterpret_cast<const int32_t *>(symbols.data()), symbols.size(), 5);
}

std::vector<double> from_bits(const std::array<double, kParts> &bits) { return {bits.begin(), bits.end()}; }

Made angles(const std::vector<int> &steps, Ints rows) {
  const Lattice lattice = to_lattice(steps);
  require(rows.shape(1) == 2, "shapes must be [N, 2]");
  std::vector<int32_t> found(rows.shape(0));
  for (size_t i = 0; i < found.size(); i++) {
    const int32_t size = rows.data()[2 * i], ratio = rows.data()[2 * i + 1];
    require(size >= 0 && has_size(lattice, size) && ratio >= 0 && ratio <= kMostRatio, "shape out of range");
    found[i] = scales_of(lattice, size, ratio).angles;
  }
  return to_array(found.data(), found.size(), 1);
}

class PyBlockCodec {
public:
  PyBlockCodec(const std::vector<int> &steps, Corners box)
      : lattice_(to_lattice(steps)), box_(to_box(box)), codec_(lattice_, box_) {}

  // Box x, y, width, height and places along x and y of each symbol.
  Made cells(Ints rows) const {
    const std::vector<Symbols> symbols = to_symbols(rows);
    check(symbols);
    const std::vector<Box> boxes = codec_.cells(symbols);
    std::vector<int32_t> found;
    found.reserve(6 * boxes.size());
    for (size_t i = 0; i < boxes.size(); i++) {
      const Scales scales = scales_of(lattice_, symbols[i].size, symbols[i].ratio);
      const Covariance covariance = covariance_of(scales, symbols[i].angle);
      const auto [wide, high] = places_of(lattice_, scales, covariance.yy, boxes[i]);
      found.insert(found.end(), {boxes[i].x, boxes[i].y, boxes[i].width, boxes[i].height, wide, high});
    }
    return to_array(found.data(), boxes.size(), 6);
  }

  // `wanted`: [N, C] colours before rounding, in steps, for a choice by squared error and bits; `bit_worth`: [N, 1]
  // squared steps that a bit is worth.
  nb::tuple encode(Ints rows, Ints color_rows, std::optional<Doubles> wanted, std::optional<Doubles> bit_worth) {
    const size_t channels = size_t(lattice_.channels);
    require(color_rows.shape(0) == rows.shape(0) && color_rows.shape(1) == channels, "colors must be [N, C]");
    require(!wanted || (wanted->shape(0) == rows.shape(0) && wanted->shape(1) == channels), "wanted must be [N, C]");
    require(wanted.has_value() == bit_worth.has_value(), "wanted and bit_worth go together");
    require(!bit_worth || (bit_worth->shape(0) == rows.shape(0) && bit_worth->shape(1) == 1),
            "bit_worth must be [N, 1]");
    LevelSymbols level{to_symbols(rows), {color_rows.data(), color_rows.data() + color_rows.size()}, {}};
    check(level.symbols);
    check_colors(level);
    std::vector<double> before, worth;
    if (wanted) before.assign(wanted->data(), wanted->data() + wanted->size());
    if (bit_worth) worth.assign(bit_worth->data(), bit_worth->data() + bit_worth->size());
    std::vector<int32_t> order;
    std::vector<uint8_t> bytes;
    {
      const nb::gil_scoped_release release;
      bytes = codec_.encode(level, order, before, worth);
    }
    return nb::make_tuple(nb::bytes(reinterpret_cast<const char *>(bytes.data()), bytes.size()),
                          from_symbols(level.symbols), to_array(level.colors.data(), level.symbols.size(), channels),
                          to_array(order.data(), order.size(), 1), from_bits(level.bits));
  }

  nb::tuple decode(nb::bytes data, int64_t count, bool cut) {
    require(count >= 0, "count must not be negative");
    LevelSymbols level;
    {
      const auto *bytes = reinterpret_cast<const uint8_t *>(data.c_str());
      const size_t size = data.size();
      const nb::gil_scoped_release release;
      level = codec_.decode(bytes, size, count, cut);
    }
    return nb::make_tuple(from_symbols(level.symbols),
                          to_array(level.colors.data(), level.symbols.size(), size_t(lattice_.channels)),
                          from_bits(level.bits));
  }

private:
  void check(const std::vector<Symbols> &symbols) const {
    for (const Symbols &one : symbols) {
      require(one.size >= 0 && has_size(lattice_, one.size), "size out of range");
      require(one.ratio >= 0 && one.ratio <= kMostRatio, "ratio out of range");
      require(one.angle >= 0 && one.angle < scales_of(lattice_, one.size, one.ratio).angles, "angle out of range");
      const int64_t x = one.x - box_.x * kPixel, y = one.y - box_.y * kPixel;
      require(x >= 0 && y >= 0 && x < box_.width * kPixel && y < box_.height * kPixel, "position outside the box");
    }
  }

  void check_colors(const LevelSymbols &level) const {
    const size_t channels = size_t(lattice_.channels);
    for (size_t i = 0; i < level.symbols.size(); i++) {
      const int root = lattice_.root + level.symbols[i].size * lattice_.root_step;
      for (size_t k = 0; k < channels; k++) {
        const int64_t most = most_color(color_step(lattice_, int(k), root));
        require(std::abs(int64_t(level.colors[i * channels + k])) <= most, "color out of range");
      }
    }
  }

  Lattice lattice_;
  Box box_;
  BlockCodec codec_;
};

} // namespace

void bind_entropy(nb::module_ &m) {
  m.attr("PARTS") = nb::make_tuple("tree", "size", "ratio", "angle", "place", "color");
  nb::exception<Malformed>(m, "Malformed", PyExc_ValueError);
  m.def("lattice_angles", &angles, "steps"_a, "shapes"_a.noconvert());
  nb::class_<PyBlockCodec>(m, "BlockCodec")
      .def(nb::init<const std::vector<int> &, Corners>(), "steps"_a, "box"_a)
      .def("cells", &PyBlockCodec::cells, "symbols"_a.noconvert())
      .def("encode", &PyBlockCodec::encode, "symbols"_a.noconvert(), "colors"_a.noconvert(),
           "wanted"_a.noconvert().none(), "bit_worth"_a.noconvert().none())
      .def("decode", &PyBlockCodec::decode, "data"_a, "count"_a, "cut"_a);
}
