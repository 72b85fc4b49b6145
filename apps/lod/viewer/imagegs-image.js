/**
 * <imagegs-image src="picture.gsimg" alt="..." zoomable></imagegs-image>
 *
 * Draws a .gsimg file while its bytes arrive. Attributes: `src`; `alt`; `zoomable`: wheel, drag, pinch, double click,
 * + - 0 and arrow keys move the view; `region="x,y,width,height"`: blocks there are fetched first; `level`: no higher one is
 * shown; `plane`: of a texture stack; `backend`: webgl or cpu. Events: `head`, `progress` {received, size}, `level`
 * {level, levels, bytes, psnr}, `firstpicture` {afterLastByte}, `load` {note}, `error` {message}.
 */
import { makeBack } from './draw.js';
import { load, touches } from './load.js';
import { boxOf } from './decode.js';

const STYLE = `
  :host { display: inline-block; position: relative; width: var(--width, 300px); max-width: 100%;
    aspect-ratio: var(--ratio, 3 / 2); overflow: hidden; vertical-align: middle; }
  canvas { position: absolute; inset: 0; width: 100%; height: 100%; }
  :host([zoomable]) { touch-action: none; cursor: grab; }
  p { position: absolute; inset: auto 0 0; margin: 0; padding: .4em .7em; font: 13px/1.4 system-ui, sans-serif;
    color: #fff; background: #000b; }`;

export class ImagegsImage extends HTMLElement {
  static observedAttributes = ['src', 'level', 'plane', 'backend'];

  constructor() {
    super();
    const root = this.attachShadow({ mode: 'open' });
    root.innerHTML = `<style>${STYLE}</style><canvas part="canvas"></canvas><p part="message" role="status" hidden></p>`;
    this.root = root;
    this.pointers = new Map();
    this.reset();
    new ResizeObserver(() => this.resize()).observe(this);
    for (const name of ['wheel', 'pointerdown', 'pointermove', 'pointerup', 'pointercancel', 'dblclick', 'keydown']) {
      this.addEventListener(name, (event) => this.hasAttribute('zoomable') && this.header && this[`on_${name}`]?.(event),
        { passive: false });
    }
    this.on_pointercancel = this.on_pointerup;
  }

  connectedCallback() {
    this.setAttribute('role', 'img');
    this.setAttribute('aria-label', this.getAttribute('alt') ?? '');
    if (this.hasAttribute('zoomable') && !this.hasAttribute('tabindex')) this.tabIndex = 0;
    if (!this.source && this.getAttribute('src')) this.open(this.getAttribute('src'));
  }

  disconnectedCallback() {
    this.stop();
    this.source = null;
  }

  attributeChangedCallback(name, before, now) {
    if (before === now || !this.isConnected) return;
    if (name === 'src') this.open(now);
    else if (name === 'level') this.redraw();
    else this.rebuild();
  }

  /** Shows a file. @param {string | Blob} source address, or a file of the user's */
  open(source) {
    this.stop();
    this.reset();
    this.message('');
    if (!source) return;
    this.source = source instanceof Blob ? source : new URL(source, document.baseURI).href;
    this.region = this.getAttribute('region')?.split(',').map(Number) ?? null;
    const start = { source: this.source, region: this.region };
    const here = () => Object.assign(this, load(start.source, start.region, (message) => this.hear(message)));
    try {
      const worker = new Worker(new URL('load.js', import.meta.url), { type: 'module' });
      this.stop = () => worker.terminate();
      this.ask = (region) => worker.postMessage({ region });
      worker.onmessage = ({ data }) => this.hear(data);
      worker.onerror = () => this.header || (this.stop(), here());
      worker.postMessage(start);
    } catch {
      here(); // scripts of another site may not be Workers
    }
  }

  stop() {}

  ask() {}

  reset() {
    this.header = this.chunks = this.view = null;
    this.batches = [];
    this.there = new Set();
    this.received = this.size = 0;
    this.ended = this.first = false;
    this.shown = -1;
  }

