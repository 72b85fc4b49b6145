/**
 * Payloads of a .gsimg file, symbols and numbers: sections 7 to 10 of docs/format.md, whose names are used here.
 *
 * All arithmetic on integers stays below 2^53, as that text promises, so doubles are exact; so is the floor of a quotient.
 */

/** No writer of the format made this. `kind`: format, version, checksum or truncated. */
export class FormatError extends Error {
  constructor(message, kind = 'format') {
    super(message);
    this.name = 'FormatError';
    this.kind = kind;
  }
}

export function fail(message, kind) {
  throw new FormatError(message, kind);
}

const { floor, max, min, sqrt, abs } = Math;
const div = (a, b) => floor(a / b);
const rounded = (a, b) => floor((2 * a + b) / (2 * b));
const clamp = (v, low, high) => (v < low ? low : v > high ? high : v);
const log2 = (v) => (v < 4294967296 ? (v < 1 ? 0 : 31 - Math.clz32(v)) : 32 + log2(div(v, 4294967296)));
const root = (v) => floor(sqrt(v));
const halves = (v) => {
  if (v < 1 || v >= 1073741824) return v < 1 ? 0 : 60;
  const e = 31 - Math.clz32(v);
  return 2 * e + (v > Math.SQRT2 * (1 << e) ? 1 : 0);
};
const table = (Kind, length, of) => Kind.from({ length }, (_, k) => of(k));

/** The array itself if it holds n numbers, else a longer one with the same beginning. */
export function grown(array, n) {
  if (n <= array.length) return array;
  const longer = new array.constructor(max(n, 2 * array.length));
  longer.set(array);
  return longer;
}

// 10.2

const LOGISTIC = [
  22, 36, 60, 98, 162, 267, 439, 720, 1179, 1921, 3108, 4971, 7812, 11955, 17625, 24743, 32768, 40793, 47911, 53581,
  57724, 60565, 62428, 63615, 64357, 64816, 65097, 65269, 65374, 65438, 65476, 65500, 65514,
];
const SQUASH = table(Uint16Array, 4095, (at) => {
  const i = (at + 1) >> 7, f = (at + 1) & 127;
  return (LOGISTIC[i] * (128 - f) + LOGISTIC[i + 1] * f + 64) >> 7;
});
let logit = 0;
const STRETCH = table(Int16Array, 4096, (j) => {
  while (logit < 4094 && SQUASH[logit] < 16 * j) logit++;
  return logit - 2047;
});
const RATE = table(Int32Array, 61, (n) => div(32768, n + 2));
const BELL = table(Float64Array, 144, (q) => div(4096 * 196608, 196608 + 6144 * q + 96 * q * q + q * q * q));

/** A counter is 64 p + n. */
function makeModel(nodes, ...contexts) {
  const k = contexts.length, starts = contexts.map((_, i) => nodes * contexts.slice(0, i).reduce((sum, n) => sum + n, 0));
  const counters = new Int32Array(nodes * contexts.reduce((sum, n) => sum + n)).fill(32768 << 6);
  const weights = new Int16Array(k * nodes).fill(div(32768, k + 5));
  return { k, nodes, starts, tops: contexts.map((n) => n - 1), rows: new Int32Array(5), logits: new Int32Array(5), weights, counters };
}

/** Sets the contexts of the next symbol. */
function see({ k, nodes, starts, tops, rows }, a, b, c, d, e) {
  rows[0] = starts[0] + nodes * min(a, tops[0]);
  rows[1] = starts[1] + nodes * min(b, tops[1]);
  rows[2] = starts[2] + nodes * min(c, tops[2]);
  rows[3] = starts[3] + nodes * min(d, tops[3]);
  if (k > 4) rows[4] = starts[4] + nodes * min(e, tops[4]);
}

