// Adaptive probabilities of the decisions of one kind of symbol; docs/format.md, section 10.2.
//
// A decision's probability is a logistic mix of adaptive counters (Mahoney 2005, "Adaptive weighing of context
// models"): each counter gives the logarithm of its odds, a small set of weights adds them up, and both learn from the
// outcome.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#if defined(__SSE2__) && !defined(IMAGEGS_PLAIN_MIX)
#define IMAGEGS_SSE2_MIX
#include <emmintrin.h>
#endif

#include "range_coder.h"

namespace imagegs::entropy {

constexpr int kLogitLimit = 2047; // logits are in units of 1/256, from -8 to 8
constexpr int kWeightBits = 14;   // of a weight of one
constexpr int kSlowest = 60;      // observations after which a counter's rate stays
constexpr int kMixRate = 14;

// 65536 / (1 + exp(-x)) for the logits -2048, -1920 ... 2048, rounded.
constexpr std::array<int, 33> kLogistic = {22,    36,    60,    98,    162,   267,   439,   720,   1179,  1921,  3108,
                                           4971,  7812,  11955, 17625, 24743, 32768, 40793, 47911, 53581, 57724, 60565,
                                           62428, 63615, 64357, 64816, 65097, 65269, 65374, 65438, 65476, 65500, 65514};

struct Tables {
  std::array<uint16_t, 2 * kLogitLimit + 1> squash{}; // probability of a one, in 1/65536, by logit + 2047
  std::array<int16_t, 4096> stretch{};                // its inverse: the smallest logit that reaches entry / 4096
  std::array<uint16_t, kSlowest + 1> rate{};          // in 1/32768: the n-th observation counts 1 / (n + 2)

  constexpr Tables() {
    for (int logit = -kLogitLimit; logit <= kLogitLimit; logit++) {
      const size_t i = size_t(logit + 2048) >> 7;
      const int f = (logit + 2048) & 127;
      squash[size_t(logit + kLogitLimit)] = uint16_t((kLogistic[i] * (128 - f) + kLogistic[i + 1] * f + 64) >> 7);
    }
    int logit = -kLogitLimit;
    for (int entry = 0; entry < 4096; entry++) {
      while (logit < kLogitLimit && squash[size_t(logit + kLogitLimit)] < entry * 16) logit++;
      stretch[size_t(entry)] = int16_t(logit);
    }
    for (int n = 0; n <= kSlowest; n++) rate[size_t(n)] = uint16_t(32768 / (n + 2));
  }
};
inline constexpr Tables kTables{};

inline int squash(int logit) {
  return kTables.squash[size_t(std::clamp(logit, -kLogitLimit, kLogitLimit) + kLogitLimit)];
}

// A probability of a one, in 1/65536, that learns quickly at first.
struct Counter {
  uint16_t probability = kProbabilityOne / 2;
  uint16_t seen = 0;

  void learn(int target) {
    const int p = probability, n = seen;
    probability = uint16_t(p + (((target - p) * kTables.rate[size_t(n)]) >> 15));
    seen = uint16_t(n + (n < kSlowest));
  }
};

// Eight logits, those of inputs that do not exist being zero; and weights for them, in 1/16384.
#ifdef IMAGEGS_SSE2_MIX
using Lanes = __m128i;

inline Lanes to_lanes(const std::array<int, 8> &v) {
  return _mm_set_epi16(int16_t(v[7]), int16_t(v[6]), int16_t(v[5]), int16_t(v[4]), int16_t(v[3]), int16_t(v[2]),
                       int16_t(v[1]), int16_t(v[0]));
}

inline int dot(const Lanes &logits, const Lanes &weights) {
  __m128i sum = _mm_madd_epi16(logits, weights);
  sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4e));
  sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xb1));
  return _mm_cvtsi128_si32(sum);
}

