/**
 * Gaussians to pixels, with WebGL 2 or on the CPU; the mathematics is that of imagegs/kernels/gaussian2d.h.
 *
 * A view is {x, y, step}: the canvas point at the top left corner of the output, and canvas pixels per output pixel. A
 * batch is {means, scales, rotations, colors}, Gaussians in the order of the file.
 */
const RADIUS = 3.5, CUTOFF = 0.0021874912, EPSILON = 1e-4, STRIDE = 9;
const footprint = (step) => (step > 1 ? (1 - 1 / (step * step)) / 12 : 0);

const SPLAT = `#version 300 es
layout(location = 0) in vec4 shape;
layout(location = 1) in float turn;
layout(location = 2) in vec4 color;
uniform vec4 origin;
uniform vec2 scale, size;
flat out vec2 centre;
flat out vec4 axes, tint;
flat out float amplitude;
void main() {
  vec2 s = clamp(shape.zw, 1e-3, 1e6) * scale.x, sd = sqrt(s * s + scale.y);
  vec2 reach = ${RADIUS} * sd * (vec2(gl_VertexID & 1, gl_VertexID >> 1) * 2. - 1.);
  float c = cos(turn), n = sin(turn);
  centre = (shape.xy - origin.xy - origin.zw) * scale.x;
  axes = vec4(c, n, -n, c) / sd.xxyy;
  amplitude = s.x * s.y / (sd.x * sd.y);
  tint = color;
  gl_Position = vec4((centre + vec2(c * reach.x - n * reach.y, n * reach.x + c * reach.y)) / size * 2. - 1., 0, 1);
}`;
const WEIGH = `#version 300 es
precision highp float;
flat in vec2 centre;
flat in vec4 axes, tint;
flat in float amplitude;
layout(location = 0) out vec4 sum;
layout(location = 1) out vec4 opacity;
void main() {
  vec2 d = gl_FragCoord.xy - centre, u = vec2(dot(d, axes.xy), dot(d, axes.zw));
  float w = amplitude * (exp(-.5 * dot(u, u)) - ${CUTOFF});
  if (!(w > 0.)) discard;
  sum = vec4(tint.rgb * w, w);
  opacity = vec4(tint.a * w);
}`;
const COVER = `#version 300 es
void main() { gl_Position = vec4(gl_VertexID == 1 ? 3 : -1, gl_VertexID == 2 ? 3 : -1, 0, 1); }`;
const DIVIDE = `#version 300 es
precision highp float;
uniform sampler2D sums, opacities;
uniform vec4 background, frame;
uniform bool plain, opaque;
out vec4 color;
void main() {
  ivec2 at = ivec2(gl_FragCoord.x, float(textureSize(sums, 0).y) - gl_FragCoord.y);
  vec2 p = vec2(at) + .5;
  if (any(lessThan(p, frame.xy)) || any(greaterThan(p, frame.zw))) discard;
  vec4 s = texelFetch(sums, at, 0);
  color = vec4(s.rgb, texelFetch(opacities, at, 0).r);
  if (!plain) color = (color + ${EPSILON} * background) / (s.a + ${EPSILON});
  if (opaque) color.a = 1.;
  color = clamp(color, 0., 1.);
}`;

/** The channels of a plane as red, green, blue and opacity. */
function tints(colors, channels, plane) {
  const own = plane.channels, grey = own < 3, count = colors.length / channels, found = new Float32Array(4 * count).fill(1);
  for (let i = 0; i < count; i++) {
    for (let c = 0; c < 3; c++) found[4 * i + c] = colors[channels * i + plane.first + (grey ? 0 : c)];
    if (own % 2 === 0) found[4 * i + 3] = colors[channels * i + plane.first + own - 1];
  }
  return found;
}

class Back {
  /** @param header of the file; @param plane {first, channels}: what is shown */
  start(header, plane) {
    this.header = header;
    this.plane = plane;
    this.opaque = plane.channels % 2 === 1;
    this.background = tints(header.background, header.channels, plane);
    this.count = 0;
  }

  /** The picture in the output, pixels: left, top, right, bottom. */
  frame({ x, y, step }) {
    return [-x / step, -y / step, (this.header.width - x) / step, (this.header.height - y) / step];
  }
}

class GlBack extends Back {
  kind = 'WebGL 2';

  constructor(canvas, slow) {
    super();
    const options = { premultipliedAlpha: false, antialias: false, depth: false, failIfMajorPerformanceCaveat: !slow };
    const gl = canvas.getContext('webgl2', options);
    const float = gl?.getExtension('EXT_color_buffer_float') && gl.getExtension('EXT_float_blend');
    if (!float && !gl?.getExtension('EXT_color_buffer_half_float')) throw new Error('WebGL 2 that adds up: not here');
    this.gl = gl;
    this.format = float ? gl.RGBA32F : gl.RGBA16F;
    this.canvas = canvas;
    this.room = 0;
    this.targets = [0, 1].map(() => gl.createTexture());
    this.buffer = gl.createFramebuffer();
    this.vertices = gl.createVertexArray();
    this.splat = this.program(SPLAT, WEIGH, 'origin', 'scale', 'size');
    this.divide = this.program(COVER, DIVIDE, 'sums', 'opacities', 'background', 'frame', 'plain', 'opaque');
  }

