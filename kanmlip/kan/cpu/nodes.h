// A layer as nodes of the autograd graph: in eager mode a Python node costs as much as the contractions of a small layer.
//
// The formulas are those of gradients.py, for functions without parameters of their own. One node serves an input's and the weights'
// gradient, because here a node can tell which of them a backward pass asks for; a Python node would compute both in
// grad(energy, positions).
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/custom_function.h>

#include "plan.h"

namespace kanmlip {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

// The operator of a name; by way of the dispatcher, so that vmap over a backward pass finds its way.
template <typename Signature>
auto found(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

inline Tensor run_output(const Tensor& x, const Maybe& v, const Tensor& weight, int64_t plan, int64_t order, const Maybe& scale = std::nullopt) {
  static const auto op = found<Tensor(const Tensor&, const Maybe&, const Tensor&, const Maybe&, int64_t, int64_t, const Maybe&)>("kanmlip_cpu::output");
  return op.call(x, v, weight, std::nullopt, plan, order, scale);
}

inline Tensor run_weight(const Tensor& x, const Maybe& v, const Tensor& g, int64_t plan, int64_t order) {
  static const auto op = found<Tensor(const Tensor&, const Maybe&, const Tensor&, const Maybe&, int64_t, int64_t)>("kanmlip_cpu::weight");
  return op.call(x, v, g, std::nullopt, plan, order);
}

inline Tensor run_input(const Tensor& x, const Tensor& g, const Tensor& weight, int64_t plan, int64_t order, const Maybe& scale = std::nullopt) {
  static const auto op = found<Tensor(const Tensor&, const Tensor&, const Tensor&, const Maybe&, int64_t, int64_t, const Maybe&)>("kanmlip_cpu::input");
  return op.call(x, g, weight, std::nullopt, plan, order, scale);
}

inline Gradients run_gradients(const Tensor& x, const Maybe& v, const Tensor& g, const Tensor& weight, int64_t plan, int64_t order, bool output) {
  static const auto op =
      found<Gradients(const Tensor&, const Maybe&, const Tensor&, const Tensor&, const Maybe&, int64_t, int64_t, bool)>("kanmlip_cpu::gradients");
  return op.call(x, v, g, weight, std::nullopt, plan, order, output);
}

// The contractions as calls that autograd can differentiate again: with a node where a graph is built.
Tensor node_output(const Tensor& x, const Maybe& v, const Tensor& weight, int64_t plan, int64_t order);
Tensor node_weight(const Tensor& x, const Maybe& v, const Tensor& g, int64_t plan, int64_t order);
Tensor node_input(const Tensor& x, const Tensor& g, const Tensor& weight, int64_t plan, int64_t order);

// A call's inputs between the passes.
struct Saved {
  Tensor x, second, third;
  int64_t plan, order;

  static void save(AutogradContext* ctx, const Tensor& x, const Maybe& second, const Tensor& third, int64_t plan, int64_t order) {
    ctx->save_for_backward({x, second.value_or(Tensor()), third});
    ctx->saved_data["plan"] = plan;
    ctx->saved_data["order"] = order;
  }
  explicit Saved(AutogradContext* ctx) : plan(ctx->saved_data["plan"].toInt()), order(ctx->saved_data["order"].toInt()) {
    const variable_list tensors = ctx->get_saved_variables();
    x = tensors[0];
    second = tensors[1];
    third = tensors[2];
  }
  Maybe v() const { return second.defined() ? Maybe(second) : std::nullopt; }
  Tensor scaled(const Tensor& value) const { return second.defined() ? second.mul(value) : value; }
};

// A_d(v).
struct Output : Function<Output> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Maybe& v, const Tensor& weight, int64_t plan, int64_t order) {
    Saved::save(ctx, x, v, weight, plan, order);
    return run_output(x, v, weight, plan, order);
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const Saved s(ctx);
    const Tensor &u = grads[0], &weight = s.third;
    const bool has = s.second.defined(), wants_x = ctx->needs_input_grad(0), wants_weight = ctx->needs_input_grad(has ? 2 : 1);
    Tensor by_x, by_v, by_weight;
    if (wants_x && wants_weight && !at::GradMode::is_enabled()) {
      std::tie(by_x, std::ignore, by_weight) = run_gradients(s.x, s.v(), u, weight, s.plan, s.order, false);
    } else {
      if (wants_x) by_x = s.scaled(node_input(s.x, u, weight, s.plan, s.order + 1));
      if (wants_weight) by_weight = node_weight(s.x, s.v(), u, s.plan, s.order);
    }
    if (has && ctx->needs_input_grad(1)) by_v = node_input(s.x, u, weight, s.plan, s.order);
    return {by_x, by_v, by_weight, Tensor(), Tensor()};
  }
};

