// Functions that are nowhere zero: for a vector of points each calls sink(k, at) for all K of them, where at(d) is the derivative of
// order d, up to the ``top`` asked for. What the functions have in common is worked out once.
#pragma once

#include <cmath>
#include <vector>

#include "vec.h"

namespace kanmlip {

// exp(−((x − c_k) s_k)²) for any centres and inverse widths.
template <typename T>
struct Gaussians {
  int size;
  const T *centres, *inverse;

  template <typename Sink>
  void operator()(V<T> x, int top, Sink sink) const {
    for (int k = 0; k < size; ++k) {
      const T s = inverse[k];
      const V<T> u = (x - centres[k]) * s;
      const V<T> value = exp<T>(-(u * u));
      sink(k, [&](int order) { return derivative(value, u, s, order); });
    }
  }

  // By the Hermite polynomials of u.
  static V<T> derivative(V<T> value, V<T> u, T s, int order) {
    if (order == 0) return value;
    if (order == 1) return value * u * (T(-2) * s);
    if (order == 2) return value * (u * u * T(4) - T(2)) * (s * s);
    return value * (T(12) - u * u * T(8)) * u * (s * s * s);
  }
};

// The same on centres 1/s apart: eight neighbours from two exponentials, e^(−t²) r^(2j) e^(−j²), j = ±1/2, ±3/2 …, r = e^t, with t
// from the middle of the eight. Going outwards nothing overflows, and nothing above 1e-14 is lost to underflow.
template <typename T>
struct EvenGaussians {
  int size;
  T first, inverse;

  template <typename Sink>
  void operator()(V<T> x, int top, Sink sink) const {
    constexpr T limit = sizeof(T) == 4 ? T(9.3) : T(26.6);  // e^(−limit²) is the smallest normal number
    const V<T> position = (x - first) * inverse;
    for (int begin = 0; begin < size; begin += 8) {
      const int end = begin + 8 < size ? begin + 8 : size, middle = begin + (end - begin) / 2;
      V<T> t = position - (T(middle) - T(0.5));
      V<T> anchor = exp<T>(-(t * t));
      anchor = t * t > limit * limit ? V<T>{} : anchor;
      t = t > limit ? splat<T>(limit) : t;
      t = t < -limit ? splat<T>(-limit) : t;
      const V<T> up = exp<T>(t), down = T(1) / up;
      V<T> value = anchor * up * T(0.77880078307140487), ratio = up * up;
      T factor = T(0.13533528323661270);  // e^−2, and e^−4, e^−6 … further out
      for (int k = middle; k < end; ++k) {
        sink(k, [&](int order) { return Gaussians<T>::derivative(value, position - T(k), inverse, order); });
        value = value * ratio * factor;
        factor *= T(0.13533528323661270);
      }
      value = anchor * down * T(0.77880078307140487);
      ratio = down * down;
      factor = T(0.13533528323661270);
      for (int k = middle - 1; k >= begin; --k) {
        sink(k, [&](int order) { return Gaussians<T>::derivative(value, position - T(k), inverse, order); });
        value = value * ratio * factor;
        factor *= T(0.13533528323661270);
      }
    }
  }
};

// cos(kωx), then sin(kωx), k = 1 … size/2, by the addition theorem; a derivative is a phase and a factor kω.
template <typename T>
struct Waves {
  int size;
  T frequency;

  template <typename Sink>
  void operator()(V<T> x, int top, Sink sink) const {
    V<T> sine, cosine;
    sincos<T>(x * frequency, sine, cosine);
    V<T> s = sine, c = cosine;
    const int waves = size / 2;
    for (int k = 1; k <= waves; ++k) {
      auto factor = [&](int order) {
        T value = 1;
        for (int d = 0; d < order; ++d) value *= T(k) * frequency;
        return value;
      };
      sink(k - 1, [&](int order) { return (order % 2 ? s : c) * (order == 1 || order == 2 ? -factor(order) : factor(order)); });
      sink(waves + k - 1, [&](int order) { return (order % 2 ? c : s) * (order >= 2 ? -factor(order) : factor(order)); });
      const V<T> next = c * cosine - s * sine;
      s = s * cosine + c * sine;
      c = next;
    }
  }
};

// T_k(tanh(x/width)), k = 1 … size, and the derivatives of T_k by their own recurrences.
template <typename T>
struct Chebyshev {
  int size;
  T inverse;

  template <typename Sink>
  void operator()(V<T> x, int top, Sink sink) const {
    x *= inverse;
    const V<T> e = exp<T>((x < T(0) ? x : -x) * T(2)), part = T(1) / (T(1) + e);
    V<T> t = (T(1) - e) * part;
    t = x < T(0) ? -t : t;
    const V<T> q = T(4) * e * part * part;  // 1 − tanh²
    const V<T> first = q * inverse, second = T(-2) * t * q * (inverse * inverse);
    const V<T> third = q * (T(6) * t * t - T(2)) * (inverse * inverse * inverse);
    V<T> before[4] = {splat<T>(1), V<T>{}, V<T>{}, V<T>{}}, now[4] = {t, splat<T>(1), V<T>{}, V<T>{}};
    for (int k = 1; k <= size; ++k) {
      sink(k - 1, [&](int order) {
        if (order == 0) return now[0];
        if (order == 1) return now[1] * first;
        if (order == 2) return now[2] * first * first + now[1] * second;
        return now[3] * first * first * first + T(3) * now[2] * first * second + now[1] * third;
      });
      for (int d = top; d >= 0; --d) {
        V<T> next = T(2) * t * now[d] - before[d];
        if (d > 0) next += T(2 * d) * now[d - 1];
        before[d] = now[d];
        now[d] = next;
      }
    }
  }
};

// All columns of a layer: the functions, less their values at zero if asked for, and SiLU.
template <typename T, typename Functions>
struct Columns {
  using Number = T;
  Functions functions;
  bool base;
  int order;
  std::vector<T> offset;

  Columns(Functions functions, bool base, bool zero, int order) : functions(functions), base(base), order(order), offset(functions.size) {
    if (zero && order == 0) functions(V<T>{}, 0, [&](int k, auto at) { offset[k] = at(0)[0]; });
  }
  int size() const { return functions.size + int(base); }

  // sink(k, derivative of the order)
  template <typename Sink>
  void operator()(V<T> x, Sink sink) const {
    functions(x, order, [&](int k, auto at) { sink(k, at(order) - offset[k]); });
    if (base) sink(functions.size, silu<T>(x, order));
  }

  // sink(k, derivative of the order, derivative of the next)
  template <typename Sink>
  void both(V<T> x, Sink sink) const {
    functions(x, order + 1, [&](int k, auto at) { sink(k, at(order) - offset[k], at(order + 1)); });
    if (base) sink(functions.size, silu<T>(x, order), silu<T>(x, order + 1));
  }
};

}  // namespace kanmlip