  program(vertex, fragment, ...uniforms) {
    const gl = this.gl, program = gl.createProgram();
    for (const [kind, text] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program));
    return { program, ...Object.fromEntries(uniforms.map((name) => [name, gl.getUniformLocation(program, name)])) };
  }

  add({ means, scales, rotations, colors }) {
    const gl = this.gl, n = rotations.length, data = new Float32Array(STRIDE * n);
    const tint = tints(colors, this.header.channels, this.plane);
    for (let i = 0; i < n; i++) {
      data.set(means.subarray(2 * i, 2 * i + 2), STRIDE * i);
      data.set(scales.subarray(2 * i, 2 * i + 2), STRIDE * i + 2);
      data[STRIDE * i + 4] = rotations[i];
      data.set(tint.subarray(4 * i, 4 * i + 4), STRIDE * i + 5);
    }
    if (this.count + n > this.room) this.grow(this.count + n);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.instances);
    gl.bufferSubData(gl.ARRAY_BUFFER, 4 * STRIDE * this.count, data);
    this.count += n;
  }

  grow(n) {
    const gl = this.gl, larger = gl.createBuffer(), before = this.instances;
    this.room = Math.max(n, 2 * this.room, 4096);
    gl.bindBuffer(gl.ARRAY_BUFFER, larger);
    gl.bufferData(gl.ARRAY_BUFFER, 4 * STRIDE * this.room, gl.DYNAMIC_DRAW);
    if (before) {
      gl.bindBuffer(gl.COPY_READ_BUFFER, before);
      gl.copyBufferSubData(gl.COPY_READ_BUFFER, gl.ARRAY_BUFFER, 0, 0, 4 * STRIDE * this.count);
      gl.deleteBuffer(before);
    }
    this.instances = larger;
  }

  /** Where the attributes of instance `first` lie. */
  point(first) {
    const gl = this.gl;
    gl.bindBuffer(gl.ARRAY_BUFFER, this.instances);
    [[4, 0], [1, 4], [4, 5]].forEach(([size, at], k) => {
      gl.enableVertexAttribArray(k);
      gl.vertexAttribPointer(k, size, gl.FLOAT, false, 4 * STRIDE, 4 * (STRIDE * first + at));
      gl.vertexAttribDivisor(k, 1);
    });
  }

  resize(width, height) {
    if (this.width === width && this.height === height && this.two === !this.opaque) return;
    Object.assign(this, { width, height, two: !this.opaque });
    const gl = this.gl;
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.buffer);
    this.targets.forEach((texture, k) => {
      const [w, h] = k && this.opaque ? [1, 1] : [width, height];
      gl.bindTexture(gl.TEXTURE_2D, texture);
      gl.texImage2D(gl.TEXTURE_2D, 0, this.format, w, h, 0, gl.RGBA, gl.FLOAT, null);
      for (const filter of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, filter, gl.NEAREST);
      const shown = k && this.opaque ? null : texture;
      gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0 + k, gl.TEXTURE_2D, shown, 0);
    });
    gl.drawBuffers([gl.COLOR_ATTACHMENT0, this.opaque ? gl.NONE : gl.COLOR_ATTACHMENT1]);
  }

  /** @param runs [first, count] of the Gaussians to draw */
  draw(view, runs) {
    const { gl, splat, divide } = this, { width, height } = this.canvas, { x, y, step } = view;
    this.resize(width, height);
    gl.bindVertexArray(this.vertices);
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.buffer);
    gl.viewport(0, 0, width, height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE);
    gl.useProgram(splat.program);
    const [left, top] = [Math.fround(x), Math.fround(y)];
    gl.uniform4f(splat.origin, left, top, x - left, y - top);
    gl.uniform2f(splat.scale, 1 / step, footprint(step));
    gl.uniform2f(splat.size, width, height);
    for (const [first, count] of runs) {
      this.point(first);
      gl.drawArraysInstanced(gl.TRIANGLE_STRIP, 0, 4, count);
    }
    [0, 1, 2].forEach((k) => gl.disableVertexAttribArray(k));
    gl.disable(gl.BLEND);
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    gl.clear(gl.COLOR_BUFFER_BIT);
    gl.useProgram(divide.program);
    this.targets.forEach((texture, k) => {
      gl.activeTexture(gl.TEXTURE0 + k);
      gl.bindTexture(gl.TEXTURE_2D, texture);
    });
    gl.uniform1i(divide.sums, 0);
    gl.uniform1i(divide.opacities, 1);
    gl.uniform4fv(divide.background, this.background);
    gl.uniform4fv(divide.frame, this.frame(view));
    gl.uniform1i(divide.plain, this.header.blend === 'sum' ? 1 : 0);
    gl.uniform1i(divide.opaque, this.opaque ? 1 : 0);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  }
}

class CpuBack extends Back {
  kind = 'CPU';

  constructor(canvas) {
    super();
    this.canvas = canvas;
    this.context = canvas.getContext('2d');
  }

