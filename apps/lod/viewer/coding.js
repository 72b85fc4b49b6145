/**
 * Payloads of a .gsimg file, symbols and numbers: sections 7 to 10 of docs/format.md, whose names are used here.
 *
 * All arithmetic on integers stays below 2^53, as that text promises, so doubles are exact; a floor of a quotient of two
 * such integers is exact too.
 */

/** A file, or a part of one, that no writer of the format made. `kind`: format, version, checksum or truncated. */
export class FormatError extends Error {
  constructor(message, kind = 'format') {
    super(message);
    this.name = 'FormatError';
    this.kind = kind;
  }
}

const { floor, max, min, sqrt, round, fround } = Math;
const div = (a, b) => floor(a / b);
const rounded = (a, b) => floor((2 * a + b) / (2 * b));
const clamp = (v, low, high) => (v < low ? low : v > high ? high : v);
const log2 = (v) => (v < 4294967296 ? (v < 1 ? 0 : 31 - Math.clz32(v)) : 32 + log2(div(v, 4294967296)));
const root = (v) => floor(sqrt(v));
const halves = (v) => {
  if (v < 1) return 0;
  if (v >= 1073741824) return 60;
  const e = 31 - Math.clz32(v);
  return 2 * e + (v > Math.SQRT2 * (1 << e) ? 1 : 0);
};

// 10.2

const LOGISTIC = [
  22, 36, 60, 98, 162, 267, 439, 720, 1179, 1921, 3108, 4971, 7812, 11955, 17625, 24743, 32768, 40793, 47911, 53581,
  57724, 60565, 62428, 63615, 64357, 64816, 65097, 65269, 65374, 65438, 65476, 65500, 65514,
];
const SQUASH = Uint16Array.from({ length: 4095 }, (_, at) => {
  const i = (at + 1) >> 7, f = (at + 1) & 127;
  return (LOGISTIC[i] * (128 - f) + LOGISTIC[i + 1] * f + 64) >> 7;
});
const STRETCH = new Int16Array(4096);
for (let j = 0, x = 0; j < 4096; j++) {
  while (x < 4094 && SQUASH[x] < 16 * j) x++;
  STRETCH[j] = x - 2047;
}
const RATE = Int32Array.from({ length: 61 }, (_, n) => div(32768, n + 2));
const BELL = Float64Array.from({ length: 144 }, (_, q) =>
  div(4096 * 196608, 196608 + 6144 * q + 96 * q * q + q * q * q));

/** Section 10.1. Its two numbers are kept in an array of their own, where they are not boxed. */
class RangeDecoder {
  constructor(payload) {
    this.payload = payload;
    this.taken = 3;
    this.state = new Uint32Array(2); // range, value
    this.state[0] = 16777216;
    for (let k = 0; k < 3; k++) this.state[1] = this.state[1] * 256 + (payload[k] ?? 0);
  }

  bit(p) {
    const state = this.state, range = state[0];
    const bound = (Math.imul(range >>> 16, p) + (Math.imul(range & 65535, p) >>> 16)) >>> 0;
    const one = state[1] < bound;
    if (one) state[0] = bound;
    else {
      state[1] -= bound;
      state[0] = range - bound;
    }
    if (state[0] < 16777216) this.normalize();
    return one ? 1 : 0;
  }

  even(n) {
    const state = this.state, share = floor(state[0] / n);
    const v = min(floor(state[1] / share), n - 1);
    state[1] -= share * v;
    state[0] = v === n - 1 ? state[0] - share * v : share;
    if (state[0] < 16777216) this.normalize();
    return v;
  }

  normalize() {
    const { state, payload } = this;
    while (state[0] < 16777216) {
      state[0] *= 256;
      state[1] = state[1] * 256 + (this.taken < payload.length ? payload[this.taken] : 0);
      this.taken++;
    }
  }

  check(allowed) {
    if (this.taken > this.payload.length + allowed) throw new FormatError('payload: expected more bytes, found its end');
  }

  raw(k) {
    let found = 0;
    for (; k > 0; k -= 12) found = found * (1 << min(k, 12)) + this.even(1 << min(k, 12));
    return found;
  }

  any(n) {
    if (n <= 4096) return this.even(n);
    const k = log2(n - 1) - 11, h = this.even(div(n - 1, 2 ** k) + 1);
    return min(h * 2 ** k + this.raw(k), n - 1);
  }
}

