#include "parallel.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#ifndef _WIN32
#include <unistd.h>
#endif

namespace imagegs {
namespace {

constexpr int kSpins = 2000; // a step is a handful of short loops: waking a sleeping thread for each costs more

long process_id() {
#ifdef _WIN32
  return 0;
#else
  return long(getpid());
#endif
}

struct Job {
  const std::function<void(int, int)> *task = nullptr;
  int items = 0;
  std::atomic<int64_t> next{0}; // every thread goes one past the end: wider than items
  std::atomic<bool> failed{false};
  std::exception_ptr error;
  std::mutex error_lock;

  void work(int thread) {
    for (int64_t item = next.fetch_add(1); item < items; item = next.fetch_add(1)) {
      if (failed.load(std::memory_order_relaxed)) return;
      try {
        (*task)(int(item), thread);
      } catch (...) {
        const std::lock_guard<std::mutex> hold(error_lock);
        if (!failed.exchange(true)) error = std::current_exception();
      }
    }
  }
};

class Pool {
public:
  explicit Pool(int helpers) : owner_(process_id()), helpers_(helpers) {
    threads_.reserve(helpers);
    try {
      for (int i = 0; i < helpers; i++) threads_.emplace_back([this, i] { serve(i + 1); });
    } catch (const std::system_error &) { // no more threads to be had: those that there are do the work
    }
  }
  ~Pool() {
    {
      const std::lock_guard<std::mutex> hold(lock_);
      stop_ = true;
      generation_.fetch_add(1);
    }
    wake_.notify_all();
    for (auto &thread : threads_) thread.join();
  }
  bool usable(int helpers) const { return owner_ == process_id() && helpers_ == helpers; }
  bool inherited() const { return owner_ != process_id(); }

  void run(Job &job) {
    {
      const std::lock_guard<std::mutex> hold(lock_);
      job_ = &job;
      pending_.store(int(threads_.size()));
      generation_.fetch_add(1);
    }
    wake_.notify_all();
    job.work(0);
    for (int spin = 0; pending_.load(std::memory_order_acquire) != 0; spin++)
      if (spin > kSpins) std::this_thread::yield();
  }

private:
  void serve(int index) {
    long seen = 0;
    for (;;) {
      for (int spin = 0; spin < kSpins && generation_.load(std::memory_order_acquire) == seen; spin++)
        std::this_thread::yield();
      if (generation_.load(std::memory_order_acquire) == seen) {
        std::unique_lock<std::mutex> hold(lock_);
        wake_.wait(hold, [&] { return generation_.load() != seen; });
      }
      Job *job;
      {
        const std::lock_guard<std::mutex> hold(lock_);
        seen = generation_.load();
        if (stop_) return;
        job = job_;
      }
      job->work(index);
      pending_.fetch_sub(1, std::memory_order_release);
    }
  }

  long owner_;
  int helpers_; // asked for
  std::vector<std::thread> threads_;
  std::mutex lock_;
  std::condition_variable wake_;
  std::atomic<long> generation_{0};
  std::atomic<int> pending_{0};
  Job *job_ = nullptr;
  bool stop_ = false;
};

std::atomic<int> wanted{0};
std::mutex pool_lock; // one parallel loop at a time; a second caller waits or works alone
// Never destroyed at exit: a forked child has no threads to join, and a sleeping thread does not hold up the exit.
Pool *pool = nullptr;

} // namespace

void set_threads(int count) { wanted.store(std::clamp(count, 0, kMaxThreads)); }

int threads() {
  const int count = wanted.load();
  return count > 0 ? count : std::clamp(int(std::thread::hardware_concurrency()), 1, kMaxThreads);
}

void parallel_for(int items, const std::function<void(int, int)> &task) {
  Job job;
  job.task = &task;
  job.items = items;
  const int helpers = threads() - 1;
  std::unique_lock<std::mutex> hold(pool_lock, std::defer_lock);
  if (helpers > 0 && items > 1 && hold.try_lock()) {
    if (pool && !pool->usable(helpers)) {
      if (!pool->inherited()) delete pool; // after fork() its threads do not exist: they cannot be joined
      pool = nullptr;
    }
    if (!pool) pool = new Pool(helpers);
    pool->run(job);
  } else {
    job.work(0);
  }
  if (job.failed) std::rethrow_exception(job.error);
}

} // namespace imagegs
