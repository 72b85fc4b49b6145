#include "block_codec.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>

namespace imagegs::entropy {
namespace {

constexpr int kUnit = 4096;
constexpr int64_t kPixel = int64_t(1) << kPlaceBits;
constexpr int kSmallestCell = 4; // px; a box whose sides are both shorter is not halved any more
constexpr int kClasses = 16;
constexpr int kReach = 192;      // squared distance, 1/16, up to which a Gaussian predicts colours
constexpr int kWindow = 12;      // and the most buckets to each side
constexpr int kBucketItems = 16; // looked at in one bucket
constexpr int kVisits = 256;     // looked at in all, for each Gaussian of the level
constexpr int kMostExponent = 20;

int ilog2(uint64_t value) {
  int found = 0;
  while (value >>= 1) found++;
  return found;
}

// floor(2 log2(value)) for a value of at least one, else 0.
int half_octaves(int64_t value) {
  if (value < 1) return 0;
  if (value >= int64_t(1) << 30) return 60;
  const int whole = ilog2(uint64_t(value));
  return 2 * whole + (uint64_t(value) * uint64_t(value) >= uint64_t(2) << (2 * whole));
}

int64_t isqrt(int64_t value) {
  int64_t root = 0;
  for (int64_t bit = int64_t(1) << 31; bit; bit >>= 1)
    if ((root | bit) * (root | bit) <= value) root |= bit;
  return root;
}

int64_t floor_div(int64_t a, int64_t b) { return a / b - ((a % b != 0) && ((a < 0) != (b < 0))); }
int64_t round_div(int64_t a, int64_t b) { return floor_div(2 * a + b, 2 * b); }

// 2^x with x and the result in 1/4096; two parts in a thousand too large or too small at most.
int64_t exp2_unit(int64_t x) {
  const int64_t whole = x >> 12, f = x & (kUnit - 1);
  return (kUnit + ((f * (2689 + ((1407 * f) >> 12))) >> 12)) << whole;
}

// sin²(π t) with t and the result in 1/4096, t in [0, 1).
int64_t sine_squared(int64_t t) {
  const int64_t p = (4 * t * (kUnit - t)) >> 12;
  const int64_t sine = (p * (3174 + ((922 * p) >> 12))) >> 12;
  return (sine * sine) >> 12;
}

} // namespace

int size_root(const Lattice &lattice, int size) {
  return int(std::min<int64_t>(lattice.root + int64_t(size) * lattice.root_step, kMostScale));
}

Shape shape_of(const Lattice &lattice, int size, int ratio, int angle) {
  Shape shape{};
  shape.root = size_root(lattice, size);
  const int64_t octaves =
      std::min<int64_t>(int64_t(ratio) * lattice.ratio_step * kUnit / shape.root, kMostOctaves * kUnit);
  shape.ratio = int(exp2_unit(octaves));
  shape.inverse = int(int64_t(kUnit) * kUnit / shape.ratio);
  const int64_t turn = std::min(shape.ratio, 64 * kUnit) - std::min(shape.inverse, kUnit);
  // half a turn, π, over the step of the angle: angle_step / (root (ratio - 1 / ratio))
  const int64_t angles = round_div(((turn * shape.root) >> 12) * 12868, int64_t(lattice.angle_step) * kUnit);
  shape.angles = int(std::clamp<int64_t>(angles, 1, kMostAngles));
  if (angle < 0) return shape;
  const int64_t t = int64_t(angle) * kUnit / shape.angles;
  const int64_t sine = sine_squared(t), cosine = kUnit - sine;
  shape.yy = int(std::max<int64_t>(1, (shape.ratio * sine + shape.inverse * cosine) >> 12));
  shape.xx = int(std::max<int64_t>(1, (shape.ratio * cosine + shape.inverse * sine) >> 12));
  const int64_t cross = isqrt(sine * cosine); // |sin cos|
  shape.xy = int((cross * (shape.ratio - shape.inverse)) >> 12);
  if (2 * t > kUnit) shape.xy = -shape.xy;
  return shape;
}

std::array<int, 2> places(const Lattice &lattice, const Shape &shape, const Box &box) {
  const int64_t step = std::max<int64_t>(1, (int64_t(lattice.place_step) * shape.root) >> 12); // place_step x root, px
  const int64_t spread = std::max<int64_t>(1, isqrt(int64_t(shape.yy) * kUnit));               // of y, over root²
  const int64_t y_step = std::max<int64_t>(1, (step * spread) >> 12);
  const int64_t x_step = std::max<int64_t>(1, step * kUnit / spread);
  const auto count = [](int64_t side, int64_t one) {
    return int(std::clamp<int64_t>(round_div(side * kUnit, one), 1, std::min<int64_t>(kMostPlaces, side * 256)));
  };
  return {count(box.width, x_step), count(box.height, y_step)};
}

namespace {

// Boxes are halved along their longer side, all of one depth along the same: so they stand in rows and columns.
struct Node {
  Box box;
  int depth, column, row;
  int64_t count, first;
  int64_t child[2] = {-1, -1};
};

class Densities {
public:
  explicit Densities(int64_t most) : most_(most) {}

