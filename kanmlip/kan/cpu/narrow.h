// Output and input contraction of a layer with few outputs: functions are worked out for a vector of neighbouring inputs of one row and
// used where they are, instead of being stored for a matrix product that would have next to no columns. For any family.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include "dense_sums.h"
#include "local.h"

namespace kanmlip {

constexpr int64_t kNarrow = 8;        // outputs
constexpr int kFewFunctions = 12;     // of local support, above which sorting by interval takes less time than working out all of them
constexpr int64_t kRowsOfThread = 64;

// All functions of local support at a vector of points: the pieces at each point's fraction of its interval, each where it belongs.
// TERMS: of the pieces, for the eight functions of four pieces each that a layer has by default; 0 for any others.
template <typename T, int TERMS = 0>
struct LocalEverywhere {
  Local<T> f;  // of the wanted derivative
  int size;

  explicit LocalEverywhere(const Local<T>& f) : f(f), size(f.size) {}

  static bool suits(const Local<T>& f) { return f.size == 8 && f.pieces == 4 && f.terms == TERMS; }

  template <typename Sink>
  void operator()(V<T> x, int, Sink sink) const {
    const int size = TERMS ? 8 : f.size, pieces = TERMS ? 4 : f.pieces, terms = TERMS ? TERMS : f.terms, intervals = size + pieces - 1;
    const T half = T(intervals / 2), last = T(intervals);
    const V<T> t = (x - f.middle) * f.inverse_spacing;
    const VI<T> known = (t >= -half) & (t < last - half);
    const V<T> inside = known ? t : V<T>{};
    VI<T> interval = __builtin_convertvector(inside + half, VI<T>);
    V<T> distance = inside - (__builtin_convertvector(interval, V<T>) + (T(0.5) - half));
    interval = known ? interval : VI<T>{} - 1;
    const V<T> outside = known ? V<T>{} : x * T(0);  // a NaN stays one
    V<T> values[kMaxPieces];
    for (int m = 0; m < pieces; ++m) {
      V<T> value = splat<T>(f.rounded[m][terms - 1]);
      for (int p = terms - 2; p >= 0; --p) value = value * distance + f.rounded[m][p];
      values[m] = value;
    }
#pragma GCC unroll 8
    for (int k = 0; k < size; ++k) {
      V<T> value = outside;
#pragma GCC unroll 4
      for (int m = 0; m < pieces; ++m) value = interval == k + pieces - 1 - m ? values[m] : value;
      sink(k, [&](int) { return value; });
    }
  }
};

// W [out][columns][in] as vectors [chunk of inputs][column][OUT], with zeros for inputs and outputs that are not there.
template <typename T, int OUT>
std::vector<T> packed_narrow(const T* weight, int64_t out, int64_t columns, int64_t in) {
  constexpr int64_t lanes = Vec<T>::lanes;
  std::vector<T> packed((in + lanes - 1) / lanes * columns * OUT * lanes, T(0));
  for (int64_t o = 0; o < out; ++o)
    for (int64_t k = 0; k < columns; ++k)
      for (int64_t i = 0; i < in; i += lanes)
        std::copy_n(weight + (o * columns + k) * in + i, std::min(lanes, in - i), packed.data() + ((i / lanes * columns + k) * OUT + o) * lanes);
  return packed;
}

// x [N][in], each channel times a factor where there are factors [in].
template <typename T>
struct Scaled {
  const T *x, *factor;
  int64_t in;

  Scaled(const Tensor& x, const Maybe& factor)
      : x(x.const_data_ptr<T>()), factor(factor ? factor->const_data_ptr<T>() : nullptr), in(x.size(1)) {}
  V<T> get(Lanes<T> lanes, int64_t r, int64_t i) const { return times(lanes, lanes.get(x + r * in + i), i); }
  V<T> times(Lanes<T> lanes, V<T> value, int64_t i) const { return factor ? rounded(value * lanes.get(factor + i)) : value; }
};

template <typename T, int OUT, typename F>
Tensor narrow_output_as(const F& f, const Tensor& x, const Maybe& v, const Tensor& weight, const Maybe& scale) {
  constexpr int64_t lanes = Vec<T>::lanes;
  const int64_t in = x.size(1), out = weight.size(0), stride = f.size() * OUT * lanes;
  const std::vector<T> packed = packed_narrow<T, OUT>(weight.const_data_ptr<T>(), out, f.size(), in);
  Tensor y = at::empty({x.size(0), out}, x.options());
  const Scaled<T> points(x, scale);
  const T *pv = v ? v->const_data_ptr<T>() : nullptr, *pw = packed.data();
  T* py = y.data_ptr<T>();
  at::parallel_for(0, x.size(0), kRowsOfThread, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      V<T> total[OUT] = {};
      for (int64_t i = 0; i < in; i += lanes) {
        const Lanes<T> own{std::min<int64_t>(lanes, in - i)};
        const V<T> factor = pv ? own.get(pv + r * in + i) : splat<T>(1);
        const T* w = pw + i / lanes * stride;
        f(points.get(own, r, i), [&](int k, V<T> value) {
          if constexpr (!F::constant_order) value *= factor;
          for (int o = 0; o < OUT; ++o) total[o] += value * load<T>(w + (k * OUT + o) * lanes);
        });
      }
      T sums_of[OUT];
      if constexpr (OUT % 4 == 0)
        for (int o = 0; o < OUT; o += 4) sums<T>(total[o], total[o + 1], total[o + 2], total[o + 3], sums_of + o);
      else
        for (int o = 0; o < OUT; ++o) sums_of[o] = sum<T>(total[o]);
      std::copy_n(sums_of, out, py + r * out);
    }
  });
  return y;
}

