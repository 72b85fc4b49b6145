// Mathematics and constants of one 2D Gaussian, shared by every backend. Includes nothing when compiled by NVRTC.
//
// A Gaussian is written row by row, so that nothing cancels however thin or tilted it is:
//   d^2 = precision * t^2 + row_precision * dy^2,   t = x - (mean_x + slope * dy),   dy = y - mean_y
// with slope = Sxy / Syy, precision = Syy / det S, row_precision = 1 / Syy. The value is
//   w = max(a * exp(-d^2 / 2) - a * exp(-r^2 / 2), 0)
// with amplitude a = 1 unless a minifying render widens the Gaussian (EWA splatting, Zwicker et al. 2001), where a
// keeps its integral.
#pragma once

#ifndef __CUDACC__
#include <cmath>
#define IMAGEGS_INLINE inline
#else
#define IMAGEGS_INLINE __device__ __forceinline__
#endif

namespace imagegs {

#ifndef __CUDACC__ // NVRTC has them in the global namespace
using std::ceil, std::cos, std::exp, std::fabs, std::floor, std::isfinite, std::log2, std::sin, std::sqrt;
#endif

constexpr float kRadius = 3.5f;          // support, standard deviations
constexpr float kCutoff = 0.0021874912f; // exp(-kRadius^2 / 2)
constexpr float kEpsilon = 1e-4f;        // weight of the background in a normalising blend
constexpr float kMinScale = 1e-3f;       // scales are clamped to [kMinScale, kMaxScale] where they are used, px
constexpr float kMaxScale = 1e6f;
constexpr float kMaxMean = 1e7f;           // a mean further out, px, draws nothing
constexpr float kFootprint = 1.0f / 12.0f; // variance of a box pixel, in squared output pixels
constexpr int kMaxChannels = 32;
constexpr int kMaxTopK = 32;
constexpr int kLocalGradients = 5; // position (2), log scale (2), rotation, all in the Gaussian's own frame
constexpr float kLog2E = 1.44269504f;

enum Blend : int { kNormalized = 0, kTopK = 1, kSum = 2 };

// Output pixel (column j, row i) looks at the canvas point (x0 + (j + 0.5) * step_x, y0 + (i + 0.5) * step_y).
struct Viewport {
  double x0, y0, step_x, step_y;
};

// One Gaussian in output pixels, ready to be drawn.
struct Splat {
  float mean_x, mean_y;
  float slope;              // Sxy / Syy
  float precision;          // Syy / det S, px^-2
  float row_precision;      // 1 / Syy, px^-2
  float log2_amplitude;     // log2 a
  float cutoff;             // a * exp(-r^2 / 2)
  float extent_x, extent_y; // half sides of the bounding box, px; negative: draws nothing
  float tip_dy;             // dy of the rightmost point of the support; the leftmost is at -tip_dy
};

// What a backward pass adds up over a Gaussian's pixels: q = a exp(-d^2/2) dL/dw, for w > 0.
struct Moments {
  float qt, qy, qtt, qty, qyy; // sums of q t, q dy, q t^2, q t dy, q dy^2
  float qw;                    // sum of w dL/dw, the gradient of log a
};

IMAGEGS_INLINE float clamp_scale(float s) { return s < kMinScale ? kMinScale : (s > kMaxScale ? kMaxScale : s); }

IMAGEGS_INLINE bool is_plain(const Viewport &view) { return view.step_x == 1.0 && view.step_y == 1.0; }

// Variance that a minifying render adds along one axis, in squared output pixels; 0 at scale 1 and above.
IMAGEGS_INLINE double footprint(double step) { return step > 1.0 ? kFootprint * (1.0 - 1.0 / (step * step)) : 0.0; }

struct Covariance {
  double xx, xy, yy, det; // of the drawn Gaussian, output pixels
  double own_det;         // before the footprint was added
};

IMAGEGS_INLINE Covariance drawn_covariance(const float *scale, float rotation, const Viewport &view) {
  const double c = cos(double(rotation)), s = sin(double(rotation));
  const double v1 = double(clamp_scale(scale[0])) * clamp_scale(scale[0]);
  const double v2 = double(clamp_scale(scale[1])) * clamp_scale(scale[1]);
  const double fx = footprint(view.step_x), fy = footprint(view.step_y);
  const double xx = (c * c * v1 + s * s * v2) / (view.step_x * view.step_x);
  const double yy = (s * s * v1 + c * c * v2) / (view.step_y * view.step_y);
  const double xy = c * s * (v1 - v2) / (view.step_x * view.step_y);
  const double own = v1 * v2 / (view.step_x * view.step_x * view.step_y * view.step_y);
  return {xx + fx, xy, yy + fy, own + fx * yy + fy * xx + fx * fy, own};
}

IMAGEGS_INLINE bool finite_row(const float *row, int count) {
  bool finite = true;
  for (int i = 0; i < count; i++) finite &= isfinite(row[i]);
  return finite;
}

// Prepares a Gaussian; anything that is not finite, or too far out, draws nothing.
IMAGEGS_INLINE Splat prepare(const float *mean, const float *scale, float rotation, const Viewport &view) {
  Splat out{};
  out.extent_x = out.extent_y = -1.0f;
  const bool finite =
      isfinite(mean[0]) && isfinite(mean[1]) && isfinite(scale[0]) && isfinite(scale[1]) && isfinite(rotation);
  if (!finite || fabs(mean[0]) > kMaxMean || fabs(mean[1]) > kMaxMean) return out;
  double xx, xy, yy, det, amplitude = 1.0;
  if (is_plain(view)) { // no footprint: float is exact enough and quick
    const float c = cos(rotation), s = sin(rotation);
    const float s1 = clamp_scale(scale[0]), s2 = clamp_scale(scale[1]);
    xx = double(c * s1) * (c * s1) + double(s * s2) * (s * s2);
    yy = double(s * s1) * (s * s1) + double(c * s2) * (c * s2);
    xy = double(c * s) * (double(s1) * s1 - double(s2) * s2);
    det = double(s1) * s1 * (double(s2) * s2);
  } else {
    const Covariance cov = drawn_covariance(scale, rotation, view);
    xx = cov.xx, xy = cov.xy, yy = cov.yy, det = cov.det;
    amplitude = sqrt(cov.own_det / cov.det);
  }
  out.mean_x = float((mean[0] - view.x0) / view.step_x);
  out.mean_y = float((mean[1] - view.y0) / view.step_y);
  out.slope = float(xy / yy);
  out.precision = float(yy / det);
  out.row_precision = float(1.0 / yy);
  out.log2_amplitude = amplitude == 1.0 ? 0.0f : float(log2(amplitude));
  out.cutoff = float(amplitude * kCutoff);
  const float sd_x = float(sqrt(xx));
  out.tip_dy = kRadius * float(xy) / sd_x;
  // an extreme viewport can drive a Gaussian out of float's range
  const float extent_x = kRadius * sd_x, extent_y = kRadius * float(sqrt(yy));
  const float sum = out.mean_x + out.mean_y + out.slope + out.precision + out.row_precision + out.cutoff + out.tip_dy;
  if (!isfinite(sum + extent_x + extent_y)) return out;
  out.extent_x = extent_x;
  out.extent_y = extent_y;
  return out;
}

// Turns a Gaussian's moments into gradients in its own frame: position in units of its scales, log scales, rotation.
IMAGEGS_INLINE void local_gradient(const Moments &m, const Splat &splat, const float *scale, float rotation,
                                   const Viewport &view, float *v_local) {
  const double c = cos(rotation), s = sin(rotation);
  const double s1 = clamp_scale(scale[0]), s2 = clamp_scale(scale[1]);
  const bool held1 = s1 != double(scale[0]), held2 = s2 != double(scale[1]); // a clamped scale has no gradient
  if (is_plain(view)) {
    // u = (c t + (c slope + s) dy) / s1 and c slope + s = s s1^2 / Syy; likewise v: nothing cancels
    const double yy = 1.0 / double(splat.row_precision);
    const double ut = c / s1, uy = s * s1 / yy, vt = -s / s2, vy = c * s2 / yy;
    const double quu = ut * ut * m.qtt + 2 * ut * uy * m.qty + uy * uy * m.qyy;
    const double qvv = vt * vt * m.qtt + 2 * vt * vy * m.qty + vy * vy * m.qyy;
    const double quv = ut * vt * m.qtt + (ut * vy + uy * vt) * m.qty + uy * vy * m.qyy;
    v_local[0] = float(ut * m.qt + uy * m.qy);
    v_local[1] = float(vt * m.qt + vy * m.qy);
    v_local[2] = held1 ? 0.0f : float(quu);
    v_local[3] = held2 ? 0.0f : float(qvv);
    v_local[4] = float(quv * (s1 / s2 - s2 / s1));
    return;
  }
  const Covariance cov = drawn_covariance(scale, rotation, view);
  const double k = splat.slope;
  const double qxx = m.qtt + 2 * k * m.qty + k * k * m.qyy, qxy = m.qty + k * m.qyy, qx = m.qt + k * m.qy;
  const double ixx = cov.yy / cov.det, ixy = -cov.xy / cov.det, iyy = cov.xx / cov.det;
  const double vx = (ixx * qx + ixy * m.qy) / view.step_x, vy = (ixy * qx + iyy * m.qy) / view.step_y;
  v_local[0] = float(s1 * (c * vx + s * vy));
  v_local[1] = float(s2 * (-s * vx + c * vy));
  // dL/dS = inv M inv / 2 from the exponent; and from log a = (log own_det - log det) / 2: -qw inv / 2 for S as drawn
  const double axx = qxx * ixx + qxy * ixy, axy = qxx * ixy + qxy * iyy, ayx = qxy * ixx + m.qyy * ixy,
               ayy = qxy * ixy + m.qyy * iyy;
  const double gxx = 0.5 * (ixx * axx + ixy * ayx - m.qw * ixx) / (view.step_x * view.step_x);
  const double gxy = 0.5 * (ixx * axy + ixy * ayy - m.qw * ixy) / (view.step_x * view.step_y);
  const double gyy = 0.5 * (ixy * axy + iyy * ayy - m.qw * iyy) / (view.step_y * view.step_y);
  const double v1 = s1 * s1, v2 = s2 * s2; // S = R diag(v1, v2) R^T on the canvas
  v_local[2] = held1 ? 0.0f : float(2 * v1 * (c * c * gxx + 2 * c * s * gxy + s * s * gyy) + m.qw);
  v_local[3] = held2 ? 0.0f : float(2 * v2 * (s * s * gxx - 2 * c * s * gxy + c * c * gyy) + m.qw);
  v_local[4] = float((v1 - v2) * (2 * c * s * (gyy - gxx) + 2 * (c * c - s * s) * gxy));
}

} // namespace imagegs