  hear(message) {
    if (message.type === 'head') this.begin(message);
    else if (message.type === 'chunk') this.take(message);
    else if (message.type === 'bytes') {
      Object.assign(this, { received: message.received, lastByte: message.time });
      this.tell('progress', { received: this.received, size: this.size });
    } else if (message.type === 'restart') this.reset();
    else {
      this.ended = true;
      this.received = message.received;
      this.redraw();
      this.message(message.error ?? message.note);
      if (message.error) this.tell('error', { message: message.error, kind: message.kind });
      else this.tell('load', { note: message.note });
    }
  }

  begin({ header, chunks, size, levels }) {
    Object.assign(this, { header, chunks, size, levels });
    this.style.setProperty('--width', `${header.width}px`);
    this.style.setProperty('--ratio', `${header.width} / ${header.height}`);
    let first = 0;
    this.planes = header.planes.map((plane) => ({ ...plane, first: (first += plane.channels) - plane.channels }));
    this.rebuild();
    this.resize();
    this.tell('head', { header, size, levels });
  }

  /** Draws with a new back end, what there is anew. */
  rebuild(backend = this.getAttribute('backend')) {
    if (!this.header) return;
    const canvas = this.root.querySelector('canvas'), fresh = canvas.cloneNode();
    canvas.replaceWith(fresh);
    this.back = makeBack(fresh, this.header, this.planes[this.getAttribute('plane') ?? 0] ?? this.planes[0], backend);
    this.drawn = '';
    this.back.canvas.addEventListener('webglcontextlost', () => this.rebuild('cpu'));
    this.redraw();
  }

  take(batch) {
    if (batch.number >= 0) this.there.add(batch.number);
    this.batches.push(batch);
    this.redraw();
  }

  /** The highest level that is whole in what is seen: a level that comes is not drawn in patches. */
  get whole() {
    const region = this.seen, missing = this.chunks.find((chunk, number) => chunk.kind === 1 && chunk.count
      && !this.there.has(number) && touches(boxOf(this.header, chunk.block), chunk.reach, region));
    return missing ? missing.level - 1 : this.levels - 1;
  }

  /** What is seen, on the canvas: x, y, width, height. */
  get seen() {
    const { x, y, step } = this.view, { width, height } = this.back.canvas;
    return [x, y, width * step, height * step];
  }

  resize() {
    if (!this.back) return;
    const { canvas } = this.back, ratio = devicePixelRatio || 1;
    const width = Math.max(1, Math.round(this.clientWidth * ratio)), height = Math.max(1, Math.round(this.clientHeight * ratio));
    const fitted = !this.view || this.fitted;
    if (width !== canvas.width || height !== canvas.height) Object.assign(canvas, { width, height });
    if (fitted) this.fit();
    else this.redraw();
  }

  /** Shows the whole picture. */
  fit() {
    const { width, height } = this.back.canvas, { header } = this;
    const step = Math.max(header.width / width, header.height / height);
    const near = Math.abs(step - Math.round(step)) * Math.max(width, height) < 1 ? Math.round(step) || step : step;
    this.look({ step: near, x: (header.width - width * near) / 2, y: (header.height - height * near) / 2 });
    this.fitted = true;
  }

  /** Moves the view. @param {{x, y, step}} view top left corner on the canvas; canvas pixels per pixel of the screen */
  look(view) {
    const { width, height } = this.back.canvas, { header } = this;
    const step = Math.min(Math.max(view.step, 1 / 4096), 4 * Math.max(header.width / width, header.height / height));
    const held = (at, side, wide) => (wide > side ? (side - wide) / 2 : Math.min(Math.max(at, 0), side - wide));
    this.view = { step, x: held(view.x, header.width, width * step), y: held(view.y, header.height, height * step) };
    this.fitted = false;
    this.redraw();
    if (header.shift && !this.ended) this.ask(width * height * step * step < 0.5 * header.width * header.height ? this.seen : this.region);
  }

