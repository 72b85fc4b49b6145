/**
 * Fetches a file and decodes it as its bytes come; a Worker's script, and a module for pages that may not have Workers.
 *
 * Messages to the page, in `type`: `head` {header, chunks, size}; `chunk` {number, count, means, scales, rotations,
 * colors}, number -1 for what a cut chunk gave; `bytes` {received}; `restart`: forget everything; `end` {note, error, kind}.
 */
import { Decoder, FormatError, boxOf } from './decode.js';

const TRIES = 4, RUN = 1 << 17, CHANGED = 'the file changed again and again while it was read';

/** The file was replaced by another while it was read. */
class Replaced extends Error {}

export class Loader {
  /**
   * @param {string | Blob} source address or file
   * @param {{region?: number[] | null}} options region: x, y, width, height on the canvas; its blocks are fetched first
   * @param {(message: object, transfer?: Transferable[]) => void} report
   */
  constructor(source, { region = null } = {}, report) {
    Object.assign(this, { source, region, report, stopped: false, aborter: new AbortController() });
  }

  stop() {
    this.stopped = true;
    this.aborter.abort();
  }

  /** Reads all of it; whatever happens is reported. */
  async run() {
    let end = {};
    for (let tries = 0; ; tries++) {
      this.decoder = new Decoder();
      this.sent = 0;
      this.etag = null;
      try {
        await this.read();
        this.flush();
        end = { note: this.decoder.finish() };
        this.flush();
      } catch (error) {
        if (error instanceof Replaced && tries < TRIES) {
          this.report({ type: 'restart' });
          continue;
        }
        this.flush();
        end = { error: error.message, kind: error instanceof FormatError ? error.kind : 'network' };
      }
      break;
    }
    if (!this.stopped) this.report({ type: 'end', ...end, received: this.decoder.received, time: now() });
  }

  async read() {
    if (typeof this.source !== 'string') return this.push(this.source.stream());
    for (let tries = 0; ; tries++) {
      const { received } = this.decoder, response = await this.fetch(received ? `bytes=${received}-` : '');
      if (received && (response.status !== 206 || strong(response) !== this.etag)) throw new Replaced(CHANGED);
      if (!received) {
        if (!response.ok) throw new Error(`expected the file, found HTTP ${response.status} ${response.statusText}`);
        this.etag = strong(response);
      }
      const broken = await this.push(response.body).then(() => null, (error) => error);
      if (broken instanceof FormatError) throw broken;
      if (this.ranged) return this.readRuns();
      if (this.stopped || this.complete) return;
      if (!broken) return; // the file itself may be short
      if (tries === TRIES || (this.decoder.received && !this.etag)) {
        if (this.decoder.size) return; // what there is is drawn
        throw broken;
      }
      await new Promise((resolve) => setTimeout(resolve, 200 * 2 ** tries));
    }
  }

  get complete() {
    return this.decoder.header !== null && this.decoder.next === this.decoder.chunks.length;
  }

  /** Whether the file is now to be read block by block. */
  get ranged() {
    return Boolean(this.region && this.etag && this.decoder.header?.shift && !this.complete);
  }

  fetch(range) {
    const headers = range ? { Range: range, ...(this.etag ? { 'If-Range': this.etag } : {}) } : {};
    return fetch(this.source, { headers, signal: this.aborter.signal, cache: range ? 'no-store' : 'default' });
  }

  async push(stream) {
    const reader = stream.getReader();
    try {
      while (!this.stopped && !this.ranged) {
        const { done, value } = await reader.read();
        if (done) return;
        const time = now(), news = this.decoder.push(value);
        this.report({ type: 'bytes', received: this.decoder.received, time });
        if (news) this.flush();
      }
    } finally {
      reader.cancel().catch(() => {});
    }
  }