/** Weights of each node, and counters of each input, context and node. */
class Model {
  constructor(contexts, nodes) {
    const inputs = contexts.length;
    this.contexts = contexts;
    this.nodes = nodes;
    this.weights = new Int16Array(inputs * nodes).fill(div(32768, inputs + 5));
    this.starts = contexts.map((_, k) => nodes * contexts.slice(0, k).reduce((sum, n) => sum + n, 0));
    const all = nodes * contexts.reduce((sum, n) => sum + n, 0);
    this.counters = new Int32Array(all).fill(32768 << 6); // 64 p + n
    this.rows = new Int32Array(inputs);
    this.logits = new Int32Array(inputs);
  }

  set(k, context) {
    this.rows[k] = this.starts[k] + this.nodes * clamp(context, 0, this.contexts[k] - 1);
  }

  bit(coder, node) {
    const { weights, counters, rows, logits } = this, inputs = rows.length, at = node * inputs;
    let sum = 0;
    for (let k = 0; k < inputs; k++) {
      const logit = STRETCH[counters[rows[k] + node] >> 10];
      logits[k] = logit;
      sum += weights[at + k] * logit;
    }
    const m = SQUASH[clamp(sum >> 14, -2047, 2047) + 2047];
    const b = coder.bit(m), target = b ? 65535 : 0;
    const e = ((target - m) * 14) >> 7;
    for (let k = 0; k < inputs; k++) {
      weights[at + k] = clamp(weights[at + k] + ((((16 * logits[k] * e) >> 16) + 1) >> 1), -32768, 32767);
      const c = rows[k] + node, n = counters[c] & 63, p = counters[c] >> 6;
      counters[c] = ((p + (((target - p) * RATE[n]) >> 15)) << 6) | (n < 60 ? n + 1 : n);
    }
    return b;
  }

  // 10.3

  magnitude(coder) {
    let e = 0;
    while (e < 26 && this.bit(coder, 2 + 2 * min(e, 11))) e++;
    if (!e) return 1;
    const t = this.bit(coder, 3 + 2 * min(e, 11));
    return (2 + t) * 2 ** (e - 1) + coder.raw(e - 1);
  }

  unsigned(coder) {
    return this.bit(coder, 0) ? this.magnitude(coder) : 0;
  }

  signed(coder) {
    if (!this.bit(coder, 0)) return 0;
    return this.bit(coder, 1) ? -this.magnitude(coder) : this.magnitude(coder);
  }
}

/** Section 10.4: the boxes of one level, in `cells` of eight numbers at 8 * (number of the cell's first Gaussian). */
class Tree {
  constructor(box, count) {
    this.box = box;
    this.count = count;
    this.columns = [0]; // log2, by depth
    this.rows = [0];
    this.densities = [Float64Array.of(256 * count)]; // by depth that is kept, for every box
    this.cells = new Int32Array(8 * count); // x, y, width, height, Gaussians, first, column, row
  }

  kept(depth) {
    return depth < this.densities.length;
  }

  density(depth, column, row) {
    const a = this.columns[depth];
    return (column | row) < 0 || column >> a || row >> this.rows[depth] ? 0 : this.densities[depth][(row << a) + column];
  }

