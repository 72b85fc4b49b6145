// Rendering, its loss and its gradient on a GPU. A block is a tile; a thread is one of its pixels, or a lane of the
// warp that takes one of its Gaussians. Compiled for one number of channels, blend and K at a time: IMAGEGS_CHANNELS,
// IMAGEGS_BLEND (an id of enum Blend), IMAGEGS_TOP_K (1 unless the blend is topk).
//
// Forward adds every Gaussian of a tile's list to its pixels and divides. It saves the sum of weights and, for top-K,
// each pixel's threshold: the K-th largest weight, and the last Gaussian that is taken at exactly that weight. Backward
// recomputes the weights (same code, same bits); a warp goes over the pixels of one pair of Gaussian and tile and
// leaves six moments and C colour sums in the pair's slot. sum_slots() adds them up per Gaussian in slot order, so
// results are the same in every run; nothing is added atomically.
#include "device.h"

using namespace imagegs;

namespace {

constexpr int kChannels = IMAGEGS_CHANNELS, kBlend = IMAGEGS_BLEND, kPlaces = IMAGEGS_TOP_K;
constexpr int kBatch = 32;                          // Gaussians that a block reads at a time
constexpr int kPartials = kMomentCount + kChannels; // of a pair
constexpr int kTileSums = 2 + kChannels;            // of a tile: loss, squared error, background's gradient
static_assert(kBatch <= kBlock && kTileSums <= kBlock);

struct Scene {
  int height, width;            // of the only picture
  const Frame *frames;          // [pictures] of a batch, or null
  const int *tile_frames;       // [tiles] picture of each tile, of a batch
  long long pixels;             // of a plane, of all pictures
  const Splat *splats;          // [N]
  const float *colors;          // [N, C]
  const float *background;      // [pictures, C]
  const int *owners;            // [pairs] Gaussian, by slot
  const long long *slots;       // [pairs] by tile, then by Gaussian
  const long long *first_entry; // [tiles + 1] where a tile's slots begin
};

// The pictures that forward leaves for backward.
struct Saved {
  float *image;     // [C, H, W]
  float *total;     // [H, W] sum of weights
  float *threshold; // [H, W] top-K only
  int *last;        // [H, W] top-K only
};

struct Loss {
  const float *target;  // [C, H, W] or null
  const float *weights; // [H, W] or null
  const float *v_image; // [C, H, W], gradient that comes from elsewhere, or null
  float l1, l2;         // loss = mean over pixels and channels of weight * (l1 |d| + l2 d^2)
};

struct Tile {
  Frame frame;
  int left, top;        // px of its picture
  long long begin, end; // of its slots
};

__device__ __forceinline__ Tile this_tile(const Scene &scene) {
  const long long tile = blockIdx.x;
  const Frame frame = frame_at(scene.frames, scene.tile_frames, tile, scene.height, scene.width);
  const int index = int(tile) - frame.first_tile, columns = (frame.width + kTileSide - 1) / kTileSide;
  return {frame, index % columns * kTileSide, index / columns * kTileSide, scene.first_entry[tile],
          scene.first_entry[tile + 1]};
}

// A pixel of the tile, by its number; at the picture's edge it may lie outside.
struct Place {
  bool inside;
  long long at; // in a plane
};

__device__ __forceinline__ Place place_of(const Tile &tile, int pixel) {
  const int row = tile.top + pixel / kTileSide, column = tile.left + pixel % kTileSide;
  return {row < tile.frame.height && column < tile.frame.width,
          tile.frame.first_pixel + (long long)row * tile.frame.width + column};
}

struct Pixel {
  float color[kChannels];
  float total, threshold;
  int last;
};

// The K largest weights and whose they are, largest first, equal ones in the order in which they came.
struct Largest {
  float weight[kPlaces];
  int owner[kPlaces];

