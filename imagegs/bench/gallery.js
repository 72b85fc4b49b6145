/**
 * The viewer of a gallery: all panes show the same part of a picture at one scale, and a divider parts two of them.
 *
 * The pictures stand on the page already, with ids `PICTURE-RATE-CODEC` and `PICTURE-original`. What is shown is kept
 * in the address: picture, rate, view, left, right, at (percent), and once it does not just fit, zoom (screen pixels
 * for one of the picture) and the point in the middle, x and y in pixels of the picture.
 */
const MOST = 32, SHARP = 2, STEP = 1.5;
const at = (id) => document.getElementById(id);
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const buttonsOf = (group) => [...at(group).querySelectorAll('button')];
const valuesOf = (group) => buttonsOf(group).map((one) => one.dataset.value);
const panes = at('panes'), thumbnails = buttonsOf('pictures'), divider = at('divider');
const codecs = [...at('left').options].map((one) => one.value);
const choices = { rate: valuesOf('rates'), view: valuesOf('views'), left: codecs, right: codecs };
const sides = { left: at('left').value, right: at('right').value };
const first = { picture: 1, rate: choices.rate[0], view: 'divider', ...sides, at: 50 };
const points = { x: [0, Infinity], y: [0, Infinity] };
const ranges = { picture: [1, thumbnails.length], at: [0, 100], zoom: [0.01, MOST], ...points };
const pointers = new Map();
let state = {}, size = { width: 1, height: 1 }, written = '', waiting = 0;

