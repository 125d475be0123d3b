// What happens between two knots: rows of one interval, VECS vectors of outputs, the polynomial's TERMS coefficients in registers.
// TERMS = 0 leaves them in memory. One output alone has no vectors: see the scalar forms.
#pragma once

#include "local.h"

namespace kanmlip {

// The coefficients of interval j: linear in the weights in its slots. ``slots`` are one input's.
template <typename T, int TERMS, int VECS>
struct Coefficients {
  V<T> own[TERMS ? TERMS : kMaxTerms][VECS];
  int terms;

  Coefficients(const Local<T>& f, int64_t outs, int j, const T* slots) : terms(TERMS ? TERMS : f.terms) {
    const int pieces = j < f.intervals() ? f.pieces : 0;  // outside of the functions' support: zeros
#pragma GCC unroll 8
    for (int p = 0; p < terms; ++p)
      for (int q = 0; q < VECS; ++q) own[p][q] = V<T>{};
    for (int m = 0; m < pieces; ++m) {
      V<T> w[VECS];
      for (int q = 0; q < VECS; ++q) w[q] = load<T>(slots + (j + m) * outs + q * Vec<T>::lanes);
#pragma GCC unroll 8
      for (int p = 0; p < terms; ++p)
        for (int q = 0; q < VECS; ++q) own[p][q] += f.rounded[m][p] * w[q];
    }
  }
  Coefficients() = default;
  // Horner's rule.
  V<T> value(T x, int q) const {
    V<T> t = own[terms - 1][q];
#pragma GCC unroll 8
    for (int p = terms - 2; p >= 0; --p) t = t * x + own[p][q];
    return t;
  }
};

// The derivative of a polynomial.
template <typename T, int TERMS, int VECS>
Coefficients<T, TERMS - 1, VECS> slope_of(const Coefficients<T, TERMS, VECS>& c, T inverse_spacing) {
  Coefficients<T, TERMS - 1, VECS> slope;
  slope.terms = TERMS - 1;
  for (int p = 0; p < TERMS - 1; ++p)
    for (int q = 0; q < VECS; ++q) slope.own[p][q] = c.own[p + 1][q] * (T(p + 1) * inverse_spacing);
  return slope;
}

template <typename T, int VECS>
struct Row {  // the base branch's weights
  V<T> own[VECS];
  Row(const T* p, bool present) {
    for (int q = 0; q < VECS; ++q) own[q] = present ? load<T>(p + q * Vec<T>::lanes) : V<T>{};
  }
};

// Rows of one interval. What a loop over rows reads is in variables of its own: a store may be to anything else, as far as the
// compiler knows, which would be read again for every row.
template <typename T, int VECS, typename C>
void output_run(const Local<T>& f, const Sizes<T>& s, const Sorted<T>& b, const C& coefficients, const T* wb, const int32_t* order, int64_t n, T* y) {
  constexpr int lanes = Vec<T>::lanes;
  const C c = coefficients;
  const Row<T, VECS> base(wb, f.base);
  const T *fraction = b.fraction.data(), *silu = b.base.data(), *v = b.v;
  const int64_t outs = s.outs;
  const bool has_base = f.base;
  for (int64_t k = 0; k < n; ++k) {
    const int64_t r = order[k];
    const T x = fraction[r], factor = v ? v[r] : T(1), sb = silu[r];
    T* own = y + r * outs;
#pragma GCC unroll 8
    for (int q = 0; q < VECS; ++q) {
      V<T> t = load<T>(own + q * lanes) + factor * c.value(x, q);
      if (has_base) t += sb * base.own[q];
      store<T>(own + q * lanes, t);
    }
  }
}

template <typename T, int VECS, typename C>
void input_run(const Local<T>& f, const Sizes<T>& s, const Sorted<T>& b, const C& coefficients, const T* wb, const std::vector<T>& factors, const int32_t* order, int64_t n, const T* g, T* z) {
  const C c = coefficients;
  const Row<T, VECS> base(wb, f.base);
  const T *fraction = b.fraction.data(), *factor = factors.data();
  const int64_t outs = s.outs;
  const bool has_base = f.base;
  auto row = [&](int64_t r) __attribute__((always_inline)) {
    const T x = fraction[r], sb = factor[r];
    V<T> total{};
#pragma GCC unroll 8
    for (int q = 0; q < VECS; ++q) {
      V<T> t = c.value(x, q);
      if (has_base) t += sb * base.own[q];
      total += t * load<T>(g + r * outs + q * Vec<T>::lanes);
    }
    return total;
  };
  int64_t k = 0;
  for (; k + 4 <= n; k += 4) {
    const int64_t r[4] = {order[k], order[k + 1], order[k + 2], order[k + 3]};
    T four[4];
    sums<T>(row(r[0]), row(r[1]), row(r[2]), row(r[3]), four);
    for (int a = 0; a < 4; ++a) z[r[a]] += four[a];
  }
  for (; k < n; ++k) z[order[k]] += sum<T>(row(order[k]));
}

// Adds the gradient of coefficient p of interval j to those of the weights; the transpose of what makes coefficients.
template <typename T, int VECS>
inline void distribute(const Local<T>& f, int64_t outs, int j, int p, const V<T>* gradient, T* slots) {
  if (j == f.intervals()) return;
  for (int m = 0; m < f.pieces; ++m)
    for (int q = 0; q < VECS; ++q) {
      T* own = slots + (j + m) * outs + q * Vec<T>::lanes;
      store<T>(own, load<T>(own) + f.rounded[m][p] * gradient[q]);
    }
}

template <typename T, int TERMS, int VECS>
void weight_run(const Local<T>& f, const Sizes<T>& s, const Sorted<T>& b, int j, T* slots, T* wb, const int32_t* order, int64_t n, const T* g) {
  constexpr int lanes = Vec<T>::lanes;
  V<T> acc[TERMS][VECS] = {}, base[VECS] = {};
  const T *fraction = b.fraction.data(), *silu = b.base.data(), *v = b.v;
  const int64_t outs = s.outs;
  for (int64_t k = 0; k < n; ++k) {
    const int64_t r = order[k];
    const T x = fraction[r], sb = silu[r];
    T power = v ? v[r] : T(1);
    V<T> gv[VECS];
    for (int q = 0; q < VECS; ++q) gv[q] = load<T>(g + r * outs + q * lanes);
#pragma GCC unroll 8
    for (int p = 0; p < TERMS; ++p) {
#pragma GCC unroll 8
      for (int q = 0; q < VECS; ++q) acc[p][q] += power * gv[q];
      power *= x;
    }
    if (f.base)
      for (int q = 0; q < VECS; ++q) base[q] += sb * gv[q];
  }
#pragma GCC unroll 8
  for (int p = 0; p < TERMS; ++p) distribute<T, VECS>(f, s.outs, j, p, acc[p], slots);
  if (f.base)
    for (int q = 0; q < VECS; ++q) store<T>(wb + q * lanes, load<T>(wb + q * lanes) + base[q]);
}

// The same for many terms: one term after the other, each in registers of its own.
template <typename T, int VECS>
void weight_run_any(const Local<T>& f, const Sizes<T>& s, const Sorted<T>& b, int j, T* slots, T* wb, const int32_t* order, int64_t n, const T* g) {
  constexpr int lanes = Vec<T>::lanes;
  for (int p = 0; p < f.terms + int(f.base); ++p) {
    V<T> acc[VECS] = {};
    for (int64_t k = 0; k < n; ++k) {
      const int64_t r = order[k];
      T value = b.v ? b.v[r] : T(1);
      for (int d = 0; d < p; ++d) value *= b.fraction[r];
      if (p == f.terms) value = b.base[r];
      for (int q = 0; q < VECS; ++q) acc[q] += value * load<T>(g + r * s.outs + q * lanes);
    }
    if (p < f.terms) distribute<T, VECS>(f, s.outs, j, p, acc, slots);
    else
      for (int q = 0; q < VECS; ++q) store<T>(wb + q * lanes, load<T>(wb + q * lanes) + acc[q]);
  }
}

// One output: the coefficients of all intervals of one input in a table [intervals + 1][terms].
template <typename T>
void tabulate(const Local<T>& f, const T* slots, T* table) {
  for (int j = 0; j < f.intervals(); ++j)
    for (int p = 0; p < f.terms; ++p) {
      T total = 0;
      for (int m = 0; m < f.pieces; ++m) total += f.rounded[m][p] * slots[j + m];
      *table++ = total;
    }
  std::fill_n(table, f.terms, T(0));  // outside
}

// Its transpose, for gradients.
template <typename T>
void distribute_table(const Local<T>& f, const T* table, T* slots) {
  for (int j = 0; j < f.intervals(); ++j)
    for (int p = 0; p < f.terms; ++p, ++table)
      for (int m = 0; m < f.pieces; ++m) slots[j + m] += f.rounded[m][p] * *table;
}

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
