// A float vector of the machine this file is compiled for: AVX-512, AVX2 with FMA, or whatever the compiler makes of a
// short loop (SSE2, NEON, plain code). Every operation is spelled out, so that two places that compute the same thing
// get the same bits; build with -ffp-contract=off.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__AVX512F__) && defined(__AVX512VL__) && defined(__AVX512DQ__)
#define IMAGEGS_ISA avx512
#include <immintrin.h>
#elif defined(__AVX2__) && defined(__FMA__)
#define IMAGEGS_ISA avx2
#include <immintrin.h>
#else
#define IMAGEGS_ISA baseline
#endif

namespace imagegs::IMAGEGS_ISA {

#if defined(__AVX512F__) && defined(__AVX512VL__) && defined(__AVX512DQ__)

struct Mask {
  __mmask16 m;
};
struct Floats {
  static constexpr int kLanes = 16;
  __m512 v;
  Floats() = default;
  Floats(__m512 x) : v(x) {}
  explicit Floats(float x) : v(_mm512_set1_ps(x)) {}
};
inline Floats load(const float *p) { return _mm512_loadu_ps(p); }
inline void store(float *p, Floats a) { _mm512_storeu_ps(p, a.v); }
inline Floats operator+(Floats a, Floats b) { return _mm512_add_ps(a.v, b.v); }
inline Floats operator-(Floats a, Floats b) { return _mm512_sub_ps(a.v, b.v); }
inline Floats operator*(Floats a, Floats b) { return _mm512_mul_ps(a.v, b.v); }
inline Floats operator/(Floats a, Floats b) { return _mm512_div_ps(a.v, b.v); }
inline Floats fma(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a.v, b.v, c.v); }
inline Floats fnma(Floats a, Floats b, Floats c) { return _mm512_fnmadd_ps(a.v, b.v, c.v); }
inline Floats max(Floats a, Floats b) { return _mm512_max_ps(a.v, b.v); }
inline Floats min(Floats a, Floats b) { return _mm512_min_ps(a.v, b.v); }
inline Floats sqrt(Floats a) { return _mm512_sqrt_ps(a.v); }
inline Mask operator>(Floats a, Floats b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_GT_OQ)}; }
inline Mask operator==(Floats a, Floats b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_EQ_OQ)}; }
inline Mask operator<=(Floats a, Floats b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LE_OQ)}; }
inline Mask operator&(Mask a, Mask b) { return {_mm512_kand(a.m, b.m)}; }
inline Mask operator|(Mask a, Mask b) { return {_mm512_kor(a.m, b.m)}; }
inline bool any(Mask a) { return a.m != 0; }
inline Floats where(Mask m, Floats a) { return _mm512_maskz_mov_ps(m.m, a.v); }
inline float sum(Floats a) { return _mm512_reduce_add_ps(a.v); }
inline Floats lane_index() { return _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15); }
inline Floats shift_exponent(Floats mantissa, Floats magic) {
  return _mm512_castsi512_ps(
      _mm512_add_epi32(_mm512_castps_si512(mantissa.v), _mm512_slli_epi32(_mm512_castps_si512(magic.v), 23)));
}

#elif defined(__AVX2__) && defined(__FMA__)

