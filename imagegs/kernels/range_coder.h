// Binary range coding with mixed contexts; docs/format.md, coding 1, is the specification. Integer arithmetic only, so
// that every decoder takes the same decisions; no number leaves the 53 bits that JavaScript adds and multiplies
// exactly.
//
// A decision's probability is a logistic mix of adaptive counters (Mahoney 2005, "Adaptive weighing of context
// models"): each counter gives the logarithm of its odds, a small set of weights adds them up, and both learn from the
// outcome.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace imagegs::entropy {

constexpr int kProbabilityBits = 16;
constexpr int kProbabilityOne = 1 << kProbabilityBits;
constexpr int kLogitLimit = 2047; // logits are in units of 1/256, from -8 to 8

// 65536 / (1 + exp(-x)) for the logits -2048, -1920 ... 2048, rounded.
constexpr std::array<int, 33> kLogistic = {22,    36,    60,    98,    162,   267,   439,   720,   1179,  1921,  3108,
                                           4971,  7812,  11955, 17625, 24743, 32768, 40793, 47911, 53581, 57724, 60565,
                                           62428, 63615, 64357, 64816, 65097, 65269, 65374, 65438, 65476, 65500, 65514};

// Probability of a one, in 1/65536, of a logit.
inline int squash(int logit) {
  const int x = std::clamp(logit, -kLogitLimit, kLogitLimit) + 2048;
  const int i = x >> 7, f = x & 127;
  return (kLogistic[size_t(i)] * (128 - f) + kLogistic[size_t(i) + 1] * f + 64) >> 7;
}

// Inverse of squash, tabulated for probabilities in 1/4096: the smallest logit that reaches the middle of the entry.
inline const std::array<int16_t, 4096> &stretch_table() {
  static const std::array<int16_t, 4096> table = [] {
    std::array<int16_t, 4096> made{};
    int logit = -kLogitLimit;
    for (int entry = 0; entry < 4096; entry++) {
      while (logit < kLogitLimit && squash(logit) < entry * 16 + 8) logit++;
      made[size_t(entry)] = int16_t(logit);
    }
    return made;
  }();
  return table;
}

inline int stretch(int probability) { return stretch_table()[size_t(probability >> 4)]; }

// An adaptive probability that learns quickly at first: the n-th observation moves it by 1/(n + 1.5) of the way.
struct Counter {
  uint16_t probability = kProbabilityOne / 2;
  uint16_t seen = 0;
};

constexpr int kSlowest = 254; // observations after which the rate stays

inline const std::array<int, kSlowest + 1> &rates() {
  static const std::array<int, kSlowest + 1> table = [] {
    std::array<int, kSlowest + 1> made{};
    for (int n = 0; n <= kSlowest; n++) made[size_t(n)] = 2 * 65536 / (2 * n + 3);
    return made;
  }();
  return table;
}

inline void learn(Counter &counter, int bit, int limit) {
  const int target = bit ? kProbabilityOne - 1 : 0;
  const int rate = rates()[counter.seen];
  const int64_t move = (int64_t(target) - counter.probability) * rate;
  counter.probability = uint16_t(counter.probability + (move >> 16)); // rounds towards minus infinity
  if (counter.seen < limit) counter.seen++;
}

class Encoder {
public:
  // One decision, where `one` in 1/65536 is the probability of a one, 1 to 65535; gives the bit back.
  int code(int bit, int one) {
    const uint32_t range = high_ - low_;
    const uint32_t middle = low_ + uint32_t((uint64_t(range) * uint32_t(one)) >> kProbabilityBits);
    if (bit)
      high_ = middle;
    else
      low_ = middle + 1;
    while (((low_ ^ high_) & 0xff000000u) == 0) {
      bytes_.push_back(uint8_t(high_ >> 24));
      low_ <<= 8;
      high_ = (high_ << 8) | 255;
    }
    return bit;
  }

