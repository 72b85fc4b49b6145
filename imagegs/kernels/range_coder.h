// Binary range coder with carries; docs/format.md, section 10.1.
//
// The state is an interval of 32-bit numbers; a decision keeps a part of it, and leading bytes that are settled move
// out. It starts with 2^24 numbers, so that the first byte to move out is always zero: it is not stored.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "fixed_point.h"

namespace imagegs::entropy {

constexpr int kProbabilityBits = 16;
constexpr int kProbabilityOne = 1 << kProbabilityBits;
constexpr uint32_t kLeastRange = uint32_t(1) << 24;
constexpr int kEvenBits = 12; // of the largest number of values that `even` tells apart

// log2(range), wrong by a hundredth at most; for reports only.
inline double range_bits(uint32_t range) {
  const int whole = ilog2(range);
  const double part = double(range) / double(uint64_t(1) << whole) - 1;
  return whole + part * (1.344 - 0.344 * part);
}

class Encoder {
public:
  // One decision, where `one` in 1/65536 is the probability of a one, 1 to 65535; gives the bit back.
  int code(int bit, int one) {
    const uint32_t bound = uint32_t((uint64_t(range_) * uint32_t(one)) >> kProbabilityBits);
    if (bit) {
      range_ = bound;
    } else {
      low_ += bound;
      range_ -= bound;
    }
    normalize();
    return bit;
  }

  // One of `count` equally likely values, 1 to 4096; the last one has the remainder too.
  int even(int value, int count) {
    const uint32_t share = range_ / uint32_t(count), below = share * uint32_t(value);
    low_ += below;
    range_ = value == count - 1 ? range_ - below : share;
    normalize();
    return value;
  }

  // Bits so far, but for a constant.
  double spent() const { return 8.0 * double(bytes_.size()) - range_bits(range_); }

  // The fewest bytes after which zeros, which the decoder reads past the end, still decode right.
  std::vector<uint8_t> finish() {
    int length = 0;
    uint64_t value = 0;
    for (; length <= 4; length++) {
      const uint64_t step = uint64_t(1) << (32 - 8 * length);
      value = (low_ + step - 1) / step * step;
      if (value < low_ + range_) break;
    }
    low_ = value;
    carry();
    for (int k = 0; k < length; k++) shift();
    if (!bytes_.empty()) bytes_.erase(bytes_.begin());
    return std::move(bytes_);
  }

  bool exhausted() const { return false; }

private:
  void carry() {
    if (low_ >> 32 == 0) return;
    for (size_t at = bytes_.size(); at-- > 0 && ++bytes_[at] == 0;) {
    }
    low_ &= 0xffffffffu;
  }

  void shift() {
    carry();
    bytes_.push_back(uint8_t(low_ >> 24));
    low_ = (low_ << 8) & 0xffffffffu;
  }

  void normalize() {
    for (; range_ < kLeastRange; range_ <<= 8) shift();
  }

  uint64_t low_ = 0; // bit 32 is a carry into the bytes
  uint32_t range_ = kLeastRange;
  std::vector<uint8_t> bytes_;
};

// The mirror image; what is to be coded is ignored, what was coded comes back.
class Decoder {
public:
  // With `cut` the data ends before what the encoder wrote does.
  Decoder(const uint8_t *data, size_t size, bool cut) : data_(data), size_(size), limit_(cut ? size : size + 4) {
    for (int k = 0; k < 3; k++) value_ = (value_ << 8) | next();
  }

  int code(int, int one) {
    const uint32_t bound = uint32_t((uint64_t(range_) * uint32_t(one)) >> kProbabilityBits);
    const bool bit = value_ < bound;
    value_ -= bit ? 0 : bound;
    range_ = bit ? bound : range_ - bound;
    normalize();
    return bit;
  }

  int even(int, int count) {
    const uint32_t share = range_ / uint32_t(count), last = uint32_t(count) - 1;
    const uint32_t value = std::min(value_ / share, last), below = share * value;
    value_ -= below;
    range_ = value == last ? range_ - below : share;
    normalize();
    return int(value);
  }

  // Bits so far, but for a constant.
  double spent() const { return 8.0 * double(taken_) - range_bits(range_); }

  // Whether decisions hang on bytes that are not there. The zeros past the end that an encoder counts on are four at
  // most.
  bool exhausted() const { return taken_ > limit_; }

private:
  void normalize() {
    for (; range_ < kLeastRange; range_ <<= 8) value_ = (value_ << 8) | next();
  }

  uint32_t next() {
    const size_t at = taken_++;
    return at < size_ ? data_[at] : 0;
  }

  const uint8_t *data_;
  size_t size_, limit_, taken_ = 0;
  uint32_t range_ = kLeastRange, value_ = 0; // of the interval, its size and what lies before the coded number
};

} // namespace imagegs::entropy