/** What an address asks for; whatever makes no sense in it is as at first. */
function parse(hash) {
  const asked = new URLSearchParams(hash.replace(/^#/, '')), found = { ...first };
  for (const [name, allowed] of Object.entries(choices)) {
    if (allowed.includes(asked.get(name))) found[name] = asked.get(name);
  }
  for (const [name, [low, high]] of Object.entries(ranges)) {
    const value = asked.get(name) ? Number(asked.get(name)) : NaN;
    if (!Number.isNaN(value)) found[name] = clamp(value, low, high);
  }
  found.picture = Math.round(found.picture);
  return found;
}

/** The state as an address, in as few digits as it takes. */
function addressOf({ zoom, x, y, ...rest }) {
  const shown = zoom ? { ...rest, zoom, x, y } : rest;
  const short = (value) => (typeof value === 'number' ? Number(value.toFixed(3)) : value);
  return `#${new URLSearchParams(Object.entries(shown).map(([name, value]) => [name, short(value)]))}`;
}

function remember() {
  clearTimeout(waiting);
  waiting = setTimeout(() => {
    written = addressOf(state);
    if (written !== location.hash) history.replaceState(null, '', written);
  }, 150);
}

/** The sides of a pane, the scales at which the picture fits it and is smallest, and the scale now. */
function geometry() {
  const frame = panes.querySelector(`#${state.view === 'divider' ? 'divided' : 'beside'} .frame`);
  const { clientWidth: width, clientHeight: height } = frame;
  const fit = Math.min(width / size.width, height / size.height), least = Math.min(fit, 1);
  const scale = state.zoom ? clamp(state.zoom, least, MOST) : fit;
  return { width, height, fit, least, scale };
}

/** Half of what is seen may not lie beyond an edge, and what is smaller than the pane lies in its middle. */
function held(middle, side, seen) {
  return seen >= side ? side / 2 : clamp(middle, seen / 2, side - seen / 2);
}

function place() {
  const { width, height, fit, scale } = geometry();
  if (!width || !height) return;
  state.x = held(state.x ?? size.width / 2, size.width, width / scale);
  state.y = held(state.y ?? size.height / 2, size.height, height / scale);
  const left = Math.round(width / 2 - state.x * scale), top = Math.round(height / 2 - state.y * scale);
  for (const image of panes.querySelectorAll('.layer img')) {
    Object.assign(image.style, { width: `${size.width}px`, height: `${size.height}px` });
    image.style.transform = `translate(${left}px, ${top}px) scale(${scale})`;
  }
  panes.classList.toggle('sharp', scale >= SHARP);
  panes.classList.toggle('zoomed', scale > fit);
  at('scale').textContent = `${Math.round(100 * scale)} %`;
  remember();
}

/** Zoom to a scale, with the picture under a point of the pane held in place; tells whether that changed anything. */
function zoomTo(wanted, point) {
  const { width, height, fit, least, scale } = geometry(), next = clamp(wanted, least, MOST);
  const [right, down] = point ? [point.x - width / 2, point.y - height / 2] : [0, 0];
  state.x += right / scale - right / next;
  state.y += down / scale - down / next;
  state.zoom = Math.abs(next / fit - 1) < 0.001 ? undefined : next;
  place();
  return Math.abs(next / scale - 1) > 1e-6;
}

function move(right, down) {
  const { scale } = geometry();
  state.x += right / scale;
  state.y += down / scale;
  place();
}

function fit() {
  state.zoom = undefined;
  place();
}

/** Show a codec's picture in a layer, or why there is none; and say so below. */
function fill(layer, caption, codec) {
  const source = at(codec === 'original' ? `${state.picture}-original` : `${state.picture}-${state.rate}-${codec}`);
  const [image, message] = layer.children, label = at('left').options[codecs.indexOf(codec)].text;
  const is = source instanceof HTMLImageElement, reason = is ? '' : source?.dataset.none ?? 'Not measured, see below';
  image.hidden = !is;
  message.hidden = is;
  message.textContent = reason;
  if (is && image.dataset.of !== source.id) {
    image.src = source.getAttribute('src');
    image.alt = source.alt;
    image.dataset.of = source.id;
  }
  const name = document.createElement('strong');
  name.textContent = label;
  caption.replaceChildren(name, is ? source.dataset.text : 'no file');
  return label;
}

/** Press those buttons of a group that are meant. */
function press(buttons, meant) {
  for (const [index, button] of buttons.entries()) button.setAttribute('aria-pressed', String(meant(button, index)));
}

/** Put the divider so many percent from the left. */
function divide(percent) {
  state.at = clamp(percent, 0, 100);
  divider.value = state.at;
  at('divided').querySelector('.frame').style.setProperty('--at', `${state.at}%`);
  remember();
}

/** Show what the state says. */
function show() {
  const original = at(`${state.picture}-original`);
  size = { width: Number(original.getAttribute('width')), height: Number(original.getAttribute('height')) };
  press(thumbnails, (_, index) => index + 1 === state.picture);
  thumbnails[state.picture - 1].scrollIntoView({ block: 'nearest', inline: 'nearest' });
  press(buttonsOf('rates'), (button) => button.dataset.value === state.rate);
  press(buttonsOf('views'), (button) => button.dataset.value === state.view);
  for (const table of document.querySelectorAll('.rate')) {
    table.classList.toggle('shown', table.id === `${state.picture}-${state.rate}`);
  }
  at('choices').classList.toggle('shown', state.view === 'divider');
  panes.dataset.view = state.view;
  if (state.view === 'divider') {
    const captions = at('divided').querySelectorAll('figcaption'), tags = at('divided').querySelectorAll('.tag');
    for (const [index, side] of ['left', 'right'].entries()) {
      at(side).value = state[side];
      tags[index].textContent = fill(at('divided').querySelector(`.layer.${side}`), captions[index], state[side]);
    }
    divide(state.at);
  } else {
    for (const pane of at('beside').children) {
      fill(pane.querySelector('.layer'), pane.querySelector('figcaption'), pane.dataset.codec);
    }
  }
  place();
}

/** Show something else, and leave the rest as it is; another picture is seen whole at first. */
function change(values) {
  const other = values.picture && values.picture !== state.picture;
  state = { ...state, ...values, ...(other && { zoom: undefined, x: undefined, y: undefined }) };
  show();
}

/** Where an event is in its pane. */
function pointOf(event) {
  const box = event.target.closest('.frame').getBoundingClientRect();
  return { x: event.clientX - box.left, y: event.clientY - box.top };
}

function onWheel(event) {
  if (!event.target.closest('.frame')) return;
  const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1;
  const factor = Math.exp(-clamp(event.deltaY * lines, -300, 300) * (event.ctrlKey ? 0.01 : 0.002));
  // where there is nothing left to zoom, the wheel moves the page
  if (zoomTo(geometry().scale * factor, pointOf(event)) || event.ctrlKey) event.preventDefault();
}

function onDown(event) {
  const frame = event.target.closest('.frame');
  if (!frame || event.target === divider || event.button !== 0) return;
  frame.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, pointOf(event));
}

function onMove(event) {
  const before = pointers.get(event.pointerId);
  if (!before) return;
  const now = pointOf(event), other = [...pointers].find(([id]) => id !== event.pointerId)?.[1];
  pointers.set(event.pointerId, now);
  if (!other) return move(before.x - now.x, before.y - now.y);
  const apart = (one) => Math.max(Math.hypot(one.x - other.x, one.y - other.y), 1);
  zoomTo((geometry().scale * apart(now)) / apart(before), { x: (now.x + other.x) / 2, y: (now.y + other.y) / 2 });
  move((before.x - now.x) / 2, (before.y - now.y) / 2);
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches('select')) return;
  const { width, height, scale } = geometry();
  const anywhere = {
    '+': () => zoomTo(scale * STEP), '=': () => zoomTo(scale * STEP), '-': () => zoomTo(scale / STEP),
    '0': fit, '1': () => zoomTo(1),
  };
  const within = {
    ArrowLeft: () => move(-width / 10, 0), ArrowRight: () => move(width / 10, 0),
    ArrowUp: () => move(0, -height / 10), ArrowDown: () => move(0, height / 10),
  };
  const along = { ArrowLeft: () => divide(state.at - 2), ArrowRight: () => divide(state.at + 2) };
  const here = event.target === panes ? within : event.target === divider ? along : {};
  const action = anywhere[event.key] ?? here[event.key];
  if (!action) return;
  event.preventDefault();
  action();
}

thumbnails.forEach((button, index) => button.addEventListener('click', () => change({ picture: index + 1 })));
for (const [group, name] of [['rates', 'rate'], ['views', 'view']]) {
  for (const button of buttonsOf(group)) {
    button.addEventListener('click', () => change({ [name]: button.dataset.value }));
  }
}
for (const side of ['left', 'right']) at(side).addEventListener('change', () => change({ [side]: at(side).value }));
at('swap').addEventListener('click', () => change({ left: state.right, right: state.left }));
divider.addEventListener('input', () => divide(Number(divider.value)));
at('in').addEventListener('click', () => zoomTo(geometry().scale * STEP));
at('out').addEventListener('click', () => zoomTo(geometry().scale / STEP));
at('one').addEventListener('click', () => zoomTo(1));
at('fit').addEventListener('click', fit);
panes.addEventListener('wheel', onWheel, { passive: false });
panes.addEventListener('pointerdown', onDown);
panes.addEventListener('pointermove', onMove);
for (const name of ['pointerup', 'pointercancel']) {
  panes.addEventListener(name, (event) => pointers.delete(event.pointerId));
}
addEventListener('keydown', onKey);
addEventListener('hashchange', () => {
  if (location.hash === written) return;
  state = parse(location.hash);
  show();
});
new ResizeObserver(place).observe(panes);
state = parse(location.hash);
show();