  void add_depth(int columns_log2, int rows_log2) {
    columns_.push_back(columns_log2), rows_.push_back(rows_log2);
    const bool kept = (int64_t(1) << std::min(columns_log2 + rows_log2, 40)) <= most_;
    values_.emplace_back(kept ? size_t(1) << (columns_log2 + rows_log2) : 0, -1);
  }
  int depths() const { return int(values_.size()); }
  bool kept(int depth) const { return depth < depths() && !values_[size_t(depth)].empty(); }
  int columns_log2(int depth) const { return columns_[size_t(depth)]; }
  int rows_log2(int depth) const { return rows_[size_t(depth)]; }

  void set(int depth, int column, int row, int64_t count) {
    if (kept(depth)) values_[size_t(depth)][index(depth, column, row)] = count * 256;
  }

  // Gaussians in a box of some depth, in 1/256; where it was not looked into, its share of the box around it.
  int64_t at(int depth, int column, int row) const {
    if (column < 0 || row < 0 || column >= 1 << columns_[size_t(depth)] || row >= 1 << rows_[size_t(depth)]) return 0;
    int halvings = 0;
    for (; depth > 0; depth--, halvings++) {
      const int64_t found = values_[size_t(depth)][index(depth, column, row)];
      if (found >= 0) return found >> halvings;
      if (columns_[size_t(depth)] != columns_[size_t(depth - 1)])
        column >>= 1;
      else
        row >>= 1;
    }
    return values_[0][0] >> halvings;
  }

private:
  size_t index(int depth, int column, int row) const {
    return (size_t(row) << columns_[size_t(depth)]) + size_t(column);
  }
  int64_t most_;
  std::vector<int> columns_, rows_;
  std::vector<std::vector<int64_t>> values_;
};

// Points in buckets of 2^shift px, the latest first.
class Buckets {
public:
  Buckets(Box box, int64_t count) : box_(box) {
    const int64_t share = int64_t(box.width) * box.height / std::max<int64_t>(1, count);
    shift_ = std::max(2, (ilog2(uint64_t(std::max<int64_t>(1, share))) + 1) / 2);
    columns_ = (box.width >> shift_) + 1, rows_ = (box.height >> shift_) + 1;
    head_.assign(size_t(columns_) * size_t(rows_), -1);
  }
  int shift() const { return shift_; }

  void add(int32_t item, int x, int y) { // canvas, 1/16 px
    const size_t bucket = size_t(row(y)) * size_t(columns_) + size_t(column(x));
    if (size_t(item) >= next_.size()) next_.resize(size_t(item) + 1, -1);
    next_[size_t(item)] = head_[bucket];
    head_[bucket] = item;
  }
  int column(int x) const { return std::clamp((x / 16 - box_.x) >> shift_, 0, columns_ - 1); }
  int row(int y) const { return std::clamp((y / 16 - box_.y) >> shift_, 0, rows_ - 1); }
  int columns() const { return columns_; }
  int rows() const { return rows_; }

