/**
 * A .gsimg file read as its bytes come (docs/format.md); for a page, a Worker or Node.
 *
 *     const decoder = new Decoder();
 *     for await (const bytes of stream) if (decoder.push(bytes)) draw(decoder);
 *     decoder.finish();
 */
import { FormatError, fail, grown, readQuantizer } from './coding.js';

export { FormatError };

const SIGNATURE = [0x89, 0x47, 0x53, 0x49, 13, 10, 26, 10];
const BLENDS = ['normalized', 'topk', 'sum'];
const MODES = { L: [1, 8, 16], LA: [2, 8, 16, 32], RGB: [3, 8, 16, 32], RGBA: [4, 8, 16, 32], F: [1, 32] };

const CRC = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? (n >>> 1) ^ 0x82f63b78 : n >>> 1;
  return n;
});

/** CRC-32C of bytes. */
export function checksum(data) {
  let c = -1;
  for (let at = 0; at < data.length; at++) c = (c >>> 8) ^ CRC[(c ^ data[at]) & 255];
  return ~c >>> 0;
}

const hex = (value) => value.toString(16).toUpperCase().padStart(8, '0');

function check(where, expected, found) {
  if (expected !== found) {
    fail(`${where}: CRC-32C: expected ${hex(expected)}, found ${hex(found)}: the bytes were altered`, 'checksum');
  }
}

function within(where, value, low, high) {
  if (!(value >= low && value <= high)) fail(`${where}: expected ${low} to ${high}, found ${value}`);
  return value;
}

/** Takes one field after another off bytes that are all there. */
class Fields {
  constructor(data, where) {
    this.data = data;
    this.where = where;
    this.at = 0;
  }

  take(what, length) {
    const left = this.data.length - this.at;
    if (length > left) fail(`${this.where}: ${what}: expected ${length} bytes, found ${left}`);
    this.at += length;
    return this.data.subarray(this.at - length, this.at);
  }

  number(what, bytes) {
    return this.take(what, bytes).reduceRight((sum, byte) => sum * 256 + byte, 0);
  }

  u8(what, low, high) {
    return within(`${this.where}: ${what}`, this.number(what, 1), low, high);
  }

  /** As section 1 has it, of up to 5 bytes below 2^32 or up to 7 below 2^48. */
  varint(what, bits = 32) {
    let value = 0;
    for (let k = 0; k <= bits / 8; k++) {
      const byte = this.number(what, 1);
      value += (byte & 127) * 128 ** k;
      if (byte > 127) continue;
      if (!byte && k) fail(`${this.where}: ${what}: expected a varint in its shortest form`);
      if (value < 2 ** bits) return value;
    }
    fail(`${this.where}: ${what}: expected a varint below 2^${bits}`);
  }

  part(what, where) {
    return new Fields(this.take(what, this.varint(`length of ${what}`)), where);
  }

  finish(newer) {
    const left = this.data.length - this.at;
    if (left && !newer) fail(`${this.where}: expected the end of its fields, found ${left} more bytes`);
  }
}

/** Refuses a file by its first bytes; the length of its head, or null where that needs more of them. */
function headLength(data) {
  if (SIGNATURE.some((byte, k) => k < data.length && data[k] !== byte)) {
    const show = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(' ');
    fail(`signature: expected ${show(SIGNATURE)} (a .gsimg file), found ${show(data.subarray(0, 8))}`);
  }
  if (data.length > 9 && data[8] !== 2) fail(`version: expected 2.x, found ${data[8]}.${data[9]}`, 'version');
  const start = data.subarray(10, 15), fields = new Fields(start, 'head');
  return start.length < 5 && start.every((byte) => byte > 127) ? null : fields.varint('length') + 10 + fields.at;
}

function half(value) {
  const e = (value >> 10) & 31, f = value & 1023;
  const size = e === 31 ? (f ? NaN : Infinity) : e ? 2 ** (e - 25) * (1024 + f) : f * 2 ** -24;
  return value >> 15 ? -size : size;
}