  /** Densities of the next depth, as long as nothing is known but those of this one. */
  keep(depth, alongX) {
    const a = this.columns[depth], rows = 1 << this.rows[depth], of = this.densities[depth];
    if (!of || 2 * of.length > 4 * (this.count + 16)) return;
    const found = new Float64Array(2 * of.length);
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < 1 << a; column++) {
        const at = (row << a) + column, first = alongX ? 2 * at : at + (row << a);
        found[first] = found[first + (alongX ? 1 : 1 << a)] = floor(of[at] / 2);
      }
    }
    this.densities.push(found);
  }

  decode(coder, model, allowed) {
    const [x, y, width, height] = this.box;
    let boxes = Int32Array.of(x, y, width, height, this.count, 0, 0, 0);
    for (let depth = 0; boxes.length; depth++) {
      const a = this.columns[depth], b = this.rows[depth];
      const wide = div(width, 2 ** a), high = div(height, 2 ** b), alongX = wide >= high;
      const halved = this.count > 1 && (wide >= 4 || high >= 4);
      if (halved) {
        this.columns.push(a + (alongX ? 1 : 0));
        this.rows.push(b + (alongX ? 0 : 1));
        this.keep(depth, alongX);
      }
      const below = new Int32Array(2 * boxes.length);
      let end = 0;
      for (let at = 0; at < boxes.length; at += 8) {
        if (!halved || boxes[at + 4] < 2) {
          this.cells.set(boxes.subarray(at, at + 8), 8 * boxes[at + 5]);
          continue;
        }
        this.see(model, depth, boxes[at + 4], boxes[at + 6], boxes[at + 7], alongX);
        const n = split(coder, model, boxes[at + 4]);
        coder.check(allowed);
        end = this.halve(boxes, at, n, alongX, below, end, depth + 1);
      }
      boxes = below.subarray(0, end);
    }
  }

  halve(boxes, at, n, alongX, below, end, depth) {
    const side = alongX ? 2 : 3, first = boxes[at + side] >> 1, kept = this.densities[depth];
    for (let half = 0; half < 2; half++) {
      const count = half ? boxes[at + 4] - n : n;
      const column = alongX ? 2 * boxes[at + 6] + half : boxes[at + 6];
      const row = alongX ? boxes[at + 7] : 2 * boxes[at + 7] + half;
      if (kept) kept[(row << this.columns[depth]) + column] = 256 * count;
      if (!count) continue;
      for (let k = 0; k < 4; k++) below[end + k] = boxes[at + k];
      below[end + side] = half ? boxes[at + side] - first : first;
      if (half) below[end + side - 2] += first;
      below[end + 4] = count;
      below[end + 5] = boxes[at + 5] + (half ? n : 0);
      below[end + 6] = column;
      below[end + 7] = row;
      end += 8;
    }
    return end;
  }

  see(model, depth, n, column, row, alongX) {
    let x = 3, y = 3, z = 3;
    if (this.kept(depth)) {
      const dx = alongX ? 1 : 0, dy = 1 - dx;
      const after = this.density(depth, column + dx, row + dy);
      x = share(this.density(depth, column - dx, row - dy), after);
      if (this.kept(depth + 1)) {
        const u = column * (1 + dx), v = row * (1 + dy);
        y = share(this.density(depth + 1, u - dy, v - dx), this.density(depth + 1, u - dy + dx, v - dx + dy));
        z = share(2 * this.density(depth + 1, u - dx, v - dy), after);
      }
    }
    const g = min(n, 9) - 2;
    model.set(0, 0);
    model.set(1, 7 * g + z);
    model.set(2, 7 * g + y);
    model.set(3, 7 * x + y);
  }

  /** The largest depth that tells densities to the second pass. */
  get depth() {
    let d = 0;
    while (this.kept(d + 1) && 4 * 2 ** (this.columns[d + 1] + this.rows[d + 1]) <= this.count) d++;
    return d;
  }
}

const share = (a, b) => (a + b <= 0 ? 3 : min(6, floor((7 * a) / (a + b))));

function split(coder, model, n) {
  let low = 0, high = n, path = 1;
  while (low < high) {
    if (n > 8 && path > 7) return low + coder.any(high - low + 1);
    const middle = floor((low + high) / 2);
    const at = n > 8 ? 35 + 8 * min(log2(n) - 3, 3) + path : (n * (n - 1)) / 2 - 1 + middle;
    const b = model.bit(coder, at);
    if (b) low = middle + 1;
    else high = middle;
    path = 2 * path + b;
  }
  return low;
}

/** The array itself if it holds n numbers, else a longer one with the same beginning. */
export function grown(array, n) {
  if (n <= array.length) return array;
  const longer = new array.constructor(max(n, 2 * array.length));
  longer.set(array);
  return longer;
}

const COLUMNS = { size: Int32Array, ratio: Int32Array, angle: Int32Array, x: Int32Array, y: Int32Array };
const DERIVED = { area: Int32Array, rho: Int32Array, iota: Int32Array, angles: Int32Array, lean: Uint8Array };

/** All levels of a block in coding 1, one after the other; what they hold is numbered on and on. */
class ContextDecoder {
  constructor(lattice, box) {
    const channels = lattice.colorSteps.length;
    this.lattice = lattice;
    this.box = box;
    this.count = 0;
    this.level = 0;
    this.sizes = 0;
    for (const [name, Kind] of Object.entries({ ...COLUMNS, ...DERIVED })) this[name] = new Kind(0);
    this.colors = new Int32Array(0);
    this.values = new Float64Array(0);
    this.cov = new Float64Array(3); // xx, xy, yy of the last call
    this.splitModel = new Model([1, 56, 56, 49], 67);
    this.sizeModel = new Model([4, 16, 16, 51, 68], 26);
    this.ratioModel = new Model([16, 16, 64, 64], 26);
    this.angleModel = new Model([11, 144, 48, 1], 8);
    this.colorModels = lattice.colorSteps.map(() => new Model([16, 16, 16, 27, 9], 26));
  }

