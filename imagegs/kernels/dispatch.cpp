// Picks the instruction set at run time. Each set's functions come from the same sources, compiled with its own flags.
#include <atomic>
#include <cstdlib>
#include <cstring>

#include "render.h"

namespace imagegs {

#define IMAGEGS_DECLARE(ISA)                                                                                           \
  namespace ISA {                                                                                                      \
  void forward(const RenderPlan &, const ForwardArrays &);                                                             \
  void backward(const RenderPlan &, const ForwardArrays &, const Loss &, bool, const BackwardArrays &);                \
  void removal(const RenderPlan &, const ForwardArrays &, const Loss &, float *);                                      \
  double ssim(int, int, int, const float *, const float *, const float *, float, float *);                             \
  void adam(int64_t, const float *, float *, float *, float, float, float, float, float, float *);                     \
  constexpr Kernels table{#ISA, forward, backward, removal, ssim, adam};                                               \
  }

IMAGEGS_DECLARE(baseline)
#ifdef IMAGEGS_X86
IMAGEGS_DECLARE(avx2)
IMAGEGS_DECLARE(avx512)
#endif

namespace {

bool runs(const char *name) {
  if (std::strcmp(name, "baseline") == 0) return true;
#ifdef IMAGEGS_X86
  __builtin_cpu_init();
  if (std::strcmp(name, "avx2") == 0) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (std::strcmp(name, "avx512") == 0)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq");
#endif
  return false;
}

const Kernels *named(const char *name) {
#ifdef IMAGEGS_X86
  if (std::strcmp(name, "avx512") == 0) return &avx512::table;
  if (std::strcmp(name, "avx2") == 0) return &avx2::table;
#endif
  return std::strcmp(name, "baseline") == 0 ? &baseline::table : nullptr;
}

const Kernels *best() {
  for (const char *name : {"avx512", "avx2"})
    if (runs(name)) return named(name);
  return &baseline::table;
}

std::atomic<const Kernels *> chosen{nullptr};

} // namespace

const Kernels &kernels() {
  const Kernels *table = chosen.load();
  if (!table) chosen.store(table = best());
  return *table;
}

bool select_kernels(const char *name) {
  const Kernels *table = std::strcmp(name, "auto") == 0 ? best() : (runs(name) ? named(name) : nullptr);
  if (table) chosen.store(table);
  return table != nullptr;
}

} // namespace imagegs