struct Mask {
  __m256 m;
};
struct Floats {
  static constexpr int kLanes = 8;
  __m256 v;
  Floats() = default;
  Floats(__m256 x) : v(x) {}
  explicit Floats(float x) : v(_mm256_set1_ps(x)) {}
};
inline Floats load(const float *p) { return _mm256_loadu_ps(p); }
inline void store(float *p, Floats a) { _mm256_storeu_ps(p, a.v); }
inline Floats operator+(Floats a, Floats b) { return _mm256_add_ps(a.v, b.v); }
inline Floats operator-(Floats a, Floats b) { return _mm256_sub_ps(a.v, b.v); }
inline Floats operator*(Floats a, Floats b) { return _mm256_mul_ps(a.v, b.v); }
inline Floats operator/(Floats a, Floats b) { return _mm256_div_ps(a.v, b.v); }
inline Floats fma(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a.v, b.v, c.v); }
inline Floats fnma(Floats a, Floats b, Floats c) { return _mm256_fnmadd_ps(a.v, b.v, c.v); }
inline Floats max(Floats a, Floats b) { return _mm256_max_ps(a.v, b.v); }
inline Floats min(Floats a, Floats b) { return _mm256_min_ps(a.v, b.v); }
inline Floats sqrt(Floats a) { return _mm256_sqrt_ps(a.v); }
inline Mask operator>(Floats a, Floats b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_GT_OQ)}; }
inline Mask operator==(Floats a, Floats b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_EQ_OQ)}; }
inline Mask operator<=(Floats a, Floats b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_LE_OQ)}; }
inline Mask operator&(Mask a, Mask b) { return {_mm256_and_ps(a.m, b.m)}; }
inline Mask operator|(Mask a, Mask b) { return {_mm256_or_ps(a.m, b.m)}; }
inline bool any(Mask a) { return _mm256_movemask_ps(a.m) != 0; }
inline Floats where(Mask m, Floats a) { return _mm256_and_ps(m.m, a.v); }
inline float sum(Floats a) {
  const __m128 half = _mm_add_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  const __m128 quarter = _mm_add_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_add_ss(quarter, _mm_movehdup_ps(quarter)));
}
inline Floats lane_index() { return _mm256_setr_ps(0, 1, 2, 3, 4, 5, 6, 7); }
inline Floats shift_exponent(Floats mantissa, Floats magic) {
  return _mm256_castsi256_ps(
      _mm256_add_epi32(_mm256_castps_si256(mantissa.v), _mm256_slli_epi32(_mm256_castps_si256(magic.v), 23)));
}

#elif defined(__GNUC__) // GCC's and Clang's vectors: SSE2, NEON, or plain code where there is neither