  __device__ __forceinline__ void put(float w, int id) {
#pragma unroll
    for (int k = kPlaces - 1; k >= 0; k--) {
      if (k > 0 && w > weight[k - 1]) { // makes room
        weight[k] = weight[k - 1];
        owner[k] = owner[k - 1];
      } else if (w > weight[k]) {
        weight[k] = w;
        owner[k] = id;
      }
    }
  }
};

// 1. Adds every Gaussian of the tile to the thread's pixel. Every thread of the block must call it.
__device__ __forceinline__ Pixel accumulate(const Scene &scene, const Tile &tile) {
  __shared__ Placed batch[kBatch];
  __shared__ int ids[kBatch];
  __shared__ float colors[kBatch * kChannels];
  const int thread = int(threadIdx.x);
  const float x = float(thread % kTileSide) + 0.5f, y = float(thread / kTileSide) + 0.5f;
  Pixel pixel{};
  Largest largest{};
  for (long long start = tile.begin; start < tile.end; start += kBatch) {
    const int size = tile.end - start < kBatch ? int(tile.end - start) : kBatch;
    __syncthreads(); // the batch before has been used
    if (thread < size) {
      ids[thread] = scene.owners[scene.slots[start + thread]];
      batch[thread] = placed_at(scene.splats[ids[thread]], tile.left, tile.top);
    }
    __syncthreads();
    if constexpr (kBlend != kTopK) {
      for (int k = thread; k < size * kChannels; k += kBlock)
        colors[k] = scene.colors[(long long)ids[k / kChannels] * kChannels + k % kChannels];
      __syncthreads();
    }
    for (int i = 0; i < size; i++) {
      const float dy = y - batch[i].mean_y;
      const float w = batch[i].unclipped(batch[i].t(x, dy), dy) - batch[i].cutoff;
      if (!(w > 0.0f)) continue;
      if constexpr (kBlend == kTopK) {
        largest.put(w, ids[i]);
      } else {
        pixel.total += w;
#pragma unroll
        for (int c = 0; c < kChannels; c++) pixel.color[c] = fmaf(w, colors[i * kChannels + c], pixel.color[c]);
      }
    }
  }
  if constexpr (kBlend == kTopK) {
#pragma unroll
    for (int k = 0; k < kPlaces; k++)
      if (largest.weight[k] > 0.0f) {
        const float *color = scene.colors + (long long)largest.owner[k] * kChannels;
        pixel.total += largest.weight[k];
        for (int c = 0; c < kChannels; c++) pixel.color[c] = fmaf(largest.weight[k], color[c], pixel.color[c]);
      }
    pixel.threshold = largest.weight[kPlaces - 1];
    pixel.last = largest.owner[kPlaces - 1];
  }
  return pixel;
}

// 2. Divides by the sum of weights.
__device__ __forceinline__ void normalize(const Scene &scene, const Tile &tile, Pixel &pixel) {
  if constexpr (kBlend != kSum) {
    const float *background = scene.background + (long long)tile.frame.index * kChannels;
    const float inverse = 1.0f / (pixel.total + kEpsilon);
    for (int c = 0; c < kChannels; c++) pixel.color[c] = fmaf(kEpsilon, background[c], pixel.color[c]) * inverse;
  }
}

__device__ __forceinline__ void put(const Scene &scene, const Saved &saved, const Place &place, const Pixel &pixel) {
  if (!place.inside) return;
  if (saved.image)
    for (int c = 0; c < kChannels; c++) saved.image[scene.pixels * c + place.at] = pixel.color[c];
  if (saved.total) saved.total[place.at] = pixel.total;
  if (kBlend == kTopK && saved.threshold) {
    saved.threshold[place.at] = pixel.threshold;
    saved.last[place.at] = pixel.last;
  }
}

__device__ __forceinline__ Pixel get(const Scene &scene, const Saved &saved, const Place &place) {
  Pixel pixel{};
  if (!place.inside) return pixel;
  for (int c = 0; c < kChannels; c++) pixel.color[c] = saved.image[scene.pixels * c + place.at];
  pixel.total = saved.total[place.at];
  if constexpr (kBlend == kTopK) {
    pixel.threshold = saved.threshold[place.at];
    pixel.last = saved.last[place.at];
  }
  return pixel;
}

// Whether a Gaussian counts at a pixel.
__device__ __forceinline__ bool taken(float w, int id, float threshold, int last) {
  if constexpr (kBlend == kTopK) return w > threshold || (w == threshold && w > 0.0f && id <= last);
  return w > 0.0f;
}

// Rows of the tile that a Gaussian's support may reach, the first even, so that a warp takes two at a time.
__device__ __forceinline__ Span reached_rows(const Splat &splat, const Tile &tile) {
  const float y = splat.mean_y - float(tile.top);
  const int begin = int(clamped(y - splat.extent_y - 0.5f, 0.0f, float(kTileSide)));
  const int end = int(clamped(y + splat.extent_y + 0.5f, 0.0f, float(kTileSide)));
  return {begin / 2 * 2, smaller(end + 1, kTileSide)};
}

// 3. dL/dI of the pixel from the loss, over the sum of weights, into the shared planes; the tile's sums. When it
// returns, every thread has written its pixel.
__device__ __forceinline__ void weigh_errors(const Scene &scene, const Loss &loss, const Place &place,
                                             const Pixel &pixel, float (*v_pixels)[kBlock], float *offsets,
                                             float *tile_sums) {
  __shared__ float sums[kWarps][kTileSums];
  const int thread = int(threadIdx.x), warp = thread / kWarp, lane = thread % kWarp;
  const float mean = 1.0f / (float(scene.pixels) * kChannels);
  const float weight = place.inside && loss.weights ? loss.weights[place.at] : 1.0f;
  float loss_sum = 0.0f, error_sum = 0.0f, offset = 0.0f;
  for (int c = 0; c < kChannels; c++) {
    const long long at = scene.pixels * c + place.at;
    const float value = pixel.color[c];
    float v_value = place.inside && loss.v_image ? loss.v_image[at] : 0.0f;
    if (place.inside && loss.target) {
      const float wanted = loss.target[at], d = value - wanted, clipped = clamped(value, 0.0f, 1.0f) - wanted;
      const float sign = d > 0.0f ? 1.0f : (d < 0.0f ? -1.0f : 0.0f);
      error_sum = fmaf(clipped, clipped, error_sum);
      loss_sum = fmaf(weight, loss.l1 * fabsf(d) + loss.l2 * d * d, loss_sum);
      v_value = fmaf(mean * weight, loss.l1 * sign + 2.0f * loss.l2 * d, v_value);
    }
    if constexpr (kBlend != kSum) {
      v_value = v_value / (pixel.total + kEpsilon);
      offset = fmaf(v_value, value, offset);
    }
    v_pixels[c][thread] = v_value;
    const float sum = warp_sum(kBlend == kSum ? 0.0f : v_value * kEpsilon);
    if (lane == 0) sums[warp][2 + c] = sum;
  }
  offsets[thread] = offset;
  loss_sum = warp_sum(loss_sum);
  error_sum = warp_sum(error_sum);
  if (lane == 0) {
    sums[warp][0] = loss_sum;
    sums[warp][1] = error_sum;
  }
  __syncthreads();
  if (thread < kTileSums) {
    float sum = 0.0f;
    for (int w = 0; w < kWarps; w++) sum += sums[w][thread];
    tile_sums[(long long)blockIdx.x * kTileSums + thread] = sum;
  }
}

// 4. Six moments and C colour sums of every Gaussian of the tile, a warp for each; inverts accumulate().
__device__ __forceinline__ void gather(const Scene &scene, const Tile &tile, const float (*v_pixels)[kBlock],
                                       const float *offsets, const float *thresholds, const int *lasts,
                                       float *partials) {
  const int warp = int(threadIdx.x) / kWarp, lane = int(threadIdx.x) % kWarp;
  for (long long entry = tile.begin + warp; entry < tile.end; entry += kWarps) {
    const long long slot = scene.slots[entry];
    const int id = scene.owners[slot];
    const Splat splat = scene.splats[id];
    const Placed placed = placed_at(splat, tile.left, tile.top);
    float color[kChannels], sums[kPartials] = {};
#pragma unroll
    for (int c = 0; c < kChannels; c++) color[c] = scene.colors[(long long)id * kChannels + c];
    const Span rows = reached_rows(splat, tile);
    for (int p = rows.begin * kTileSide + lane; p < rows.end * kTileSide; p += kWarp) {
      const float dy = float(p / kTileSide) + 0.5f - placed.mean_y;
      const float t = placed.t(float(p % kTileSide) + 0.5f, dy);
      const float e = placed.unclipped(t, dy), w = e - placed.cutoff;
      if (!taken(w, id, kBlend == kTopK ? thresholds[p] : 0.0f, kBlend == kTopK ? lasts[p] : 0)) continue;
      float v_weight = kBlend == kSum ? 0.0f : -offsets[p];
#pragma unroll
      for (int c = 0; c < kChannels; c++) {
        const float v_pixel = v_pixels[c][p];
        v_weight = fmaf(v_pixel, color[c], v_weight);
        sums[kMomentCount + c] = fmaf(v_pixel, w, sums[kMomentCount + c]);
      }
      const float q = e * v_weight, q_t = q * t, q_y = q * dy;
      sums[0] += q_t;
      sums[1] += q_y;
      sums[2] = fmaf(q_t, t, sums[2]);
      sums[3] = fmaf(q_t, dy, sums[3]);
      sums[4] = fmaf(q_y, dy, sums[4]);
      sums[5] = fmaf(w, v_weight, sums[5]);
    }
#pragma unroll
    for (int m = 0; m < kPartials; m++) {
      const float sum = warp_sum(sums[m]);
      if (lane == m % kWarp) partials[slot * kPartials + m] = sum;
    }
  }
}

// 3 and 4, with what they share.
__device__ __forceinline__ void differentiate(const Scene &scene, const Tile &tile, const Place &place,
                                              const Pixel &pixel, const Loss &loss, float *partials, float *tile_sums) {
  __shared__ float v_pixels[kChannels][kBlock], offsets[kBlock], thresholds[kBlend == kTopK ? kBlock : 1];
  __shared__ int lasts[kBlend == kTopK ? kBlock : 1];
  if constexpr (kBlend == kTopK) {
    thresholds[threadIdx.x] = pixel.threshold;
    lasts[threadIdx.x] = pixel.last;
  }
  weigh_errors(scene, loss, place, pixel, v_pixels, offsets, tile_sums);
  gather(scene, tile, v_pixels, offsets, thresholds, lasts, partials);
}

} // namespace

