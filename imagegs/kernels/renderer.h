// One render, kept for its backward pass: plain C++ behind the Python class. Owns its arrays and uses them again.
#pragma once

#include <vector>

#include "render.h"

namespace imagegs {

struct Gradients {
  float *local;      // [N, 5] position in units of the scales (2), log scales (2), rotation, along the Gaussian's axes
  float *colors;     // [N, C]
  float *background; // [C]
};

class Renderer {
public:
  // Lists the Gaussians of every tile. The arrays must stay as they are until the last backward().
  void prepare(const GaussianArrays &gaussians, int height, int width, const Viewport &view, int blend, int top_k);
  // Writes image [C, H, W]; keeps what backward() needs if asked to.
  void forward(const float *background, float *image, bool keep);
  // Gradients of the loss; renders first (into image, if not null) if fused, else image is what forward() wrote.
  LossSums backward(const float *background, float *image, const Loss &loss, bool fused, const Gradients &out);

  // How much the weighted squared error grows without each Gaussian [N]; needs a kept forward().
  void removal(const float *background, float *image, const Loss &loss, float *growth);

  int channels() const { return plan_.channels; }
  int height() const { return plan_.grid.height; }
  int width() const { return plan_.grid.width; }
  int64_t count() const { return gaussians_.count; }
  int64_t pairs() const { return int64_t(plan_.bins.entries.size()); }
  bool kept() const { return kept_; }
  const std::vector<float> &total() const { return total_; }

private:
  ForwardArrays arrays(const float *background, float *image, bool keep);

  RenderPlan plan_{};
  GaussianArrays gaussians_{};
  bool kept_ = false;
  std::vector<float> total_, threshold_, last_, partials_, v_background_;
  std::vector<LossSums> sums_;
};

} // namespace imagegs
