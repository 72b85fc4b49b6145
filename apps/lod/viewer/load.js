/**
 * Fetches a file and decodes it as its bytes come; a Worker's script, and a module for pages that may not have Workers.
 *
 * Messages to the page, in `type`: `head` {header, chunks, size, levels}; `chunk` {number, count, means, scales, rotations,
 * colors}, number -1 for what a cut chunk gave; `bytes` {received, time}; `restart`: forget everything; `end` {note, error,
 * kind, received}.
 */
import { Decoder, FormatError, boxOf, widthsOf } from './decode.js';

const TRIES = 4, RUN = 1 << 17;

/** The file was replaced by another while it was read. */
class Replaced extends Error {}

const now = () => performance.timeOrigin + performance.now();
const replaced = () => new Replaced('the file changed again and again while it was read');
const etagOf = (response) => [response.headers.get('ETag')].find((tag) => tag && !tag.startsWith('W/')) ?? null;

/** Whether a box, grown by a margin on all sides, has a point in common with a region. */
export function touches([x, y, width, height], margin, [left, top, wide, high]) {
  return x - margin <= left + wide && left <= x + width + margin && y - margin <= top + high && top <= y + height + margin;
}

/**
 * Reads a file; whatever happens is reported.
 *
 * @param {string | Blob} source address or file
 * @param {number[] | null} region x, y, width, height on the canvas: of a file in blocks, those there are fetched first
 * @param {(message: object, transfer: Transferable[]) => void} report
 * @returns {{ask: (region: number[] | null) => void, stop: () => void}}
 */
export function load(source, region, report) {
  const aborter = new AbortController();
  let decoder, sent, etag, stopped = false;

  async function run(tries = 0) {
    let end;
    decoder = new Decoder();
    sent = 0;
    etag = null;
    try {
      await read();
      flush();
      end = { note: decoder.finish() };
    } catch (error) {
      if (error instanceof Replaced && tries < TRIES) {
        report({ type: 'restart' });
        return run(tries + 1);
      }
      end = { error: error.message, kind: error instanceof FormatError ? error.kind : 'network' };
    }
    flush();
    if (!stopped) report({ type: 'end', ...end, received: decoder.received });
  }

  async function read() {
    if (typeof source !== 'string') return push(source.stream());
    for (let tries = 0; ; tries++) {
      const { received } = decoder, response = await ask(received ? `bytes=${received}-` : '');
      if (received && (response.status !== 206 || etagOf(response) !== etag)) throw replaced();
      if (!response.ok) throw new Error(`expected the file, found HTTP ${response.status} ${response.statusText}`);
      etag = etagOf(response);
      const broken = await push(response.body).then(() => null, (error) => error);
      if (broken instanceof FormatError) throw broken;
      if (ranged()) return readRuns();
      if (stopped || !broken) return; // the file itself may be short
      if (tries === TRIES || (decoder.received && !etag)) {
        if (decoder.size) return; // what there is is drawn
        throw broken;
      }
      await new Promise((resolve) => setTimeout(resolve, 200 * 2 ** tries));
    }
  }

  /** Whether the file is now to be read block by block. */
  const ranged = () => region && etag && decoder.header?.shift && decoder.next < decoder.chunks.length;

  function ask(range) {
    const headers = range ? { Range: range, ...(etag ? { 'If-Range': etag } : {}) } : {};
    return fetch(source, { headers, signal: aborter.signal, cache: range ? 'no-store' : 'default' });
  }

  async function push(stream) {
    const reader = stream.getReader();
    try {
      while (!stopped && !ranged()) {
        const { done, value } = await reader.read();
        if (done) return;
        const time = now(), news = decoder.push(value);
        report({ type: 'bytes', received: decoder.received, time });
        if (news) flush();
      }
    } finally {
      reader.cancel().catch(() => {});
    }
  }

  /** Fetches the chunks that are left by ranges, those of the region first. */
  async function readRuns() {
    const { chunks, done } = decoder, there = new Set(done.map(({ number }) => number));
    decoder.received -= decoder.waiting; // of a chunk that will be asked for as a whole
    for (let run; (run = nextRun(chunks, there)).length && !stopped; ) {
      const first = chunks[run[0]].offset, last = chunks[run[run.length - 1]];
      const response = await ask(`bytes=${first}-${last.offset + last.length - 1}`), found = etagOf(response);
      if (response.status === 200 && found === etag) {
        report({ type: 'restart' }); // the server knows no ranges
        decoder = new Decoder();
        sent = 0;
        region = null;
        return push(response.body);
      }
      if (response.status !== 206 || found !== etag) throw replaced();
      const bytes = new Uint8Array(await response.arrayBuffer()), time = now();
      for (const number of run) {
        const { offset, length } = chunks[number];
        decoder.take(number, bytes.subarray(offset - first, offset - first + length));
        there.add(number);
        decoder.received += length;
      }
      report({ type: 'bytes', received: decoder.received, time });
      flush();
    }
    decoder.next = chunks.length;
  }

  /** Chunks that lie side by side and are wanted next. */
  function nextRun(chunks, there) {
    const { header } = decoder, seen = region ?? [0, 0, header.width, header.height];
    const near = new Set(chunks.filter(({ block, reach }) => touches(boxOf(header, block), reach, seen)).map(({ block }) => block));
    const numbers = [...chunks.keys()].filter((n) => chunks[n].kind === 1 && !there.has(n));
    const close = numbers.filter((n) => near.has(chunks[n].block)), wanted = close.length ? close : numbers;
    let bytes = 0;
    const end = wanted.findIndex((n, k) => n !== wanted[0] + k || (bytes += chunks[n].length) > RUN && k);
    return end < 0 ? wanted : wanted.slice(0, end);
  }

  /** Sends what is new. */
  function flush() {
    const { header, chunks, size, done } = decoder;
    if (!header || stopped) return;
    if (!sent) {
      sent = 1;
      const { coding, parameters, ...plain } = header;
      report({ type: 'head', header: plain, chunks, size, levels: decoder.levels });
    }
    for (; sent <= done.length; sent++) send(done[sent - 1]);
    const total = done.reduce((sum, { count }) => sum + count, 0);
    if (decoder.count > total) send({ number: -1, start: total, count: decoder.count - total });
  }

  function send({ number, start, count }) {
    const found = {}, widths = widthsOf(decoder.header);
    for (const name in widths) found[name] = decoder[name].slice(widths[name] * start, widths[name] * (start + count));
    report({ type: 'chunk', number, count, ...found }, Object.values(found).map(({ buffer }) => buffer));
  }

  run();
  return {
    ask: (wanted) => (region = wanted),
    stop() {
      stopped = true;
      aborter.abort();
    },
  };
}

if (typeof WorkerGlobalScope !== 'undefined' && self instanceof WorkerGlobalScope) {
  let loading;
  self.onmessage = ({ data: { source, region } }) => {
    if (source) loading = load(source, region, (message, transfer) => self.postMessage(message, transfer ?? []));
    else loading?.ask(region);
  };
}
