// The sampler for Python: arrays are checked for kind and layout here, for meaning in native.py.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>

#include <stdexcept>

#include "sampler.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

template <typename Type, typename... Shape> using Array = nb::ndarray<Type, Shape..., nb::c_contig, nb::device::cpu>;
using Pairs = nb::shape<-1, 2>;
using Rows = nb::shape<-1, -1>;
using Values = nb::shape<-1>;

void require(bool condition, const char *message) {
  if (!condition) throw std::invalid_argument(message);
}

void make(imagegs::Sampler *self, Array<const float, Pairs> means, Array<const float, Pairs> scales,
          Array<const float, Values> rotations, Array<const float, Rows> colors, int height, int width, int cell,
          int blend, int top_k) {
  const size_t n = means.shape(0);
  require(scales.shape(0) == n && rotations.shape(0) == n && colors.shape(0) == n, "arrays disagree on N");
  require(colors.shape(1) >= 1 && colors.shape(1) <= imagegs::kMaxChannels, "channels out of range");
  require(height > 0 && width > 0 && cell > 0, "sizes must be positive");
  require(blend >= 0 && blend <= imagegs::kSum && top_k >= 1 && top_k <= imagegs::kMaxTopK, "blend out of range");
  const imagegs::GaussianArrays arrays{int64_t(n),    int(colors.shape(1)), means.data(),
                                       scales.data(), rotations.data(),     colors.data()};
  const nb::gil_scoped_release release;
  new (self) imagegs::Sampler(arrays, height, width, cell, blend, top_k);
}

void sample(const imagegs::Sampler &self, Array<const float, Pairs> points, Array<const float, Values> background,
            Array<float, Rows> colors, std::optional<Array<int32_t, Pairs>> costs) {
  const size_t n = points.shape(0);
  require(background.shape(0) == size_t(self.channels()), "background must have C values");
  require(colors.shape(0) == n && colors.shape(1) == size_t(self.channels()), "colors must be [N, C]");
  require(!costs || costs->shape(0) == n, "costs must be [N, 2]");
  const nb::gil_scoped_release release;
  self.sample(int64_t(n), points.data(), background.data(), colors.data(), costs ? costs->data() : nullptr);
}

} // namespace

void bind_sampler(nb::module_ &m) {
  nb::class_<imagegs::Sampler>(m, "Sampler")
      .def("__init__", &make, "means"_a.noconvert(), "scales"_a.noconvert(), "rotations"_a.noconvert(),
           "colors"_a.noconvert(), "height"_a, "width"_a, "cell"_a, "blend"_a, "top_k"_a)
      .def("sample", &sample, "points"_a.noconvert(), "background"_a.noconvert(), "colors"_a.noconvert(),
           "costs"_a.noconvert().none())
      .def_prop_ro("pairs", &imagegs::Sampler::pairs);
}