/** Sections 10.1 to 10.3. The range and the value are kept in an array of their own, where they are not boxed. */
function rangeDecoder(payload) {
  const state = Uint32Array.of(16777216, 0);
  let taken = 0;
  const next = () => (taken++ < payload.length ? payload[taken - 1] : 0);
  for (let k = 0; k < 3; k++) state[1] = state[1] * 256 + next();

  function normalize() {
    for (; state[0] < 16777216; state[0] *= 256) state[1] = state[1] * 256 + next();
  }

  function bit({ k, weights, counters, rows, logits }, node) {
    const at = node * k, range = state[0], value = state[1];
    let sum = 0;
    for (let i = 0; i < k; i++) {
      logits[i] = STRETCH[counters[rows[i] + node] >> 10];
      sum += weights[at + i] * logits[i];
    }
    sum >>= 14;
    const m = SQUASH[sum < -2047 ? 0 : sum > 2047 ? 4094 : sum + 2047];
    const bound = (Math.imul(range >>> 16, m) + (Math.imul(range & 65535, m) >>> 16)) >>> 0;
    const b = value < bound ? 1 : 0, target = b ? 65535 : 0, e = ((target - m) * 14) >> 7;
    state[0] = b ? bound : range - bound;
    if (!b) state[1] = value - bound;
    for (let i = 0; i < k; i++) {
      const weight = weights[at + i] + ((((16 * logits[i] * e) >> 16) + 1) >> 1);
      weights[at + i] = weight < -32768 ? -32768 : weight > 32767 ? 32767 : weight;
      const c = counters[rows[i] + node], n = c & 63, p = c >> 6;
      counters[rows[i] + node] = ((p + (((target - p) * RATE[n]) >> 15)) << 6) | (n < 60 ? n + 1 : n);
    }
    if (state[0] < 16777216) normalize();
    return b;
  }

  function even(n) {
    const share = floor(state[0] / n), v = min(floor(state[1] / share), n - 1);
    state[1] -= share * v;
    state[0] = v === n - 1 ? state[0] - share * v : share;
    if (state[0] < 16777216) normalize();
    return v;
  }

  function raw(k) {
    let found = 0;
    for (; k > 0; k -= 12) found = found * (1 << min(k, 12)) + even(1 << min(k, 12));
    return found;
  }

  function any(n) {
    if (n <= 4096) return even(n);
    const unit = 2 ** (log2(n - 1) - 11), h = even(div(n - 1, unit) + 1);
    return min(h * unit + raw(log2(unit)), n - 1);
  }

  function magnitude(model) {
    let e = 0;
    while (e < 26 && bit(model, 2 + 2 * min(e, 11))) e++;
    if (!e) return 1;
    const t = bit(model, 3 + 2 * min(e, 11));
    return (2 + t) * 2 ** (e - 1) + raw(e - 1);
  }

  const unsigned = (model) => (bit(model, 0) ? magnitude(model) : 0);
  const signed = (model) => (bit(model, 0) ? (bit(model, 1) ? -magnitude(model) : magnitude(model)) : 0);
  const past = () => taken - payload.length;
  const check = (allowed) => past() > allowed && fail('payload: expected more bytes, found its end');
  return { bit, even, any, unsigned, signed, past, check };
}

const share = (a, b) => (a + b <= 0 ? 3 : min(6, floor((7 * a) / (a + b))));

function split({ bit, any }, model, n) {
  let low = 0, high = n, path = 1;
  while (low < high) {
    if (n > 8 && path > 7) return low + any(high - low + 1);
    const middle = floor((low + high) / 2);
    const b = bit(model, n > 8 ? 35 + 8 * min(log2(n) - 3, 3) + path : (n * (n - 1)) / 2 - 1 + middle);
    if (b) low = middle + 1;
    else high = middle;
    path = 2 * path + b;
  }
  return low;
}

/**
 * Section 10.4: cells {cells, columns, rows, density, depth} of a level. A cell has the eight numbers x, y, width, height,
 * Gaussians, first, column, row at 8 * first.
 */
