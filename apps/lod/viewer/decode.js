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

  /** As section 1 has it, of up to 5 bytes below 2^32 or up to 7 below 2^48. */
  varint(what, bits = 32) {
    let value = 0;
    for (let k = 0; k < (bits === 32 ? 5 : 7); k++) {
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
  const newer = data[9] > 0, fields = new Fields(data.subarray(10, end), 'head');
  fields.varint('length');
  const header = readHeader(fields.part('header', 'header'), maxPixels, newer);
  const metadata = fields.part('metadata', 'metadata');
  const chunks = readTable(fields, header, data.length, newer);
  fields.finish(newer);
  header.coding = readQuantizer(header.quantizer, header.parameters, header.channels);
  header.planes = readPlanes(metadata, header.channels);
  chunks.forEach((chunk, number) => checkLength(chunk, header, `chunk ${number}`));
  return { header, chunks };
}

function readHeader(fields, maxPixels, newer) {
  const width = within('header: width', fields.varint('width'), 1, 1048576);
  const height = within('header: height', fields.varint('height'), 1, 1048576);
  if (width * height > maxPixels) {
    fail(`header: canvas: expected at most ${maxPixels} pixels, found ${width} x ${height}`);
  }
  const channels = within('header: channels', fields.number('channels', 1), 1, 32);
  const blend = BLENDS[within('header: blend', fields.number('blend', 1), 0, 2)];
  const topK = blend === 'topk' ? within('header: top_k', fields.number('top_k', 1), 1, 32) : 10;
  const shift = fields.number('block shift', 1);
  if (shift) within('header: block shift, where not 0', shift, 6, 16);
  const background = Float32Array.from({ length: channels }, () => half(fields.number('background', 2)));
  if (!background.every(Number.isFinite)) fail('header: background: expected finite numbers');
  const quantizer = fields.number('quantizer', 1);
  const parameters = fields.part("quantizer's parameters", 'quantizer 1');
  fields.finish(newer);
  return { width, height, channels, blend, topK, shift, background, quantizer, parameters };
}

function readTable(fields, header, offset, newer) {
  const chunks = [], blocks = header.shift ? columnsOf(header) * Math.ceil(header.height / 2 ** header.shift) : 1;
  let last = { level: 0, block: -1 }, total = 0;
  for (let number = 0, n = fields.varint('number of chunks'); number < n; number++) {
    const where = `chunk ${number}`, entry = fields.part(`entry ${number} of the table`, where);
    const kind = entry.varint('kind'), coding = entry.number('coding', 1);
    const [level, block, count] = ['level', 'block', 'count'].map((what) => entry.varint(what));
    const length = entry.varint('length', 48), reach = entry.varint('reach');
    const psnr = entry.number('psnr', 2) / 100 || null, sum = entry.number('checksum', 4);
    entry.finish(newer);
    within(`${where}: end`, offset + length, 0, Number.MAX_SAFE_INTEGER);
    if (!kind) fail(`${where}: kind: expected a number from 1, found 0`);
    if (kind === 1) {
      if (level === last.level ? block <= last.block : level !== last.level + 1 || last.block < 0) fail(`${where}: expected a level and block in order, found ${level}, ${block}`);
      within(`${where}: block`, block, 0, blocks - 1);
      within(`${where}: count`, count, length ? 1 : 0, 512 * length);
      within(`${where}: Gaussians in all`, total += count, 0, 2 ** 32 - 1);
      last = { level, block };
    }
    chunks.push({ kind, coding, level, block, count, offset, length, reach, psnr, checksum: sum });
    offset += length;
  }
  if (last.block < 0) fail('table: expected a chunk of Gaussians of level 0, found none');
  return chunks;
}

function checkLength({ kind, coding, count, length, checksum: sum }, { quantizer, coding: { lengths } }, where) {
  if (!length) check(where, sum, 0);
  if (kind !== 1) return;
  if (coding !== quantizer) fail(`${where}: coding: expected ${quantizer}, found ${coding}`);
  within(`${where}: length for ${count} Gaussians`, length, ...lengths(count));
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
  const flags = within('metadata: flags', fields.number('flags', 1), 0, 15), planes = [];
  for (let left = within('metadata: planes', fields.number('planes', 1), 1, 32); left > 0; left--) {
    const mode = Object.keys(MODES)[within('metadata: mode', fields.number('mode', 1), 0, 4)];
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

export class Decoder {
  /** @param {{maxPixels?: number}} options refuse a larger canvas */
  constructor({ maxPixels = 2 ** 28 } = {}) {
    this.maxPixels = maxPixels;
    /** What holds for the whole picture; null until the head is there. */
    this.header = null;
    /** The table: level, block, count, offset, length, reach, psnr; null until the head is there. */
    this.chunks = null;
    /** Bytes of the whole file. */
    this.size = null;
    this.received = 0;
    /** Chunks of the table that were decoded, in the order they came: {number, start, count}. */
    this.done = [];
    this.count = 0;
    this.means = new Float32Array(0);
    this.scales = new Float32Array(0);
    this.rotations = new Float32Array(0);
    this.colors = new Float32Array(0);
    this.pending = new Uint8Array(0); // of the head, then of the chunk that comes; `waiting` bytes of it
    this.waiting = 0;
    this.next = 0;
    this.blocks = new Map();
    this.failure = null;
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
        const need = this.header ? this.needed : Math.max(11, headLength(this.part) ?? this.waiting + 1) - this.waiting;
        const piece = bytes.subarray(0, need);
        if (!need) fail(`end: expected a file of ${this.size} bytes, found more`);
        this.pending = grown(this.pending, this.waiting + piece.length);
        this.pending.set(piece, this.waiting);
        this.waiting += piece.length;
        this.received += piece.length;
        bytes = bytes.subarray(piece.length);
        if (this.header ? piece.length === need : headLength(this.part) === this.waiting) {
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
    const expected = this.header ? this.size : headLength(this.part) ?? this.waiting + 1;
    const found = `expected ${expected} bytes, found ${this.received}`;
    if (this.level < 0) fail(found, 'truncated');
    const whole = this.level;
    if (this.waiting && this.chunks[this.next].kind === 1) this.decode(this.next, this.part, true);
    return `${found}: what there is was drawn; of its levels 0 to ${this.levels - 1}, those up to ${whole} are whole`;
  }

  get part() {
    return this.pending.subarray(0, this.waiting);
  }

  get needed() {
    return this.next < this.chunks.length ? this.chunks[this.next].length - this.waiting : 0;
  }

  start(data) {
    Object.assign(this, readHead(data, this.maxPixels));
    const last = this.chunks[this.chunks.length - 1];
    this.size = last.offset + last.length;
  }

  skipEmpty() {
    for (; this.next < this.chunks.length && !this.chunks[this.next].length; this.next++) {
      if (this.chunks[this.next].kind === 1) this.done.push({ number: this.next, start: this.count, count: 0 });
    }
  }

  decode(number, payload, cut) {
    const { block, count } = this.chunks[number], { channels, coding } = this.header;
    if (!this.blocks.has(block)) this.blocks.set(block, coding.decoder(boxOf(this.header, block)));
    const decoder = this.blocks.get(block);
    let found;
    try {
      found = decoder.decode(payload, count, cut);
    } catch (error) {
      fail(`chunk ${number}: ${error.message}`, error.kind);
    }
    const total = this.count + found.length;
    this.means = grown(this.means, 2 * total);
    this.scales = grown(this.scales, 2 * total);
    this.rotations = grown(this.rotations, total);
    this.colors = grown(this.colors, channels * total);
    decoder.put(found, this, this.count);
    this.symbols?.push(...found.map(decoder.symbol));
    if (!cut) this.done.push({ number, start: this.count, count: found.length });
    this.count = total;
  }
}