  /** Numbers of the next level's Gaussians that are whole: all of them, but for a payload that was cut. */
  decode(payload, count, cut = false) {
    if (!count) return [];
    if (8 * payload.length < count) {
      if (cut) return [];
      throw new FormatError(`expected at least ${div(count + 7, 8)} bytes, found ${payload.length}`);
    }
    const coder = new RangeDecoder(payload), allowed = cut ? 0 : 4, earlier = this.count;
    const back = min(earlier, 16 * count + 1024);
    try {
      const tree = new Tree(this.box, count);
      tree.decode(coder, this.splitModel, allowed);
      this.shapes(coder, tree, back, allowed);
    } catch (error) {
      if (cut && error instanceof FormatError && coder.taken > payload.length) return [];
      throw error;
    }
    const done = this.paint(coder, earlier, back, allowed, cut);
    this.level++;
    return done;
  }

  reserve(n) {
    for (const name in COLUMNS) this[name] = grown(this[name], n);
    for (const name in DERIVED) this[name] = grown(this[name], n);
    const channels = this.colorModels.length;
    this.colors = grown(this.colors, channels * n);
    this.values = grown(this.values, channels * n);
  }

  // 9.3

  form(i) {
    const { rootStart, rootStep, ratioStep, angleStep } = this.lattice;
    const R = rootStart + this.size[i] * rootStep;
    const octaves = min(div(this.ratio[i] * ratioStep * 4096, R), 12 * 4096), f = octaves % 4096;
    const rho = (4096 + div(f * (2689 + div(1407 * f, 4096)), 4096)) * 2 ** (octaves >> 12);
    const turn = min(rho, 64 * 4096) - div(16777216, rho);
    this.area[i] = div(R * R, 4096);
    this.rho[i] = rho;
    this.iota[i] = div(16777216, rho);
    this.angles[i] = clamp(rounded(div(turn * R, 4096) * 12868, angleStep * 4096), 1, 1024);
    this.lean[i] = rho < 6000 ? 0 : rho < 12000 ? 1 : 2;
    return R;
  }

  covariance(rho, iota, angle, angles) {
    const t = div(angle * 4096, angles), p = (4 * t * (4096 - t)) >> 12;
    const sine = div(p * (3174 + ((922 * p) >> 12)), 4096), S = (sine * sine) >> 12, K = 4096 - S;
    const xy = div(root(S * K) * (rho - iota), 4096);
    this.cov[0] = max(1, div(rho * K + iota * S, 4096));
    this.cov[1] = 2 * t > 4096 ? -xy : xy;
    this.cov[2] = max(1, div(rho * S + iota * K, 4096));
  }

  direction(i) {
    return ((div(this.angle[i] * 1024, this.angles[i]) + 32) >> 6) & 15;
  }

  // 10.5

  shapes(coder, tree, back, allowed) {
    const [left, top, width, height] = this.box, { count, cells } = tree, seen = back + count;
    const k = max(2, (log2(max(1, div(width * height, seen))) + 1) >> 1);
    const columns = (width >> k) + 1, rows = (height >> k) + 1, z = div(256 * width * height, seen);
    const latest = new Int32Array(columns * rows).fill(-1);
    const square = (x, y) => (((y >> 4) - top) >> k) * columns + (((x >> 4) - left) >> k);
    this.reserve(this.count + count);
    for (let i = this.count - back; i < this.count; i++) latest[square(this.x[i] >> 6, this.y[i] >> 6)] = i;
    const d = tree.depth, unit = div(2304 * count, 2 ** (tree.columns[d] + tree.rows[d]));
    const room = max(1, div(256 * width * height, count));
    const found = { near: -1, next: -1, closeness: 0 };
    for (let first = 0; first < count; ) {
      const at = 8 * first, x = cells[at], y = cells[at + 1], w = cells[at + 2], h = cells[at + 3];
      const column = div((2 * (x - left) + w) * 2 ** tree.columns[d], 2 * width);
      const row = div((2 * (y - top) + h) * 2 ** tree.rows[d], 2 * height);
      let n = 0;
      for (let j = -1; j < 2; j++) for (let i = -1; i < 2; i++) n += tree.density(d, column + i, row + j);
      const density = min(15, halves(div(16 * n, unit)));
      const size = min(15, halves(div(4096 * w * h, room)));
      for (let left = cells[at + 4]; left > 0; left--, first++) {
        this.look(latest, columns, rows, k, 16 * x + 8 * w, 16 * y + 8 * h, z, found);
        this.shape(coder, x, y, w, h, density, size, found);
        coder.check(allowed);
        latest[square(this.x[this.count] >> 6, this.y[this.count] >> 6)] = this.count;
        this.sizes += this.size[this.count++];
      }
    }
  }

