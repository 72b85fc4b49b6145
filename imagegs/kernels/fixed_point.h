// Integer arithmetic of the entropy coder. Every intermediate stays below 2^53 for what the callers pass, so that a
// decoder which has doubles only computes the same; docs/format.md names the bounds.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace imagegs::entropy {

constexpr int kUnitBits = 12;
constexpr int kUnit = 1 << kUnitBits; // one, in roots, ratios and covariances

// floor(log2(value)), 0 for 0.
inline int ilog2(uint64_t value) {
#if defined(__GNUC__) || defined(__clang__)
  return 63 - __builtin_clzll(value | 1);
#else
  int found = 0;
  while (value >>= 1) found++;
  return found;
#endif
}

// floor(2 log2(value)), 0 below one, and no more than 60.
inline int half_octaves(int64_t value) {
  if (value < 1) return 0;
  if (value >= int64_t(1) << 30) return 60;
  const int whole = ilog2(uint64_t(value));
  return 2 * whole + (value * value >= int64_t(2) << (2 * whole));
}

// floor(sqrt(value)) for values below 2^52, where the rounded double root lies on the right side of every integer.
inline int64_t isqrt(int64_t value) { return int64_t(std::sqrt(double(value))); }

inline int64_t floor_div(int64_t a, int64_t b) { return a / b - (a % b != 0 && (a < 0) != (b < 0)); }

// a / b for a positive b, to the nearest integer, halves upwards.
inline int64_t round_div(int64_t a, int64_t b) { return floor_div(2 * a + b, 2 * b); }

// 2^x for x from 0, both in 1/4096; wrong by four thousandths at most.
inline int64_t exp2_unit(int64_t x) {
  const int64_t f = x & (kUnit - 1);
  return (kUnit + ((f * (2689 + ((1407 * f) >> kUnitBits))) >> kUnitBits)) << (x >> kUnitBits);
}

// sin²(π t) for t in [0, 1), both in 1/4096; wrong by two thousandths at most.
inline int64_t sine_squared(int64_t t) {
  const int64_t parabola = (4 * t * (kUnit - t)) >> kUnitBits;
  const int64_t sine = (parabola * (3174 + ((922 * parabola) >> kUnitBits))) >> kUnitBits;
  return (sine * sine) >> kUnitBits;
}

} // namespace imagegs::entropy
