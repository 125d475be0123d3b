// Output and input contraction of a layer with so few inputs that a row would leave most of a vector empty: functions are worked out for
// one input of a vector of neighbouring rows. For any family.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <vector>

#include "plan.h"
#include "vec.h"

namespace kanmlip {

constexpr int64_t kVectorsOfThread = 16;
constexpr int kSums = 8;  // that stay in registers
constexpr int64_t kFewInputsOutputs = 256;  // up to here, as far as it was measured, a matrix product takes longer

template <typename T>
bool few_inputs(int64_t in) {
  return in <= Vec<T>::lanes / 2;
}

// One column of ``n`` rows; zeros for the rows that are not there.
template <typename T>
V<T> column(const T* p, int64_t stride, int64_t n) {
  T own[Vec<T>::lanes] = {};
  for (int64_t lane = 0; lane < n; ++lane) own[lane] = p[lane * stride];
  return load<T>(own);
}

template <typename T>
void put_column(T* p, int64_t stride, int64_t n, V<T> value) {
  T own[Vec<T>::lanes];
  store<T>(own, value);
  for (int64_t lane = 0; lane < n; ++lane) p[lane * stride] = own[lane];
}

// W [out][columns][in] as [ceil(out / kSums)][column · in][kSums] or, transposed, [ceil(columns · in / kSums)][out][kSums]: as many
// numbers side by side as there are sums at a time, with zeros for those that are not there.
template <typename T>
std::vector<T> packed_few(const T* weight, int64_t out, int64_t terms, bool transposed) {
  const int64_t many = transposed ? terms : out, inner = transposed ? out : terms;
  std::vector<T> packed((many + kSums - 1) / kSums * inner * kSums, T(0));
  for (int64_t o = 0; o < out; ++o)
    for (int64_t m = 0; m < terms; ++m) {
      const int64_t outer = transposed ? m : o, at = transposed ? o : m;
      packed[(outer / kSums * inner + at) * kSums + outer % kSums] = weight[o * terms + m];
    }
  return packed;
}

// target[j] = Σ_m factors[m] weights[m][j], vectors times numbers, kSums targets at a time.
template <typename T>
void few_products(const V<T>* factors, const T* weights, int64_t inner, int64_t many, V<T>* target) {
  for (int64_t first = 0; first < many; first += kSums, weights += inner * kSums) {
    V<T> total[kSums] = {};
    for (int64_t m = 0; m < inner; ++m)
      for (int j = 0; j < kSums; ++j) total[j] += factors[m] * weights[m * kSums + j];
    std::copy_n(total, kSums, target + first);
  }
}

template <typename T>
std::vector<T> channel_factors(const Maybe& scale, int64_t in) {
  if (!scale) return std::vector<T>(in, T(1));
  const T* p = scale->const_data_ptr<T>();
  return std::vector<T>(p, p + in);
}

inline int64_t padded_sums(int64_t number) { return (number + kSums - 1) / kSums * kSums; }

// Calls make()(first row, number of rows) for vectors of rows, in parallel; make() once for each part of them.
template <typename T, typename Make>
void row_vectors(int64_t rows, Make make) {
  constexpr int64_t lanes = Vec<T>::lanes;
  at::parallel_for(0, (rows + lanes - 1) / lanes, kVectorsOfThread, [&](int64_t begin, int64_t end) {
    auto step = make();
    for (int64_t b = begin; b < end; ++b) step(b * lanes, std::min(lanes, rows - b * lanes));
  });
}

// A_d(v) [N, out] at x times the scale [in].
template <typename T, typename F>
Tensor few_output(const F& f, const Tensor& x, const Maybe& v, const Tensor& weight, const Maybe& scale) {
  const int64_t in = x.size(1), out = weight.size(0), terms = f.size() * in;
  const std::vector<T> packed = packed_few<T>(weight.const_data_ptr<T>(), out, terms, false);
  Tensor y = at::empty({x.size(0), out}, x.options());
  const std::vector<T> unit = channel_factors<T>(scale, in);
  const T *px = x.const_data_ptr<T>(), *pv = v ? v->const_data_ptr<T>() : nullptr, *pw = packed.data();
  T* py = y.data_ptr<T>();
  row_vectors<T>(x.size(0), [&] {
    return [&, phi = std::vector<V<T>>(terms), sums = std::vector<V<T>>(padded_sums(out))](int64_t r, int64_t n) mutable {
      for (int64_t i = 0; i < in; ++i) {
        const V<T> factor = pv ? column<T>(pv + r * in + i, in, n) : splat<T>(1);
        f(rounded(column<T>(px + r * in + i, in, n) * unit[i]), [&](int k, V<T> value) { phi[k * in + i] = value * factor; });
      }
      few_products<T>(phi.data(), pw, terms, out, sums.data());
      for (int64_t o = 0; o < out; ++o) put_column<T>(py + r * out + o, out, n, sums[o]);
    };
  });
  return y;
}

// C_d [N, in] there, times the scale.
template <typename T, typename F>
Tensor few_input(const F& f, const Tensor& x, const Tensor& g, const Tensor& weight, const Maybe& scale) {
  const int64_t in = x.size(1), out = weight.size(0), terms = f.size() * in;
  const std::vector<T> packed = packed_few<T>(weight.const_data_ptr<T>(), out, terms, true);
  Tensor z = at::empty(x.sizes(), x.options());
  const std::vector<T> unit = channel_factors<T>(scale, in);
  const T *px = x.const_data_ptr<T>(), *pg = g.const_data_ptr<T>(), *pw = packed.data();
  T* pz = z.data_ptr<T>();
  row_vectors<T>(x.size(0), [&] {
    return [&, factors = std::vector<V<T>>(out), sums = std::vector<V<T>>(padded_sums(terms))](int64_t r, int64_t n) mutable {
      for (int64_t o = 0; o < out; ++o) factors[o] = column<T>(pg + r * out + o, out, n);
      few_products<T>(factors.data(), pw, out, terms, sums.data());
      for (int64_t i = 0; i < in; ++i) {
        V<T> total{};
        f(rounded(column<T>(px + r * in + i, in, n) * unit[i]), [&](int k, V<T> value) { total += value * sums[k * in + i]; });
        put_column<T>(pz + r * in + i, in, n, total * unit[i]);
      }
    };
  });
  return z;
}

}  // namespace kanmlip