function readHead(data, maxPixels) {
  const end = data.length - 4;
  if (end < 11) fail(`head: length: expected at least 4 bytes, found ${data.length - 11}`);
  check('head', new Fields(data.subarray(end), 'head').number('checksum', 4), checksum(data.subarray(0, end)));
  const minor = data[9], newer = minor > 1, fields = new Fields(data.subarray(10, end), 'head');
  fields.varint('length');
  const header = readHeader(fields.part('header', 'header'), maxPixels, newer);
  const metadata = fields.part('metadata', 'metadata');
  header.coding = readQuantizer(header.quantizer, header.parameters, header.channels);
  header.planes = readPlanes(metadata, header.channels);
  return { header, minor, found: [], ...readTable(fields, fields.varint('number of chunks'), header, data.length, minor) };
}

function readHeader(fields, maxPixels, newer) {
  const [width, height] = ['width', 'height'].map((what) => within(`header: ${what}`, fields.varint(what), 1, 1048576));
  if (width * height > maxPixels) {
    fail(`header: canvas: expected at most ${maxPixels} pixels, found ${width} x ${height}`);
  }
  const channels = fields.u8('channels', 1, 32);
  const blend = BLENDS[fields.u8('blend', 0, 2)];
  const topK = blend === 'topk' ? fields.u8('top_k', 1, 32) : 10;
  const shift = fields.number('block shift', 1);
  if (shift) within('header: block shift, where not 0', shift, 6, 16);
  const background = Float32Array.from({ length: channels }, () => half(fields.number('background', 2)));
  if (!background.every(Number.isFinite)) fail('header: background: expected finite numbers');
  const quantizer = fields.number('quantizer', 1);
  const parameters = fields.part("quantizer's parameters", 'quantizer 1');
  fields.finish(newer);
  return { width, height, channels, blend, topK, shift, background, quantizer, parameters, total: 0 };
}

/** The n entries of the head's table, or of a page of it, and where the last chunk ends that starts at `end`. */
function readTable(fields, n, header, end, minor, page) {
  const pages = [], chunks = [], blocks = header.shift ? columnsOf(header) * Math.ceil(header.height / 2 ** header.shift) : 1;
  let [lastLevel, lastBlock] = page ? [page.level, page.block - 1] : [0, -1];
  for (let number = 0; number < n; number++) {
    const where = `${page ? fields.where + ': entry' : 'chunk'} ${number}`, entry = fields.part(`entry ${number}`, where);
    const kind = entry.varint('kind'), coding = entry.number('coding', 1);
    const [level, block, count] = ['level', 'block', 'count'].map((what) => entry.varint(what));
    const length = entry.varint('length', 48), reach = entry.varint('reach');
    const psnr = entry.number('psnr', 2) / 100 || null, sum = entry.number('checksum', 4);
    const paged = minor && !page && kind === 2, to = paged ? entry.varint('last') : block;
    const chunk = { kind, coding, level, block, count, offset: end, length, reach, psnr, checksum: sum };
    if (paged) [chunk.last, chunk.span] = [to, entry.varint('span', 48)];
    entry.finish(minor > 1);
    within(`${where}: end`, end += length + (chunk.span ?? 0), 0, Number.MAX_SAFE_INTEGER);
    within(`${where}: kind`, kind, 1, page ? 1 : kind);
    if (paged ? chunks.length : kind === 1 && pages.length) fail(`${where}: expected pages first, and all Gaussians on them`);
    if (kind === 1 || paged) {
      if (level === lastLevel ? block <= lastBlock : level !== lastLevel + 1 || lastBlock < 0) fail(`${where}: expected a level and block in order, found ${level}, ${block}`);
      within(`${where}: block`, to, block, blocks - 1);
      const most = paged ? Math.min(4096, to - block + 1) : 512 * length;
      within(`${where}: count`, count, paged ? Math.min(2, most) : length ? 1 : 0, most);
      if (coding !== header.quantizer) fail(`${where}: coding: expected ${header.quantizer}, found ${coding}`);
      within(`${where}: length for ${count}`, length, ...(paged ? [14 * count, length] : header.coding.lengths(count)));
      if (!paged) within(`${where}: Gaussians in all`, header.total += count, 0, 2 ** 32 - 1);
      [lastLevel, lastBlock] = [level, to];
    }
    if (!length) check(where, sum, 0);
    (paged ? pages : chunks).push(chunk);
  }
  fields.finish(minor > 1);
  if (lastBlock < 0) fail('table: expected a chunk of Gaussians of level 0, found none');
  if (page) {
    const expected = [page.block, page.level, page.last, page.span, page.reach, page.psnr].join();
    const reach = Math.max(...chunks.map((chunk) => chunk.reach));
    const found = [chunks[0].block, lastLevel, lastBlock, end, reach, chunks[n - 1].psnr].join();
    if (found !== expected) fail(`${fields.where}: expected ${expected} as the head says, found ${found}`);
  }
  return { pages, chunks, size: end };
}

