// Adam (Kingma and Ba 2015), vectorised over flat arrays. Compiled once per instruction set.
#include <algorithm>

#include "parallel.h"
#include "render.h"
#include "simd.h"

namespace imagegs::IMAGEGS_ISA {
namespace {
constexpr int64_t kChunk = 1 << 14;
}

// update = (first / correction1) / (sqrt(second / correction2) + epsilon), after both moments have taken in the
// gradient.
void adam(int64_t count, const float *gradient, float *first, float *second, float beta1, float beta2, float epsilon,
          float correction1, float correction2, float *update) {
  const Floats keep1(beta1), keep2(beta2), take1(1.0f - beta1), take2(1.0f - beta2), eps(epsilon);
  const Floats scale1(1.0f / correction1), scale2(1.0f / correction2);
  parallel_for(int((count + kChunk - 1) / kChunk), [&](int chunk, int) {
    const int64_t begin = chunk * kChunk, end = std::min(count, begin + kChunk);
    for (int64_t i = begin; i < end; i += Floats::kLanes) {
      const int left = int(end - i);
      const Floats g = load_first(gradient + i, left);
      const Floats m = fma(keep1, load_first(first + i, left), take1 * g);
      const Floats v = fma(keep2, load_first(second + i, left), take2 * g * g);
      store_first(first + i, m, left);
      store_first(second + i, v, left);
      store_first(update + i, m * scale1 / (sqrt(v * scale2) + eps), left);
    }
  });
}

} // namespace imagegs::IMAGEGS_ISA