inline void learn(Lanes &weights, const Lanes &logits, int error) {
  const __m128i twice = _mm_mulhi_epi16(_mm_slli_epi16(logits, 4), _mm_set1_epi16(int16_t(error)));
  weights = _mm_adds_epi16(weights, _mm_srai_epi16(_mm_add_epi16(twice, _mm_set1_epi16(1)), 1));
}
#else
struct Lanes {
  std::array<int16_t, 8> value;
};

inline Lanes to_lanes(const std::array<int, 8> &v) {
  Lanes lanes{};
  for (size_t k = 0; k < 8; k++) lanes.value[k] = int16_t(v[k]);
  return lanes;
}

inline int dot(const Lanes &logits, const Lanes &weights) {
  int sum = 0;
  for (size_t k = 0; k < 8; k++) sum += int(logits.value[k]) * weights.value[k];
  return sum;
}

inline void learn(Lanes &weights, const Lanes &logits, int error) {
  for (size_t k = 0; k < 8; k++) {
    const int move = (((16 * logits.value[k] * error) >> 16) + 1) >> 1;
    weights.value[k] = int16_t(std::clamp(weights.value[k] + move, -32768, 32767));
  }
}
#endif

// A decision is a node of the symbol's binary code; an input is one of the contexts in which the symbol is seen.
template <size_t kInputs> class ContextModel {
  static_assert(kInputs <= 8);

public:
  using Contexts = std::array<int, kInputs>;

  // How many contexts each input has, and how many nodes the code has.
  ContextModel(const Contexts &contexts, int nodes) : contexts_(contexts), nodes_(size_t(nodes)) {
    size_t total = 0;
    for (size_t k = 0; k < kInputs; k++) {
      starts_[k] = total;
      total += size_t(contexts[k]) * nodes_;
    }
    counters_.resize(total);
    std::array<int, 8> first{};
    std::fill_n(first.begin(), kInputs, (2 << kWeightBits) / int(kInputs + 5));
    weights_.assign(nodes_, {to_lanes(first)});
  }

  // Sets the contexts of the next symbol; each is clamped to those that its input has.
  void see(const Contexts &contexts) {
    for (size_t k = 0; k < kInputs; k++)
      rows_[k] = starts_[k] + size_t(std::clamp(contexts[k], 0, contexts_[k] - 1)) * nodes_;
  }

  // One decision at a node.
  template <typename Coder> int code(Coder &coder, int bit, int node) {
    std::array<Counter *, kInputs> counters;
    std::array<int, 8> found{};
    for (size_t k = 0; k < kInputs; k++) {
      counters[k] = &counters_[rows_[k] + size_t(node)];
      found[k] = kTables.stretch[size_t(counters[k]->probability >> 4)];
    }
    const Lanes logits = to_lanes(found);
    Lanes &weights = weights_[size_t(node)].lanes;
    const int mixed = squash(dot(logits, weights) >> kWeightBits);
    bit = coder.code(bit, mixed);
    const int target = bit ? kProbabilityOne - 1 : 0;
    learn(weights, logits, ((target - mixed) * kMixRate) >> 7);
    for (Counter *counter : counters) counter->learn(target);
    return bit;
  }

  // Bits that a decision would take here and now.
  double price(int bit, int node) const {
    std::array<int, 8> found{};
    for (size_t k = 0; k < kInputs; k++)
      found[k] = kTables.stretch[size_t(counters_[rows_[k] + size_t(node)].probability >> 4)];
    const int one = squash(dot(to_lanes(found), weights_[size_t(node)].lanes) >> kWeightBits);
    return kProbabilityBits - std::log2(double(bit ? one : kProbabilityOne - one));
  }

private:
  struct Weights { // a struct, since templates drop the attributes of vector types
    Lanes lanes;
  };

  Contexts contexts_;
  size_t nodes_;
  std::array<size_t, kInputs> starts_{}, rows_{};
  std::vector<Counter> counters_; // by input, context, node
  std::vector<Weights> weights_;  // by node
};

} // namespace imagegs::entropy