extern "C" __global__ void __launch_bounds__(kBlock) forward(int height, int width,
                                                             const Frame *frames,          // [pictures] or null
                                                             const int *tile_frames,       // [tiles] of a batch
                                                             long long pixels,             // of a plane
                                                             const Splat *splats,          // [N]
                                                             const float *colors,          // [N, C]
                                                             const float *background,      // [pictures, C]
                                                             const int *owners,            // [pairs]
                                                             const long long *slots,       // [pairs]
                                                             const long long *first_entry, // [tiles + 1]
                                                             // outputs
                                                             float *image,     // [C, H, W]
                                                             float *total,     // [H, W] or null
                                                             float *threshold, // [H, W] or null
                                                             int *last         // [H, W] or null
) {
  const Scene scene{height, width, frames, tile_frames, pixels, splats, colors, background, owners, slots, first_entry};
  Pixel pixel = accumulate(scene, this_tile(scene));
  const Tile tile = this_tile(scene); // asked for again, since to keep it takes registers
  normalize(scene, tile, pixel);
  put(scene, {image, total, threshold, last}, place_of(tile, int(threadIdx.x)), pixel);
}

// After forward().
extern "C" __global__ void __launch_bounds__(kBlock) backward(int height, int width,
                                                              const Frame *frames,          // [pictures] or null
                                                              const int *tile_frames,       // [tiles] of a batch
                                                              long long pixels,             // of a plane
                                                              const Splat *splats,          // [N]
                                                              const float *colors,          // [N, C]
                                                              const float *background,      // [pictures, C]
                                                              const int *owners,            // [pairs]
                                                              const long long *slots,       // [pairs]
                                                              const long long *first_entry, // [tiles + 1]
                                                              float *image,                 // [C, H, W]
                                                              float *total,                 // [H, W]
                                                              float *threshold,             // [H, W] top-K only
                                                              int *last,                    // [H, W] top-K only
                                                              const float *target,          // [C, H, W] or null
                                                              const float *weights,         // [H, W] or null
                                                              const float *v_image,         // [C, H, W] or null
                                                              float l1, float l2,
                                                              // outputs
                                                              float *partials, // [pairs, kPartials] by slot
                                                              float *tile_sums // [tiles, kTileSums]
) {
  const Scene scene{height, width, frames, tile_frames, pixels, splats, colors, background, owners, slots, first_entry};
  const Tile tile = this_tile(scene);
  const Place place = place_of(tile, int(threadIdx.x));
  const Pixel pixel = get(scene, {image, total, threshold, last}, place);
  differentiate(scene, tile, place, pixel, {target, weights, v_image, l1, l2}, partials, tile_sums);
}

