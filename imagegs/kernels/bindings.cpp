// Types for Python, and nothing else: arrays are checked for kind and layout here, for meaning in native.py.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>

#include <cmath>
#include <mutex>
#include <stdexcept>
#include <tuple>

#include "local_frame.h"
#include "parallel.h"
#include "renderer.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

template <typename... Shape> using In = nb::ndarray<const float, Shape..., nb::c_contig, nb::device::cpu>;
template <typename... Shape> using Out = nb::ndarray<float, Shape..., nb::c_contig, nb::device::cpu>;
using Pairs = nb::shape<-1, 2>;
using Rows = nb::shape<-1, -1>;
using Values = nb::shape<-1>;
using Image = nb::shape<-1, -1, -1>;

void require(bool condition, const char *message) {
  if (!condition) throw std::invalid_argument(message);
}

class PyRenderer {
public:
  void prepare(In<Pairs> means, In<Pairs> scales, In<Values> rotations, In<Rows> colors, int height, int width,
               std::tuple<double, double, double, double> viewport, int blend, int top_k) {
    const auto alone = lock();
    const size_t n = means.shape(0);
    require(scales.shape(0) == n && rotations.shape(0) == n && colors.shape(0) == n, "arrays disagree on N");
    require(colors.shape(1) >= 1 && colors.shape(1) <= imagegs::kMaxChannels, "channels out of range");
    require(height > 0 && width > 0, "size must be positive");
    require(blend >= 0 && blend <= imagegs::kSum && top_k >= 1 && top_k <= imagegs::kMaxTopK, "blend out of range");
    const auto [x0, y0, step_x, step_y] = viewport;
    require(std::isfinite(x0) && std::isfinite(y0), "origin must be finite");
    require(step_x > 0 && step_y > 0 && std::isfinite(step_x) && std::isfinite(step_y), "steps must be positive");
    held_ = {means, scales, rotations, colors};
    const imagegs::GaussianArrays arrays{int64_t(n),    int(colors.shape(1)), means.data(),
                                         scales.data(), rotations.data(),     colors.data()};
    const nb::gil_scoped_release release;
    renderer_.prepare(arrays, height, width, {x0, y0, step_x, step_y}, blend, top_k);
  }

  void forward(In<Values> background, Out<Image> image, bool keep) {
    const auto alone = lock();
    check(background, image);
    const nb::gil_scoped_release release;
    renderer_.forward(background.data(), image.data(), keep);
  }

  std::pair<double, double> backward(In<Values> background, std::optional<Out<Image>> image,
                                     std::optional<In<Image>> target, std::optional<In<Rows>> weights,
                                     std::optional<In<Image>> v_image, float l1, float l2, bool fused,
                                     Out<nb::shape<-1, imagegs::kLocalGradients>> v_local, Out<Rows> v_colors,
                                     Out<Values> v_background) {
    const auto alone = lock();
    require(background.shape(0) == size_t(renderer_.channels()), "background must have C values");
    require(image ? fits(*image) : fused, "image must be [C, H, W]");
    require(!target || fits(*target), "target must be [C, H, W]");
    require(!v_image || fits(*v_image), "v_image must be [C, H, W]");
    require(!weights || fits(*weights), "weights must be [H, W]");
    require(int64_t(v_local.shape(0)) == renderer_.count() && int64_t(v_colors.shape(0)) == renderer_.count() &&
                int(v_colors.shape(1)) == renderer_.channels() && int(v_background.shape(0)) == renderer_.channels(),
            "gradients must have the shapes of their arrays");
    require(fused || renderer_.kept(), "forward(keep=True) must come first");
    const imagegs::Loss loss{target ? target->data() : nullptr, weights ? weights->data() : nullptr,
                             v_image ? v_image->data() : nullptr, l1, l2};
    const nb::gil_scoped_release release;
    const auto sums = renderer_.backward(background.data(), image ? image->data() : nullptr, loss, fused,
                                         {v_local.data(), v_colors.data(), v_background.data()});
    return {sums.loss, sums.squared_error};
  }

  void removal(In<Values> background, Out<Image> image, In<Image> target, std::optional<In<Rows>> weights,
               Out<Values> growth) {
    const auto alone = lock();
    check(background, image);
    require(fits(target), "target must be [C, H, W]");
    require(!weights || fits(*weights), "weights must be [H, W]");
    require(int64_t(growth.shape(0)) == renderer_.count(), "growth must be [N]");
    require(renderer_.kept(), "forward(keep=True) must come first");
    const imagegs::Loss loss{target.data(), weights ? weights->data() : nullptr, nullptr, 0.0f, 1.0f};
    const nb::gil_scoped_release release;
    renderer_.removal(background.data(), image.data(), loss, growth.data());
  }

  int64_t pairs() const { return renderer_.pairs(); }

private:
  // Others may run while the GIL is released, but not on the same renderer.
  std::unique_lock<std::mutex> lock() {
    std::unique_lock<std::mutex> hold(busy_, std::try_to_lock);
    if (!hold) throw std::runtime_error("a Renderer serves one thread at a time");
    return hold;
  }

  template <typename Array> bool fits(const Array &array) const {
    const size_t last = array.ndim() - 1;
    return (array.ndim() < 3 || array.shape(0) == size_t(renderer_.channels())) &&
           array.shape(last - 1) == size_t(renderer_.height()) && array.shape(last) == size_t(renderer_.width());
  }