template <typename T, int OUT, typename F>
Tensor narrow_input_as(const F& f, const Tensor& x, const Tensor& g, const Tensor& weight, const Maybe& scale) {
  constexpr int64_t lanes = Vec<T>::lanes;
  const int64_t in = x.size(1), out = weight.size(0), stride = f.size() * OUT * lanes;
  const std::vector<T> packed = packed_narrow<T, OUT>(weight.const_data_ptr<T>(), out, f.size(), in);
  Tensor z = at::empty(x.sizes(), x.options());
  const Scaled<T> points(x, scale);
  const T *pg = g.const_data_ptr<T>(), *pw = packed.data();
  T* pz = z.data_ptr<T>();
  at::parallel_for(0, x.size(0), kRowsOfThread, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      T factors[OUT] = {};
      std::copy_n(pg + r * out, out, factors);
      for (int64_t i = 0; i < in; i += lanes) {
        const Lanes<T> own{std::min<int64_t>(lanes, in - i)};
        const T* w = pw + i / lanes * stride;
        V<T> total{};
        f(points.get(own, r, i), [&](int k, V<T> value) {
          V<T> slope = load<T>(w + k * OUT * lanes) * factors[0];
          for (int o = 1; o < OUT; ++o) slope += load<T>(w + (k * OUT + o) * lanes) * factors[o];
          total += value * slope;
        });
        own.put(pz + r * in + i, points.times(own, total, i));
      }
    }
  });
  return z;
}

// Calls call(a number of outputs that there is code for, as a constant); at most kNarrow.
template <bool MANY, typename Call>
auto with_outputs(int64_t out, Call call) {
  if (out == 1) return call(std::integral_constant<int, 1>());
  if constexpr (MANY) {
    if (out == 2) return call(std::integral_constant<int, 2>());
    if (out == 3) return call(std::integral_constant<int, 3>());
  }
  if (out <= 4) return call(std::integral_constant<int, 4>());
  return call(std::integral_constant<int, 8>());
}

// A_d(v) [N, out] at x times the scale; no v for functions of a constant order.
template <typename T, typename F>
Tensor narrow_output(const F& f, const Tensor& x, const Maybe& v, const Tensor& weight, const Maybe& scale) {
  return with_outputs<F::constant_order>(weight.size(0), [&](auto out) { return narrow_output_as<T, out()>(f, x, v, weight, scale); });
}

// C_d [N, in] there, times the scale.
template <typename T, typename F>
Tensor narrow_input(const F& f, const Tensor& x, const Tensor& g, const Tensor& weight, const Maybe& scale) {
  return with_outputs<F::constant_order>(weight.size(0), [&](auto out) { return narrow_input_as<T, out()>(f, x, g, weight, scale); });
}

template <typename T>
bool suits_narrow(const Local<T>& f, int64_t out) {
  return out <= kNarrow && f.size <= kFewFunctions;
}

// Calls call(functions): with code of their own for a layer's value and its gradient by the input, unless there is a v.
template <typename T, typename Call>
auto with_everywhere(const Local<T>& f, bool zero, bool weighted, Call call) {
  if (!weighted && f.order == 0 && LocalEverywhere<T, 4>::suits(f))
    return call(Columns<T, LocalEverywhere<T, 4>>(LocalEverywhere<T, 4>(f), f.base, zero, 0).template at_order<0>());
  if (!weighted && f.order == 1 && LocalEverywhere<T, 3>::suits(f))
    return call(Columns<T, LocalEverywhere<T, 3>>(LocalEverywhere<T, 3>(f), f.base, zero, 1).template at_order<1>());
  return call(Columns<T, LocalEverywhere<T>>(LocalEverywhere<T>(f), f.base, zero, f.order));
}

}  // namespace kanmlip