  start(header, plane) {
    super.start(header, plane);
    this.batches = [];
  }

  add(batch) {
    const tint = tints(batch.colors, this.header.channels, this.plane);
    this.batches.push({ ...batch, tint, first: this.count });
    this.count += batch.rotations.length;
  }

  draw(view, runs) {
    const { width, height } = this.canvas, image = this.context.createImageData(width, height);
    const [left, top, right, bottom] = this.frame(view).map((at) => Math.ceil(at - 0.5));
    const area = [Math.max(0, left), Math.max(0, top), Math.min(width, right), Math.min(height, bottom)];
    const k = this.header.blend === 'topk' ? this.header.topK : 0;
    const sums = new Float32Array(5 * width * height), best = new Float32Array(5 * k * width * height);
    for (const [first, count] of runs) {
      for (const batch of this.batches) {
        const from = Math.max(0, first - batch.first), end = Math.min(batch.rotations.length, first + count - batch.first);
        for (let i = from; i < end; i++) this.splat(batch, i, view, area, sums, best, k);
      }
    }
    for (let y = area[1]; y < area[3]; y++) for (let x = area[0]; x < area[2]; x++) this.divide(image.data, y * width + x, sums, best, k);
    this.context.putImageData(image, 0, 0);
  }

  splat({ means, scales, rotations, tint }, i, { x, y, step }, [left, top, right, bottom], sums, best, k) {
    const c = Math.cos(rotations[i]), s = Math.sin(rotations[i]), extra = footprint(step), width = this.canvas.width;
    const u = (Math.max(scales[2 * i], 1e-3) / step) ** 2, v = (Math.max(scales[2 * i + 1], 1e-3) / step) ** 2;
    const xx = c * c * u + s * s * v + extra, yy = s * s * u + c * c * v + extra, xy = c * s * (u - v);
    const det = (u + extra) * (v + extra), amplitude = Math.sqrt((u * v) / det), slope = xy / yy, precision = yy / det;
    const cx = (means[2 * i] - x) / step, cy = (means[2 * i + 1] - y) / step, tall = RADIUS * Math.sqrt(yy);
    const [r, g, b, a] = tint.subarray(4 * i, 4 * i + 4);
    for (let row = Math.max(top, Math.ceil(cy - tall - 0.5)); row < Math.min(bottom, cy + tall); row++) {
      const dy = row + 0.5 - cy, room = RADIUS * RADIUS - (dy * dy) / yy, middle = cx + slope * dy;
      if (room <= 0) continue;
      const wide = Math.sqrt(room / precision), bell = amplitude * Math.exp(-(dy * dy) / yy / 2);
      const end = Math.min(right, middle + wide);
      for (let column = Math.max(left, Math.ceil(middle - wide - 0.5)); column < end; column++) {
        const t = column + 0.5 - middle, w = bell * Math.exp(-0.5 * precision * t * t) - amplitude * CUTOFF;
        if (w <= 0) continue;
        const at = row * width + column;
        if (k) keep(best, 5 * k * at, k, w, r, g, b, a);
        else {
          sums[5 * at] += w * r;
          sums[5 * at + 1] += w * g;
          sums[5 * at + 2] += w * b;
          sums[5 * at + 3] += w * a;
          sums[5 * at + 4] += w;
        }
      }
    }
  }

  divide(out, at, sums, best, k) {
    for (let n = 0; n < k && best[5 * (k * at + n) + 4]; n++) {
      const from = 5 * (k * at + n), w = best[from + 4];
      for (let c = 0; c < 4; c++) sums[5 * at + c] += w * best[from + c];
      sums[5 * at + 4] += w;
    }
    const plain = this.header.blend === 'sum', total = sums[5 * at + 4] + EPSILON;
    for (let c = 0; c < 4; c++) {
      const value = plain ? sums[5 * at + c] : (sums[5 * at + c] + EPSILON * this.background[c]) / total;
      out[4 * at + c] = c === 3 && this.opaque ? 255 : 255 * value;
    }
  }
}

/** Puts a weight among the k largest of a pixel; of equal ones the earlier stays. */
function keep(best, start, k, w, r, g, b, a) {
  let n = start + 5 * (k - 1);
  if (best[n + 4] >= w) return;
  for (; n > start && best[n - 1] < w; n -= 5) best.copyWithin(n, n - 5, n);
  best[n] = r;
  best[n + 1] = g;
  best[n + 2] = b;
  best[n + 3] = a;
  best[n + 4] = w;
}

/**
 * What draws on a canvas element.
 *
 * @param {HTMLCanvasElement} canvas without a context yet; another takes its place if it can have no WebGL
 * @param {string} backend webgl, cpu, or else: WebGL unless software draws it, which is slower than the CPU by itself
 */
export function makeBack(canvas, backend) {
  if (backend === 'cpu') return new CpuBack(canvas);
  try {
    return new GlBack(canvas, backend === 'webgl');
  } catch {
    const other = canvas.cloneNode(); // one that has no context yet
    canvas.replaceWith(other);
    return new CpuBack(other);
  }
}