  // The fewest bytes after which zeros, which the decoder reads past the end, still decode right.
  std::vector<uint8_t> finish() {
    for (int length = 0; length <= 4; length++) {
      const uint32_t step = length == 0 ? 0 : length == 4 ? 1 : uint32_t(1) << (32 - 8 * length);
      if (length == 0) {
        if (low_ == 0) break;
        continue;
      }
      const uint64_t value = (uint64_t(low_) + step - 1) / step * step;
      if (value > high_) continue;
      for (int k = 0; k < length; k++) bytes_.push_back(uint8_t(value >> (24 - 8 * k)));
      break;
    }
    while (!bytes_.empty() && bytes_.back() == 0) bytes_.pop_back();
    return std::move(bytes_);
  }

private:
  uint32_t low_ = 0, high_ = 0xffffffffu;
  std::vector<uint8_t> bytes_;
};

class Decoder {
public:
  Decoder(const uint8_t *data, size_t size) : data_(data), size_(size) {
    for (int k = 0; k < 4; k++) value_ = (value_ << 8) | next();
  }

  int code(int, int one) {
    const uint32_t range = high_ - low_;
    const uint32_t middle = low_ + uint32_t((uint64_t(range) * uint32_t(one)) >> kProbabilityBits);
    const int bit = value_ <= middle;
    if (bit)
      high_ = middle;
    else
      low_ = middle + 1;
    while (((low_ ^ high_) & 0xff000000u) == 0) {
      low_ <<= 8;
      high_ = (high_ << 8) | 255;
      value_ = (value_ << 8) | next();
    }
    return bit;
  }

  // Bytes read, zeros past the end counted in; four of them are read ahead.
  size_t taken() const { return taken_; }

private:
  uint32_t next() { return taken_++ < size_ ? data_[taken_ - 1] : 0; }

  const uint8_t *data_;
  size_t size_, taken_ = 0;
  uint32_t low_ = 0, high_ = 0xffffffffu, value_ = 0;
};

// Weights of one mix; chosen by the caller for each kind of decision.
constexpr int kMostInputs = 8;
struct Weights {
  std::array<int32_t, kMostInputs> value; // in 1/65536
};

// Counters and weights of one kind of symbol: a decision is a node of the symbol's binary tree, an input is one of the
// contexts in which the symbol is seen.
class Mixed {
public:
  Mixed(std::vector<int> contexts, int nodes, int limit, int rate) : nodes_(nodes), limit_(limit), rate_(rate) {
    size_t total = 0;
    for (const int count : contexts) {
      starts_.push_back(total);
      sizes_.push_back(count);
      total += size_t(count) * size_t(nodes);
    }
    counters_.resize(total);
    Weights first{};
    first.value.fill(int32_t(65536 * 2 / (int(contexts.size()) + 3)));
    weights_.assign(size_t(nodes), first);
  }

  int inputs() const { return int(starts_.size()); }

  // Sets the contexts of the next symbol, one index for each input; out of range is clamped.
  void see(std::initializer_list<int> contexts) {
    size_t input = 0;
    for (const int context : contexts) {
      const int index = std::clamp(context, 0, sizes_[input] - 1);
      rows_[input] = starts_[input] + size_t(index) * size_t(nodes_);
      input++;
    }
  }

  // One decision at a node; `prior` is a logit known beforehand, added as it is.
  template <typename Coder> int code(Coder &coder, int bit, int node, int prior = 0) {
    const int count = inputs();
    std::array<int, kMostInputs> logits{};
    Weights &weights = weights_[size_t(node)];
    int64_t sum = 0;
    for (int k = 0; k < count; k++) {
      const Counter &counter = counters_[rows_[size_t(k)] + size_t(node)];
      logits[size_t(k)] = counter.seen ? stretch(counter.probability) : 0;
      sum += int64_t(weights.value[size_t(k)]) * logits[size_t(k)];
    }
    const int mixed = squash(int(sum >> 16) + prior);
    bit = coder.code(bit, std::clamp(mixed, 32, kProbabilityOne - 32));
    const int error = (bit ? kProbabilityOne - 1 : 0) - mixed;
    for (int k = 0; k < count; k++) {
      weights.value[size_t(k)] += int32_t((int64_t(logits[size_t(k)]) * error * rate_) >> 18);
      learn(counters_[rows_[size_t(k)] + size_t(node)], bit, limit_);
    }
    return bit;
  }

private:
  int nodes_, limit_, rate_;
  std::vector<size_t> starts_;
  std::vector<int> sizes_;
  std::array<size_t, kMostInputs> rows_{};
  std::vector<Counter> counters_;
  std::vector<Weights> weights_;
};

} // namespace imagegs::entropy