  template <typename Body> void visit(int column, int row, Body body) const {
    if (column < 0 || row < 0 || column >= columns_ || row >= rows_) return;
    int left = kBucketItems;
    for (int32_t item = head_[size_t(row) * size_t(columns_) + size_t(column)]; item >= 0 && left; left--) {
      body(item);
      item = next_[size_t(item)];
    }
  }

private:
  Box box_;
  int shift_, columns_, rows_;
  std::vector<int32_t> head_, next_;
};

// What is known of a coded Gaussian.
struct Known {
  int x, y; // canvas, 1/16 px
  int size, ratio;
  int direction; // of 1024 to half a turn
  Shape shape;
};

// Nodes of the binary code of an integer: zero, sign, exponent, the two highest bits below it.
constexpr int kSignNode = 1, kExponentNode = 2, kTopNode = kExponentNode + kMostExponent + 1,
              kSecondNode = kTopNode + kMostExponent + 1, kIntegerNodes = kSecondNode + 2 * (kMostExponent + 1);

template <typename Coder> int64_t code_magnitude(Coder &coder, Mixed &model, int64_t value) {
  const int64_t wanted = value + 1;
  const int known = ilog2(uint64_t(wanted));
  int exponent = 0;
  while (exponent < kMostExponent && model.code(coder, known > exponent, kExponentNode + exponent)) exponent++;
  int64_t found = 1;
  for (int bit = exponent - 1; bit >= 0; bit--) {
    const int given = int((wanted >> bit) & 1);
    int coded;
    if (bit == exponent - 1)
      coded = model.code(coder, given, kTopNode + exponent);
    else if (bit == exponent - 2)
      coded = model.code(coder, given, kSecondNode + 2 * exponent + int(found & 1));
    else
      coded = coder.code(given, kProbabilityOne / 2);
    found = 2 * found + coded;
  }
  return found - 1;
}

template <typename Coder> int64_t code_signed(Coder &coder, Mixed &model, int64_t value) {
  if (!model.code(coder, value != 0, 0)) return 0;
  const bool negative = model.code(coder, value < 0, kSignNode);
  const int64_t magnitude = code_magnitude(coder, model, std::abs(value) - 1) + 1;
  return negative ? -magnitude : magnitude;
}

template <typename Coder> int64_t code_unsigned(Coder &coder, Mixed &model, int64_t value) {
  return model.code(coder, value != 0, 0) ? code_magnitude(coder, model, value - 1) + 1 : 0;
}

// One of `count` equally likely values.
template <typename Coder> int code_even(Coder &coder, int count, int value) {
  int low = 0, high = count;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    const int one = int(int64_t(high - middle) * kProbabilityOne / (high - low));
    if (coder.code(value >= middle, one))
      low = middle;
    else
      high = middle;
  }
  return low;
}

constexpr int kAngleDepth = 5;
constexpr int kCountBuckets = 8; // of counts above 8
constexpr int kExactNodes = 35;  // inner nodes of the trees of the counts 2 to 8
constexpr int kCountNodes = kExactNodes + kCountBuckets * 32;

int count_bucket(int64_t count) { return std::min(ilog2(uint64_t(count)) - 3, kCountBuckets - 1); }

} // namespace

// Everything that learns.
struct BlockCodec::Models {
  Mixed tree, size, ratio, angle;
  std::vector<Mixed> color;
  std::vector<Known> known;
  std::vector<int32_t> colors; // of the known, symbols
  std::vector<int64_t> values; // of the known, 1/65536
  int64_t size_sum = 0, ratio_sum = 0;
  int level = 0;

  explicit Models(int channels)
      : tree({1, 7 * 8, 7 * 8, 7 * 7}, kCountNodes, 60, 14),
        size({4, kClasses, kClasses, 17 * 3, 17 * 4}, kIntegerNodes, 60, 14),
        ratio({kClasses, kClasses, 16 * 4, 16 * 4}, kIntegerNodes, 60, 14),
        angle({11, 16 * 3 * 3, 16 * 3, 1}, 1 << kAngleDepth, 60, 14) {
    for (int k = 0; k < channels; k++)
      color.emplace_back(std::vector<int>{kClasses, kClasses, kClasses, 9 * 3, 9, 16}, kIntegerNodes, 60, 14);
  }
};

struct BlockCodec::Level {
  bool encoding;
  int64_t count;
  bool cut = false;
  size_t size = 0;              // of the payload, when decoding
  std::vector<Symbols> symbols; // in: as given; out: in the order of decoding
  std::vector<int32_t> colors;
  std::vector<int32_t> order; // rows of the input in the order of decoding
  std::vector<Node> nodes;
  std::vector<int64_t> leaves; // in the order of decoding
  std::unique_ptr<Densities> densities;
};

