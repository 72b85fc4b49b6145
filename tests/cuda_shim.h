// Runs CUDA kernels on the CPU: one block after the other, its threads as fibers that take turns at barriers and
// shuffles. What a GPU leaves open, the order of threads between two barriers and of blocks, is chosen by the caller,
// so that kernels which depend on it show different results. A barrier that not every thread reaches is an error.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __shared__ static
#define __launch_bounds__(...)

struct Index {
  unsigned x;
};
static Index threadIdx, blockIdx, blockDim;

namespace shim {

constexpr unsigned kWarp = 32;
constexpr size_t kStack = 1 << 16;
enum State { kReady, kAtBlock, kAtWarp, kDone };

struct Fiber {
  ucontext_t start;
  jmp_buf point;
  std::vector<char> stack;
  State state = kReady;
  bool begun = false;
  int shuffles = 0;
};

static std::vector<Fiber> fibers;
static std::vector<float> lanes[2]; // of the last shuffle and the one before, which a slow lane may still read
static const std::function<void()> *body;
static ucontext_t scheduler_start;
static jmp_buf scheduler;
static unsigned current;

// Gives the turn back. Not inlined, so that nothing of the indices is kept in registers across it.
__attribute__((noinline)) static void wait(State state) {
  Fiber &self = fibers[current];
  self.state = state;
  if (_setjmp(self.point) == 0) _longjmp(scheduler, 1);
}

static void enter() {
  (*body)();
  wait(kDone);
}

__attribute__((noinline)) static void resume(unsigned thread) {
  current = thread;
  threadIdx.x = thread;
  Fiber &fiber = fibers[thread];
  fiber.state = kReady;
  if (_setjmp(scheduler) != 0) return;
  if (fiber.begun) _longjmp(fiber.point, 1);
  fiber.begun = true;
  getcontext(&fiber.start);
  fiber.start.uc_stack.ss_sp = fiber.stack.data();
  fiber.start.uc_stack.ss_size = fiber.stack.size();
  fiber.start.uc_link = &scheduler_start;
  makecontext(&fiber.start, enter, 0);
  setcontext(&fiber.start);
}

static bool all_of(unsigned first, unsigned last, State state) {
  return std::all_of(fibers.begin() + first, fibers.begin() + last,
                     [&](const Fiber &fiber) { return fiber.state == state; });
}

static void release(unsigned first, unsigned last) {
  for (unsigned i = first; i < last; i++) fibers[i].state = kReady;
}

static bool run_block(const std::vector<unsigned> &order) {
  const unsigned threads = unsigned(order.size());
  for (Fiber &fiber : fibers) fiber.state = kReady, fiber.begun = false, fiber.shuffles = 0;
  while (true) {
    bool moved = false;
    for (const unsigned thread : order)
      if (fibers[thread].state == kReady) {
        resume(thread);
        moved = true;
      }
    if (all_of(0, threads, kDone)) return true;
    for (unsigned warp = 0; warp < threads; warp += kWarp)
      if (all_of(warp, std::min(threads, warp + kWarp), kAtWarp)) {
        release(warp, std::min(threads, warp + kWarp));
        moved = true;
      }
    if (all_of(0, threads, kAtBlock)) {
      release(0, threads);
      moved = true;
    }
    if (!moved) return false; // some wait for others that will never come
  }
}

// 0, or 1 where a barrier is not reached by all.
static int run(unsigned blocks, unsigned threads, int seed, const std::function<void()> &kernel) {
  body = &kernel;
  blockDim.x = threads;
  fibers.resize(threads);
  for (Fiber &fiber : fibers) fiber.stack.resize(kStack);
  for (auto &buffer : lanes) buffer.resize(threads);
  std::vector<unsigned> order(threads), turns(blocks);
  std::iota(order.begin(), order.end(), 0u);
  std::iota(turns.begin(), turns.end(), 0u);
  if (seed != 0) {
    std::mt19937 random{unsigned(seed)};
    std::shuffle(order.begin(), order.end(), random);
    std::shuffle(turns.begin(), turns.end(), random);
  }
  for (const unsigned block : turns) {
    blockIdx.x = block;
    if (!run_block(order)) return 1;
  }
  return 0;
}

template <typename... A, size_t... I>
int call(unsigned blocks, unsigned threads, int seed, void (*kernel)(A...), void **arguments,
         std::index_sequence<I...>) {
  return run(blocks, threads, seed, [&] { kernel(*static_cast<A *>(arguments[I])...); });
}

template <typename... A>
int call(unsigned blocks, unsigned threads, int seed, void (*kernel)(A...), unsigned count, void **arguments) {
  if (count != sizeof...(A)) return 2;
  return call(blocks, threads, seed, kernel, arguments, std::index_sequence_for<A...>());
}

template <typename... A> int sizes(void (*)(A...), int *out) {
  int at = 0;
  ((out[at++] = int(sizeof(A))), ...);
  return at;
}

} // namespace shim

static void __syncthreads() { shim::wait(shim::kAtBlock); }

static float __shfl_xor_sync(unsigned, float value, int mask) {
  auto &lanes = shim::lanes[shim::fibers[shim::current].shuffles++ % 2];
  const unsigned self = shim::current;
  lanes[self] = value;
  shim::wait(shim::kAtWarp);
  return lanes[self ^ unsigned(mask)];
}

// What Python calls: the kernel with pointers to its arguments, as a CUDA launch takes them; and the arguments' sizes.
#define IMAGEGS_LAUNCHER(KERNEL)                                                                                       \
  extern "C" int launch_##KERNEL(unsigned blocks, unsigned threads, int seed, unsigned count, void **arguments) {      \
    return shim::call(blocks, threads, seed, KERNEL, count, arguments);                                                \
  }                                                                                                                    \
  extern "C" int sizes_##KERNEL(int *out) { return shim::sizes(KERNEL, out); }