  /** The nearest two of those around. */
  look(latest, columns, rows, k, x, y, z, found) {
    const column = ((x >> 4) - this.box[0]) >> k, row = ((y >> 4) - this.box[1]) >> k;
    let near = -1, next = -1, best = Infinity, second = Infinity, number = 0;
    for (let ring = 1; ring < 3; ring++) {
      for (let j = max(-ring, -row); j <= min(ring, rows - 1 - row); j++) {
        for (let i = max(-ring, -column); i <= min(ring, columns - 1 - column); i++) {
          if (ring === 2 && i > -2 && i < 2 && j > -2 && j < 2) continue;
          const one = latest[(row + j) * columns + column + i];
          if (one < 0) continue;
          const dx = (this.x[one] >> 6) - x, dy = (this.y[one] >> 6) - y, q = dx * dx + dy * dy;
          number++;
          if (q < best) {
            next = near;
            second = best;
            near = one;
            best = q;
          } else if (q < second) {
            next = one;
            second = q;
          }
        }
      }
      if (number > 1) break;
    }
    found.near = near;
    found.next = next < 0 ? near : next;
    found.closeness = near < 0 || 4 * best < z ? 0 : best < z ? 1 : 2;
  }

  shape(coder, left, top, width, height, density, room, { near, next, closeness }) {
    const { rootStart, rootStep, placeStep } = this.lattice, alone = near < 0, at = this.count;
    const centre = at ? floor(this.sizes / at) : 20;
    let i = alone ? 8 : clamp(div(this.size[near] - centre + 24, 3), 0, 16);
    let j = alone ? 8 : clamp(div(this.size[near] + this.size[next] - 2 * centre + 40, 5), 0, 16);
    let model = this.sizeModel;
    model.set(0, min(this.level, 3));
    model.set(1, density);
    model.set(2, room);
    model.set(3, 3 * i + closeness);
    model.set(4, 4 * j + (density >> 2));
    const size = centre + model.signed(coder);
    if (size < 0 || rootStart + size * rootStep > 524288) throw new FormatError(`size: expected one in range, found ${size}`);
    this.size[at] = size;

    i = alone ? 15 : min(this.ratio[near], 14);
    j = alone ? 15 : min((this.ratio[near] + this.ratio[next]) >> 1, 14);
    const o = min(15, halves(size));
    model = this.ratioModel;
    model.set(0, o);
    model.set(1, density);
    model.set(2, 4 * i + (o >> 2));
    model.set(3, 4 * j + closeness);
    const ratio = model.unsigned(coder);
    if (ratio > 1048576) throw new FormatError(`ratio: expected at most 1048576, found ${ratio}`);
    this.ratio[at] = ratio;

    const R = this.form(at), angles = this.angles[at];
    model = this.angleModel;
    model.set(0, log2(angles));
    model.set(1, alone ? closeness : 9 * this.direction(near) + 3 * this.lean[near] + closeness);
    model.set(2, alone ? 0 : 3 * this.direction(next) + this.lean[next]);
    model.set(3, 0);
    let low = 0, high = angles, path = 1;
    while (high - low > 1) {
      if (path > 7) {
        low += coder.even(high - low);
        break;
      }
      const middle = (low + high) >> 1, b = model.bit(coder, path);
      if (b) low = middle;
      else high = middle;
      path = 2 * path + b;
    }
    const angle = (low + angles - (angles >> 4)) % angles;
    this.angle[at] = angle;

    this.covariance(this.rho[at], this.iota[at], angle, angles);
    const s = max(1, div(placeStep * R, 4096)), e = root(this.cov[2] * 4096);
    const columns = clamp(rounded(width * 4096, max(1, div(s * 4096, e))), 1, min(4096, 256 * width));
    const rows = clamp(rounded(height * 4096, max(1, div(s * e, 4096))), 1, min(4096, 256 * height));
    const r = coder.even(rows), c = coder.even(columns);
    this.y[at] = 1024 * top + div((2 * r + 1) * 1024 * height, 2 * rows);
    this.x[at] = 1024 * left + div((2 * c + 1) * 1024 * width, 2 * columns);
  }

  // 10.6