  /** Fetches the chunks that are left by ranges, those of the region first. */
  async readRuns() {
    const { decoder } = this, { chunks } = decoder;
    decoder.received -= decoder.waiting; // of a chunk that will be asked for as a whole
    decoder.waiting = 0;
    const there = new Set(decoder.done.map(({ number }) => number));
    for (;;) {
      const run = this.nextRun(chunks, there);
      if (!run.length || this.stopped) break;
      const first = chunks[run[0]], last = chunks[run[run.length - 1]], end = last.offset + last.length;
      const response = await this.fetch(`bytes=${first.offset}-${end - 1}`);
      const found = response.headers.get('ETag');
      if (response.status === 200 && found === this.etag) return this.readWhole(response);
      if (response.status !== 206 || (found && found !== this.etag)) throw new Replaced(CHANGED);
      const bytes = new Uint8Array(await response.arrayBuffer()), time = now();
      for (const number of run) {
        const { offset, length } = chunks[number];
        decoder.take(number, bytes.subarray(offset - first.offset, offset - first.offset + length));
        there.add(number);
        decoder.received += length;
      }
      this.report({ type: 'bytes', received: decoder.received, time });
      this.flush();
    }
    decoder.next = chunks.length;
  }

  /** From a server that does not know ranges. */
  async readWhole(response) {
    this.report({ type: 'restart' });
    Object.assign(this, { decoder: new Decoder(), sent: 0, region: null });
    await this.push(response.body);
  }

  /** Chunks that lie side by side and are wanted next. */
  nextRun(chunks, there) {
    const { header } = this.decoder, region = this.region ?? [0, 0, header.width, header.height], near = new Set();
    for (const { block, reach } of chunks) if (touches(boxOf(header, block), reach, region)) near.add(block);
    const wanted = (n) => n < chunks.length && chunks[n].kind === 1 && !there.has(n);
    const numbers = [...chunks.keys()].filter(wanted), close = numbers.filter((n) => near.has(chunks[n].block));
    const run = [(close.length ? close : numbers)[0]].filter((n) => n !== undefined);
    for (let bytes = run.length ? chunks[run[0]].length : RUN, n = run[0] + 1; bytes < RUN && wanted(n); n++) {
      if (close.length && !near.has(chunks[n].block)) break;
      run.push(n);
      bytes += chunks[n].length;
    }
    return run;
  }

  /** Sends what is new. */
  flush() {
    const { decoder } = this, { header, chunks, size, done } = decoder;
    if (!header || this.stopped) return;
    if (!this.sent) {
      const { coding, parameters, ...plain } = header;
      this.report({ type: 'head', header: plain, chunks, size });
      this.sent = 1;
    }
    const total = done.reduce((sum, { count }) => sum + count, 0), { channels } = header;
    const send = (number, start, count) => {
      const cut = (array, width) => array.slice(width * start, width * (start + count));
      const [means, scales] = [cut(decoder.means, 2), cut(decoder.scales, 2)];
      const [rotations, colors] = [cut(decoder.rotations, 1), cut(decoder.colors, channels)];
      const buffers = [means, scales, rotations, colors].map(({ buffer }) => buffer);
      this.report({ type: 'chunk', number, count, means, scales, rotations, colors }, buffers);
    };
    for (; this.sent <= done.length; this.sent++) {
      const { number, start, count } = done[this.sent - 1];
      send(number, start, count);
    }
    if (decoder.count > total) send(-1, total, decoder.count - total);
  }
}

const now = () => performance.timeOrigin + performance.now();
const strong = (response) => [response.headers.get('ETag')].find((tag) => tag && !tag.startsWith('W/')) ?? null;

/** Whether a box, grown by a margin on all sides, has a point in common with a region. */
export function touches([x, y, width, height], margin, [left, top, wide, high]) {
  return x - margin <= left + wide && left <= x + width + margin && y - margin <= top + high && top <= y + height + margin;
}

if (typeof WorkerGlobalScope !== 'undefined' && self instanceof WorkerGlobalScope) {
  let loader = null;
  self.onmessage = ({ data }) => {
    if (data.source) {
      loader = new Loader(data.source, data, (message, transfer) => self.postMessage(message, transfer ?? []));
      loader.run();
    } else if (loader) loader.region = data.region;
  };
}
