// Functions that are nowhere zero: for a vector of points each calls sink(k, at) for all K of them, where at(d) is the derivative of
// order d, up to the ``top`` asked for. What the functions have in common is worked out once.
#pragma once

#include <cmath>
#include <utility>
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
    const V<T> position = (x - first) * inverse;
    if (size == 8) return neighbours<8>(position, 0, 8, sink);  // the default
    for (int begin = 0; begin < size; begin += 8) neighbours<0>(position, begin, size - begin < 8 ? size - begin : 8, sink);
  }

  // ``number`` functions from ``begin`` on, at most eight; NUMBER: the same as a constant, or 0.
  template <int NUMBER, typename Sink>
  void neighbours(V<T> position, int begin, int number, Sink sink) const {
    constexpr T limit = sizeof(T) == 4 ? T(9.3) : T(26.6);  // e^(−limit²) is the smallest normal number
    constexpr T half = T(0.77880078307140487), two = T(0.13533528323661270);  // e^(−1/4), e^−2
    const int below = (NUMBER ? NUMBER : number) / 2, above = (NUMBER ? NUMBER : number) - below;
    V<T> t = position - (T(begin + below) - T(0.5));
    const VI<T> far = t * t > limit * limit;
    t = at_least<T>(at_most<T>(t, limit), -limit);
    const V<T> kept = exp_within<T>(-(t * t)), anchor = (far ? V<T>{} : kept) * half;
    V<T> up, down;
    exp_both<T>(t, up, down);
    auto outwards = [&](V<T> step, int k, int sign, int count) __attribute__((always_inline)) {
      V<T> value = anchor * step;
      const V<T> ratio = step * step;
      T factor = two;  // and e^−4, e^−6 … further out
#pragma GCC unroll 4
      for (int j = 0; j < count; ++j, k += sign) {
        sink(k, [&](int order) { return Gaussians<T>::derivative(value, position - T(k), inverse, order); });
        value *= ratio * factor;
        factor *= two;
      }
    };
    outwards(up, begin + below, 1, above);
    outwards(down, begin + below - 1, -1, below);
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

constexpr int kAnyOrder = -1;

// All columns of a layer: the functions, less their values at zero if asked for (to the last bit: f(0) = 0), and SiLU. ORDER: that of the
// derivative as a constant.
template <typename T, typename Functions, int ORDER = kAnyOrder>
struct Columns {
  using Number = T;
  Functions functions;
  bool base;
  int order;
  std::vector<T> offset;

  Columns(Functions functions, bool base, bool zero, int order) : functions(functions), base(base), order(order), offset(functions.size) {
    if (zero && order == 0) functions(V<T>{}, 0, [&](int k, auto at) { offset[k] = rounded(at(0))[0]; });
  }
  Columns(Functions functions, bool base, int order, std::vector<T> offset)
      : functions(functions), base(base), order(order), offset(std::move(offset)) {}
  int size() const { return functions.size + int(base); }
  static constexpr bool constant_order = ORDER != kAnyOrder;

  // sink(k, derivative of the order)
  template <typename Sink>
  void operator()(V<T> x, Sink sink) const {
    const int own = constant_order ? ORDER : order;
    const T* less = offset.data();
    functions(x, own, [&](int k, auto at) { sink(k, ORDER > 0 ? at(own) : rounded(at(own)) - less[k]); });
    if (base) sink(functions.size, silu<T>(x, own));
  }

  // sink(k, derivative of the order, derivative of the next)
  template <typename Sink>
  void both(V<T> x, Sink sink) const {
    functions(x, order + 1, [&](int k, auto at) { sink(k, rounded(at(order)) - offset[k], at(order + 1)); });
    if (base) sink(functions.size, silu<T>(x, order), silu<T>(x, order + 1));
  }

  // The same, of an order that the compiler knows.
  template <int OWN>
  Columns<T, Functions, OWN> at_order() const {
    return {functions, base, OWN, offset};
  }
};

}  // namespace kanmlip