  paint(coder, earlier, back, allowed, cut) {
    const channels = this.colorModels.length, count = this.count - earlier;
    const loans = new Loans(this, earlier), sums = new Float64Array(channels), done = new Uint8Array(count);
    for (let i = earlier - back; i < earlier; i++) loans.lend(i, 0);
    for (let rank = 0, n = 0; rank < count; rank++) {
      const at = loans.order[rank];
      let error;
      try {
        error = this.color(coder, at, loans, loans.slots[rank], sums, n);
        coder.check(allowed);
      } catch (failure) {
        if (cut && failure instanceof FormatError && coder.taken > coder.payload.length) break;
        throw failure;
      }
      done[at - earlier] = 1;
      if (n < 65536) {
        n++;
        for (let c = 0; c < channels; c++) sums[c] += this.values[channels * at + c];
      }
      loans.remove(rank);
      loans.lend(at, div(error, channels));
    }
    const numbers = [];
    for (let i = 0; i < count; i++) if (done[i]) numbers.push(earlier + i);
    return numbers;
  }

  color(coder, at, loans, slot, sums, n) {
    const channels = this.colorModels.length, Q = loans.weight[slot];
    const confidence = min(15, halves(div(Q, 32))), s = min(15, halves(this.size[at]));
    const trouble = Q ? halves(4 * div(loans.error[slot], Q)) : 0;
    let p = 0, before = 0, error = 0;
    for (let c = 0; c < channels; c++) {
      const step = max(1, div(this.lattice.colorSteps[c] * 4096, this.area[at]));
      const most = min(16777216, div(17179869184, step));
      const usual = n ? rounded(sums[c], n * step) : rounded(32768, step);
      const expected = clamp(Q ? rounded(loans.values[channels * slot + c], Q * step) : usual, -most, most);
      const model = this.colorModels[c];
      model.set(0, confidence);
      model.set(1, s);
      model.set(2, Q ? clamp(trouble - halves(step), 0, 15) : 0);
      model.set(3, 3 * clamp(p + 4, 0, 8) + min(Math.abs(before), 2));
      model.set(4, clamp(div(usual - expected + 16, 4), 0, 8));
      const residual = model.signed(coder), symbol = expected + residual;
      if (symbol > most || symbol < -most) throw new FormatError(`colour: expected at most ${most}, found ${symbol}`);
      this.colors[channels * at + c] = symbol;
      this.values[channels * at + c] = symbol * step;
      before = p;
      p = residual;
      error += Math.abs(residual) * step;
    }
    return error;
  }

  // 9.4

  /** Writes the Gaussians of these numbers behind the first `start` of `to`: means, scales, rotations, colors. */
  put(numbers, to, start) {
    const { rootStart, rootStep, ratioStep, colorSteps, triples } = this.lattice, channels = colorSteps.length;
    for (const i of numbers) {
      const w = (rootStart + this.size[i] * rootStep) / 4096;
      const spread = 2 ** (min((this.ratio[i] * (ratioStep / 4096)) / w, 12) / 2);
      to.scales[2 * start] = w * w * spread;
      to.scales[2 * start + 1] = (w * w) / spread;
      to.rotations[start] = (this.angle[i] * Math.PI) / this.angles[i];
      to.means[2 * start] = this.x[i] / 1024;
      to.means[2 * start + 1] = this.y[i] / 1024;
      const parts = colorSteps.map((step, c) =>
        this.colors[channels * i + c] * (max(1, div(step * 4096, this.area[i])) / 65536));
      for (const c of triples) {
        const [l, m, n] = parts.slice(c, c + 3);
        parts[c] = l + m - (2 * n) / 3;
        parts[c + 1] = l + (4 * n) / 3;
        parts[c + 2] = l - m - (2 * n) / 3;
      }
      to.colors.set(parts, channels * start);
      start++;
    }
  }

  /** Rows x, y, size, ratio, angle, colours: what section 9.2 calls symbols. */
  symbols(numbers) {
    const channels = this.colorModels.length;
    return numbers.map((i) => [this.size[i], this.ratio[i], this.angle[i], this.x[i], this.y[i],
      ...this.colors.subarray(channels * i, channels * (i + 1))]);
  }
}

/**
 * Who waits where for a colour, and what was lent. Those of a square have slots side by side, in the order of colours:
 * from heads[square] on are those that wait.
 */