function readTree(coder, model, [x, y, width, height], count, allowed) {
  const columns = [0], rows = [0], densities = [Float64Array.of(256 * count)], cells = new Int32Array(8 * count);
  let boxes = Int32Array.of(x, y, width, height, count, 0, 0, 0);

  const density = (depth, column, row) =>
    (column | row) < 0 || column >> columns[depth] || row >> rows[depth] ? 0
      : densities[depth][(row << columns[depth]) + column];

  /** Of the next depth, as long as nothing is known but those of this one. */
  function keep(of, a, alongX) {
    if (!of || 2 * of.length > 4 * (count + 16)) return;
    const found = new Float64Array(2 * of.length);
    for (let at = 0; at < of.length; at++) {
      const first = alongX ? 2 * at : at + ((at >> a) << a);
      found[first] = found[first + (alongX ? 1 : 1 << a)] = floor(of[at] / 2);
    }
    densities.push(found);
  }

  function look(depth, n, column, row, alongX) {
    let before = 3, beside = 3, around = 3;
    if (depth < densities.length) {
      const dx = alongX ? 1 : 0, dy = 1 - dx, after = density(depth, column + dx, row + dy), next = depth + 1;
      before = share(density(depth, column - dx, row - dy), after);
      if (next < densities.length) {
        const u = column * (1 + dx), v = row * (1 + dy);
        beside = share(density(next, u - dy, v - dx), density(next, u - dy + dx, v - dx + dy));
        around = share(2 * density(next, u - dx, v - dy), after);
      }
    }
    const g = 7 * (min(n, 9) - 2);
    see(model, 0, g + around, g + beside, 7 * before + beside);
  }

  for (let depth = 0; boxes.length; depth++) {
    const a = columns[depth], b = rows[depth], wide = width >> a, high = height >> b, alongX = wide >= high;
    const halved = count > 1 && (wide >= 4 || high >= 4), side = alongX ? 2 : 3, below = new Int32Array(2 * boxes.length);
    if (halved) {
      columns.push(a + (alongX ? 1 : 0));
      rows.push(b + (alongX ? 0 : 1));
      keep(densities[depth], a, alongX);
    }
    const kept = densities[depth + 1];
    let end = 0;
    for (let at = 0; at < boxes.length; at += 8) {
      const all = boxes[at + 4], place = boxes[at + 5], column = boxes[at + 6], row = boxes[at + 7];
      if (!halved || all < 2) {
        cells.set(boxes.subarray(at, at + 8), 8 * place);
        continue;
      }
      look(depth, all, column, row, alongX);
      const n = split(coder, model, all), first = boxes[at + side] >> 1;
      coder.check(allowed);
      for (let half = 0; half < 2; half++) {
        const own = half ? all - n : n, u = alongX ? 2 * column + half : column, v = alongX ? row : 2 * row + half;
        if (kept) kept[(v << columns[depth + 1]) + u] = 256 * own;
        if (!own) continue;
        for (let k = 0; k < 4; k++) below[end + k] = boxes[at + k];
        below[end + side] = half ? boxes[at + side] - first : first;
        if (half) below[end + side - 2] += first;
        below[end + 4] = own;
        below[end + 5] = place + (half ? n : 0);
        below[end + 6] = u;
        below[end + 7] = v;
        end += 8;
      }
    }
    boxes = below.subarray(0, end);
  }
  let depth = 0;
  while (depth + 1 < densities.length && 4 * densities[depth + 1].length <= count) depth++;
  return { cells, columns: columns[depth], rows: rows[depth], density: (column, row) => density(depth, column, row) };
}

