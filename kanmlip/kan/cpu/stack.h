// Layers in a row whose weights are not trained, as one node that keeps their input alone. What layers hand to each other is worked out
// again in the backward pass: less memory in molecular dynamics of large cells, in more time.
#pragma once

#include <algorithm>

#include "nodes.h"

namespace kanmlip {

// Of each layer parameters, gain [columns, 1] and s [in], one after the other, and its plan.
struct Layers {
  variable_list tensors;
  std::vector<int64_t> plans;

  size_t size() const { return plans.size(); }
  const Tensor& parameters(size_t k) const { return tensors[3 * k]; }
  const Tensor& gain(size_t k) const { return tensors[3 * k + 1]; }
  const Tensor& s(size_t k) const { return tensors[3 * k + 2]; }
  bool frozen() const {
    return std::none_of(tensors.begin(), tensors.end(), [](const Tensor& tensor) { return tensor.requires_grad(); });
  }
  // One call for all passes, and for layers that are no stack: the same numbers to the last bit.
  Tensor output(size_t k, const Tensor& x) const { return layer(x, parameters(k), gain(k), s(k), plans[k]); }
  Tensor output(Tensor x) const {
    for (size_t k = 0; k < size(); ++k) x = output(k, x);  // frees what the layer was given
    return x;
  }
};

struct FrozenStack : Function<FrozenStack> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Layers& layers) {
    variable_list kept = layers.tensors;
    kept.push_back(x);
    ctx->save_for_backward(std::move(kept));
    ctx->saved_data["plans"] = layers.plans;
    return layers.output(x);
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    Layers layers{ctx->get_saved_variables(), ctx->saved_data["plans"].toIntVector()};
    variable_list inputs{layers.tensors.back()};
    // Where a graph is built, with nodes: hidden values are functions of x.
    for (size_t k = 0; k + 1 < layers.size(); ++k) inputs.push_back(layers.output(k, inputs.back()));
    Tensor z = grads[0];
    for (size_t k = layers.size(); k-- > 0; inputs.pop_back()) {
      z = frozen_input(inputs.back(), z, times_gain(layers.parameters(k), layers.gain(k)), layers.s(k).reciprocal(), layers.plans[k]);
    }
    return {z, Tensor()};
  }
};

inline Tensor stack(const Tensor& x, at::TensorList parameters, at::TensorList gains, at::TensorList s, at::IntArrayRef plans) {
  const size_t size = plans.size();
  TORCH_CHECK(parameters.size() == size && gains.size() == size && s.size() == size, "as many parameters, gains and scales as plans");
  Layers layers{{}, plans.vec()};
  for (size_t k = 0; k < size; ++k) layers.tensors.insert(layers.tensors.end(), {parameters[k], gains[k], s[k]});
  return at::GradMode::is_enabled() && layers.frozen() ? FrozenStack::apply(x, layers) : layers.output(x);
}

}  // namespace kanmlip
