// What happens between two knots: rows of one interval, VECS vectors of outputs, the polynomial's TERMS coefficients in registers.
// TERMS = 0 leaves them in memory. One output alone has no vectors: see the scalar forms.
#pragma once

#include "local.h"

namespace kanmlip {

template <typename T, int TERMS, int VECS>
struct Coefficients {
  V<T> own[TERMS ? TERMS : 1][VECS];
  const T* p;
  int64_t outs;
  int terms;

  Coefficients(const T* p, int64_t outs, int terms) : p(p), outs(outs), terms(TERMS ? TERMS : terms) {
    if constexpr (TERMS > 0)
      for (int k = 0; k < TERMS; ++k)
        for (int q = 0; q < VECS; ++q) own[k][q] = at(k, q);
  }
  V<T> at(int k, int q) const { return load<T>(p + k * outs + q * Vec<T>::lanes); }
  V<T> get(int k, int q) const {
    if constexpr (TERMS > 0) return own[k][q];
    return at(k, q);
  }
  // Horner's rule.
  V<T> value(T x, int q) const {
    V<T> t = get(terms - 1, q);
#pragma GCC unroll 8
    for (int k = terms - 2; k >= 0; --k) t = t * x + get(k, q);
    return t;
  }
};

template <typename T, int TERMS, int VECS>
void output_rows(const Local<T>& f, const Sizes<T>& s, const Sorted<T>& b, const T* w, const T* wb, const int32_t* order, int64_t n, T* y) {
  constexpr int lanes = Vec<T>::lanes;
  const Coefficients<T, TERMS, VECS> c(w, s.outs, f.terms);
  V<T> base[VECS];
  if (f.base)
    for (int q = 0; q < VECS; ++q) base[q] = load<T>(wb + q * lanes);
  for (int64_t k = 0; k < n; ++k) {
    const int64_t r = order[k];
    const T x = b.fraction[r], v = b.v ? b.v[r] : T(1), sb = b.base[r];
    T* target = y + r * s.outs;
#pragma GCC unroll 8
    for (int q = 0; q < VECS; ++q) {
      V<T> t = load<T>(target + q * lanes);
      if (b.v) t += v * c.value(x, q);
      else t += c.value(x, q);
      if (f.base) t += sb * base[q];
      store<T>(target + q * lanes, t);
    }
  }
}

template <typename T, int TERMS, int VECS>
void input_rows(const Local<T>& f, const Sizes<T>& s, const Sorted<T>& b, const T* w, const T* wb, const int32_t* order, int64_t n, const T* g, T* z) {
  constexpr int lanes = Vec<T>::lanes;
  const Coefficients<T, TERMS, VECS> c(w, s.outs, f.terms);
  V<T> base[VECS];
  if (f.base)
    for (int q = 0; q < VECS; ++q) base[q] = load<T>(wb + q * lanes);
  auto row = [&](int64_t r) __attribute__((always_inline)) {
    const T x = b.fraction[r], sb = b.base[r];
    V<T> total{};
#pragma GCC unroll 8
    for (int q = 0; q < VECS; ++q) {
      V<T> t = c.value(x, q);
      if (f.base) t += sb * base[q];
      total += t * load<T>(g + r * s.outs + q * lanes);
    }
    return total;
  };
  int64_t k = 0;
  for (; k + 4 <= n; k += 4) {
    T four[4];
    sums<T>(row(order[k]), row(order[k + 1]), row(order[k + 2]), row(order[k + 3]), four);
    for (int a = 0; a < 4; ++a) z[order[k + a]] += four[a];
  }
  for (; k < n; ++k) z[order[k]] += sum<T>(row(order[k]));
}

template <typename T, int TERMS, int VECS>
void weight_rows(const Local<T>& f, const Sizes<T>& s, const Sorted<T>& b, T* w, T* wb, const int32_t* order, int64_t n, const T* g) {
  constexpr int lanes = Vec<T>::lanes;
  V<T> acc[TERMS][VECS], base[VECS];
  for (int p = 0; p < TERMS; ++p)
    for (int q = 0; q < VECS; ++q) acc[p][q] = load<T>(w + p * s.outs + q * lanes);
  if (f.base)
    for (int q = 0; q < VECS; ++q) base[q] = load<T>(wb + q * lanes);
  for (int64_t k = 0; k < n; ++k) {
    const int64_t r = order[k];
    const T x = b.fraction[r], sb = b.base[r];
    T power = b.v ? b.v[r] : T(1);
    V<T> gv[VECS];
    for (int q = 0; q < VECS; ++q) gv[q] = load<T>(g + r * s.outs + q * lanes);
#pragma GCC unroll 8
    for (int p = 0; p < TERMS; ++p) {
#pragma GCC unroll 8
      for (int q = 0; q < VECS; ++q) acc[p][q] += power * gv[q];
      power *= x;
    }
    if (f.base)
      for (int q = 0; q < VECS; ++q) base[q] += sb * gv[q];
  }
  for (int p = 0; p < TERMS; ++p)
    for (int q = 0; q < VECS; ++q) store<T>(w + p * s.outs + q * lanes, acc[p][q]);
  if (f.base)
    for (int q = 0; q < VECS; ++q) store<T>(wb + q * lanes, base[q]);
}

// The same for many terms: one term after the other, each in registers of its own.
template <typename T, int VECS>
void weight_rows_any(const Local<T>& f, const Sizes<T>& s, Sorted<T>& b, T* w, T* wb, const int32_t* order, int64_t n, const T* g) {
  constexpr int lanes = Vec<T>::lanes;
  for (int p = 0; p < f.terms + int(f.base); ++p) {
    T* target = p < f.terms ? w + p * s.outs : wb;
    V<T> acc[VECS];
    for (int q = 0; q < VECS; ++q) acc[q] = load<T>(target + q * lanes);
    for (int64_t k = 0; k < n; ++k) {
      const int64_t r = order[k];
      T value = b.v ? b.v[r] : T(1);
      for (int d = 0; d < p; ++d) value *= b.fraction[r];
      if (p == f.terms) value = b.base[r];
      for (int q = 0; q < VECS; ++q) acc[q] += value * load<T>(g + r * s.outs + q * lanes);
    }
    for (int q = 0; q < VECS; ++q) store<T>(target + q * lanes, acc[q]);
  }
}

// One output. ``c`` are the coefficients of one input's intervals.
template <typename T>
inline T scalar_value(const Local<T>& f, const Sorted<T>& b, const T* c, T wb, int64_t r) {
  const T* p = c + b.interval[r] * f.terms;
  const T x = b.fraction[r];
  T t = p[f.terms - 1];
  for (int k = f.terms - 2; k >= 0; --k) t = t * x + p[k];
  if (b.v) t *= b.v[r];
  return f.base ? t + b.base[r] * wb : t;
}

template <typename T>
inline void scalar_weight(const Local<T>& f, const Sorted<T>& b, T* c, T& wb, T g, int64_t r) {
  T* p = c + b.interval[r] * f.terms;
  const T x = b.fraction[r];
  if (f.base) wb += b.base[r] * g;
  if (b.v) g *= b.v[r];
  for (int k = 0; k < f.terms; ++k, g *= x) p[k] += g;
}

}  // namespace kanmlip