function utf8(bytes) {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    fail('metadata: name: expected UTF-8, found other bytes');
  }
}

/** Section 5; profiles and the like are not looked into. */
function readPlanes(fields, channels) {
  if (!fields.data.length) return [{ mode: { 1: 'L', 2: 'LA', 3: 'RGB', 4: 'RGBA' }[channels], bits: 8, name: '', channels }];
  const flags = fields.u8('flags', 0, 15), planes = [];
  for (let left = fields.u8('planes', 1, 32); left > 0; left--) {
    const mode = Object.keys(MODES)[fields.u8('mode', 0, 4)];
    const bits = fields.number('bits', 1), [own, ...allowed] = MODES[mode];
    if (!allowed.includes(bits)) fail(`metadata: bits: expected ${allowed.join(' or ')}, found ${bits}`);
    const name = utf8(fields.take('name', fields.number('name', 1)));
    planes.push({ mode, bits, name, channels: own });
  }
  for (const bit of [2, 4, 8]) if (flags & bit) fields.take('profile', fields.number('profile', 4));
  fields.finish(false);
  const found = planes.reduce((sum, plane) => sum + plane.channels, 0);
  if (found !== channels) fail(`metadata: expected ${channels} channels as in the header, found ${found}`);
  return planes;
}

const columnsOf = ({ width, shift }) => Math.ceil(width / 2 ** shift);

/** The rectangle [x, y, width, height] of a block. */
export function boxOf(header, block) {
  const { width, height, shift } = header, side = 2 ** shift;
  if (!shift) return [0, 0, width, height];
  const x = (block % columnsOf(header)) * side, y = Math.floor(block / columnsOf(header)) * side;
  return [x, y, Math.min(side, width - x), Math.min(side, height - y)];
}

/** Numbers of a Gaussian in each array. */
export const widthsOf = ({ channels }) => ({ means: 2, scales: 2, rotations: 1, colors: channels });

export class Decoder {
  /** What holds for the whole picture; null until the head is there, with its pages. */
  header = null;
  /** The table: level, block, count, offset, length, reach, psnr; null until then. */
  chunks = null;
  /** Bytes of the whole file; null until the head is there. */
  size = null;
  received = 0;
  /** Chunks of the table that were decoded, in the order they came: {number, start, count}. */
  done = [];
  count = 0;
  means = new Float32Array(0);
  scales = this.means;
  rotations = this.means;
  colors = this.means;
  pending = new Uint8Array(0); // of the head, then of the page or chunk that comes; `waiting` bytes of it
  waiting = 0;
  coming = null; // the pages of the table, then the chunks
  next = 0;
  blocks = new Map();
  failure = null;

  /** @param {{maxPixels?: number}} options refuse a larger canvas */
  constructor({ maxPixels = 2 ** 40 } = {}) {
    this.maxPixels = maxPixels;
  }

  /** The highest level of which every chunk is there; -1 if none is. */
  get level() {
    if (!this.chunks) return -1;
    const there = new Set(this.done.map(({ number }) => number));
    const missing = this.chunks.find((chunk, number) => chunk.kind === 1 && !there.has(number)); // levels ascend
    return missing ? missing.level - 1 : this.levels - 1;
  }

  /** Number of levels. */
  get levels() {
    return this.chunks.filter(({ kind }) => kind === 1).pop().level + 1;
  }

