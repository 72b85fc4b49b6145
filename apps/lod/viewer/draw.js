/**
 * Gaussians to pixels, with WebGL 2 or on the CPU; the mathematics is that of imagegs/kernels/gaussian2d.h.
 *
 * A view is {x, y, step}: the canvas point at the top left corner of the output, and canvas pixels per output pixel. A
 * batch is {means, scales, rotations, colors} of some Gaussians; batches are drawn in the order of the file.
 */
const RADIUS = 3.5, CUTOFF = 0.0021874912, EPSILON = 1e-4;
const footprint = (step) => (step > 1 ? (1 - 1 / (step * step)) / 12 : 0);

const SPLAT = `#version 300 es
layout(location = 0) in vec2 mean;
layout(location = 1) in vec2 deviation;
layout(location = 2) in float turn;
layout(location = 3) in vec4 color;
uniform vec4 origin;
uniform vec2 scale, size;
flat out vec2 centre;
flat out vec4 axes, tint;
flat out float amplitude;
void main() {
  vec2 s = clamp(deviation, 1e-3, 1e6) * scale.x, sd = sqrt(s * s + scale.y);
  vec2 reach = ${RADIUS} * sd * (vec2(gl_VertexID & 1, gl_VertexID >> 1) * 2. - 1.);
  float c = cos(turn), n = sin(turn);
  centre = (mean - origin.xy - origin.zw) * scale.x;
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

/** The channels of a plane {first, channels} as red, green, blue and opacity. */
function tints(colors, channels, { first, channels: own }) {
  const found = new Float32Array((4 * colors.length) / channels).fill(1), grey = own < 3;
  for (let i = 0, at = first; 4 * i < found.length; i++, at += channels) {
    for (let c = 0; c < 3; c++) found[4 * i + c] = colors[at + (grey ? 0 : c)];
    if (own % 2 === 0) found[4 * i + 3] = colors[at + own - 1];
  }
  return found;
}

/** Where the picture is in the output, pixels: left, top, right, bottom. */
const frameOf = ({ width, height }, { x, y, step }) => [-x / step, -y / step, (width - x) / step, (height - y) / step];

function glBack(canvas, header, plane, slow) {
  const options = { premultipliedAlpha: false, antialias: false, depth: false, failIfMajorPerformanceCaveat: !slow };
  const gl = canvas.getContext('webgl2', options);
  const float = gl?.getExtension('EXT_color_buffer_float') && gl.getExtension('EXT_float_blend');
  const by = gl?.getParameter(gl.getExtension('WEBGL_debug_renderer_info')?.UNMASKED_RENDERER_WEBGL ?? gl.RENDERER);
  if (!slow && /swiftshader|llvmpipe|software|basic render/i.test(by)) throw new Error('software');
  if (!float && !gl?.getExtension('EXT_color_buffer_half_float')) throw new Error('no WebGL 2 that adds up');
  const opaque = plane.channels % 2 === 1, uploads = new Map(), buffer = gl.createFramebuffer();
  const targets = opaque ? [gl.createTexture()] : [gl.createTexture(), gl.createTexture()];
  const attachments = targets.map((_, k) => gl.COLOR_ATTACHMENT0 + k);
  const splat = program(SPLAT, WEIGH, 'origin', 'scale', 'size');
  const divide = program(COVER, DIVIDE, 'sums', 'opacities', 'background', 'frame', 'plain', 'opaque');
  let shape = '';

  function program(vertex, fragment, ...uniforms) {
    const made = gl.createProgram();
    for (const [kind, text] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      gl.attachShader(made, shader);
    }
    gl.linkProgram(made);
    if (!gl.getProgramParameter(made, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(made));
    return { made, ...Object.fromEntries(uniforms.map((name) => [name, gl.getUniformLocation(made, name)])) };
  }

  /** A batch as a vertex array of instances. */
  function upload({ means, scales, rotations, colors }) {
    const vertices = gl.createVertexArray();
    gl.bindVertexArray(vertices);
    [[means, 2], [scales, 2], [rotations, 1], [tints(colors, header.channels, plane), 4]].forEach(([data, size], k) => {
      gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
      gl.bufferData(gl.ARRAY_BUFFER, data, gl.STATIC_DRAW);
      gl.enableVertexAttribArray(k);
      gl.vertexAttribPointer(k, size, gl.FLOAT, false, 0, 0);
      gl.vertexAttribDivisor(k, 1);
    });
    return vertices;
  }

  function resize(width, height) {
    if (shape === (shape = `${width} ${height}`)) return;
    targets.forEach((texture, k) => {
      gl.bindTexture(gl.TEXTURE_2D, texture);
      gl.texImage2D(gl.TEXTURE_2D, 0, float ? gl.RGBA32F : gl.RGBA16F, width, height, 0, gl.RGBA, gl.FLOAT, null);
      for (const filter of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, filter, gl.NEAREST);
      gl.framebufferTexture2D(gl.FRAMEBUFFER, attachments[k], gl.TEXTURE_2D, texture, 0);
    });
    gl.drawBuffers(attachments);
  }

  function draw(view, batches) {
    const { width, height } = canvas, { x, y, step } = view, left = Math.fround(x), top = Math.fround(y);
    gl.bindFramebuffer(gl.FRAMEBUFFER, buffer);
    resize(width, height);
    gl.viewport(0, 0, width, height);
    gl.clear(gl.COLOR_BUFFER_BIT);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE);
    gl.useProgram(splat.made);
    gl.uniform4f(splat.origin, left, top, x - left, y - top);
    gl.uniform2f(splat.scale, 1 / step, footprint(step));
    gl.uniform2f(splat.size, width, height);
    for (const batch of batches) {
      if (!uploads.has(batch)) uploads.set(batch, upload(batch));
      gl.bindVertexArray(uploads.get(batch));
      gl.drawArraysInstanced(gl.TRIANGLE_STRIP, 0, 4, batch.count);
    }
    gl.bindVertexArray(null);
    gl.disable(gl.BLEND);
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    gl.clear(gl.COLOR_BUFFER_BIT);
    gl.useProgram(divide.made);
    targets.forEach((texture, k) => {
      gl.activeTexture(gl.TEXTURE0 + k);
      gl.bindTexture(gl.TEXTURE_2D, texture);
    });
    gl.uniform1i(divide.opacities, opaque ? 0 : 1);
    gl.uniform4fv(divide.background, tints(header.background, header.channels, plane));
    gl.uniform4fv(divide.frame, frameOf(header, view));
    gl.uniform1i(divide.plain, header.blend === 'sum' ? 1 : 0);
    gl.uniform1i(divide.opaque, opaque ? 1 : 0);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  }

  return { kind: 'WebGL 2', canvas, draw, gl };
}

function cpuBack(canvas, header, plane) {
  const context = canvas.getContext('2d'), colors = new Map(), k = header.blend === 'topk' ? header.topK : 0;
  const plain = header.blend === 'sum', opaque = plane.channels % 2 === 1;
  const background = tints(header.background, header.channels, plane);
  let width, sums, best; // for each pixel r, g, b, opacity and weight; the k largest weights of each with their colours

  function draw(view, batches) {
    const { height } = canvas;
    width = canvas.width;
    const image = context.createImageData(width, height);
    const [left, top, right, bottom] = frameOf(header, view).map((at) => Math.ceil(at - 0.5));
    const area = [Math.max(0, left), Math.max(0, top), Math.min(width, right), Math.min(height, bottom)];
    sums = new Float32Array(5 * width * height);
    best = new Float32Array(k * sums.length);
    for (const batch of batches) {
      if (!colors.has(batch)) colors.set(batch, tints(batch.colors, header.channels, plane));
      const tint = colors.get(batch);
      for (let i = 0; i < batch.count; i++) splat(batch, tint, i, view, area);
    }
    for (let y = area[1]; y < area[3]; y++) for (let x = area[0]; x < area[2]; x++) divide(image.data, y * width + x);
    context.putImageData(image, 0, 0);
  }

  function splat({ means, scales, rotations }, tint, i, { x, y, step }, [left, top, right, bottom]) {
    const c = Math.cos(rotations[i]), s = Math.sin(rotations[i]), extra = footprint(step);
    const u = (Math.max(scales[2 * i], 1e-3) / step) ** 2, v = (Math.max(scales[2 * i + 1], 1e-3) / step) ** 2;
    const yy = s * s * u + c * c * v + extra, xy = c * s * (u - v), det = (u + extra) * (v + extra);
    const amplitude = Math.sqrt((u * v) / det), slope = xy / yy, precision = yy / det, least = amplitude * CUTOFF;
    const cx = (means[2 * i] - x) / step, cy = (means[2 * i + 1] - y) / step, tall = RADIUS * Math.sqrt(yy);
    const r = tint[4 * i], g = tint[4 * i + 1], b = tint[4 * i + 2], a = tint[4 * i + 3];
    for (let row = Math.max(top, Math.ceil(cy - tall - 0.5)); row < Math.min(bottom, cy + tall); row++) {
      const dy = row + 0.5 - cy, room = RADIUS * RADIUS - (dy * dy) / yy, middle = cx + slope * dy;
      if (room <= 0) continue;
      const wide = Math.sqrt(room / precision), first = Math.max(left, Math.ceil(middle - wide - 0.5));
      // along the row the bell's value falls by a factor that itself falls by one factor
      const t = first + 0.5 - middle, fall = Math.exp(-precision), end = Math.min(right, middle + wide);
      let bell = amplitude * Math.exp(-(precision * t * t + (dy * dy) / yy) / 2), ratio = Math.exp(-precision * (t + 0.5));
      for (let column = first, at = 5 * (row * width + first); column < end; column++, at += 5, bell *= ratio, ratio *= fall) {
        const w = bell - least;
        if (!(w > 0)) continue;
        if (k) keep(k * at, w, r, g, b, a);
        else {
          sums[at] += w * r;
          sums[at + 1] += w * g;
          sums[at + 2] += w * b;
          sums[at + 3] += w * a;
          sums[at + 4] += w;
        }
      }
    }
  }

  /** Puts a weight among the k largest of a pixel; of equal ones the earlier stays. */
  function keep(start, w, ...color) {
    let n = start + 5 * (k - 1);
    if (best[n + 4] >= w) return;
    for (; n > start && best[n - 1] < w; n -= 5) best.copyWithin(n, n - 5, n);
    best.set([...color, w], n);
  }

  function divide(out, at) {
    for (let n = 5 * k * at; n < 5 * k * (at + 1) && best[n + 4]; n += 5) {
      for (let c = 0; c < 5; c++) sums[5 * at + c] += best[n + 4] * (c < 4 ? best[n + c] : 1);
    }
    const total = sums[5 * at + 4] + EPSILON;
    for (let c = 0; c < 4; c++) {
      const sum = sums[5 * at + c], value = plain ? sum : (sum + EPSILON * background[c]) / total;
      out[4 * at + c] = c === 3 && opaque ? 255 : 255 * value;
    }
  }

  return { kind: 'CPU', canvas, draw };
}

/**
 * What draws a plane of a file on a canvas: {kind, canvas, draw(view, batches)}.
 *
 * @param {HTMLCanvasElement} canvas without a context yet; another takes its place if it can have no WebGL
 * @param {object} header of the file
 * @param {{first: number, channels: number}} plane what is shown
 * @param {string} backend webgl, cpu, or else: WebGL unless software draws it, which is slower than the CPU by itself
 */
export function makeBack(canvas, header, plane, backend) {
  if (backend === 'cpu') return cpuBack(canvas, header, plane);
  try {
    return glBack(canvas, header, plane, backend === 'webgl');
  } catch {
    const other = canvas.cloneNode(); // one that has no context yet
    canvas.replaceWith(other);
    return cpuBack(other, header, plane);
  }
}