namespace {

// A coder that keeps book of what was spent on what.
template <typename Base> class Metered : public Base {
public:
  using Base::Base;
  int code(int bit, int one) {
    const int found = Base::code(bit, one);
    bits[size_t(part)] -= std::log2((found ? one : kProbabilityOne - one) / double(kProbabilityOne));
    return found;
  }
  int part = kTree;
  std::array<double, kParts> bits{};
};

int compare(int64_t a, int64_t b) { return a + b <= 0 ? 3 : int(std::min<int64_t>(6, 7 * a / (a + b))); }

// Whether a decoder has read what is not there. Four bytes are read ahead, and zeros at the end are not written.
template <typename Coder> bool ran_out(const Coder &, size_t, bool) { return false; }
template <> bool ran_out(const Metered<Decoder> &coder, size_t size, bool cut) {
  return cut ? coder.taken() > size : coder.taken() > size + 8;
}

struct Split {
  bool along_x;
  int columns_log2, rows_log2;
};

// How boxes of a depth are halved; false where they stay whole.
bool split_of(const Box &box, int columns_log2, int rows_log2, Split &split) {
  const int width = box.width >> columns_log2, height = box.height >> rows_log2;
  if (std::max(width, height) < kSmallestCell) return false;
  split.along_x = width >= height;
  split.columns_log2 = columns_log2 + split.along_x, split.rows_log2 = rows_log2 + !split.along_x;
  return true;
}

std::pair<Box, Box> halves(const Box &box, bool along_x) {
  Box first = box, second = box;
  if (along_x) {
    first.width = box.width / 2;
    second.x += first.width, second.width -= first.width;
  } else {
    first.height = box.height / 2;
    second.y += first.height, second.height -= first.height;
  }
  return {first, second};
}

// Number of a node's Gaussians that are in its first half.
template <typename Coder> int64_t code_split(Coder &coder, Mixed &model, int64_t count, int64_t value) {
  int64_t low = 0, high = count;
  int path = 1, depth = 0;
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    const int given = value > middle;
    int found;
    if (count <= 8)
      found = model.code(coder, given, int(count * (count - 1) / 2 - 1 + middle));
    else if (depth < 5)
      found = model.code(coder, given, kExactNodes + count_bucket(count) * 32 + path);
    else
      found = coder.code(given, kProbabilityOne / 2);
    if (found)
      low = middle + 1;
    else
      high = middle;
    path = 2 * path + found, depth++;
  }
  return low;
}

} // namespace

BlockCodec::BlockCodec(const Lattice &lattice, Box box)
    : lattice_(lattice), box_(box), models_(new Models(lattice.channels)) {}
BlockCodec::~BlockCodec() { delete models_; }

template <typename Coder>
static void code_tree(Coder &coder, Mixed &model, const Box &box, bool encoding, const std::vector<Symbols> &points,
                      int64_t count, size_t size, bool cut, std::vector<Node> &nodes, std::vector<int64_t> &leaves,
                      std::vector<int32_t> &order, Densities &densities) {
  order.resize(encoding ? size_t(count) : 0);
  std::iota(order.begin(), order.end(), 0);
  nodes.clear();
  densities.add_depth(0, 0);
  densities.set(0, 0, 0, count);
  Node root{};
  root.box = box, root.count = count;
  nodes.push_back(root);
  size_t begin = 0, end = 1;
  int columns_log2 = 0, rows_log2 = 0;
  Split split{};
  for (int depth = 0; count > 1 && begin < end && split_of(box, columns_log2, rows_log2, split); depth++) {
    densities.add_depth(split.columns_log2, split.rows_log2);
    const bool seen = densities.kept(depth), below = densities.kept(depth + 1);
    for (size_t at = begin; at < end; at++) {
      const Node node = nodes[at];
      if (node.count < 2) continue;
      if (ran_out(coder, size, cut)) throw Malformed("positions: the payload ends too early");
      const auto [first, second] = halves(node.box, split.along_x);
      const int dx = split.along_x, dy = !split.along_x;
      int side = 3, above = 3, ahead = 3;
      if (seen) {
        const int64_t after = densities.at(depth, node.column + dx, node.row + dy);
        const int64_t before = densities.at(depth, node.column - dx, node.row - dy);
        side = compare(before, after);
        if (below) {
          const int column = split.along_x ? 2 * node.column : node.column - 1;
          const int row = split.along_x ? node.row - 1 : 2 * node.row;
          above = compare(densities.at(depth + 1, column, row), densities.at(depth + 1, column + dx, row + dy));
          const int far_column = split.along_x ? 2 * node.column - 1 : node.column;
          const int far_row = split.along_x ? node.row : 2 * node.row - 1;
          ahead = compare(densities.at(depth + 1, far_column, far_row) * 2, after);
        }
      }
      const int bucket = int(std::min<int64_t>(node.count, 9)) - 2;
      model.see({0, bucket * 7 + ahead, bucket * 7 + above, side * 7 + above});
      int64_t given = 0;
      if (encoding) {
        const auto start = order.begin() + node.first;
        const auto stop = start + node.count;
        const auto middle = std::stable_partition(start, stop, [&](int32_t row) {
          const Symbols &point = points[size_t(row)];
          return split.along_x ? point.x < second.x * kPixel : point.y < second.y * kPixel;
        });
        given = middle - start;
      }
      const int64_t left = code_split(coder, model, node.count, given);
      for (int half = 0; half < 2; half++) {
        Node child{};
        child.box = half ? second : first;
        child.depth = depth + 1;
        child.column = split.along_x ? 2 * node.column + half : node.column;
        child.row = split.along_x ? node.row : 2 * node.row + half;
        child.count = half ? node.count - left : left;
        child.first = half ? node.first + left : node.first;
        densities.set(depth + 1, child.column, child.row, child.count);
        if (child.count == 0) continue;
        nodes[at].child[half] = int64_t(nodes.size());
        nodes.push_back(child);
      }
    }
    columns_log2 = split.columns_log2, rows_log2 = split.rows_log2;
    begin = end, end = nodes.size();
  }
  leaves.clear();
  std::vector<int64_t> stack{0};
  while (!stack.empty()) {
    const int64_t at = stack.back();
    stack.pop_back();
    const Node &node = nodes[size_t(at)];
    if (node.child[0] < 0 && node.child[1] < 0) leaves.push_back(at);
    for (int half = 1; half >= 0; half--)
      if (node.child[half] >= 0) stack.push_back(node.child[half]);
  }
}