// forward() and backward() in one, tile by tile.
extern "C" __global__ void __launch_bounds__(kBlock) fused(int height, int width,
                                                           const Frame *frames,          // [pictures] or null
                                                           const int *tile_frames,       // [tiles] of a batch
                                                           long long pixels,             // of a plane
                                                           const Splat *splats,          // [N]
                                                           const float *colors,          // [N, C]
                                                           const float *background,      // [pictures, C]
                                                           const int *owners,            // [pairs]
                                                           const long long *slots,       // [pairs]
                                                           const long long *first_entry, // [tiles + 1]
                                                           const float *target,          // [C, H, W] or null
                                                           const float *weights,         // [H, W] or null
                                                           const float *v_image,         // [C, H, W] or null
                                                           float l1, float l2,
                                                           // outputs
                                                           float *image,    // [C, H, W] or null
                                                           float *partials, // [pairs, kPartials] by slot
                                                           float *tile_sums // [tiles, kTileSums]
) {
  const Scene scene{height, width, frames, tile_frames, pixels, splats, colors, background, owners, slots, first_entry};
  Pixel pixel = accumulate(scene, this_tile(scene));
  const Tile tile = this_tile(scene); // asked for again, since to keep it takes registers
  const Place place = place_of(tile, int(threadIdx.x));
  normalize(scene, tile, pixel);
  put(scene, {image, nullptr, nullptr, nullptr}, place, pixel);
  if (!place.inside) pixel = Pixel{};
  differentiate(scene, tile, place, pixel, {target, weights, v_image, l1, l2}, partials, tile_sums);
}