// B_d(v).
struct Weight : Function<Weight> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Maybe& v, const Tensor& g, int64_t plan, int64_t order) {
    Saved::save(ctx, x, v, g, plan, order);
    return run_weight(x, v, g, plan, order);
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const Saved s(ctx);
    const Tensor &u = grads[0], &g = s.third;
    const bool has = s.second.defined();
    Tensor by_x, by_v, by_g;
    if (ctx->needs_input_grad(0)) by_x = s.scaled(node_input(s.x, g, u, s.plan, s.order + 1));
    if (has && ctx->needs_input_grad(1)) by_v = node_input(s.x, g, u, s.plan, s.order);
    if (ctx->needs_input_grad(has ? 2 : 1)) by_g = node_output(s.x, s.v(), u, s.plan, s.order);
    return {by_x, by_v, by_g, Tensor(), Tensor()};
  }
};

// C_d.
struct Input : Function<Input> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& g, const Tensor& weight, int64_t plan, int64_t order) {
    Saved::save(ctx, x, g, weight, plan, order);
    return run_input(x, g, weight, plan, order);
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const Saved s(ctx);
    const Tensor &u = grads[0], &g = s.second, &weight = s.third;
    const bool wants_x = ctx->needs_input_grad(0), wants_g = ctx->needs_input_grad(1), wants_weight = ctx->needs_input_grad(2);
    Tensor by_x, by_g, by_weight;
    if (wants_x && wants_weight && !at::GradMode::is_enabled()) {  // the last pass of a force-training step
      std::tie(by_x, by_g, by_weight) = run_gradients(s.x, u, g, weight, s.plan, s.order, wants_g);
      if (!wants_g) by_g = Tensor();
    } else {
      if (wants_x) by_x = node_input(s.x, g, weight, s.plan, s.order + 1).mul(u);
      if (wants_g) by_g = node_output(s.x, u, weight, s.plan, s.order);
      if (wants_weight) by_weight = node_weight(s.x, u, g, s.plan, s.order);
    }
    return {by_x, by_g, by_weight, Tensor(), Tensor()};
  }
};

inline Tensor node_output(const Tensor& x, const Maybe& v, const Tensor& weight, int64_t plan, int64_t order) {
  return at::GradMode::is_enabled() ? Output::apply(x, v, weight, plan, order) : run_output(x, v, weight, plan, order);
}

inline Tensor node_weight(const Tensor& x, const Maybe& v, const Tensor& g, int64_t plan, int64_t order) {
  return at::GradMode::is_enabled() ? Weight::apply(x, v, g, plan, order) : run_weight(x, v, g, plan, order);
}

inline Tensor node_input(const Tensor& x, const Tensor& g, const Tensor& weight, int64_t plan, int64_t order) {
  return at::GradMode::is_enabled() ? Input::apply(x, g, weight, plan, order) : run_input(x, g, weight, plan, order);
}

inline Tensor times_gain(const Tensor& weight, const Maybe& gain) { return gain ? weight.mul(*gain) : weight; }

// The gradient by x of a layer of x times a scale [in], without one by weights.
inline Tensor frozen_input(const Tensor& x, const Tensor& g, const Tensor& weight, const Tensor& scale, int64_t plan) {
  return at::GradMode::is_enabled() ? node_input(x.mul(scale), g, weight, plan, 1).mul(scale) : run_input(x, g, weight, plan, 1, scale);
}

// The layer of x times a scale [in] for weights that are not trained, as in molecular dynamics: it keeps x, which others keep too, and
// parameters, and multiplies both again.
struct Frozen : Function<Frozen> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& weight, const Maybe& gain, const Tensor& scale, int64_t plan) {
    ctx->save_for_backward({x, weight, gain.value_or(Tensor()), scale});
    ctx->saved_data["plan"] = plan;
    return run_output(x, std::nullopt, times_gain(weight, gain), plan, 0, scale);
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const variable_list saved = ctx->get_saved_variables();
    const Tensor &x = saved[0], &scale = saved[3], weight = times_gain(saved[1], saved[2].defined() ? Maybe(saved[2]) : std::nullopt);
    const int64_t plan = ctx->saved_data["plan"].toInt();
    return {frozen_input(x, grads[0], weight, scale, plan), Tensor(), Tensor(), Tensor(), Tensor()};
  }
};

// The layer: A_0 of x / s with weights times a gain [columns, 1], by the same product with 1/s whether weights are trained or not.
inline Tensor layer(const Tensor& x, const Tensor& parameters, const Maybe& gain, const Maybe& s, int64_t plan) {
  const Maybe scale = s ? Maybe(s->reciprocal()) : s;
  const bool graph = at::GradMode::is_enabled();
  if (graph && s && !parameters.requires_grad() && !s->requires_grad()) return Frozen::apply(x, parameters, gain, *scale, plan);
  const Tensor weight = times_gain(parameters, gain);
  return graph ? node_output(scale ? x.mul(*scale) : x, std::nullopt, weight, plan, 0) : run_output(x, std::nullopt, weight, plan, 0, scale);
}

}  // namespace kanmlip