template <typename Coder> void BlockCodec::run(Coder &coder, Level &level) {
  Models &models = *models_;
  const int channels = lattice_.channels;
  const int64_t count = level.count;
  if (count == 0) return;
  const int64_t area = int64_t(box_.width) * box_.height;

  coder.part = kTree;
  Densities densities(4 * (count + 16));
  const std::vector<Symbols> given = std::move(level.symbols);
  const std::vector<int32_t> given_colors = std::move(level.colors);
  level.symbols.clear(), level.colors.clear();
  std::vector<int32_t> rows;
  code_tree(coder, models.tree, box_, level.encoding, given, count, level.size, level.cut, level.nodes, level.leaves,
            rows, densities);
  int dense = 0; // the depth at which a box holds four Gaussians or so
  while (dense + 1 < densities.depths() && densities.kept(dense + 1) &&
         (int64_t(4) << (densities.columns_log2(dense + 1) + densities.rows_log2(dense + 1))) <= count)
    dense++;

  // shapes and places
  const size_t earlier = models.known.size();
  Buckets buckets(box_, int64_t(earlier) + count);
  for (size_t i = 0; i < earlier; i++) buckets.add(int32_t(i), models.known[i].x, models.known[i].y);
  const int level_class = std::min(models.level, 3);
  for (const int64_t leaf : level.leaves) {
    const Node &node = level.nodes[size_t(leaf)];
    const Box &box = node.box;
    const int x = box.x * 16 + box.width * 8, y = box.y * 16 + box.height * 8;
    int64_t around = 0;
    {
      const int columns = densities.columns_log2(dense), lines = densities.rows_log2(dense);
      const int column = int((int64_t(2 * (box.x - box_.x) + box.width) << columns) / (2 * box_.width));
      const int row = int((int64_t(2 * (box.y - box_.y) + box.height) << lines) / (2 * box_.height));
      for (int dy = -1; dy <= 1; dy++)
        for (int dx = -1; dx <= 1; dx++) around += densities.at(dense, column + dx, row + dy);
      around = ((around << (columns + lines)) * 16) / (9 * 256 * count);
    }
    const int density = std::min(half_octaves(around), kClasses - 1);
    const int room = std::min(half_octaves(int64_t(box.width) * box.height * count * 16 / area), kClasses - 1);
    for (int64_t k = 0; k < node.count; k++) {
      if (ran_out(coder, level.size, level.cut)) throw Malformed("shapes: the payload ends too early");
      // the two nearest that are known
      int nearest[2] = {-1, -1};
      int64_t distance[2] = {INT64_MAX, INT64_MAX};
      const int column = buckets.column(x), row = buckets.row(y);
      const auto look = [&](int32_t item) {
        const Known &other = models.known[size_t(item)];
        const int64_t dx = other.x - x, dy = other.y - y, apart = dx * dx + dy * dy;
        if (apart < distance[0]) {
          nearest[1] = nearest[0], distance[1] = distance[0];
          nearest[0] = item, distance[0] = apart;
        } else if (apart < distance[1]) {
          nearest[1] = item, distance[1] = apart;
        }
      };
      for (int dy = -1; dy <= 1; dy++)
        for (int dx = -1; dx <= 1; dx++) buckets.visit(column + dx, row + dy, look);
      if (nearest[1] < 0)
        for (int dy = -2; dy <= 2; dy++)
          for (int dx = -2; dx <= 2; dx++)
            if (std::max(std::abs(dx), std::abs(dy)) == 2) buckets.visit(column + dx, row + dy, look);
      const int64_t total = int64_t(models.known.size());
      const int centre = total ? int(models.size_sum / total) : 20;
      int first = 8, both = 8, closeness = 0, first_ratio = 15, both_ratio = 15, direction = 0, second_direction = 0,
          lean = 0, second_lean = 0;
      if (nearest[0] >= 0) {
        const Known &a = models.known[size_t(nearest[0])];
        const Known &b = nearest[1] >= 0 ? models.known[size_t(nearest[1])] : a;
        first = std::clamp((a.size - centre) / 3 + 8, 0, 16);
        both = std::clamp((a.size + b.size - 2 * centre) / 5 + 8, 0, 16);
        const int64_t spacing = area * 256 / (int64_t(earlier) + count);
        closeness = distance[0] * 4 < spacing ? 0 : distance[0] < spacing ? 1 : 2;
        first_ratio = std::min(a.ratio, 14), both_ratio = std::min((a.ratio + b.ratio) / 2, 14);
        direction = ((a.direction + 32) >> 6) & 15, second_direction = ((b.direction + 32) >> 6) & 15;
        lean = a.shape.ratio < 6000 ? 0 : a.shape.ratio < 12000 ? 1 : 2;
        second_lean = b.shape.ratio < 6000 ? 0 : b.shape.ratio < 12000 ? 1 : 2;
      }
      Symbols found{};
      const int32_t source = level.encoding ? rows[size_t(node.first + k)] : 0;
      Symbols want = level.encoding ? given[size_t(source)] : Symbols{};

      coder.part = kSize;
      models.size.see({level_class, density, room, first * 3 + closeness, both * 4 + density / 4});
      const int64_t size = centre + code_signed(coder, models.size, int64_t(want.size) - centre);
      if (size < 0 || lattice_.root + size * lattice_.root_step > kMostScale) throw Malformed("size: out of range");
      found.size = int32_t(size);

      coder.part = kRatio;
      const int size_class = std::clamp((found.size - centre) / 3 + 8, 0, kClasses - 1);
      models.ratio.see({size_class, density, first_ratio * 4 + size_class / 4, both_ratio * 4 + closeness});
      const int64_t ratio = code_unsigned(coder, models.ratio, want.ratio);
      found.ratio = int32_t(std::min<int64_t>(ratio, INT32_MAX / 2));
      if (ratio > kMostRatio) throw Malformed("ratio: out of range");

      coder.part = kAngle;
      const int angles = shape_of(lattice_, found.size, found.ratio, -1).angles;
      models.angle.see(
          {ilog2(uint64_t(angles)), (direction * 3 + lean) * 3 + closeness, second_direction * 3 + second_lean, 0});
      // directions are shifted by a sixteenth of their range, so that 0 and 90 degrees lie within intervals
      const int shift = angles / 16;
      int low = 0, high = angles, path = 1, depth = 0;
      const int turned = level.encoding ? (want.angle + shift) % angles : 0;
      while (high - low > 1) {
        const int middle = (low + high) / 2, bit = turned >= middle;
        const int one = int(int64_t(high - middle) * kProbabilityOne / (high - low));
        int got;
        if (depth < kAngleDepth)
          got = models.angle.code(coder, bit, path);
        else
          got = coder.code(bit, one);
        if (got)
          low = middle;
        else
          high = middle;
        path = 2 * path + got, depth++;
      }
      found.angle = (low + angles - shift) % angles;

      coder.part = kPlace;
      const Shape shape = shape_of(lattice_, found.size, found.ratio, found.angle);
      const auto [wide, high_count] = places(lattice_, shape, box);
      int place_x = 0, place_y = 0;
      if (level.encoding) {
        place_x =
            int(std::clamp<int64_t>(floor_div((want.x - box.x * kPixel) * wide, box.width * kPixel), 0, wide - 1));
        place_y = int(std::clamp<int64_t>(floor_div((want.y - box.y * kPixel) * high_count, box.height * kPixel), 0,
                                          high_count - 1));
      }
      place_y = code_even(coder, high_count, place_y);
      place_x = code_even(coder, wide, place_x);
      found.x = int32_t(box.x * kPixel + (2 * place_x + 1) * box.width * kPixel / (2 * wide));
      found.y = int32_t(box.y * kPixel + (2 * place_y + 1) * box.height * kPixel / (2 * high_count));

      models.size_sum += found.size, models.ratio_sum += found.ratio;
      const Known known{found.x >> 6, found.y >> 6, found.size, found.ratio, found.angle * 1024 / angles, shape};
      buckets.add(int32_t(models.known.size()), known.x, known.y);
      models.known.push_back(known);
      level.symbols.push_back(found);
      level.order.push_back(source);
    }
  }

  // colours, from the largest
  coder.part = kColor;
  std::vector<int32_t> order(level.symbols.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return level.symbols[size_t(a)].size > level.symbols[size_t(b)].size; });
  Buckets waiting(box_, count);
  for (size_t i = 0; i < order.size(); i++) {
    const Known &known = models.known[earlier + size_t(order[i])];
    waiting.add(int32_t(i), known.x, known.y);
  }
  std::vector<int64_t> weight(order.size(), 0), error(order.size(), 0), mean(order.size() * size_t(channels), 0);
  int64_t budget = kVisits * count;
  static const std::array<int, kReach> kernel = [] {
    std::array<int, kReach> made{};
    for (int64_t q = 0; q < kReach; q++)
      made[size_t(q)] = int(int64_t(4096) * 196608 / (196608 + 6144 * q + 96 * q * q + q * q * q));
    return made;
  }();
  // adds a coloured Gaussian to what is expected at those that wait
  const auto scatter = [&](size_t which, size_t after, int64_t size_of_error) {
    const Known &known = models.known[which];
    const int64_t g = std::max<int64_t>(1, (int64_t(known.shape.root) * known.shape.root >> 12) >> 8); // 1/16 px
    const int64_t g2 = g * g;
    const int64_t reach_x = isqrt(12 * (g2 * known.shape.xx >> 12)), reach_y = isqrt(12 * (g2 * known.shape.yy >> 12));
    const int column = waiting.column(known.x), row = waiting.row(known.y);
    const int bucket = 16 << waiting.shift();
    const int wide = int(std::min<int64_t>(kWindow, reach_x / bucket + 1)),
              tall = int(std::min<int64_t>(kWindow, reach_y / bucket + 1));
    for (int r = std::max(0, row - tall); r <= std::min(waiting.rows() - 1, row + tall); r++)
      for (int c = std::max(0, column - wide); c <= std::min(waiting.columns() - 1, column + wide); c++)
        waiting.visit(c, r, [&](int32_t item) {
          if (budget-- <= 0 || int64_t(item) <= int64_t(after)) return;
          const Known &other = models.known[earlier + size_t(order[size_t(item)])];
          const int64_t dx = other.x - known.x, dy = other.y - known.y;
          if (std::abs(dx) > reach_x || std::abs(dy) > reach_y) return;
          const int64_t form = known.shape.yy * dx * dx - 2 * known.shape.xy * dx * dy + known.shape.xx * dy * dy;
          const int64_t q = std::max<int64_t>(0, form) / g2 >> 8;
          if (q >= kReach) return;
          const int w = kernel[size_t(q)];
          weight[size_t(item)] += w;
          error[size_t(item)] += w * size_of_error;
          for (int k = 0; k < channels; k++)
            mean[size_t(item) * size_t(channels) + size_t(k)] +=
                w * models.values[which * size_t(channels) + size_t(k)];
        });
  };
  models.values.resize(models.known.size() * size_t(channels));
  for (size_t i = 0; i < earlier; i++) scatter(i, size_t(0) - 1, 0);
  std::vector<int64_t> running(size_t(channels), 0);
  int64_t coded = 0;
  const int centre = int(models.size_sum / int64_t(models.known.size()));
  std::vector<int32_t> colors(order.size() * size_t(channels));
  for (size_t i = 0; i < order.size(); i++) {
    if (ran_out(coder, level.size, level.cut)) {
      if (!level.cut) throw Malformed("colours: the payload ends too early");
      break;
    }
    const size_t which = earlier + size_t(order[i]);
    const Known &known = models.known[which];
    const int64_t root = known.shape.root;
    const int64_t g = std::max<int64_t>(1, root * root >> 12); // px, 1/4096
    const int confidence = std::min(half_octaves(weight[i] >> 5), kClasses - 1);
    const int size_class = std::clamp((known.size - centre) / 3 + 8, 0, kClasses - 1);
    int64_t before = 0, second = 0, spread = 0;
    for (int k = 0; k < channels; k++) {
      const int64_t step = std::max<int64_t>(1, int64_t(lattice_.color_step[size_t(k)]) * kUnit / g); // 1/65536
      const int64_t usual = coded ? floor_div(running[size_t(k)], coded) : 32768;
      const int64_t local = weight[i] > 0 ? floor_div(mean[i * size_t(channels) + size_t(k)], weight[i]) : usual;
      const int64_t expected = round_div(local, step);
      const int64_t trouble = weight[i] > 0 ? error[i] / weight[i] * 4 / step : 0;
      const int away = int(std::clamp<int64_t>(floor_div(round_div(usual, step) - expected, 4) + 4, 0, 8));
      Mixed &model = models.color[size_t(k)];
      model.see({confidence, size_class, std::min(half_octaves(trouble), kClasses - 1),
                 int(std::clamp<int64_t>(before + 4, 0, 8) * 3 + std::min<int64_t>(second, 2)), away,
                 std::min(half_octaves(std::abs(before) * 2), 15)});
      const int32_t want =
          level.encoding ? given_colors[size_t(level.order[size_t(order[i])]) * size_t(channels) + size_t(k)] : 0;
      const int64_t residual = code_signed(coder, model, want - expected);
      const int64_t symbol = expected + residual;
      if (std::abs(symbol) > kMostColor) throw Malformed("colour: out of range");
      colors[size_t(order[i]) * size_t(channels) + size_t(k)] = int32_t(symbol);
      const int64_t value = symbol * step;
      models.values[which * size_t(channels) + size_t(k)] = value;
      running[size_t(k)] += value;
      second = std::abs(before), before = residual;
      spread += std::abs(residual) * step;
    }
    coded++;
    scatter(which, i, spread / channels);
  }
  level.colors = std::move(colors);
  if (coded < int64_t(order.size())) { // keep those that have a colour, in the order of decoding
    std::vector<char> has(order.size(), 0);
    for (int64_t i = 0; i < coded; i++) has[size_t(order[size_t(i)])] = 1;
    size_t kept = 0;
    for (size_t i = 0; i < has.size(); i++) {
      if (!has[i]) continue;
      level.symbols[kept] = level.symbols[i];
      std::copy_n(level.colors.begin() + std::ptrdiff_t(i * size_t(channels)), channels,
                  level.colors.begin() + std::ptrdiff_t(kept * size_t(channels)));
      kept++;
    }
    level.symbols.resize(kept), level.colors.resize(kept * size_t(channels));
  }
  models.level++;
}