  void check(const In<Values> &background, const Out<Image> &image) const {
    require(background.shape(0) == size_t(renderer_.channels()), "background must have C values");
    require(fits(image), "image must be [C, H, W]");
  }

  imagegs::Renderer renderer_;
  std::tuple<In<Pairs>, In<Pairs>, In<Values>, In<Rows>> held_; // the renderer keeps pointers into them
  std::mutex busy_;
};

double ssim(In<Image> image, In<Image> target, std::optional<In<Rows>> weights, float scale,
            std::optional<Out<Image>> v_image) {
  for (int axis = 0; axis < 3; axis++)
    require(image.shape(axis) == target.shape(axis) && (!v_image || v_image->shape(axis) == image.shape(axis)),
            "images must have one shape");
  require(!weights || (weights->shape(0) == image.shape(1) && weights->shape(1) == image.shape(2)),
          "weights must be [H, W]");
  const nb::gil_scoped_release release;
  return imagegs::kernels().ssim(int(image.shape(0)), int(image.shape(1)), int(image.shape(2)), image.data(),
                                 target.data(), weights ? weights->data() : nullptr, scale,
                                 v_image ? v_image->data() : nullptr);
}

void adam(In<Rows> gradient, Out<Rows> first, Out<Rows> second, float beta1, float beta2, float epsilon,
          float correction1, float correction2, Out<Rows> update) {
  for (const auto &array : {first, second, update})
    require(array.shape(0) == gradient.shape(0) && array.shape(1) == gradient.shape(1), "arrays must have one shape");
  const nb::gil_scoped_release release;
  imagegs::kernels().adam(int64_t(gradient.size()), gradient.data(), first.data(), second.data(), beta1, beta2, epsilon,
                          correction1, correction2, update.data());
}

void apply_local(In<nb::shape<-1, imagegs::kLocalGradients>> update, float position, float scale, float rotation,
                 float low, float high, Out<Pairs> means, Out<Pairs> scales, Out<Values> rotations) {
  const size_t n = update.shape(0);
  require(means.shape(0) == n && scales.shape(0) == n && rotations.shape(0) == n, "arrays disagree on N");
  require(low <= high, "low must not exceed high");
  const nb::gil_scoped_release release;
  imagegs::apply_local(int64_t(n), update.data(), {position, scale, rotation}, low, high, means.data(), scales.data(),
                       rotations.data());
}

} // namespace

void bind_entropy(nb::module_ &m); // entropy_bindings.cpp
void bind_sampler(nb::module_ &m); // sampler_bindings.cpp

NB_MODULE(_native, m) {
  m.attr("RADIUS") = imagegs::kRadius;
  m.attr("CUTOFF") = imagegs::kCutoff;
  m.attr("EPSILON") = imagegs::kEpsilon;
  m.attr("MIN_SCALE") = imagegs::kMinScale;
  m.attr("MAX_SCALE") = imagegs::kMaxScale;
  m.attr("MAX_MEAN") = imagegs::kMaxMean;
  m.attr("FOOTPRINT") = imagegs::kFootprint;
  m.attr("MAX_CHANNELS") = imagegs::kMaxChannels;
  m.attr("MAX_TOP_K") = imagegs::kMaxTopK;

  bind_entropy(m);
  bind_sampler(m);
  m.def("set_threads", &imagegs::set_threads, "count"_a);
  m.def("threads", &imagegs::threads);
  m.def("select_kernels", [](const std::string &name) { return imagegs::select_kernels(name.c_str()); }, "name"_a);
  m.def("kernels", [] { return std::string(imagegs::kernels().name); });

  nb::class_<PyRenderer>(m, "Renderer")
      .def(nb::init<>())
      .def("prepare", &PyRenderer::prepare, "means"_a.noconvert(), "scales"_a.noconvert(), "rotations"_a.noconvert(),
           "colors"_a.noconvert(), "height"_a, "width"_a, "viewport"_a, "blend"_a, "top_k"_a)
      .def("forward", &PyRenderer::forward, "background"_a.noconvert(), "image"_a.noconvert(), "keep"_a)
      .def("backward", &PyRenderer::backward, "background"_a.noconvert(), "image"_a.noconvert().none(),
           "target"_a.noconvert().none(), "weights"_a.noconvert().none(), "v_image"_a.noconvert().none(), "l1"_a,
           "l2"_a, "fused"_a, "v_local"_a.noconvert(), "v_colors"_a.noconvert(), "v_background"_a.noconvert())
      .def("removal", &PyRenderer::removal, "background"_a.noconvert(), "image"_a.noconvert(), "target"_a.noconvert(),
           "weights"_a.noconvert().none(), "growth"_a.noconvert())
      .def_prop_ro("pairs", &PyRenderer::pairs);

  m.def("ssim", &ssim, "image"_a.noconvert(), "target"_a.noconvert(), "weights"_a.noconvert().none(), "scale"_a,
        "v_image"_a.noconvert().none());
  m.def("adam", &adam, "gradient"_a.noconvert(), "first"_a.noconvert(), "second"_a.noconvert(), "beta1"_a, "beta2"_a,
        "epsilon"_a, "correction1"_a, "correction2"_a, "update"_a.noconvert());
  m.def("apply_local", &apply_local, "update"_a.noconvert(), "position"_a, "scale"_a, "rotation"_a, "low"_a, "high"_a,
        "means"_a.noconvert(), "scales"_a.noconvert(), "rotations"_a.noconvert());
}
