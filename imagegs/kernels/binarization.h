// Symbols as sequences of decisions; docs/format.md, section 10.3. Both directions at once: an encoder passes the value
// and gets it back, for a decoder the argument means nothing.
#pragma once

#include <cstdint>
#include <cstdlib>

#include "context_model.h"
#include "fixed_point.h"

namespace imagegs::entropy {

constexpr int kMostExponent = 26; // so magnitudes are below 2^27
constexpr int kOwnExponents = 12; // exponents with nodes of their own; larger ones share the last
constexpr int kIntegerNodes = 2 + 2 * kOwnExponents;

// Bits without a model, the highest first.
template <typename Coder> int64_t code_raw(Coder &coder, int bits, int64_t value) {
  int64_t found = 0;
  while (bits > 0) {
    const int now = std::min(bits, kEvenBits);
    bits -= now;
    found = (found << now) + coder.even(int((value >> bits) & ((1 << now) - 1)), 1 << now);
  }
  return found;
}

// One of `count` equally likely values, from 0.
template <typename Coder> int64_t code_even(Coder &coder, int64_t count, int64_t value) {
  if (count <= 1 << kEvenBits) return coder.even(int(value), int(count));
  const int shift = ilog2(uint64_t(count - 1)) - (kEvenBits - 1);
  const int64_t high = coder.even(int(value >> shift), int((count - 1) >> shift) + 1);
  return std::min((high << shift) + code_raw(coder, shift, value), count - 1);
}

// An integer from 1: its exponent in unary, the bit below the leading one, the rest raw.
template <typename Coder, typename Model> int64_t code_magnitude(Coder &coder, Model &model, int64_t value) {
  const int known = ilog2(uint64_t(value));
  const auto node = [](int exponent) { return 2 + 2 * std::min(exponent, kOwnExponents - 1); };
  int exponent = 0;
  while (exponent < kMostExponent && model.code(coder, known > exponent, node(exponent))) exponent++;
  if (exponent == 0) return 1;
  const int top = model.code(coder, int(value >> (exponent - 1)) & 1, node(exponent) + 1);
  return (int64_t(2 + top) << (exponent - 1)) + code_raw(coder, exponent - 1, value);
}

template <typename Coder, typename Model> int64_t code_unsigned(Coder &coder, Model &model, int64_t value) {
  return model.code(coder, value != 0, 0) ? code_magnitude(coder, model, value) : 0;
}

template <typename Coder, typename Model> int64_t code_signed(Coder &coder, Model &model, int64_t value) {
  if (!model.code(coder, value != 0, 0)) return 0;
  const bool negative = model.code(coder, value < 0, 1);
  const int64_t magnitude = code_magnitude(coder, model, std::abs(value));
  return negative ? -magnitude : magnitude;
}

// Stands for a coder and for a model where a symbol is priced, not coded.
template <typename Model> class Pricer {
public:
  explicit Pricer(const Model &model) : model_(model) {}
  template <typename Coder> int code(Coder &, int bit, int node) {
    bits += model_.price(bit, node);
    return bit;
  }
  int even(int value, int count) {
    bits += std::log2(double(count));
    return value;
  }
  double bits = 0;

private:
  const Model &model_;
};

// Bits that a signed integer would take.
template <typename Model> double price_signed(const Model &model, int64_t value) {
  Pricer<Model> pricer(model);
  code_signed(pricer, pricer, value);
  return pricer.bits;
}

} // namespace imagegs::entropy