typedef float Float4 __attribute__((vector_size(16)));
typedef int32_t Int4 __attribute__((vector_size(16)));
struct Mask {
  Int4 m;
};
struct Floats {
  static constexpr int kLanes = 4;
  Float4 v;
  Floats() = default;
  Floats(Float4 x) : v(x) {}
  explicit Floats(float x) : v(Float4{x, x, x, x}) {}
};
inline Floats load(const float *p) {
  Float4 v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
inline void store(float *p, Floats a) { std::memcpy(p, &a.v, sizeof a.v); }
inline Floats operator+(Floats a, Floats b) { return a.v + b.v; }
inline Floats operator-(Floats a, Floats b) { return a.v - b.v; }
inline Floats operator*(Floats a, Floats b) { return a.v * b.v; }
inline Floats operator/(Floats a, Floats b) { return a.v / b.v; }
inline Floats fma(Floats a, Floats b, Floats c) { return a.v * b.v + c.v; }
inline Floats fnma(Floats a, Floats b, Floats c) { return c.v - a.v * b.v; }
inline Floats max(Floats a, Floats b) { return a.v > b.v ? a.v : b.v; }
inline Floats min(Floats a, Floats b) { return a.v < b.v ? a.v : b.v; }
inline Floats sqrt(Floats a) {
  return Float4{std::sqrt(a.v[0]), std::sqrt(a.v[1]), std::sqrt(a.v[2]), std::sqrt(a.v[3])};
}
inline Mask operator>(Floats a, Floats b) { return {a.v > b.v}; }
inline Mask operator==(Floats a, Floats b) { return {a.v == b.v}; }
inline Mask operator<=(Floats a, Floats b) { return {a.v <= b.v}; }
inline Mask operator&(Mask a, Mask b) { return {a.m & b.m}; }
inline Mask operator|(Mask a, Mask b) { return {a.m | b.m}; }
inline bool any(Mask a) { return (a.m[0] | a.m[1] | a.m[2] | a.m[3]) != 0; }
inline Floats where(Mask m, Floats a) { return (Float4)(m.m & (Int4)a.v); }
inline float sum(Floats a) { return (a.v[0] + a.v[2]) + (a.v[1] + a.v[3]); }
inline Floats lane_index() { return Float4{0, 1, 2, 3}; }
inline Floats shift_exponent(Floats mantissa, Floats magic) {
  return (Float4)((Int4)mantissa.v + ((Int4)magic.v << 23));
}

#else // any compiler

struct Mask {
  bool m;
};
struct Floats {
  static constexpr int kLanes = 1;
  float v;
  Floats() = default;
  explicit Floats(float x) : v(x) {}
};
inline Floats load(const float *p) { return Floats(*p); }
inline void store(float *p, Floats a) { *p = a.v; }
inline Floats operator+(Floats a, Floats b) { return Floats(a.v + b.v); }
inline Floats operator-(Floats a, Floats b) { return Floats(a.v - b.v); }
inline Floats operator*(Floats a, Floats b) { return Floats(a.v * b.v); }
inline Floats operator/(Floats a, Floats b) { return Floats(a.v / b.v); }
inline Floats fma(Floats a, Floats b, Floats c) { return Floats(a.v * b.v + c.v); }
inline Floats fnma(Floats a, Floats b, Floats c) { return Floats(c.v - a.v * b.v); }
inline Floats max(Floats a, Floats b) { return Floats(a.v > b.v ? a.v : b.v); }
inline Floats min(Floats a, Floats b) { return Floats(a.v < b.v ? a.v : b.v); }
inline Floats sqrt(Floats a) { return Floats(std::sqrt(a.v)); }
inline Mask operator>(Floats a, Floats b) { return {a.v > b.v}; }
inline Mask operator==(Floats a, Floats b) { return {a.v == b.v}; }
inline Mask operator<=(Floats a, Floats b) { return {a.v <= b.v}; }
inline Mask operator&(Mask a, Mask b) { return {a.m && b.m}; }
inline Mask operator|(Mask a, Mask b) { return {a.m || b.m}; }
inline bool any(Mask a) { return a.m; }
inline Floats where(Mask m, Floats a) { return Floats(m.m ? a.v : 0.0f); }
inline float sum(Floats a) { return a.v; }
inline Floats lane_index() { return Floats(0.0f); }
inline Floats shift_exponent(Floats mantissa, Floats magic) {
  uint32_t m, e;
  std::memcpy(&m, &mantissa.v, 4);
  std::memcpy(&e, &magic.v, 4);
  m += e << 23;
  std::memcpy(&mantissa.v, &m, 4);
  return mantissa;
}

#endif

// The first count lanes (all, if there are more); the others read as zero and are not written.
inline Floats load_first(const float *p, int count) {
  if (count >= Floats::kLanes) return load(p);
  float lanes[Floats::kLanes] = {};
  std::copy_n(p, count, lanes);
  return load(lanes);
}
inline void store_first(float *p, Floats a, int count) {
  if (count >= Floats::kLanes) return store(p, a);
  float lanes[Floats::kLanes];
  store(lanes, a);
  std::copy_n(lanes, count, p);
}

// 2^x for x <= 0, relative error below 2e-7; below 2^-64 it stays there, far from the denormals that slow a machine
// down. Minimax polynomial of 2^f on [-0.5, 0.5].
inline Floats exp2(Floats x) {
  const Floats magic(12582912.0f); // 1.5 * 2^23: adding it rounds to an integer in the low bits
  x = max(x, Floats(-64.0f));
  const Floats shifted = x + magic;
  const Floats f = x - (shifted - magic);
  Floats p(1.32647271e-03f);
  p = fma(p, f, Floats(9.67151264e-03f));
  p = fma(p, f, Floats(5.55073374e-02f));
  p = fma(p, f, Floats(2.40222421e-01f));
  p = fma(p, f, Floats(6.93146978e-01f));
  p = fma(p, f, Floats(1.0f));
  return shift_exponent(p, shifted);
}

} // namespace imagegs::IMAGEGS_ISA
