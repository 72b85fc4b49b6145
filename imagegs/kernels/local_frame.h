// Moves Gaussians by steps measured in their own frames: positions in units of their scales along their axes, log
// scales.
#pragma once

#include <algorithm>
#include <cstdint>

#include "gaussian2d.h"
#include "parallel.h"

namespace imagegs {

struct Rates {
  float position, scale, rotation;
};

// In place; scales stay in [low, high] px.
inline void apply_local(int64_t count, const float *update, // [N, 5]
                        Rates rates, float low, float high,
                        float *means,    // [N, 2]
                        float *scales,   // [N, 2]
                        float *rotations // [N]
) {
  constexpr int64_t kChunk = 1024;
  parallel_for(int((count + kChunk - 1) / kChunk), [&](int chunk, int) {
    for (int64_t i = chunk * kChunk; i < std::min(count, (chunk + 1) * kChunk); i++) {
      const float *step = update + i * kLocalGradients;
      const float c = std::cos(rotations[i]), s = std::sin(rotations[i]);
      const float along = rates.position * step[0] * scales[2 * i],
                  across = rates.position * step[1] * scales[2 * i + 1];
      means[2 * i] -= c * along - s * across;
      means[2 * i + 1] -= s * along + c * across;
      for (int axis = 0; axis < 2; axis++)
        scales[2 * i + axis] = std::clamp(scales[2 * i + axis] * std::exp(-rates.scale * step[2 + axis]), low, high);
      rotations[i] -= rates.rotation * step[4];
    }
  });
}

} // namespace imagegs