// How much the weighted squared error would grow without each Gaussian, nothing else moved. After forward().
extern "C" __global__ void __launch_bounds__(kBlock) removal(int height, int width,
                                                             const Frame *frames,          // [pictures] or null
                                                             const int *tile_frames,       // [tiles] of a batch
                                                             long long pixels,             // of a plane
                                                             const Splat *splats,          // [N]
                                                             const float *colors,          // [N, C]
                                                             const float *background,      // [pictures, C]
                                                             const int *owners,            // [pairs]
                                                             const long long *slots,       // [pairs]
                                                             const long long *first_entry, // [tiles + 1]
                                                             const float *image,           // [C, H, W]
                                                             const float *total,           // [H, W]
                                                             const float *threshold,       // [H, W] top-K only
                                                             const int *last,              // [H, W] top-K only
                                                             const float *target,          // [C, H, W]
                                                             const float *weights,         // [H, W] or null
                                                             // outputs
                                                             float *growth // [pairs] by slot
) {
  const Scene scene{height, width, frames, tile_frames, pixels, splats, colors, background, owners, slots, first_entry};
  const Tile tile = this_tile(scene);
  const int warp = int(threadIdx.x) / kWarp, lane = int(threadIdx.x) % kWarp;
  for (long long entry = tile.begin + warp; entry < tile.end; entry += kWarps) {
    const long long slot = slots[entry];
    const int id = owners[slot];
    const Splat splat = splats[id];
    const Placed placed = placed_at(splat, tile.left, tile.top);
    const float *color = colors + (long long)id * kChannels;
    const Span rows = reached_rows(splat, tile);
    float sum = 0.0f;
    for (int p = rows.begin * kTileSide + lane; p < rows.end * kTileSide; p += kWarp) {
      const Place place = place_of(tile, p);
      if (!place.inside) continue;
      const long long at = place.at;
      const float dy = float(p / kTileSide) + 0.5f - placed.mean_y;
      const float w = placed.unclipped(placed.t(float(p % kTileSide) + 0.5f, dy), dy) - placed.cutoff;
      if (!taken(w, id, kBlend == kTopK ? threshold[at] : 0.0f, kBlend == kTopK ? last[at] : 0)) continue;
      const float share = kBlend == kSum ? w : w / (total[at] - w + kEpsilon);
      float change = 0.0f;
      for (int c = 0; c < kChannels; c++) {
        const float value = image[pixels * c + at], error = value - target[pixels * c + at];
        const float delta = share * ((kBlend == kSum ? 0.0f : value) - color[c]);
        change = fmaf(delta, delta + 2.0f * error, change);
      }
      sum = fmaf(change, weights ? weights[at] : 1.0f, sum);
    }
    sum = warp_sum(sum);
    if (lane == 0) growth[slot] = sum;
  }
}
