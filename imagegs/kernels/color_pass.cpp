// Third pass: colours, from the largest Gaussian to the smallest; docs/format.md, section 10.6.
//
// Each Gaussian that has its colour lends it to those that still wait around it, weighted by its own bell; what a
// Gaussian has been lent, on average, is what its colour is expected to be.
#include <algorithm>
#include <numeric>

#include "block_state.h"
#include "neighbors.h"

namespace imagegs::entropy {
namespace {

constexpr int kMostDistance = 9 * 16;       // squared, in standard deviations, 1/16: up to which colours are lent
constexpr int kMostReach = 1 << 14;         // along x and y, 1/16 px
constexpr int kWindow = 8;                  // and the most squares to each side
constexpr int kQueueItems = 32;             // looked at in one square
constexpr int64_t kVisits = 256;            // and in all, for each Gaussian of the level
constexpr int64_t kMostWeight = 16 * kUnit; // from which on a Gaussian borrows no more
constexpr int64_t kMostAveraged = 1 << 16;  // Gaussians that the usual colour is the mean of
constexpr int64_t kFirstColor = 1 << 15;    // the usual colour of the first Gaussian: one half
constexpr double kMostSaved = 6;            // bits that a residual one smaller may save
constexpr int kMostSpread = 1 << 14;        // of a bell, 1/16 px

// Weights in 1/4096 by squared distance, in 1/16: exp(-t) with t half of that distance, by the series of exp(t).
struct Bell {
  std::array<int, kMostDistance> weight{};

  constexpr Bell() {
    for (int64_t d = 0; d < kMostDistance; d++)
      weight[size_t(d)] = int(int64_t(kUnit) * 196608 / (196608 + 6144 * d + 96 * d * d + d * d * d));
  }
};
constexpr Bell kBell{};

// What the Gaussians of a level have been lent: their colours are coded in order of their number here.
class Loans {
public:
  Loans(const Box &block, size_t count, int channels)
      : queues_(block, int64_t(count)), channels_(size_t(channels)), sums_(count * (channels_ + 2), 0),
        visits_(kVisits * int64_t(count)) {}

  template <typename At> void fill(size_t count, At at) { queues_.fill(count, at); }

  // Sum of weights, of weighted errors, and of weighted colours [C] that a Gaussian has been lent.
  const int64_t *of(size_t number) const { return &sums_[size_t(queues_.slot(number)) * (channels_ + 2)]; }

  // The next has its colour.
  void pop(const Coded &coded) { queues_.pop(coded); }

