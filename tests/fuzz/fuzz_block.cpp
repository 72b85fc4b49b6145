// libFuzzer target: any bytes as the payloads of a block, whole or cut, one level after the other. Whatever comes out
// must be symbols that the encoder takes, and must come back from it; `make fuzz` builds and runs it with sanitizers.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "block_codec.h"

using namespace imagegs::entropy;

namespace {

// Numbers off the front of the input; zeros where it has ended.
class Input {
public:
  Input(const uint8_t *data, size_t size) : data_(data), size_(size) {}
  uint32_t take(int bytes) {
    uint32_t value = 0;
    for (int k = 0; k < bytes; k++) value |= uint32_t(at_ < size_ ? data_[at_++] : 0) << (8 * k);
    return value;
  }
  int within(int low, int high, int bytes) { return low + int(take(bytes) % (uint32_t(high - low) + 1)); }
  std::vector<uint8_t> bytes(size_t count) {
    const size_t length = std::min(count, size_ - at_);
    std::vector<uint8_t> found(data_ + at_, data_ + at_ + length);
    at_ += length;
    return found;
  }
  size_t left() const { return size_ - at_; }

private:
  const uint8_t *data_;
  size_t size_, at_ = 0;
};

Lattice a_lattice(Input &input) {
  Lattice lattice{};
  const bool extreme = input.take(1) & 1;
  lattice.channels = extreme ? input.within(1, kMostChannels, 1) : input.within(1, 5, 1);
  const int most = extreme ? kMostStep : 1 << 13;
  lattice.root = input.within(kLeastRoot, extreme ? kMostRoot : 1 << 13, 3);
  for (int *step : {&lattice.root_step, &lattice.ratio_step, &lattice.place_step, &lattice.angle_step})
    *step = input.within(1, most, 3);
  for (int k = 0; k < lattice.channels; k++)
    lattice.color_step[size_t(k)] = input.within(1, extreme ? kMostColorStep : 1 << 16, 3);
  return lattice;
}

Box a_box(Input &input) {
  const int most = input.take(1) & 1 ? 1 << 16 : 512;
  return {input.within(0, most, 2), input.within(0, most, 2), input.within(1, most, 2), input.within(1, most, 2)};
}

void require(bool condition, const char *what) {
  if (condition) return;
  std::fprintf(stderr, "%s\n", what);
  std::abort();
}

void check(const LevelSymbols &level, const Lattice &lattice, const Box &box) {
  require(level.colors.size() == level.symbols.size() * size_t(lattice.channels), "colours and symbols disagree");
  for (const Symbols &one : level.symbols) {
    require(one.size >= 0 && has_size(lattice, one.size), "size");
    require(one.ratio >= 0 && one.ratio <= kMostRatio, "ratio");
    require(one.angle >= 0 && one.angle < scales_of(lattice, one.size, one.ratio).angles, "angle");
    require(one.x >= box.x * kPixel && one.x < (box.x + box.width) * kPixel, "x");
    require(one.y >= box.y * kPixel && one.y < (box.y + box.height) * kPixel, "y");
  }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  Input input(data, size);
  const Lattice lattice = a_lattice(input);
  const Box box = a_box(input);
  BlockCodec decoder(lattice, box), encoder(lattice, box), again(lattice, box);
  try {
    for (int level = 0; level < 4 && input.left() > 3; level++) {
      const bool cut = input.take(1) & 1;
      const std::vector<uint8_t> payload = input.bytes(input.take(2));
      const int64_t count = input.within(0, int(8 * payload.size()) + 1, 2);
      const LevelSymbols found = decoder.decode(payload.data(), payload.size(), count, cut);
      check(found, lattice, box);
      if (cut) return 0;
      require(int64_t(found.symbols.size()) == count, "count");
      LevelSymbols given = found;
      std::vector<int32_t> rows;
      const std::vector<uint8_t> bytes = encoder.encode(given, rows);
      const LevelSymbols back = again.decode(bytes.data(), bytes.size(), count, false);
      require(back.symbols.size() == given.symbols.size() && back.colors == given.colors, "round trip of colours");
      const auto same = [](const Symbols &a, const Symbols &b) {
        return a.size == b.size && a.ratio == b.ratio && a.angle == b.angle && a.x == b.x && a.y == b.y;
      };
      require(std::equal(back.symbols.begin(), back.symbols.end(), given.symbols.begin(), same),
              "round trip of symbols");
    }
  } catch (const Malformed &) {
  }
  return 0;
}
