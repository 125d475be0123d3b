// The three contractions and their gradients for a plan: kernels by family, dtype and order of derivative.
#pragma once

#include "dense_sums.h"
#include "few_inputs.h"
#include "local_ops.h"
#include "narrow.h"

namespace kanmlip {

inline Maybe dense(const Maybe& t) { return t ? Maybe(t->contiguous()) : t; }

// Calls call(functions) with the columns of a family of functions that are nowhere zero.
template <typename T, typename Call>
auto with_columns(const Plan& plan, const Maybe& shape, int64_t order, Call call) {
  const int k = int(plan.size);
  auto with = [&](auto f) { return call(Columns<T, decltype(f)>(f, plan.base, plan.zero, int(order))); };
  if (plan.family == kEvenGaussians) return with(EvenGaussians<T>{k, T(plan.numbers[0]), T(plan.numbers[1])});
  TORCH_CHECK_VALUE(plan.family != kGaussians || (shape && shape->numel() == 2 * k && shape->size(0) == 2), "centres and inverse widths must be [2, ", k, "]");
  if (plan.family == kGaussians) return with(Gaussians<T>{k, shape->const_data_ptr<T>(), shape->const_data_ptr<T>() + k});
  if (plan.family == kWaves) return with(Waves<T>{k, T(plan.numbers[0])});
  return with(Chebyshev<T>{k, T(plan.numbers[0])});
}

// Calls local(functions, number of terms if it has code of its own, else 0) or dense(functions).
template <typename OnLocal, typename OnDense>
auto with_functions(const Plan& plan, const Tensor& x, const Maybe& shape, int64_t order, OnLocal on_local, OnDense on_dense) {
  auto of = [&](auto number) {
    using T = decltype(number);
    if (plan.family != kLocal) return with_columns<T>(plan, shape, order, on_dense);
    const Local<T> f = local<T>(plan, order);
    if (f.terms == 4) return on_local(f, std::integral_constant<int, 4>());
    if (f.terms == 3) return on_local(f, std::integral_constant<int, 3>());
    if (f.terms == 2) return on_local(f, std::integral_constant<int, 2>());
    return on_local(f, std::integral_constant<int, 0>());
  };
  return x.scalar_type() == at::kDouble ? of(double()) : of(float());
}

// The contractions of a layer whose outputs or inputs are too few for a matrix product; of local support: of few outputs.
template <typename T, typename F>
Tensor small_output(const F& f, const Tensor& x, const Maybe& v, const Tensor& weight, const Maybe& scale) {
  return few_inputs<T>(x.size(1)) ? few_output<T>(f, x, v, weight, scale) : narrow_output<T>(f, x, v, weight, scale);
}

template <typename T, typename F>
Tensor small_input(const F& f, const Tensor& x, const Tensor& g, const Tensor& weight, const Maybe& scale) {
  return few_inputs<T>(x.size(1)) ? few_input<T>(f, x, g, weight, scale) : narrow_input<T>(f, x, g, weight, scale);
}

template <typename T>
bool small(const Tensor& x, const Tensor& weight) {
  return weight.size(0) <= kNarrow || (few_inputs<T>(x.size(1)) && weight.size(0) <= kFewInputsOutputs);
}

inline void check_order(int64_t order) {
  TORCH_CHECK_NOT_IMPLEMENTED(order >= 0 && order <= 3, "derivative=", order, ": basis functions have closed forms for 0 to 3 only, enough to train on forces and for Hessians; for more, set KANLayer.backend='reference', which PyTorch differentiates itself");
}

// Kernels read as much as the sizes of x, the weights (or a gradient by them) and the plan say.
inline void check_sizes(const Plan& plan, const Tensor& x, const Maybe& v, const Maybe& weight, const Maybe& g, const Maybe& scale) {
  TORCH_CHECK_VALUE(x.dim() == 2, "x must be [N, in], not ", x.sizes());
  const int64_t columns = plan.size + int64_t(plan.base);
  TORCH_CHECK_VALUE(!weight || (weight->dim() == 3 && weight->size(1) == columns && weight->size(2) == x.size(1)), "weights of x ", x.sizes(), " must be [out, ", columns, ", ", x.size(1), "], not ", weight->sizes());
  TORCH_CHECK_VALUE(!v || v->sizes() == x.sizes(), "v must have the shape of x, ", x.sizes(), ", not ", v->sizes());
  TORCH_CHECK_VALUE(!g || (g->dim() == 2 && g->size(0) == x.size(0) && (!weight || g->size(1) == weight->size(0))), "g must be [N, out] for x ", x.sizes(), ", not ", g->sizes());
  TORCH_CHECK_VALUE(!scale || (scale->dim() == 1 && scale->size(0) == x.size(1)), "scales of x ", x.sizes(), " must be [in], not ", scale->sizes());
}

inline Tensor times(const Tensor& t, const Maybe& scale) { return scale ? t.mul(*scale) : t; }

// A_d(v) [N, out] at x times the scale [in]. Only kernels for small layers multiply as they go: for others it is little work.
inline Tensor output(const Tensor& x_, const Maybe& v_, const Tensor& weight_, const Maybe& shape, int64_t k, int64_t order, const Maybe& scale_) {
  check_order(order);
  const Plan& plan = Plans::all().get(k);
  const Tensor x = x_.contiguous(), weight = weight_.contiguous();
  const Maybe v = dense(v_), scale = dense(scale_);
  check_sizes(plan, x, v, weight, std::nullopt, scale);
  return with_functions(
      plan, x, dense(shape), order,
      [&]<typename F>(const F& f, auto terms) {
        using T = typename F::Number;
        if (suits_narrow(f, weight.size(0)))
          return with_everywhere(f, plan.zero, v.has_value(), [&](const auto& all) { return small_output<T>(all, x, v, weight, scale); });
        return output_as<T, terms()>(f, times(x, scale), v, weight, plan.zero && order == 0);
      },
      [&]<typename F>(const F& f) {
        using T = typename F::Number;
        if (!small<T>(x, weight)) return dense_output<T>(f, times(x, scale), v, weight);
        return order == 0 && !v ? small_output<T>(f.template at_order<0>(), x, v, weight, scale) : small_output<T>(f, x, v, weight, scale);
      });
}

// B_d(v) [out, columns, in].
inline Tensor weight(const Tensor& x_, const Maybe& v_, const Tensor& g_, const Maybe& shape, int64_t k, int64_t order) {
  check_order(order);
  const Plan& plan = Plans::all().get(k);
  const Tensor x = x_.contiguous(), g = g_.contiguous();
  const Maybe v = dense(v_);
  check_sizes(plan, x, v, std::nullopt, g, std::nullopt);
  return with_functions(
      plan, x, dense(shape), order,
      [&]<typename F>(const F& f, auto terms) { return weight_as<typename F::Number, terms()>(f, x, v, g, plan.zero && order == 0); },
      [&]<typename F>(const F& f) { return dense_weight<typename F::Number>(f, x, v, g); });
}

// C_d [N, in] there, times the scale.
inline Tensor input(const Tensor& x_, const Tensor& g_, const Tensor& weight_, const Maybe& shape, int64_t k, int64_t order, const Maybe& scale_) {
  check_order(order);
  const Plan& plan = Plans::all().get(k);
  const Tensor x = x_.contiguous(), g = g_.contiguous(), weight = weight_.contiguous();
  const Maybe scale = dense(scale_);
  check_sizes(plan, x, std::nullopt, weight, g, scale);
  return with_functions(
      plan, x, dense(shape), order,
      [&]<typename F>(const F& f, auto terms) {
        using T = typename F::Number;
        if (suits_narrow(f, weight.size(0)))
          return with_everywhere(f, plan.zero, false, [&](const auto& all) { return small_input<T>(all, x, g, weight, scale); });
        return times(input_as<T, terms()>(f, times(x, scale), g, weight, plan.zero && order == 0), scale);
      },
      [&]<typename F>(const F& f) {
        using T = typename F::Number;
        if (!small<T>(x, weight)) return times(dense_input<T>(f, times(x, scale), g, weight), scale);
        return order == 1 ? small_input<T>(f.template at_order<1>(), x, g, weight, scale) : small_input<T>(f, x, g, weight, scale);
      });
}

// v C_{d+1}, A_d(v) (empty unless asked for) and B_d(v) in one pass where there is a kernel for that.
inline Gradients gradients(const Tensor& x_, const Maybe& v_, const Tensor& g_, const Tensor& weight_, const Maybe& shape_, int64_t k, int64_t order, bool wanted) {
  check_order(order + 1);
  const Plan& plan = Plans::all().get(k);
  const Tensor x = x_.contiguous(), g = g_.contiguous(), w = weight_.contiguous();
  const Maybe v = dense(v_), shape = dense(shape_);
  check_sizes(plan, x, v, w, g, std::nullopt);
  return with_functions(
      plan, x, shape, order,
      [&]<typename F>(const F& f, auto terms) -> Gradients {
        if constexpr (terms() > 1) return gradients_as<typename F::Number, terms()>(f, x, v, g, w, plan.zero && order == 0, wanted);
        const Tensor z = input(x, g, w, shape, k, order + 1, std::nullopt);
        return {v ? z.mul(*v) : z, wanted ? output(x, v, w, shape, k, order, std::nullopt) : at::empty({0}, x.options()), weight(x, v, g, shape, k, order)};
      },
      [&]<typename F>(const F& f) { return dense_gradients<typename F::Number>(f, x, v, g, w, wanted); });
}

}  // namespace kanmlip