  // `values` [C] to whoever waits around; `error` is how wrong their expectation was.
  void lend(const Coded &coded, const int64_t *values, int64_t error);

private:
  Queues queues_;
  size_t channels_;
  std::vector<int64_t> sums_; // by slot of the queues
  int64_t visits_;
};

void Loans::lend(const Coded &coded, const int64_t *values, int64_t error) {
  const int64_t area = (int64_t(coded.root) * coded.root) >> kUnitBits;
  const int64_t spread = std::clamp<int64_t>(area >> (kUnitBits - kSpotBits), 1, kMostSpread);
  const int64_t square = spread * spread;
  const auto reach = [&](int variance) {
    return std::min<int64_t>(kMostReach, isqrt(kMostDistance / 16 * ((square * variance) >> kUnitBits)));
  };
  const int64_t reach_x = reach(coded.covariance.xx), reach_y = reach(coded.covariance.yy);

  // the inverse of the covariance, in 1/4096 over 2^(2 bits + 4)
  const int bits = 2 * ilog2(uint64_t(spread)) + 4;
  const auto inverse = [&](int64_t variance) { return (variance << bits) / square; };
  const int64_t xx = inverse(coded.covariance.yy), yy = inverse(coded.covariance.xx);
  const int64_t xy = 2 * inverse(std::abs(coded.covariance.xy)) * (coded.covariance.xy < 0 ? 1 : -1);

  const Squares &squares = queues_.squares();
  const int column = squares.column(coded.x), row = squares.row(coded.y);
  const int left = std::max({0, column - kWindow, squares.column(coded.x - reach_x)});
  const int right = std::min({squares.columns() - 1, column + kWindow, squares.column(coded.x + reach_x)});
  const int top = std::max({0, row - kWindow, squares.row(coded.y - reach_y)});
  const int bottom = std::min({squares.rows() - 1, row + kWindow, squares.row(coded.y + reach_y)});
  for (int r = top; r <= bottom; r++) {
    for (int c = left; c <= right; c++) {
      const auto [begin, all] = queues_.waiting(c, r);
      const int32_t end = std::min(all, begin + kQueueItems);
      visits_ -= end - begin + 1;
      if (visits_ < 0) return;
      for (int32_t slot = begin; slot < end; slot++) {
        const int64_t dx = queues_.x(slot) - coded.x, dy = queues_.y(slot) - coded.y;
        if (std::abs(dx) > reach_x || std::abs(dy) > reach_y) continue;
        const int64_t distance = (xx * dx * dx + xy * dx * dy + yy * dy * dy) >> (bits + 8);
        int64_t *const sums = &sums_[size_t(slot) * (channels_ + 2)];
        if (distance < 0 || distance >= kMostDistance || sums[0] >= kMostWeight) continue;
        const int64_t weight = kBell.weight[size_t(distance)];
        sums[0] += weight;
        sums[1] += weight * error;
        for (size_t k = 0; k < channels_; k++) sums[2 + k] += weight * values[k];
      }
    }
  }
}

// Numbers of a level's Gaussians from the largest to the smallest; those of a size stay in order.
std::vector<int32_t> by_size(const std::vector<Symbols> &symbols) {
  std::vector<int32_t> order(symbols.size());
  const auto [least, most] = std::minmax_element(symbols.begin(), symbols.end(),
                                                 [](const Symbols &a, const Symbols &b) { return a.size < b.size; });
  const size_t sizes = size_t(most->size - least->size) + 1;
  if (sizes <= 4 * symbols.size()) {
    std::vector<int32_t> next(sizes + 1, 0);
    for (const Symbols &one : symbols) next[size_t(most->size - one.size) + 1]++;
    std::partial_sum(next.begin(), next.end(), next.begin());
    for (size_t i = 0; i < order.size(); i++) order[size_t(next[size_t(most->size - symbols[i].size)]++)] = int32_t(i);
  } else {
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](int32_t a, int32_t b) { return symbols[size_t(a)].size > symbols[size_t(b)].size; });
  }
  return order;
}

// Drops all but the first `whole` in the order of colours; the rest stay in the order of the tree.
void keep(LevelSymbols &level, std::vector<int32_t> order, int64_t whole, size_t channels) {
  order.resize(size_t(whole));
  std::sort(order.begin(), order.end());
  for (size_t i = 0; i < order.size(); i++) {
    const size_t from = size_t(order[i]);
    level.symbols[i] = level.symbols[from];
    std::copy_n(&level.colors[from * channels], channels, &level.colors[i * channels]);
  }
  level.symbols.resize(order.size());
  level.colors.resize(order.size() * channels);
}

// A residual goes towards zero, where it costs fewer bits, as long as that lowers squared error plus bits.
template <typename Model>
int64_t worth_its_bits(const Model &model, int64_t residual, double wanted, double bit_worth) {
  const auto error = [&](int64_t value) { return (double(value) - wanted) * (double(value) - wanted); };
  while (residual != 0) {
    const int64_t smaller = residual + (residual > 0 ? -1 : 1);
    const double dearer = error(smaller) - error(residual);
    if (dearer >= bit_worth * kMostSaved) break;
    const double saved = price_signed(model, residual) - price_signed(model, smaller);
    if (dearer >= bit_worth * saved) break;
    residual = smaller;
  }
  return residual;
}

} // namespace