/** All levels of a block in coding 1, one after the other; their Gaussians are numbered on and on. */
function contextDecoder({ rootStart, rootStep, ratioStep, placeStep, angleStep, colorSteps, triples }, box) {
  const [left, top, width, height] = box, channels = colorSteps.length, area = width * height, cov = new Float64Array(3);
  const splits = makeModel(67, 1, 56, 56, 49), sizeModel = makeModel(26, 4, 16, 16, 51, 68);
  const ratioModel = makeModel(26, 16, 16, 64, 64), angleModel = makeModel(8, 11, 144, 48, 1);
  const colorModels = colorSteps.map(() => makeModel(26, 16, 16, 16, 27, 9));
  const ints = () => new Int32Array(0);
  let size = ints(), ratio = ints(), angle = ints(), xs = ints(), ys = ints(), colors = ints(); // symbols
  let areas = ints(), rhos = ints(), angles = ints(), values = new Float64Array(0); // A, ρ; colours times their steps
  let total = 0, level = 0, sizes = 0;

  /** Numbers of the next level's Gaussians that are whole: all of them, but for a payload that was cut. */
  function decode(payload, count, cut = false) {
    if (!count) return [];
    if (8 * payload.length < count) {
      if (cut) return [];
      fail(`expected at least ${div(count + 7, 8)} bytes, found ${payload.length}`);
    }
    const coder = rangeDecoder(payload), allowed = cut ? 0 : 4, earlier = total, back = min(earlier, 16 * count + 1024);
    reserve(earlier + count);
    try {
      readShapes(coder, readTree(coder, splits, box, count, allowed), count, back, allowed);
    } catch (error) {
      if (cut && error instanceof FormatError && coder.past() > 0) return [];
      throw error;
    }
    const done = readColors(coder, earlier, back, allowed, cut);
    level++;
    return done;
  }

  function reserve(n) {
    [size, ratio, angle, xs, ys, areas, rhos, angles] = [size, ratio, angle, xs, ys, areas, rhos, angles].map((array) => grown(array, n));
    colors = grown(colors, channels * n);
    values = grown(values, channels * n);
  }

  // 9.3

  /** What follows from size and ratio; R. */
  function form(i) {
    const R = rootStart + size[i] * rootStep, octaves = min(div(ratio[i] * ratioStep * 4096, R), 12 * 4096), f = octaves & 4095;
    const rho = (4096 + floor((f * (2689 + ((1407 * f) >> 12))) / 4096)) * (1 << (octaves >> 12));
    const turn = min(rho, 64 * 4096) - div(16777216, rho);
    areas[i] = div(R * R, 4096);
    rhos[i] = rho;
    angles[i] = clamp(rounded(div(turn * R, 4096) * 12868, angleStep * 4096), 1, 1024);
    return R;
  }

  function covariance(i, rho) {
    const iota = floor(16777216 / rho), t = floor((angle[i] * 4096) / angles[i]), p = (4 * t * (4096 - t)) >> 12;
    const sine = (p * (3174 + ((922 * p) >> 12))) >> 12, S = (sine * sine) >> 12, K = 4096 - S;
    const xy = floor((root(S * K) * (rho - iota)) / 4096);
    cov[0] = max(1, floor((rho * K + iota * S) / 4096));
    cov[1] = 2 * t > 4096 ? -xy : xy;
    cov[2] = max(1, floor((rho * S + iota * K) / 4096));
  }

  const stepOf = (c, i) => max(1, floor((colorSteps[c] * 4096) / areas[i]));
  /** Three times the direction, plus the lean. */
  const course = (i) =>
    3 * (((floor((angle[i] * 1024) / angles[i]) + 32) >> 6) & 15) + (rhos[i] < 6000 ? 0 : rhos[i] < 12000 ? 1 : 2);

  // 10.5

  function readShapes(coder, { cells, columns, rows, density }, count, back, allowed) {
    const seen = back + count, k = max(2, (log2(max(1, div(area, seen))) + 1) >> 1), z = div(256 * area, seen);
    const wide = (width >> k) + 1, high = (height >> k) + 1, latest = new Int32Array(wide * high).fill(-1);
    const put = (i) => (latest[(((ys[i] >> 10) - top) >> k) * wide + (((xs[i] >> 10) - left) >> k)] = i);
    const unit = div(2304 * count, 2 ** (columns + rows)), room = max(1, div(256 * area, count));
    let near, next, closeness;

    /** The nearest two of those around a place, 1/16 px. */
    function look(x, y) {
      const column = ((x >> 4) - left) >> k, row = ((y >> 4) - top) >> k;
      let best = Infinity, second = Infinity;
      near = next = -1;
      for (let ring = 1; ring < 3 && next < 0; ring++) {
        const end = min(column + ring, wide - 1), bottom = min(row + ring, high - 1);
        for (let v = max(row - ring, 0); v <= bottom; v++) {
          for (let u = max(column - ring, 0); u <= end; u++) {
            const one = latest[v * wide + u];
            if (one < 0 || (ring > 1 && abs(u - column) < 2 && abs(v - row) < 2)) continue;
            const dx = (xs[one] >> 6) - x, dy = (ys[one] >> 6) - y, q = dx * dx + dy * dy;
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
      }
      if (next < 0) next = near;
      closeness = near < 0 || 4 * best < z ? 0 : best < z ? 1 : 2;
    }

    function readShape(x, y, w, h, dense, roomy) {
      const at = total, alone = near < 0, centre = at ? floor(sizes / at) : 20;
      let i = alone ? 8 : clamp(floor((size[near] - centre + 24) / 3), 0, 16);
      let j = alone ? 8 : clamp(floor((size[near] + size[next] - 2 * centre + 40) / 5), 0, 16);
      see(sizeModel, min(level, 3), dense, roomy, 3 * i + closeness, 4 * j + (dense >> 2));
      const own = (size[at] = centre + coder.signed(sizeModel)), o = min(15, halves(own));
      if (own < 0 || rootStart + own * rootStep > 524288) fail(`size: expected one in range, found ${own}`);

      i = alone ? 15 : min(ratio[near], 14);
      j = alone ? 15 : min((ratio[near] + ratio[next]) >> 1, 14);
      see(ratioModel, o, dense, 4 * i + (o >> 2), 4 * j + closeness);
      ratio[at] = coder.unsigned(ratioModel);
      if (ratio[at] > 1048576) fail(`ratio: expected at most 1048576, found ${ratio[at]}`);

      const R = form(at), n = angles[at];
      see(angleModel, log2(n), alone ? closeness : 3 * course(near) + closeness, alone ? 0 : course(next), 0);
      let low = 0, rest = n;
      for (let path = 1; rest > low + 1; ) {
        if (path > 7) {
          low += coder.even(rest - low);
          break;
        }
        const middle = (low + rest) >> 1, b = coder.bit(angleModel, path);
        if (b) low = middle;
        else rest = middle;
        path = 2 * path + b;
      }
      angle[at] = (low + n - (n >> 4)) % n;

      covariance(at, rhos[at]);
      const s = max(1, div(placeStep * R, 4096)), e = root(cov[2] * 4096);
      const across = clamp(rounded(w * 4096, max(1, div(s * 4096, e))), 1, min(4096, 256 * w));
      const down = clamp(rounded(h * 4096, max(1, div(s * e, 4096))), 1, min(4096, 256 * h));
      ys[at] = 1024 * y + div((2 * coder.even(down) + 1) * 1024 * h, 2 * down);
      xs[at] = 1024 * x + div((2 * coder.even(across) + 1) * 1024 * w, 2 * across);
    }

    for (let i = total - back; i < total; i++) put(i);
    for (let first = 0; first < count; ) {
      const at = 8 * first, x = cells[at], y = cells[at + 1], w = cells[at + 2], h = cells[at + 3];
      const column = div((2 * (x - left) + w) * 2 ** columns, 2 * width), row = div((2 * (y - top) + h) * 2 ** rows, 2 * height);
      let n = 0;
      for (let k = 0; k < 9; k++) n += density(column - 1 + (k % 3), row - 1 + div(k, 3));
      const dense = min(15, halves(div(16 * n, unit))), roomy = min(15, halves(div(4096 * w * h, room)));
      for (const end = first + cells[at + 4]; first < end; first++) {
        look(16 * x + 8 * w, 16 * y + 8 * h);
        readShape(x, y, w, h, dense, roomy);
        coder.check(allowed);
        put(total);
        sizes += size[total++];
      }
    }
  }

  // 10.6

  function readColors(coder, earlier, back, allowed, cut) {
    const count = total - earlier, sums = new Float64Array(channels), done = new Uint8Array(count), numbers = [];
    const { order, slots, lend, remove, weight, errors, lent } = makeLoans(earlier, count);

    /** The residuals' weighted sum. */
    function readColor(at, slot, n) {
      const Q = weight[slot], confidence = min(15, halves(div(Q, 32))), s = min(15, halves(size[at]));
      const trouble = Q ? halves(4 * div(errors[slot], Q)) : 0;
      let p = 0, before = 0, error = 0;
      for (let c = 0; c < channels; c++) {
        const step = stepOf(c, at), most = min(16777216, div(17179869184, step)), model = colorModels[c];
        const usual = n ? rounded(sums[c], n * step) : rounded(32768, step);
        const expected = clamp(Q ? rounded(lent[channels * slot + c], Q * step) : usual, -most, most);
        see(model, confidence, s, Q ? clamp(trouble - halves(step), 0, 15) : 0,
          3 * clamp(p + 4, 0, 8) + min(abs(before), 2), clamp(floor((usual - expected + 16) / 4), 0, 8));
        before = p;
        p = coder.signed(model);
        const symbol = (colors[channels * at + c] = expected + p);
        if (abs(symbol) > most) fail(`colour: expected at most ${most}, found ${symbol}`);
        values[channels * at + c] = symbol * step;
        error += abs(p) * step;
      }
      return error;
    }

    for (let i = earlier - back; i < earlier; i++) lend(i, 0);
    for (let rank = 0; rank < count; rank++) {
      const at = order[rank];
      let error;
      try {
        error = readColor(at, slots[rank], min(rank, 65536));
        coder.check(allowed);
      } catch (failure) {
        if (cut && failure instanceof FormatError && coder.past() > 0) break;
        throw failure;
      }
      done[at - earlier] = 1;
      if (rank < 65536) for (let c = 0; c < channels; c++) sums[c] += values[channels * at + c];
      remove(rank);
      lend(at, div(error, channels));
    }
    for (let i = 0; i < count; i++) if (done[i]) numbers.push(earlier + i);
    return numbers;
  }

  /**
   * Who waits where for a colour, and what was lent. Those of a square have slots side by side, in the order of colours:
   * from heads[square] on are those that wait.
   */
  function makeLoans(earlier, count) {
    const shift = max(2, ((log2(max(1, div(area, count))) + 1) >> 1) + 1);
    const wide = (width >> shift) + 1, high = (height >> shift) + 1, heads = new Int32Array(wide * high + 1);
    const [order, squares, slots, X, Y] = [0, 0, 0, 0, 0].map(() => new Int32Array(count));
    const weight = new Float64Array(count), errors = new Float64Array(count), lent = new Float64Array(channels * count);
    const columnOf = (x) => ((x >> 4) - left) >> shift, rowOf = (y) => ((y >> 4) - top) >> shift;
    const keys = new Float64Array(count);
    let visits = 256 * count;
    for (let i = 0; i < count; i++) keys[i] = i - size[earlier + i] * 4294967296;
    keys.sort().forEach((key, rank) => {
      const i = (order[rank] = earlier + key - floor(key / 4294967296) * 4294967296);
      heads[(squares[rank] = rowOf(ys[i] >> 6) * wide + columnOf(xs[i] >> 6))]++;
    });
    for (let s = 1; s < heads.length; s++) heads[s] += heads[s - 1];
    const ends = heads.slice();
    for (let rank = count - 1; rank >= 0; rank--) {
      const slot = (slots[rank] = --heads[squares[rank]]);
      X[slot] = xs[order[rank]] >> 6;
      Y[slot] = ys[order[rank]] >> 6;
    }

    function lend(lender, error) {
      if (visits < 0) return;
      covariance(lender, min(rhos[lender], 262144));
      const g = clamp(areas[lender] >> 8, 1, 16384), square = g * g, unit = 2 ** (2 * log2(g) + 4), first = channels * lender;
      const reachX = min(16384, root(9 * floor((square * cov[0]) / 4096))), reachY = min(16384, root(9 * floor((square * cov[2]) / 4096)));
      const a = floor((cov[2] * unit) / square), c = floor((cov[0] * unit) / square), scale = 1 / (256 * unit);
      const b = 2 * floor((abs(cov[1]) * unit) / square) * (cov[1] >= 0 ? -1 : 1);
      const x = xs[lender] >> 6, y = ys[lender] >> 6, column = columnOf(x), row = rowOf(y);
      const right = min(wide - 1, column + 8, columnOf(x + reachX)), bottom = min(high - 1, row + 8, rowOf(y + reachY));
      const from = max(0, column - 8, columnOf(x - reachX));
      for (let v = max(0, row - 8, rowOf(y - reachY)); v <= bottom; v++) {
        for (let u = from; u <= right; u++) {
          const s = v * wide + u, head = heads[s], end = min(ends[s], head + 32);
          visits -= end - head + 1;
          if (visits < 0) return;
          for (let i = head; i < end; i++) {
            const dx = X[i] - x, dy = Y[i] - y;
            if (dx > reachX || dx < -reachX || dy > reachY || dy < -reachY || weight[i] >= 65536) continue;
            const q = floor((a * dx * dx + b * dx * dy + c * dy * dy) * scale);
            if (q < 0 || q > 143) continue;
            const W = BELL[q];
            weight[i] += W;
            errors[i] += W * error;
            for (let n = 0; n < channels; n++) lent[channels * i + n] += W * values[first + n];
          }
        }
      }
    }

    return { order, slots, lend, remove: (rank) => heads[squares[rank]]++, weight, errors, lent };
  }

  // 9.4

  /** Writes the Gaussians of these numbers behind the first `start` of `to`: means, scales, rotations, colors. */
  function put(numbers, { means, scales, rotations, colors: out }, start) {
    for (const i of numbers) {
      const w = (rootStart + size[i] * rootStep) / 4096, at = channels * start;
      const spread = 2 ** (min((ratio[i] * (ratioStep / 4096)) / w, 12) / 2);
      scales[2 * start] = w * w * spread;
      scales[2 * start + 1] = (w * w) / spread;
      rotations[start] = (angle[i] * Math.PI) / angles[i];
      means[2 * start] = xs[i] / 1024;
      means[2 * start + 1] = ys[i] / 1024;
      const parts = colorSteps.map((_, c) => colors[channels * i + c] * (stepOf(c, i) / 65536));
      for (const c of triples) {
        const [l, m, n] = parts.slice(c, c + 3);
        parts[c] = l + m - (2 * n) / 3;
        parts[c + 1] = l + (4 * n) / 3;
        parts[c + 2] = l - m - (2 * n) / 3;
      }
      out.set(parts, at);
      start++;
    }
  }

  const symbol = (i) => [size[i], ratio[i], angle[i], xs[i], ys[i], ...colors.subarray(channels * i, channels * (i + 1))];
  return { decode, put, symbol };
}

/** Quantizer 0 and coding 0 (sections 7 and 8). */
function fixedDecoder({ widths, floats, channels }) {
  const rows = [], between = (k, far, width, symbol) => floats[k] + symbol * ((floats[k + far] - floats[k]) / (2 ** width - 1));
  const [first, last] = [Math.log(floats[4]), Math.log(floats[5])];

  function decode(payload, count, cut = false) {
    const before = rows.length, record = widths.reduce((sum, width) => sum + width);
    if (cut) count = min(count, div(8 * payload.length, record));
    let at = 0;
    for (let i = 0; i < count; i++) {
      rows.push(widths.map((width) => {
        let symbol = 0;
        for (; width > 0; width--, at++) symbol = 2 * symbol + ((payload[at >> 3] >> (7 - (at & 7))) & 1);
        return symbol;
      }));
    }
    if (!cut && at & 7 && payload[at >> 3] & (255 >> (at & 7))) fail('padding: expected zero bits, found others');
    return table(Array, count, (i) => before + i);
  }

  function put(numbers, { means, scales, rotations, colors }, start) {
    for (const i of numbers) {
      const row = rows[i];
      for (let k = 0; k < 2; k++) {
        means[2 * start + k] = between(k, 2, widths[0], row[k]);
        scales[2 * start + k] = Math.exp(first + row[2 + k] * ((last - first) / (2 ** widths[2] - 1)));
      }
      rotations[start] = row[4] * (Math.PI * 2 ** -widths[4]);
      for (let c = 0; c < channels; c++) colors[channels * start + c] = between(6 + c, channels, widths[5], row[5 + c]);
      start++;
    }
  }

  return { decode, put, symbol: (i) => rows[i] };
}

/**
 * The quantizer of a file, with the coding that goes with it: {lengths: least and most bytes of so many Gaussians, decoder:
 * of a block}. `fields` takes the quantizer's parameters off their bytes.
 */
export function readQuantizer(number, fields, channels) {
  if (number === 0) {
    const grid = readGrid(fields.data, channels), record = grid.widths.reduce((sum, width) => sum + width);
    return { lengths: (count) => Array(2).fill(div(count * record + 7, 8)), decoder: () => fixedDecoder(grid) };
  }
  if (number !== 1) fail(`quantizer: expected 0 or 1, found ${number}`);
  const lattice = readLattice(fields, channels);
  return { lengths: (count) => [div(count + 511, 512), Infinity], decoder: (box) => contextDecoder(lattice, box) };
}

function readGrid(data, channels) {
  const length = 28 + 8 * channels, view = new DataView(data.buffer, data.byteOffset), [position, scale, rotation, color] = data;
  if (data.length !== length) fail(`quantizer's parameters: expected ${length} bytes, found ${data.length}`);
  const floats = table(Array, 6 + 2 * channels, (k) => view.getFloat32(4 + 4 * k, true));
  const bad = data.subarray(0, 4).find((width) => width < 4 || width > 32);
  if (bad !== undefined) fail(`bits: expected 4 to 32, found ${bad}`);
  const pairs = [[0, 2], [1, 3], [4, 5], ...table(Array, channels, (c) => [6 + c, 6 + channels + c])];
  for (const [low, high] of pairs.map((pair) => pair.map((k) => floats[k]))) {
    if (!(abs(low) < Infinity && low <= high && high < Infinity)) fail(`range: expected finite low <= high, found ${low} to ${high}`);
  }
  if (floats[4] <= 0) fail(`scale range: expected positive numbers, found ${floats[4]}`);
  return { widths: [position, position, scale, scale, rotation, ...Array(channels).fill(color)], floats, channels };
}

function readLattice(fields, channels) {
  const limits = [[512, 524288], ...Array(4).fill([1, 1048576]), ...Array(channels).fill([1, 16777216])];
  const [rootStart, rootStep, ratioStep, placeStep, angleStep, ...colorSteps] = limits.map(([low, high]) => {
    const value = fields.varint('steps');
    if (value < low || value > high) fail(`quantizer 1: steps: expected ${low} to ${high}, found ${value}`);
    return value;
  });
  const mask = fields.varint('steps'), triples = table(Array, 32, (c) => c).filter((c) => (mask >>> c) & 1);
  fields.finish(false);
  if (triples.some((c, k) => c + 3 > channels || c < triples[k - 1] + 3)) {
    fail(`quantizer 1: expected triples within ${channels} channels that do not overlap, found the mask ${mask}`);
  }
  return { rootStart, rootStep, ratioStep, placeStep, angleStep, colorSteps, triples };
}
