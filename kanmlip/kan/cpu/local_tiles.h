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

// The derivative of a polynomial with TERMS + 1 coefficients.
template <typename T, int TERMS, int VECS>
struct Slope : Coefficients<T, TERMS, VECS> {
  Slope(const T* p, int64_t outs, T inverse_spacing) : Coefficients<T, TERMS, VECS>(p + outs, outs, TERMS) {
    for (int k = 0; k < TERMS; ++k)
      for (int q = 0; q < VECS; ++q) this->own[k][q] *= T(k + 1) * inverse_spacing;
  }
};

template <typename T, int VECS>
struct Row {  // the base branch's weights
  V<T> own[VECS];
  Row(const T* p, bool present) {
    for (int q = 0; q < VECS; ++q) own[q] = present ? load<T>(p + q * Vec<T>::lanes) : V<T>{};
  }
};

template <typename T, int VECS, typename C>
inline void output_row(const Local<T>& f, const Sorted<T>& b, const C& c, const Row<T, VECS>& base, int64_t r, T* y) {
  constexpr int lanes = Vec<T>::lanes;
  const T x = b.fraction[r], sb = b.base[r];
#pragma GCC unroll 8
  for (int q = 0; q < VECS; ++q) {
    V<T> t = load<T>(y + q * lanes);
    if (b.v) t += b.v[r] * c.value(x, q);
    else t += c.value(x, q);
    if (f.base) t += sb * base.own[q];
    store<T>(y + q * lanes, t);
  }
}

template <typename T, int VECS, typename C>
inline V<T> input_row(const Local<T>& f, const C& c, const Row<T, VECS>& base, T x, T sb, const T* g) {
  V<T> total{};
#pragma GCC unroll 8
  for (int q = 0; q < VECS; ++q) {
    V<T> t = c.value(x, q);
    if (f.base) t += sb * base.own[q];
    total += t * load<T>(g + q * Vec<T>::lanes);
  }
  return total;
}

// Rows of one interval.
template <typename T, int TERMS, int VECS>
void output_run(const Local<T>& f, const Sizes<T>& s, const Sorted<T>& b, const T* w, const T* wb, const int32_t* order, int64_t n, T* y) {
  const Coefficients<T, TERMS, VECS> c(w, s.outs, f.terms);
  const Row<T, VECS> base(wb, f.base);
  for (int64_t k = 0; k < n; ++k) output_row<T, VECS>(f, b, c, base, order[k], y + order[k] * s.outs);
}

// Calls add(k, sum of row(k)) for k < n, four at a time.
template <typename T, typename GetRow, typename Add>
inline void row_sums(int64_t n, GetRow row, Add add) {
  int64_t k = 0;
  for (; k + 4 <= n; k += 4) {
    T four[4];
    sums<T>(row(k), row(k + 1), row(k + 2), row(k + 3), four);
    for (int a = 0; a < 4; ++a) add(k + a, four[a]);
  }
  for (; k < n; ++k) add(k, sum<T>(row(k)));
}

template <typename T, int VECS, typename C>
void input_run(const Local<T>& f, const Sizes<T>& s, const Sorted<T>& b, const C& c, const T* wb, const std::vector<T>& factor, const int32_t* order, int64_t n, const T* g, T* z) {
  const Row<T, VECS> base(wb, f.base);
  row_sums<T>(
      n, [&](int64_t k) { return input_row<T, VECS>(f, c, base, b.fraction[order[k]], factor[order[k]], g + order[k] * s.outs); },
      [&](int64_t k, T value) { z[order[k]] += value; });
}

template <typename T, int TERMS, int VECS>
void weight_run(const Local<T>& f, const Sizes<T>& s, const Sorted<T>& b, T* w, T* wb, const int32_t* order, int64_t n, const T* g) {
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
void weight_run_any(const Local<T>& f, const Sizes<T>& s, Sorted<T>& b, T* w, T* wb, const int32_t* order, int64_t n, const T* g) {
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
inline T scalar_slope(const Local<T>& f, const Sorted<T>& b, const T* c, T wb, int64_t r) {
  const T* p = c + b.interval[r] * f.terms;
  const T x = b.fraction[r];
  T t = 0;
  for (int k = f.terms - 1; k >= 1; --k) t = t * x + T(k) * p[k];
  t *= f.inverse_spacing;
  return f.base ? t + b.slope[r] * wb : t;
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