template <typename Coder> int64_t code_colors(Coder &coder, BlockState &state, Level &level) {
  Meter meter(coder, level.found);
  const size_t channels = size_t(state.lattice.channels), earlier = size_t(level.earlier);
  const std::vector<int32_t> order = by_size(level.found.symbols);
  const auto coded_at = [&](size_t i) -> const Coded & { return state.coded[earlier + size_t(order[i])]; };
  Loans loans(state.block, order.size(), state.lattice.channels);
  loans.fill(order.size(), coded_at);
  for (size_t i = size_t(level.recent); i < earlier; i++) loans.lend(state.coded[i], &state.values[i * channels], 0);
  state.values.resize(state.coded.size() * channels);
  level.found.colors.resize(order.size() * channels);

  std::array<int64_t, kMostChannels> steps{}, most{}, sums{};
  int64_t averaged = 0, whole = 0;
  int root = 0;
  for (size_t i = 0; i < order.size(); i++, whole++) {
    const size_t number = size_t(order[i]);
    const Coded &coded = coded_at(i);
    if (coded.root != root) {
      root = coded.root;
      for (size_t k = 0; k < channels; k++) {
        steps[k] = color_step(state.lattice, int(k), root);
        most[k] = most_color(steps[k]);
      }
    }
    const int64_t *const lent = loans.of(i);
    const int64_t weight = lent[0];
    const int confidence = clamp_class(half_octaves(weight >> 5));
    const int size = clamp_class(half_octaves(coded.size));
    const int trouble = weight ? half_octaves(lent[1] / weight * 4) : 0;
    int64_t before = 0, second = 0, error = 0;
    int64_t *const values = &state.values[(earlier + number) * channels];
    int32_t *const colors = &level.found.colors[number * channels];
    const int32_t *const given =
        level.given ? &level.given->colors[size_t(level.given->rows[number]) * channels] : nullptr;
    const bool choosing = level.given && !level.given->wanted.empty();
    const double *const wanted =
        choosing ? &level.given->wanted[size_t(level.given->rows[number]) * channels] : nullptr;
    const double bit_worth = choosing ? level.given->bit_worth[size_t(level.given->rows[number])] : 0;
    for (size_t k = 0; k < channels; k++) {
      const int64_t step = steps[k];
      const int64_t usual = averaged ? round_div(sums[k], averaged * step) : round_div(kFirstColor, step);
      const int64_t lately = weight ? round_div(lent[2 + k], weight * step) : usual;
      const int64_t expected = std::clamp(lately, -most[k], most[k]);
      ContextModel<5> &model = state.color[k];
      model.see({confidence, size, weight ? clamp_class(trouble - half_octaves(step)) : 0,
                 clamp_class(before + 4, kErrorClasses) * 3 + int(std::min<int64_t>(second, 2)),
                 clamp_class((usual - expected + 16) / 4, kErrorClasses)});
      int64_t want = given ? given[k] - expected : 0;
      if (wanted) want = worth_its_bits(model, want, wanted[k] - double(expected), bit_worth);
      const int64_t residual = code_signed(coder, model, want);
      const int64_t symbol = expected + residual;
      if (std::abs(symbol) > most[k]) {
        if (coder.exhausted()) break;
        throw Malformed("colour: out of range");
      }
      colors[k] = int32_t(symbol);
      values[k] = symbol * step;
      error += std::abs(residual) * step;
      second = std::abs(before), before = residual;
    }
    if (coder.exhausted()) break;
    if (averaged < kMostAveraged) {
      averaged++;
      for (size_t k = 0; k < channels; k++) sums[k] += values[k];
    }
    loans.pop(coded);
    loans.lend(coded, values, error / int64_t(channels));
  }
  meter.charge(kColor);
  if (whole < level.count) keep(level.found, order, whole, channels);
  return whole;
}

template int64_t code_colors(Encoder &, BlockState &, Level &);
template int64_t code_colors(Decoder &, BlockState &, Level &);

} // namespace imagegs::entropy
