// Compiled once per instruction set; see render.h for what is saved and why.
#include "render.h"

#include <algorithm>
#include <array>
#include <cfloat>
#include <memory>
#include <type_traits>
#include <utility>

#include "parallel.h"
#include "simd.h"

namespace imagegs::IMAGEGS_ISA {
namespace {

constexpr int kLanes = Floats::kLanes;
constexpr int kMaxTileHeight = 32;
constexpr int kVectors = kTileWidth / kLanes; // vectors in a tile row
constexpr int64_t kBucketBytes = 1 << 21;     // top-K candidates of as many rows as fit are kept at a time
static_assert(kTileWidth % kLanes == 0 && kMaxTileHeight % kLanes == 0);

struct TileRect {
  int left, top, width, height; // px; width and height cut at the image's border
  int pixels() const { return kTileWidth * height; }
};

TileRect tile_rect(const TileGrid &grid, int tile) {
  const int left = tile % grid.columns * grid.tile_width, top = tile / grid.columns * grid.tile_height;
  return {left, top, std::min(grid.tile_width, grid.width - left), std::min(grid.tile_height, grid.height - top)};
}

// Planes of one tile, rows of kTileWidth.
struct TilePlanes {
  explicit TilePlanes(int channels, int rows, bool top_k)
      : plane(size_t(rows) * kTileWidth), data(plane * (2 * channels + 6)), image(data.data()),
        total(image + plane * channels), v_image(total + plane), offset(v_image + plane * channels),
        threshold(offset + plane), last(threshold + plane), target(last + plane), weights(target + plane) {
    if (!top_k) threshold = last = nullptr;
  }
  size_t plane;
  std::vector<float> data;
  float *image;     // [C] sums of weighted colours, then the picture
  float *total;     // sum of weights
  float *v_image;   // [C] dL/dI over (total + epsilon)
  float *offset;    // sum over channels of I * v_image
  float *threshold; // top-K
  float *last;
  float *target;  // one channel of the target
  float *weights; // of the loss
};

// A Gaussian's rows in a tile: where its support begins and ends, and the constants of its weights.
struct Rows {
  int begin, end;                 // rows, relative to the tile
  float center[kMaxTileHeight];   // x of t = 0, relative to the tile
  float exponent[kMaxTileHeight]; // log2 of the weight at t = 0
  uint8_t first[kMaxTileHeight];  // vectors [first, stop) hold the support
  uint8_t stop[kMaxTileHeight];
};

inline void find_rows(const Splat &splat, const TileRect &rect, Rows &rows) {
  const float y = splat.mean_y - float(rect.top), x = splat.mean_x - float(rect.left);
  rows.begin = int(std::clamp(y - splat.extent_y - 0.5f, 0.0f, float(rect.height)));
  rows.end = int(std::clamp(y + splat.extent_y + 0.5f, 0.0f, float(rect.height)));
  if (rows.end < rect.height) rows.end++;
  const Floats index = lane_index();
  const Floats row_precision(splat.row_precision), variance(1.0f / splat.precision), slope(splat.slope), mean_x(x);
  const Floats zero(0.0f), half_log2e(0.5f * kLog2E);
  const Floats width(1.0f * kTileWidth);
  alignas(64) float low[kMaxTileHeight], high[kMaxTileHeight];
  for (int r = rows.begin / kLanes * kLanes; r < rows.end; r += kLanes) {
    const Floats dy = index + Floats(float(r) + 0.5f - y);
    const Floats e = row_precision * dy * dy;
    const Floats left = Floats(kRadius * kRadius) - e;
    const Floats half = sqrt(max(left, zero) * variance) + Floats(1e-3f); // a hair wide: the weight itself decides
    const Floats center = fma(slope, dy, mean_x);
    store(rows.center + r, center);
    store(rows.exponent + r, fnma(half_log2e, e, Floats(splat.log2_amplitude)));
    store(low + r, min(max(center - half + Floats(0.4995f), zero), width));
    store(high + r, where(left > zero, min(max(center + half + Floats(0.5f), zero), width)));
  }
  for (int r = rows.begin; r < rows.end; r++) {
    rows.first[r] = uint8_t(int(low[r]) / kLanes);
    rows.stop[r] = uint8_t((int(high[r]) + kLanes - 1) / kLanes);
  }
}

// The one place that evaluates weights: forward and backward get the same bits.
struct Weigher {
  explicit Weigher(const Splat &splat)
      : precision(-0.5f * kLog2E * splat.precision), cutoff(splat.cutoff), index(lane_index() + Floats(0.5f)) {}
  Floats precision, cutoff, index;
  Floats center, exponent;
  void row(const Rows &rows, int r) {
    center = index - Floats(rows.center[r]);
    exponent = Floats(rows.exponent[r]);
  }
  Floats t(int vector) const { return center + Floats(float(vector * kLanes)); }
  Floats unclipped(Floats t) const { return exp2(fma(t * t, precision, exponent)); }
  Floats clipped(Floats e) const { return max(e - cutoff, Floats(0.0f)); }
};

template <int C> constexpr int channel_count(int channels) { return C > 0 ? C : channels; }

// What a fused pass keeps of a tile from its forward to its backward half, so that no weight is computed twice. Tiles
// with more Gaussians than this go without; in the others the top-K candidates of all rows fit into the buckets at
// once.
constexpr int64_t kTracedPairs = kBucketBytes / (kMaxTileHeight * (kTileWidth + kVectors) * int64_t(sizeof(float)));

struct Trace {
  std::unique_ptr<Rows[]> rows;       // [pairs of the tile]
  std::unique_ptr<float[]> unclipped; // weights before the cutoff, in the order in which they were computed
  int64_t capacity = 0;
  void make_room(int64_t pairs, int tile_height) {
    if (pairs <= capacity) return;
    capacity = pairs;
    rows.reset(new Rows[pairs]); // left as they come: make_unique would fill them
    unclipped.reset(new float[pairs * tile_height * kTileWidth]);
  }
};

// Adds every Gaussian of the tile to the planes.
template <int C>
void accumulate(const RenderPlan &plan, const float *colors, int tile, const TileRect &rect, TilePlanes &planes,
                Trace *trace) {
  const int channels = channel_count<C>(plan.channels);
  // copies, since a vector store may alias anything: the compiler would read the originals again after each
  float *const totals = planes.total, *const pixels = planes.image;
  const size_t plane = planes.plane;
  Rows local;
  float *kept = trace ? trace->unclipped.get() : nullptr;
  Floats color[C > 0 ? C : kMaxChannels];
  for (int64_t i = plan.bins.first_entry[tile]; i < plan.bins.first_entry[tile + 1]; i++) {
    const int64_t id = plan.bins.entries[i].gaussian;
    const Splat &splat = plan.bins.splats[id];
    Rows &rows = trace ? trace->rows[i - plan.bins.first_entry[tile]] : local;
    find_rows(splat, rect, rows);
    Weigher weigher(splat);
    for (int c = 0; c < channels; c++) color[c] = Floats(colors[id * channels + c]);
    const int end = rows.end;
    for (int r = rows.begin; r < end; r++) {
      weigher.row(rows, r);
      const int stop = rows.stop[r];
      for (int v = rows.first[r]; v < stop; v++) {
        const Floats e = weigher.unclipped(weigher.t(v)), w = weigher.clipped(e);
        if (kept) {
          store(kept, e);
          kept += kLanes;
        }
        const int at = r * kTileWidth + v * kLanes;
        store(totals + at, load(totals + at) + w);
        float *pixel = pixels + at;
        for (int c = 0; c < channels; c++, pixel += plane) store(pixel, fma(w, color[c], load(pixel)));
      }
    }
  }
}

// The L-th largest (or smallest) of count vectors, lane by lane, by insertion into a sorted list of L.
template <int L, bool Smallest> Floats ranked(const float *values, int count) {
  Floats list[L];
  for (int k = 0; k < L; k++) list[k] = Floats(Smallest ? FLT_MAX : -1.0f);
  for (int i = 0; i < count; i++) {
    Floats x = load(values + size_t(i) * kLanes);
#pragma GCC unroll 32
    for (int k = 0; k < L; k++) {
      const Floats keep = Smallest ? min(list[k], x) : max(list[k], x);
      x = Smallest ? max(list[k], x) : min(list[k], x);
      list[k] = keep;
    }
  }
  return list[L - 1];
}

using Ranked = Floats (*)(const float *, int);
template <bool Smallest, int... L> constexpr auto ranked_table(std::integer_sequence<int, L...>) {
  return std::array<Ranked, sizeof...(L)>{&ranked<L + 1, Smallest>...};
}
constexpr auto kLargest = ranked_table<false>(std::make_integer_sequence<int, kMaxTopK>{});
constexpr auto kSmallest = ranked_table<true>(std::make_integer_sequence<int, kMaxTopK>{});

// The weight a candidate must exceed, or equal and come early, to be among the K largest.
Floats kth_largest(const float *values, int count, int k) {
  const int rank_from_below = count - k + 1;
  return rank_from_below < k ? kSmallest[rank_from_below - 1](values, count) : kLargest[k - 1](values, count);
}

// For lanes with more candidates at the threshold than places left: the last list position that still gets one.
Floats last_taken(const float *values, const float *positions, int count, int k, Floats threshold) {
  alignas(64) float limit[kLanes], last[kLanes];
  store(limit, threshold);
  for (int lane = 0; lane < kLanes; lane++) {
    int places = k;
    for (int i = 0; i < count; i++) places -= values[size_t(i) * kLanes + lane] > limit[lane];
    last[lane] = FLT_MAX;
    for (int i = 0; i < count && places > 0; i++)
      if (values[size_t(i) * kLanes + lane] == limit[lane] && --places == 0) last[lane] = positions[i];
  }
  return load(last);
}

struct Buckets {
  std::vector<float> values;    // [vectors of some rows, capacity, kLanes]
  std::vector<float> positions; // [vectors of some rows, capacity] list positions, exact in float below 2^24
  std::vector<int> counts;
};

// Top-K: collects each vector's candidates, finds its threshold, adds those that pass.
template <int C>
void accumulate_top_k(const RenderPlan &plan, const float *colors, int tile, const TileRect &rect, TilePlanes &planes,
                      Buckets &buckets, Trace *trace) {
  const int channels = channel_count<C>(plan.channels);
  const int64_t begin = plan.bins.first_entry[tile], capacity = plan.bins.first_entry[tile + 1] - begin;
  if (capacity == 0) {
    std::fill_n(planes.total, rect.pixels(), 0.0f);
    for (int c = 0; c < channels; c++) std::fill_n(planes.image + planes.plane * c, rect.pixels(), 0.0f);
    std::fill_n(planes.threshold, rect.pixels(), 0.0f);
    std::fill_n(planes.last, rect.pixels(), FLT_MAX);
    return;
  }
  const int64_t row_bytes = capacity * kVectors * (kLanes + 1) * int64_t(sizeof(float));
  const int group = int(std::clamp<int64_t>(kBucketBytes / row_bytes, 1, rect.height));
  buckets.values.resize(size_t(group) * kVectors * capacity * kLanes);
  buckets.positions.resize(size_t(group) * kVectors * capacity);
  Rows local;
  float *kept =
      trace ? trace->unclipped.get() : nullptr; // then all rows are one group, and a pair's weights stay together
  for (int top = 0; top < rect.height; top += group) {
    const int bottom = std::min(rect.height, top + group);
    buckets.counts.assign(size_t(group) * kVectors, 0);
    for (int64_t i = 0; i < capacity; i++) {
      const Splat &splat = plan.bins.splats[plan.bins.entries[begin + i].gaussian];
      Rows &rows = trace ? trace->rows[i] : local;
      find_rows(splat, rect, rows);
      Weigher weigher(splat);
      for (int r = std::max(top, rows.begin); r < std::min(bottom, rows.end); r++) {
        weigher.row(rows, r);
        for (int v = rows.first[r]; v < rows.stop[r]; v++) {
          const size_t bucket = size_t(r - top) * kVectors + v, at = bucket * capacity + buckets.counts[bucket]++;
          const Floats e = weigher.unclipped(weigher.t(v));
          if (kept) {
            store(kept, e);
            kept += kLanes;
          }
          store(&buckets.values[at * kLanes], weigher.clipped(e));
          buckets.positions[at] = float(i);
        }
      }
    }
    for (int r = top; r < bottom; r++)
      for (int v = 0; v < kVectors; v++) {
        const size_t bucket = size_t(r - top) * kVectors + v;
        const int count = buckets.counts[bucket];
        const float *values = &buckets.values[bucket * capacity * kLanes];
        const float *positions = &buckets.positions[bucket * capacity];
        Floats threshold(0.0f), last(FLT_MAX);
        if (count > plan.top_k) {
          threshold = kth_largest(values, count, plan.top_k);
          Floats passing(0.0f);
          for (int i = 0; i < count; i++) {
            const Floats w = load(values + size_t(i) * kLanes);
            passing = passing + where((w > threshold) | ((w == threshold) & (w > Floats(0.0f))), Floats(1.0f));
          }
          if (any(passing > Floats(float(plan.top_k))))
            last = last_taken(values, positions, count, plan.top_k, threshold);
        }
        Floats total(0.0f), sums[C > 0 ? C : kMaxChannels];
        for (int c = 0; c < channels; c++) sums[c] = Floats(0.0f);
        for (int i = 0; i < count; i++) {
          Floats w = load(values + size_t(i) * kLanes);
          w = where((w > threshold) | ((w == threshold) & (Floats(positions[i]) <= last)), w);
          total = total + w;
          const float *color = colors + plan.bins.entries[begin + int64_t(positions[i])].gaussian * int64_t(channels);
          for (int c = 0; c < channels; c++) sums[c] = fma(w, Floats(color[c]), sums[c]);
        }
        const size_t at = size_t(r) * kTileWidth + v * kLanes;
        store(planes.total + at, total);
        for (int c = 0; c < channels; c++) store(planes.image + planes.plane * c + at, sums[c]);
        store(planes.threshold + at, threshold);
        store(planes.last + at, last);
      }
  }
}

// Divides by the sum of weights.
void normalize(const RenderPlan &plan, const float *background, const TileRect &rect, TilePlanes &planes) {
  if (plan.blend == kSum) return;
  for (int p = 0; p < rect.pixels(); p += kLanes) {
    const Floats inverse = Floats(1.0f) / (load(planes.total + p) + Floats(kEpsilon));
    for (int c = 0; c < plan.channels; c++) {
      float *pixel = planes.image + planes.plane * c + p;
      store(pixel, (load(pixel) + Floats(kEpsilon * background[c])) * inverse);
    }
  }
}

void render_tile(const RenderPlan &plan, const ForwardArrays &arrays, int tile, const TileRect &rect,
                 TilePlanes &planes, Buckets &buckets, Trace *trace) {
  const auto with_channels = [&](auto channels) {
    constexpr int C = decltype(channels)::value;
    if (plan.blend == kTopK) return accumulate_top_k<C>(plan, arrays.colors, tile, rect, planes, buckets, trace);
    std::fill_n(planes.total, rect.pixels(), 0.0f);
    for (int c = 0; c < plan.channels; c++) std::fill_n(planes.image + planes.plane * c, rect.pixels(), 0.0f);
    accumulate<C>(plan, arrays.colors, tile, rect, planes, trace);
  };
  switch (plan.channels) {
  case 1: with_channels(std::integral_constant<int, 1>{}); break;
  case 3: with_channels(std::integral_constant<int, 3>{}); break;
  case 4: with_channels(std::integral_constant<int, 4>{}); break;
  default: with_channels(std::integral_constant<int, 0>{});
  }
  normalize(plan, arrays.background, rect, planes);
}

// Copies a tile's plane to or from the picture's.
void put(const TileGrid &grid, const TileRect &rect, const float *plane, float *picture) {
  for (int r = 0; r < rect.height; r++)
    std::copy_n(plane + r * kTileWidth, rect.width, picture + size_t(rect.top + r) * grid.width + rect.left);
}
void get(const TileGrid &grid, const TileRect &rect, const float *picture, float *plane) {
  for (int r = 0; r < rect.height; r++) {
    std::copy_n(picture + size_t(rect.top + r) * grid.width + rect.left, rect.width, plane + r * kTileWidth);
    std::fill(plane + r * kTileWidth + rect.width, plane + (r + 1) * kTileWidth, 0.0f);
  }
}

void put_all(const RenderPlan &plan, const ForwardArrays &arrays, const TileRect &rect, const TilePlanes &planes) {
  const size_t size = size_t(plan.grid.height) * plan.grid.width;
  for (int c = 0; c < plan.channels; c++)
    put(plan.grid, rect, planes.image + planes.plane * c, arrays.image + size * c);
  if (arrays.total) put(plan.grid, rect, planes.total, arrays.total);
  if (arrays.threshold) {
    put(plan.grid, rect, planes.threshold, arrays.threshold);
    put(plan.grid, rect, planes.last, arrays.last);
  }
}

void get_all(const RenderPlan &plan, const ForwardArrays &arrays, const TileRect &rect, TilePlanes &planes) {
  const size_t size = size_t(plan.grid.height) * plan.grid.width;
  for (int c = 0; c < plan.channels; c++)
    get(plan.grid, rect, arrays.image + size * c, planes.image + planes.plane * c);
  get(plan.grid, rect, arrays.total, planes.total);
  if (arrays.threshold) {
    get(plan.grid, rect, arrays.threshold, planes.threshold);
    get(plan.grid, rect, arrays.last, planes.last);
  }
}

// A tile's part of one channel of a picture: where it lies, if it has whole rows, else a copy that has.
struct TileView {
  const float *first;
  size_t stride;
};
TileView view(const TileGrid &grid, const TileRect &rect, const float *picture, float *copy) {
  if (rect.width == kTileWidth) return {picture + size_t(rect.top) * grid.width + rect.left, size_t(grid.width)};
  get(grid, rect, picture, copy);
  return {copy, kTileWidth};
}

// dL/dI of the tile from the loss, divided by the sum of weights; the loss itself and the background's gradient.
LossSums weigh_errors(const RenderPlan &plan, const Loss &loss, const TileRect &rect, TilePlanes &planes,
                      float *v_background) {
  const TileGrid &grid = plan.grid;
  const size_t size = size_t(grid.height) * grid.width;
  const Floats mean(1.0f / (float(size) * plan.channels)), zero(0.0f), one(1.0f), l1(loss.l1), l2(loss.l2);
  LossSums sums{0.0, 0.0};
  std::fill_n(planes.offset, rect.pixels(), 0.0f);
  TileView weights{}, target{};
  if (loss.weights) weights = view(grid, rect, loss.weights, planes.weights);
  for (int c = 0; c < plan.channels; c++) {
    float *v = planes.v_image + planes.plane * c;
    const float *pixel = planes.image + planes.plane * c;
    if (loss.target) target = view(grid, rect, loss.target + size * c, planes.target);
    if (loss.v_image)
      get(grid, rect, loss.v_image + size * c, v);
    else
      std::fill_n(v, rect.pixels(), 0.0f);
    double background = 0.0;
    for (int r = 0; r < rect.height; r++) {
      Floats loss_row = zero, error_row = zero, background_row = zero;
      for (int x = 0; x < rect.width; x += kLanes) {
        const int p = r * kTileWidth + x;
        const Mask inside = Floats(float(rect.width)) > lane_index() + Floats(float(x));
        const Floats value = load(pixel + p);
        Floats v_value = load(v + p);
        if (loss.target) {
          const Floats wanted = load(target.first + r * target.stride + x);
          const Floats weight = loss.weights ? load(weights.first + r * weights.stride + x) : one;
          const Floats d = where(inside, value - wanted), magnitude = max(d, zero - d);
          const Floats clamped = where(inside, min(max(value, zero), one) - wanted);
          const Floats sign = where(d > zero, one) - where(zero > d, one);
          error_row = fma(clamped, clamped, error_row);
          loss_row = fma(weight, l1 * magnitude + l2 * d * d, loss_row);
          v_value = fma(mean * weight, l1 * sign + (l2 + l2) * d, v_value);
        }
        if (plan.blend != kSum) {
          v_value = v_value / (load(planes.total + p) + Floats(kEpsilon));
          background_row = background_row + v_value;
          store(planes.offset + p, fma(v_value, value, load(planes.offset + p)));
        }
        store(v + p, v_value);
      }
      sums.loss += sum(loss_row);
      sums.squared_error += sum(error_row);
      background += sum(background_row);
    }
    v_background[c] = float(background * kEpsilon);
  }
  return sums;
}

// Five or six moments and C colour sums of every Gaussian of the tile; inverts accumulate().
template <int C, bool TopK, bool Widened>
void gather(const RenderPlan &plan, const float *colors, int tile, const TileRect &rect, const TilePlanes &planes,
            const Trace *trace, float *partials) {
  const int channels = channel_count<C>(plan.channels);
  const bool normalised = plan.blend != kSum;
  Rows local;
  const float *kept = trace ? trace->unclipped.get() : nullptr;
  Floats color[C > 0 ? C : kMaxChannels], v_color[C > 0 ? C : kMaxChannels];
  const int64_t begin = plan.bins.first_entry[tile], end = plan.bins.first_entry[tile + 1];
  for (int64_t i = begin; i < end; i++) {
    const Entry entry = plan.bins.entries[i];
    const Splat &splat = plan.bins.splats[entry.gaussian];
    if (!trace) find_rows(splat, rect, local);
    const Rows &rows = trace ? trace->rows[i - begin] : local;
    Weigher weigher(splat);
    for (int c = 0; c < channels; c++) {
      color[c] = Floats(colors[entry.gaussian * int64_t(channels) + c]);
      v_color[c] = Floats(0.0f);
    }
    Floats qt(0.0f), qy(0.0f), qtt(0.0f), qty(0.0f), qyy(0.0f), qw(0.0f);
    for (int r = rows.begin; r < rows.end; r++) {
      weigher.row(rows, r);
      Floats row_q(0.0f), row_qt(0.0f);
      for (int v = rows.first[r]; v < rows.stop[r]; v++) {
        const int at = r * kTileWidth + v * kLanes;
        const Floats t = weigher.t(v), e = kept ? load(kept) : weigher.unclipped(t);
        if (kept) kept += kLanes;
        Floats w = weigher.clipped(e);
        Mask taken = w > Floats(0.0f);
        if constexpr (TopK) {
          const Floats threshold = load(planes.threshold + at);
          taken = taken & ((w > threshold) | ((w == threshold) & (Floats(float(i - begin)) <= load(planes.last + at))));
          w = where(taken, w);
        }
        Floats v_weight = Floats(0.0f) - (normalised ? load(planes.offset + at) : Floats(0.0f));
        const float *v_image = planes.v_image + at;
        for (int c = 0; c < channels; c++, v_image += planes.plane) {
          const Floats v_pixel = load(v_image);
          v_weight = fma(v_pixel, color[c], v_weight);
          v_color[c] = fma(v_pixel, w, v_color[c]);
        }
        const Floats q = where(taken, e * v_weight), q_t = q * t;
        row_q = row_q + q;
        row_qt = row_qt + q_t;
        qtt = fma(q_t, t, qtt);
        if constexpr (Widened) qw = fma(w, v_weight, qw);
      }
      const Floats dy(float(rect.top + r) + 0.5f - splat.mean_y);
      qt = qt + row_qt;
      qy = fma(row_q, dy, qy);
      qty = fma(row_qt, dy, qty);
      qyy = fma(row_q * dy, dy, qyy);
    }
    float *out = partials + int64_t(entry.slot) * (kMomentCount + channels);
    const Floats moments[kMomentCount] = {qt, qy, qtt, qty, qyy, qw};
    for (int m = 0; m < kMomentCount; m++) out[m] = sum(moments[m]);
    for (int c = 0; c < channels; c++) out[kMomentCount + c] = sum(v_color[c]);
  }
}

void gather_tile(const RenderPlan &plan, const float *colors, int tile, const TileRect &rect, const TilePlanes &planes,
                 const Trace *trace, float *partials) {
  const bool widened = plan.view.step_x > 1.0 || plan.view.step_y > 1.0;
  const auto with_channels = [&](auto channels) {
    constexpr int C = decltype(channels)::value;
    if (plan.blend == kTopK)
      widened ? gather<C, true, true>(plan, colors, tile, rect, planes, trace, partials)
              : gather<C, true, false>(plan, colors, tile, rect, planes, trace, partials);
    else
      widened ? gather<C, false, true>(plan, colors, tile, rect, planes, trace, partials)
              : gather<C, false, false>(plan, colors, tile, rect, planes, trace, partials);
  };
  switch (plan.channels) {
  case 1: with_channels(std::integral_constant<int, 1>{}); break;
  case 3: with_channels(std::integral_constant<int, 3>{}); break;
  case 4: with_channels(std::integral_constant<int, 4>{}); break;
  default: with_channels(std::integral_constant<int, 0>{});
  }
}

// What each Gaussian is worth: how much the weighted squared error would grow if it were taken away and nothing else
// moved.
void weigh_removal(const RenderPlan &plan, const float *colors, int tile, const TileRect &rect, const Loss &loss,
                   TilePlanes &planes, float *partials) {
  const TileGrid &grid = plan.grid;
  const size_t size = size_t(grid.height) * grid.width;
  const int channels = plan.channels;
  const Floats zero(0.0f);
  if (loss.weights) get(grid, rect, loss.weights, planes.weights);
  for (int c = 0; c < channels; c++) { // v_image holds the error here
    get(grid, rect, loss.target + size * c, planes.target);
    float *error = planes.v_image + planes.plane * c;
    const float *image = planes.image + planes.plane * c;
    for (int r = 0; r < rect.height; r++)
      for (int x = 0; x < kTileWidth; x++) {
        const int p = r * kTileWidth + x;
        error[p] = x < rect.width ? image[p] - planes.target[p] : 0.0f;
        if (c == 0) planes.offset[p] = x < rect.width ? (loss.weights ? planes.weights[p] : 1.0f) : 0.0f;
      }
  }
  Rows rows;
  const int64_t begin = plan.bins.first_entry[tile], end = plan.bins.first_entry[tile + 1];
  for (int64_t i = begin; i < end; i++) {
    const Entry entry = plan.bins.entries[i];
    const Splat &splat = plan.bins.splats[entry.gaussian];
    find_rows(splat, rect, rows);
    Weigher weigher(splat);
    const float *color = colors + entry.gaussian * int64_t(channels);
    Floats growth(0.0f);
    for (int r = rows.begin; r < rows.end; r++) {
      weigher.row(rows, r);
      for (int v = rows.first[r]; v < rows.stop[r]; v++) {
        const int at = r * kTileWidth + v * kLanes;
        Floats w = weigher.clipped(weigher.unclipped(weigher.t(v)));
        if (plan.blend == kTopK) {
          const Floats threshold = load(planes.threshold + at);
          w = where((w > threshold) | ((w == threshold) & (Floats(float(i - begin)) <= load(planes.last + at))), w);
        }
        const Floats share = plan.blend == kSum ? w : w / (load(planes.total + at) - w + Floats(kEpsilon));
        Floats change(0.0f);
        for (int c = 0; c < channels; c++) {
          const size_t p = planes.plane * c + at;
          const Floats rest = plan.blend == kSum ? zero : load(planes.image + p);
          const Floats delta = share * (rest - Floats(color[c]));
          change = fma(delta, delta + load(planes.v_image + p) + load(planes.v_image + p), change);
        }
        growth = fma(change, load(planes.offset + at), growth);
      }
    }
    partials[entry.slot] = sum(growth);
  }
}

// Scratch of every thread, made when the thread first gets a tile.
struct Scratch {
  explicit Scratch(const RenderPlan &plan)
      : plan_(plan), planes_(kMaxThreads), buckets_(kMaxThreads), traces_(kMaxThreads) {}
  TilePlanes &planes(int thread) {
    if (!planes_[thread])
      planes_[thread] = std::make_unique<TilePlanes>(plan_.channels, plan_.grid.tile_height, plan_.blend == kTopK);
    return *planes_[thread];
  }
  Buckets &buckets(int thread) { return buckets_[thread]; }
  Trace &trace(int thread) { return traces_[thread]; }

private:
  const RenderPlan &plan_;
  std::vector<std::unique_ptr<TilePlanes>> planes_;
  std::vector<Buckets> buckets_;
  std::vector<Trace> traces_;
};

} // namespace

void forward(const RenderPlan &plan, const ForwardArrays &arrays) {
  Scratch scratch(plan);
  parallel_for(plan.grid.count(), [&](int tile, int thread) {
    const TileRect rect = tile_rect(plan.grid, tile);
    TilePlanes &planes = scratch.planes(thread);
    render_tile(plan, arrays, tile, rect, planes, scratch.buckets(thread), nullptr);
    put_all(plan, arrays, rect, planes);
  });
}

void backward(const RenderPlan &plan, const ForwardArrays &arrays, const Loss &loss, bool fused,
              const BackwardArrays &out) {
  Scratch scratch(plan);
  parallel_for(plan.grid.count(), [&](int tile, int thread) {
    const TileRect rect = tile_rect(plan.grid, tile);
    TilePlanes &planes = scratch.planes(thread);
    const int64_t pairs = plan.bins.first_entry[tile + 1] - plan.bins.first_entry[tile];
    Trace *trace = fused && pairs <= kTracedPairs ? &scratch.trace(thread) : nullptr;
    if (trace) trace->make_room(pairs, plan.grid.tile_height);
    if (fused) {
      render_tile(plan, arrays, tile, rect, planes, scratch.buckets(thread), trace);
      if (arrays.image) put_all(plan, arrays, rect, planes);
    } else {
      get_all(plan, arrays, rect, planes);
    }
    out.sums[tile] = weigh_errors(plan, loss, rect, planes, out.v_background + int64_t(tile) * plan.channels);
    gather_tile(plan, arrays.colors, tile, rect, planes, trace, out.partials);
  });
}

void removal(const RenderPlan &plan, const ForwardArrays &arrays, const Loss &loss, float *partials) {
  Scratch scratch(plan);
  parallel_for(plan.grid.count(), [&](int tile, int thread) {
    const TileRect rect = tile_rect(plan.grid, tile);
    TilePlanes &planes = scratch.planes(thread);
    get_all(plan, arrays, rect, planes);
    weigh_removal(plan, arrays.colors, tile, rect, loss, planes, partials);
  });
}

} // namespace imagegs::IMAGEGS_ISA
