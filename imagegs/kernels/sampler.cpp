#include "sampler.h"

#include <algorithm>
#include <cmath>

#include "parallel.h"

namespace imagegs {

namespace {

constexpr int64_t kChunk = 1024; // points of one item of work

struct Weighted {
  float weight;
  int64_t gaussian;
};

float weight_at(const Splat &splat, float x, float y) {
  const float dy = y - splat.mean_y, t = x - (splat.mean_x + splat.slope * dy);
  const float distance = splat.precision * t * t + splat.row_precision * dy * dy;
  return std::exp2(splat.log2_amplitude - 0.5f * kLog2E * distance) - splat.cutoff;
}

// Keeps the K largest, in falling order; of equal weights the first ones that came.
void insert(Weighted *largest, int &held, int top_k, Weighted candidate) {
  if (held == top_k && candidate.weight <= largest[held - 1].weight) return;
  int at = held < top_k ? held++ : held - 1;
  for (; at > 0 && largest[at - 1].weight < candidate.weight; at--) largest[at] = largest[at - 1];
  largest[at] = candidate;
}

} // namespace

Sampler::Sampler(const GaussianArrays &gaussians, int height, int width, int cell, int blend, int top_k)
    : grid_(make_grid(height, width, cell, cell)),
      colors_(gaussians.colors, gaussians.colors + gaussians.count * gaussians.channels), channels_(gaussians.channels),
      blend_(blend), top_k_(top_k) {
  bin(gaussians, {0.0, 0.0, 1.0, 1.0}, grid_, bins_, kAnywhere);
}

void Sampler::sample(int64_t count, const float *points, const float *background, float *colors, int32_t *costs) const {
  parallel_for(int((count + kChunk - 1) / kChunk), [&](int chunk, int) {
    Weighted largest[kMaxTopK];
    for (int64_t i = chunk * kChunk; i < std::min(count, (chunk + 1) * kChunk); i++) {
      const float x = std::clamp(points[2 * i], 0.0f, float(grid_.width));
      const float y = std::clamp(points[2 * i + 1], 0.0f, float(grid_.height));
      const int column = std::min(int(x) / grid_.tile_width, grid_.columns - 1);
      const int row = std::min(int(y) / grid_.tile_height, grid_.rows - 1);
      const int64_t tile = int64_t(row) * grid_.columns + column;
      const int64_t first = bins_.first_entry[tile], end = bins_.first_entry[tile + 1];
      float *out = colors + i * channels_, total = 0.0f;
      std::fill_n(out, channels_, 0.0f);
      int held = 0, taken = 0;
      const auto take = [&](Weighted one) {
        total += one.weight;
        taken++;
        const float *color = colors_.data() + one.gaussian * channels_;
        for (int c = 0; c < channels_; c++) out[c] += one.weight * color[c];
      };
      for (int64_t k = first; k < end; k++) {
        const int64_t id = bins_.entries[k].gaussian;
        const float weight = weight_at(bins_.splats[id], x, y);
        if (!(weight > 0.0f)) continue;
        if (blend_ == kTopK)
          insert(largest, held, top_k_, {weight, id});
        else
          take({weight, id});
      }
      for (int k = 0; k < held; k++) take(largest[k]);
      if (blend_ != kSum)
        for (int c = 0; c < channels_; c++) out[c] = (out[c] + kEpsilon * background[c]) / (total + kEpsilon);
      if (costs) costs[2 * i] = int32_t(end - first), costs[2 * i + 1] = taken;
    }
  });
}

} // namespace imagegs
