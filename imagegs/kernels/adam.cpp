// Adam (Kingma and Ba 2015), vectorised over flat arrays. Compiled once per instruction set.
#include <algorithm>

#include "parallel.h"
#include "render.h"
#include "simd.h"

namespace imagegs::IMAGEGS_ISA {
namespace {
constexpr int64_t kChunk = 1 << 14;
}

// update = (first / correction1) / (sqrt(second / correction2) + epsilon), after both moments have taken in the gradient.
void adam(int64_t count, const float *gradient, float *first, float *second, float beta1, float beta2, float epsilon,
          float correction1, float correction2, float *update) {
  const Floats keep1(beta1), keep2(beta2), take1(1.0f - beta1), take2(1.0f - beta2), eps(epsilon);
  const Floats scale1(1.0f / correction1), scale2(1.0f / correction2);
  const auto step = [&](Floats g, Floats &m, Floats &v) {
    m = fma(keep1, m, take1 * g);
    v = fma(keep2, v, take2 * g * g);
    return m * scale1 / (sqrt(v * scale2) + eps);
  };
  parallel_for(int((count + kChunk - 1) / kChunk), [&](int chunk, int) {
    const int64_t begin = chunk * kChunk, end = std::min(count, begin + kChunk);
    for (int64_t i = begin; i < end; i += Floats::kLanes) {
      const int64_t lanes = std::min<int64_t>(Floats::kLanes, end - i);
      float g[Floats::kLanes] = {}, m[Floats::kLanes] = {}, v[Floats::kLanes] = {};
      std::copy_n(gradient + i, lanes, g);
      std::copy_n(first + i, lanes, m);
      std::copy_n(second + i, lanes, v);
      Floats moment1 = load(m), moment2 = load(v), change = step(load(g), moment1, moment2);
      store(m, moment1);
      store(v, moment2);
      store(g, change);
      std::copy_n(m, lanes, first + i);
      std::copy_n(v, lanes, second + i);
      std::copy_n(g, lanes, update + i);
    }
  });
}

} // namespace imagegs::IMAGEGS_ISA