class Loans {
  constructor(block, earlier) {
    const [left, top, width, height] = block.box, count = block.count - earlier;
    this.block = block;
    this.visits = 256 * count;
    this.shift = max(2, ((log2(max(1, div(width * height, count))) + 1) >> 1) + 1);
    this.columns = (width >> this.shift) + 1;
    this.rows = (height >> this.shift) + 1;
    const keys = new Float64Array(count), squares = new Int32Array(count);
    for (let i = 0; i < count; i++) keys[i] = i - block.size[earlier + i] * 4294967296;
    keys.sort();
    const order = (this.order = new Int32Array(count)), heads = new Int32Array(this.columns * this.rows + 1);
    for (let rank = 0; rank < count; rank++) {
      const i = (order[rank] = earlier + (keys[rank] - floor(keys[rank] / 4294967296) * 4294967296));
      squares[rank] = this.row(block.y[i] >> 6) * this.columns + this.column(block.x[i] >> 6);
      heads[squares[rank]]++;
    }
    for (let s = 1; s < heads.length; s++) heads[s] += heads[s - 1];
    this.ends = heads.slice();
    this.slots = new Int32Array(count); // by rank
    this.x = new Int32Array(count);
    this.y = new Int32Array(count);
    for (let rank = count - 1; rank >= 0; rank--) {
      const slot = (this.slots[rank] = --heads[squares[rank]]);
      this.x[slot] = block.x[order[rank]] >> 6;
      this.y[slot] = block.y[order[rank]] >> 6;
    }
    this.heads = heads;
    this.squares = squares;
    this.weight = new Float64Array(count);
    this.error = new Float64Array(count);
    this.values = new Float64Array(block.colorModels.length * count);
  }

  column(x) {
    return ((x >> 4) - this.block.box[0]) >> this.shift;
  }

  row(y) {
    return ((y >> 4) - this.block.box[1]) >> this.shift;
  }

  remove(rank) {
    this.heads[this.squares[rank]]++;
  }

  lend(lender, lost) {
    if (this.visits < 0) return;
    const { block, heads, ends, weight, error, values } = this, channels = block.colorModels.length;
    const capped = block.rho[lender] > 262144, first = channels * lender;
    block.covariance(capped ? 262144 : block.rho[lender], capped ? 64 : block.iota[lender], block.angle[lender], block.angles[lender]);
    const xx = block.cov[0], xy = block.cov[1], yy = block.cov[2];
    const g = clamp(block.area[lender] >> 8, 1, 16384), square = g * g, unit = 2 ** (2 * log2(g) + 4);
    const reachX = min(16384, root(9 * div(square * xx, 4096))), reachY = min(16384, root(9 * div(square * yy, 4096)));
    const a = div(yy * unit, square), c = div(xx * unit, square), scale = 1 / (256 * unit);
    const b = 2 * div(Math.abs(xy) * unit, square) * (xy >= 0 ? -1 : 1);
    const x = block.x[lender] >> 6, y = block.y[lender] >> 6, column = this.column(x), row = this.row(y);
    const right = min(this.columns - 1, column + 8, this.column(x + reachX));
    const bottom = min(this.rows - 1, row + 8, this.row(y + reachY)), from = max(0, column - 8, this.column(x - reachX));
    for (let v = max(0, row - 8, this.row(y - reachY)); v <= bottom; v++) {
      for (let u = from; u <= right; u++) {
        const s = v * this.columns + u, head = heads[s], end = min(ends[s], head + 32);
        this.visits -= end - head + 1;
        if (this.visits < 0) return;
        for (let i = head; i < end; i++) {
          const dx = this.x[i] - x, dy = this.y[i] - y;
          if (dx > reachX || dx < -reachX || dy > reachY || dy < -reachY || weight[i] >= 65536) continue;
          const q = floor((a * dx * dx + b * dx * dy + c * dy * dy) * scale);
          if (q < 0 || q > 143) continue;
          const W = BELL[q];
          weight[i] += W;
          error[i] += W * lost;
          for (let n = 0; n < channels; n++) values[channels * i + n] += W * block.values[first + n];
        }
      }
    }
  }
}

/** Quantizer 0 and coding 0 (sections 7 and 8). */
class FixedDecoder {
  constructor(grid) {
    this.grid = grid;
  }

  decode(payload, count, cut = false) {
    const record = this.grid.widths.reduce((sum, width) => sum + width, 0);
    if (cut) count = min(count, div(8 * payload.length, record));
    this.rows = [];
    let at = 0;
    for (let i = 0; i < count; i++) {
      this.rows.push(this.grid.widths.map((width) => {
        let symbol = 0;
        for (let k = 0; k < width; k++, at++) symbol = 2 * symbol + ((payload[at >> 3] >> (7 - (at & 7))) & 1);
        return symbol;
      }));
    }
    if (!cut && at & 7 && payload[at >> 3] & (255 >> (at & 7))) {
      throw new FormatError('padding: expected zero bits at the end, found others');
    }
    return this.rows.map((_, i) => i);
  }

