#include "block_codec.h"

#include <algorithm>
#include <numeric>

#include "block_state.h"

namespace imagegs::entropy {
namespace {

constexpr int64_t kMostGaussians = (int64_t(1) << 31) - 1; // of a block
constexpr int64_t kGaussiansPerByte = 8;                   // what bounds a decoder's memory
// Gaussians of earlier levels that are looked back at, for each one of a level, and in any case: so a level costs no
// more than in proportion to its own size, however many there are.
constexpr int64_t kRecent = 16, kLeastRecent = 1024;

size_t least_bytes(int64_t count) { return size_t((count + kGaussiansPerByte - 1) / kGaussiansPerByte); }

// Halves cells by where points are, whose rows come into the order of the tree.
class Partition {
public:
  explicit Partition(const std::vector<Symbols> &points) : points_(points), rows_(points.size()) {
    std::iota(rows_.begin(), rows_.end(), 0);
  }

  int64_t operator()(const Cell &cell, const Halving &halving) {
    const auto start = rows_.begin() + cell.first, stop = start + cell.count;
    const Box second = halves(cell.box, halving.along_x).second;
    const auto middle = std::stable_partition(start, stop, [&](int32_t row) {
      const Symbols &point = points_[size_t(row)];
      return halving.along_x ? point.x < second.x * kPixel : point.y < second.y * kPixel;
    });
    return middle - start;
  }

  std::vector<int32_t> &rows() { return rows_; }

private:
  const std::vector<Symbols> &points_;
  std::vector<int32_t> rows_;
};

// The first pass. `partition(cell, halving)` is how many Gaussians an encoder has in a cell's first half.
template <typename Coder, typename Divide>
void code_cells(Coder &coder, BlockState &state, Level &level, Divide partition) {
  Meter meter(coder, level.found);
  level.cells =
      grow_tree(state.block, level.count, level.densities, [&](int depth, const Cell &cell, const Halving &halving) {
        const int64_t given = partition(cell, halving);
        state.split.see(split_contexts(level.densities, depth, cell, halving));
        const int64_t found = code_split(coder, state.split, cell.count, given);
        if (coder.exhausted()) throw Malformed("positions: the payload ends too early");
        return found;
      });
  level.cell_at.resize(size_t(level.count));
  for (size_t i = 0; i < level.cells.size(); i++) level.cell_at[size_t(level.cells[i].first)] = int32_t(i);
  meter.charge(kTree);
}

Level begin(const BlockState &state, int64_t count) {
  if (!state.usable) throw Malformed("level: the one before it is not whole");
  const int64_t earlier = int64_t(state.coded.size());
  if (count > kMostGaussians - earlier) throw Malformed("count: more Gaussians than a block may have");
  const int64_t recent = std::max<int64_t>(0, earlier - kRecent * count - kLeastRecent);
  return {count, nullptr, earlier, recent, Densities(count), {}, {}, {}};
}

} // namespace

BlockState::BlockState(const Lattice &lattice_, const Box &block_) : lattice(lattice_), block(block_) {
  const ContextModel<5> model({kClasses, kClasses, kClasses, kErrorClasses * 3, kErrorClasses}, kIntegerNodes);
  color.assign(size_t(lattice.channels), model);
}

BlockCodec::BlockCodec(const Lattice &lattice, const Box &block)
    : state_(std::make_unique<BlockState>(lattice, block)) {}
BlockCodec::~BlockCodec() = default;

std::vector<Box> BlockCodec::cells(const std::vector<Symbols> &points) const {
  Partition partition(points);
  Densities densities(0);
  const auto split = [&](int, const Cell &cell, const Halving &halving) { return partition(cell, halving); };
  std::vector<Box> found(points.size());
  for (const Cell &cell : grow_tree(state_->block, int64_t(points.size()), densities, split))
    for (int64_t i = cell.first; i < cell.first + cell.count; i++)
      found[size_t(partition.rows()[size_t(i)])] = cell.box;
  return found;
}

std::vector<uint8_t> BlockCodec::encode(LevelSymbols &symbols, std::vector<int32_t> &rows,
                                        const std::vector<double> &wanted, const std::vector<double> &bit_worth) {
  rows.clear();
  if (symbols.symbols.empty()) return {};
  BlockState &state = *state_;
  Level level = begin(state, int64_t(symbols.symbols.size()));
  state.usable = false;
  Encoder coder;
  Partition partition(symbols.symbols);
  code_cells(coder, state, level, std::ref(partition));
  const Given given{symbols.symbols, symbols.colors, partition.rows(), wanted, bit_worth};
  level.given = &given;
  code_shapes(coder, state, level);
  code_colors(coder, state, level);
  state.level++;
  state.usable = true;
  symbols = std::move(level.found);
  rows = std::move(partition.rows());
  std::vector<uint8_t> bytes = coder.finish();
  bytes.resize(std::max(bytes.size(), least_bytes(level.count)), 0);
  return bytes;
}

LevelSymbols BlockCodec::decode(const uint8_t *data, size_t size, int64_t count, bool cut) {
  BlockState &state = *state_;
  Level level = begin(state, count);
  if (count == 0) return {};
  state.usable = false;
  if (size < least_bytes(count)) { // of a cut level hardly more than the first pass is there
    if (cut) return {};
    throw Malformed("count: more than eight Gaussians for each byte");
  }
  Decoder coder(data, size, cut);
  try {
    code_cells(coder, state, level, [](const Cell &, const Halving &) { return 0; });
    code_shapes(coder, state, level);
  } catch (const Malformed &) {
    if (cut && coder.exhausted()) return {};
    throw;
  }
  const int64_t whole = code_colors(coder, state, level);
  if (whole == count) {
    state.level++;
    state.usable = true;
  } else if (!cut) {
    throw Malformed("colours: the payload ends too early");
  }
  return std::move(level.found);
}

} // namespace imagegs::entropy
