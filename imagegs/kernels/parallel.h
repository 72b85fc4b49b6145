// A small pool of threads. Work is handed out item by item; results must not depend on which thread does an item.
#pragma once

#include <functional>

namespace imagegs {

constexpr int kMaxThreads = 256;

// Number of threads that parallel_for uses; 0 asks for one per core.
void set_threads(int count);
int threads();

// Calls task(item, thread) once for every item in [0, items); thread is in [0, kMaxThreads). Rethrows the first
// exception.
void parallel_for(int items, const std::function<void(int item, int thread)> &task);

} // namespace imagegs