  put(numbers, to, start) {
    const { widths, position, scale, low, high } = this.grid, channels = low.length;
    const at = (from, till, width, symbol) => from + symbol * ((till - from) / (2 ** width - 1));
    const [first, last] = scale.map(Math.log);
    for (const i of numbers) {
      const row = this.rows[i];
      for (let k = 0; k < 2; k++) {
        to.means[2 * start + k] = at(position[k], position[k + 2], widths[0], row[k]);
        to.scales[2 * start + k] = Math.exp(at(first, last, widths[2], row[2 + k]));
      }
      to.rotations[start] = row[4] * (Math.PI * 2 ** -widths[4]);
      for (let c = 0; c < channels; c++) to.colors[channels * start + c] = at(low[c], high[c], widths[5], row[5 + c]);
      start++;
    }
  }

  symbols(numbers) {
    return numbers.map((i) => this.rows[i]);
  }
}

/**
 * The quantizer of a file, with the coding that goes with it.
 *
 * @param {number} number of both, as the header has it
 * @param {Uint8Array} data the quantizer's parameters
 * @param {number} channels
 * @param {(data: Uint8Array, where: string) => object} fieldsOf takes fields off bytes
 * @returns {{number, lengths: (count: number) => [number, number], decoder: (box: number[]) => object}}
 */
export function readQuantizer(number, data, channels, fieldsOf) {
  if (number === 0) {
    const grid = readGrid(data, channels), record = grid.widths.reduce((sum, width) => sum + width, 0);
    const length = (count) => div(count * record + 7, 8);
    return { number, lengths: (count) => [length(count), length(count)], decoder: () => new FixedDecoder(grid) };
  }
  if (number !== 1) throw new FormatError(`quantizer: expected 0 or 1, found ${number}`);
  const lattice = readLattice(fieldsOf(data, 'quantizer 1'), channels);
  return { number, lengths: (count) => [div(count + 511, 512), Infinity], decoder: (box) => new ContextDecoder(lattice, box) };
}

function readGrid(data, channels) {
  if (data.length !== 28 + 8 * channels) {
    throw new FormatError(`quantizer's parameters: expected ${28 + 8 * channels} bytes, found ${data.length}`);
  }
  const view = new DataView(data.buffer, data.byteOffset), floats = [];
  for (let at = 4; at < data.length; at += 4) floats.push(view.getFloat32(at, true));
  const [position, scale, color, rotation] = [data[0], data[1], data[3], data[2]];
  const low = floats.slice(6, 6 + channels), high = floats.slice(6 + channels);
  for (const width of data.subarray(0, 4)) {
    if (width < 4 || width > 32) throw new FormatError(`bits: expected 4 to 32, found ${width}`);
  }
  const ordered = (a, b) => Number.isFinite(a) && Number.isFinite(b) && a <= b;
  const pairs = [[floats[0], floats[2]], [floats[1], floats[3]], [floats[4], floats[5]], ...low.map((a, c) => [a, high[c]])];
  const bad = pairs.find(([a, b]) => !ordered(a, b));
  if (bad) throw new FormatError(`range: expected finite low <= high, found ${bad.join(' to ')}`);
  if (floats[4] <= 0) throw new FormatError(`scale range: expected positive numbers, found ${floats[4]}`);
  const widths = [position, position, scale, scale, rotation, ...Array(channels).fill(color)];
  return { widths, position: floats.slice(0, 4), scale: floats.slice(4, 6), low, high };
}

function readLattice(fields, channels) {
  const limits = [[512, 524288], ...Array(4).fill([1, 1048576]), ...Array(channels).fill([1, 16777216])];
  const values = limits.map(([low, high], k) => {
    const value = fields.varint('steps');
    if (value < low || value > high) throw new FormatError(`quantizer 1: step ${k}: expected ${low} to ${high}, found ${value}`);
    return value;
  });
  const mask = fields.varint('steps'), triples = [];
  fields.finish(false);
  for (let c = 0; c < 32; c++) if ((mask >>> c) & 1) triples.push(c);
  if (triples.some((c, k) => c + 3 > channels || (k && c < triples[k - 1] + 3))) {
    throw new FormatError(`quantizer 1: expected triples within ${channels} channels that do not overlap, found the mask ${mask}`);
  }
  const [rootStart, rootStep, ratioStep, placeStep, angleStep, ...colorSteps] = values;
  return { rootStart, rootStep, ratioStep, placeStep, angleStep, colorSteps, triples };
}