  /**
   * Takes the next bytes of the file.
   *
   * @param {Uint8Array} bytes any number of them
   * @returns {boolean} whether the head or a chunk became whole
   * @throws {FormatError} what was whole before stays; nothing can be pushed after that
   */
  push(bytes) {
    if (this.failure) throw this.failure;
    let news = false;
    try {
      while (bytes.length) {
        const { coming } = this, size = coming ? coming[this.next]?.length ?? 0 : headLength(this.part);
        const need = Math.max(coming ? 0 : 11, size ?? this.waiting + 1) - this.waiting;
        const piece = bytes.subarray(0, need);
        if (!need) fail(`end: expected a file of ${this.size} bytes, found more`);
        this.pending = grown(this.pending, this.waiting + piece.length);
        this.pending.set(piece, this.waiting);
        this.waiting += piece.length;
        this.received += piece.length;
        bytes = bytes.subarray(piece.length);
        if ((coming ? size : headLength(this.part)) === this.waiting) {
          if (this.header) this.take(this.next++, this.part);
          else this.start(this.part);
          this.skipEmpty();
          this.waiting = 0;
          news = true;
        }
      }
    } catch (error) {
      this.failure = error;
      throw error;
    }
    return news;
  }

  /**
   * Takes a chunk by its number, out of turn; those of its block with lower levels came before.
   *
   * @param {number} number in the table
   * @param {Uint8Array} payload its bytes
   */
  take(number, payload) {
    const chunk = this.chunks[number], where = `chunk ${number}`;
    if (payload.length !== chunk.length) fail(`${where}: expected ${chunk.length} bytes, found ${payload.length}`);
    check(where, chunk.checksum, checksum(payload));
    if (chunk.kind === 1) this.decode(number, payload, false);
  }

  /**
   * Says that no more bytes come; what there is of a chunk that was cut off is decoded.
   *
   * @returns {string} what is missing, or nothing
   * @throws {FormatError} the file ends before its level 0 does
   */
  finish() {
    if (this.failure) throw this.failure;
    if (this.header && this.next === this.chunks.length) return '';
    const expected = this.size ?? headLength(this.part) ?? this.waiting + 1;
    const found = `expected ${expected} bytes, found ${this.received}`;
    if (this.level < 0) fail(found, 'truncated');
    const whole = this.level;
    if (this.waiting && this.chunks[this.next].kind === 1) this.decode(this.next, this.part, true);
    return `${found}: what there is was drawn; of its levels 0 to ${this.levels - 1}, those up to ${whole} are whole`;
  }

  get part() {
    return this.pending.subarray(0, this.waiting);
  }

  /** Takes the head, or the next page of its table; after the last one the chunks are known. */
  start(data) {
    const first = !this.coming, { header, minor, found, pages, chunks, size } = (this.table ??= readHead(data, this.maxPixels));
    if (!first) {
      const page = pages[this.next], where = `page ${this.next++}`;
      check(where, page.checksum, checksum(data));
      found.push(...readTable(new Fields(data, where), page.count, header, 0, minor, page).chunks);
    }
    this.size = size;
    this.coming = pages;
    if (this.next < pages.length) return;
    found.reduce((at, chunk) => (chunk.offset = at) + chunk.length, this.received);
    this.chunks = this.coming = [...found, ...chunks];
    this.header = header;
    this.next = 0;
  }

  skipEmpty() {
    for (let chunk; (chunk = this.coming[this.next]) && !chunk.length; this.next++) {
      if (chunk.kind === 1) this.done.push({ number: this.next, start: this.count, count: 0 });
    }
  }

  decode(number, payload, cut) {
    const { block, count } = this.chunks[number], { coding } = this.header;
    if (!this.blocks.has(block)) this.blocks.set(block, coding.decoder(boxOf(this.header, block)));
    const decoder = this.blocks.get(block);
    let found;
    try {
      found = decoder.decode(payload, count, cut);
    } catch (error) {
      fail(`chunk ${number}: ${error.message}`, error.kind);
    }
    const total = this.count + found.length;
    const widths = widthsOf(this.header);
    for (const name in widths) this[name] = grown(this[name], widths[name] * total);
    decoder.put(found, this, this.count);
    this.symbols?.push(...found.map(decoder.symbol));
    if (!cut) this.done.push({ number, start: this.count, count: found.length });
    this.count = total;
  }
}