std::vector<Box> BlockCodec::cells(const std::vector<Symbols> &points) const {
  struct Nothing {
    int code(int bit, int) { return bit; }
  } coder;
  Mixed model({1, 7 * 8, 7 * 8, 7 * 7}, kCountNodes, 60, 14);
  std::vector<Node> nodes;
  std::vector<int64_t> leaves;
  std::vector<int32_t> order;
  Densities densities(4 * (int64_t(points.size()) + 16));
  code_tree(coder, model, box_, true, points, int64_t(points.size()), 0, false, nodes, leaves, order, densities);
  std::vector<Box> found(points.size());
  if (points.empty()) return found;
  for (const int64_t leaf : leaves) {
    const Node &node = nodes[size_t(leaf)];
    for (int64_t k = 0; k < node.count; k++) found[size_t(order[size_t(node.first + k)])] = node.box;
  }
  return found;
}

std::vector<uint8_t> BlockCodec::encode(std::vector<Symbols> &symbols, std::vector<int32_t> &colors,
                                        std::vector<int32_t> &order, std::array<double, kParts> &bits) {
  Metered<Encoder> coder;
  Level level{};
  level.encoding = true, level.count = int64_t(symbols.size());
  level.symbols = std::move(symbols), level.colors = std::move(colors);
  run(coder, level);
  symbols = std::move(level.symbols), colors = std::move(level.colors), order = std::move(level.order);
  bits = coder.bits;
  std::vector<uint8_t> bytes = coder.finish();
  const size_t least = (symbols.size() + 7) / 8; // what bounds a decoder's memory
  if (bytes.size() < least) bytes.resize(least, 0);
  return bytes;
}

void BlockCodec::decode(const uint8_t *data, size_t size, int64_t count, bool cut, std::vector<Symbols> &symbols,
                        std::vector<int32_t> &colors, std::array<double, kParts> &bits) {
  Metered<Decoder> coder(data, size);
  Level level{};
  level.encoding = false, level.count = count, level.size = size, level.cut = cut;
  try {
    run(coder, level);
  } catch (const Malformed &) {
    if (!cut || !ran_out(coder, size, true)) throw;
    level.symbols.clear(), level.colors.clear();
  }
  symbols = std::move(level.symbols), colors = std::move(level.colors);
  bits = coder.bits;
}

} // namespace imagegs::entropy