  /** Zooms about a point of the element, CSS pixels, the middle by default; and moves there what was at another. */
  zoom(factor, x = this.clientWidth / 2, y = this.clientHeight / 2, fromX = x, fromY = y) {
    const ratio = devicePixelRatio || 1, { view } = this, step = view.step / factor;
    this.look({ step, x: view.x + ratio * (fromX * view.step - x * step), y: view.y + ratio * (fromY * view.step - y * step) });
  }

  /** Moves by CSS pixels. */
  pan(x, y) {
    this.zoom(1, 0, 0, x, y);
  }

  redraw() {
    if (!this.back || !this.header || this.frame) return;
    this.frame = requestAnimationFrame(() => this.draw());
  }

  /** Draws now, unless all is as it was. */
  draw(always) {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    if (!this.back || !this.header || !this.view) return;
    const asked = this.getAttribute('level'), most = asked === null || asked === '' ? Infinity : Number(asked);
    const level = Math.min(most, this.ended ? this.levels : this.whole);
    const levelOf = ({ number }) => (number < 0 ? this.levels : this.chunks[number].level); // -1: of a chunk that was cut
    if (level < 0 && !this.ended) return;
    const batches = this.batches.filter((batch) => batch.count && levelOf(batch) <= level);
    const { width, height } = this.back.canvas, drawn = JSON.stringify([this.view, width, height, batches.length]);
    if (always || drawn !== this.drawn) this.back.draw(this.view, batches);
    this.drawn = drawn;
    this.announce(Math.min(level, this.whole));
  }

  announce(level) {
    if (!this.first) {
      this.first = true;
      this.tell('firstpicture', { level, afterLastByte: performance.timeOrigin + performance.now() - this.lastByte });
    }
    if (level === this.shown) return;
    this.shown = level;
    const chunk = this.chunks.filter((one) => one.kind === 1 && one.level <= level).pop();
    if (chunk) this.tell('level', { level, levels: this.levels, bytes: chunk.offset + chunk.length, psnr: chunk.psnr });
  }

  /** A PNG of what is seen. @returns {Promise<Blob>} */
  snapshot() {
    this.draw(true);
    return new Promise((resolve) => this.back.canvas.toBlob(resolve));
  }

  message(text) {
    const place = this.root.querySelector('p');
    place.textContent = text ?? '';
    place.hidden = !text;
  }

  tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  on_wheel(event) {
    event.preventDefault();
    const box = this.getBoundingClientRect(), turn = event.deltaY * (event.deltaMode ? 30 : 1);
    this.zoom(2 ** (-turn / 300), event.clientX - box.left, event.clientY - box.top);
  }

  on_pointerdown(event) {
    this.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, event);
  }

  on_pointermove(event) {
    const before = this.pointers.get(event.pointerId), other = [...this.pointers.values()].find((one) => one !== before);
    if (!before) return;
    this.pointers.set(event.pointerId, event);
    const box = this.getBoundingClientRect();
    const far = (one) => (other ? Math.max(1, Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY)) : 1);
    const middle = (one) => [
      (one.clientX + (other ?? one).clientX) / 2 - box.left, (one.clientY + (other ?? one).clientY) / 2 - box.top];
    this.zoom(far(event) / far(before), ...middle(event), ...middle(before));
  }

  on_pointerup(event) {
    this.pointers.delete(event.pointerId);
  }

  on_dblclick(event) {
    const box = this.getBoundingClientRect();
    this.zoom(2, event.clientX - box.left, event.clientY - box.top);
  }

  on_keydown(event) {
    const far = 0.1 * this.clientWidth;
    const act = {
      '+': () => this.zoom(1.25), '=': () => this.zoom(1.25), '-': () => this.zoom(0.8), 0: () => this.fit(),
      ArrowLeft: () => this.pan(-far, 0), ArrowRight: () => this.pan(far, 0),
      ArrowUp: () => this.pan(0, -far), ArrowDown: () => this.pan(0, far),
    }[event.key];
    if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act();
  }
}

customElements.define('imagegs-image', ImagegsImage);
