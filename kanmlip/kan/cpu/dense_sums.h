// The three contractions over functions that are nowhere zero: expand a block of rows in cache, then one matrix product.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

#include "dense.h"
#include "plan.h"

namespace kanmlip {

// As many rows as fit a core's cache, in less memory for a layer with little input: what it expands should not be what a model's peak is
// made of.
template <typename T>
int64_t block_rows(int64_t rows, int64_t columns, int64_t in) {
  const int64_t row = sizeof(T) * std::max<int64_t>(in, 1), bytes = std::clamp<int64_t>(rows * row / 3, 262144, 786432);
  return std::clamp<int64_t>(bytes / (row * columns), 16, 4096);
}

// Part of a row as a vector; what is beyond its end is zero and is not written back.
template <typename T>
struct Lanes {
  int64_t count;
  V<T> get(const T* p) const { return count == Vec<T>::lanes ? load<T>(p) : load_part<T>(p, count); }
  void put(T* p, V<T> value) const { count == Vec<T>::lanes ? store<T>(p, value) : store_part<T>(p, value, count); }
};

// Calls step(lanes, row, channel) for all of [n][in].
template <typename T, typename Step>
void points(int64_t n, int64_t in, Step step) {
  for (int64_t r = 0; r < n; ++r)
    for (int64_t i = 0; i < in; i += Vec<T>::lanes) step(Lanes<T>{std::min<int64_t>(Vec<T>::lanes, in - i)}, r, i);
}

// phi [n][columns][in] = v φ(x).
template <typename T, typename F>
void expand(const F& f, const T* x, const T* v, int64_t n, int64_t in, T* phi) {
  points<T>(n, in, [&](Lanes<T> lanes, int64_t r, int64_t i) {
    const V<T> factor = v ? lanes.get(v + r * in + i) : splat<T>(1);
    T* target = phi + r * f.size() * in + i;
    f(lanes.get(x + r * in + i), [&](int k, V<T> value) { lanes.put(target + k * in, value * factor); });
  });
}

// Calls step(first row, number of rows, buffer [rows, columns · in]) block by block, in parallel.
template <typename T, typename Step>
void blocks(const Tensor& x, int64_t columns, int64_t parts, Step step) {
  const int64_t rows = x.size(0), in = x.size(1), size = block_rows<T>(rows, columns, in), number = (rows + size - 1) / size;
  parts = parts ? parts : number;
  at::parallel_for(0, parts, 1, [&](int64_t begin, int64_t end) {
    const at::AutoDispatchBelowADInplaceOrView guard;  // a pool's thread does not know that no graph is wanted
    Tensor buffer = at::empty({std::min(size, rows), columns * in}, x.options());
    for (int64_t part = begin; part < end; ++part)
      for (int64_t k = part * number / parts; k < (part + 1) * number / parts; ++k) {
        const int64_t r = k * size, n = std::min(size, rows - r);
        step(part, r, n, buffer.narrow(0, 0, n));
      }
  });
}

template <typename T, typename F>
Tensor dense_output(const F& f, const Tensor& x, const Maybe& v, const Tensor& weight) {
  const int64_t in = x.size(1), out = weight.size(0);
  const Tensor matrix = weight.view({out, f.size() * in}).t();
  Tensor y = at::empty({x.size(0), out}, x.options());
  const T *px = x.const_data_ptr<T>(), *pv = v ? v->const_data_ptr<T>() : nullptr;
  blocks<T>(x, f.size(), 0, [&](int64_t, int64_t r, int64_t n, Tensor buffer) {
    expand<T>(f, px + r * in, pv ? pv + r * in : nullptr, n, in, buffer.data_ptr<T>());
    Tensor target = y.narrow(0, r, n);
    at::mm_out(target, buffer, matrix);
  });
  return y;
}

template <typename T, typename F>
Tensor dense_input(const F& f, const Tensor& x, const Tensor& g, const Tensor& weight) {
  const int64_t in = x.size(1), out = weight.size(0);
  const Tensor matrix = weight.view({out, f.size() * in});
  Tensor z = at::empty(x.sizes(), x.options());
  const T* px = x.const_data_ptr<T>();
  T* pz = z.data_ptr<T>();
  blocks<T>(x, f.size(), 0, [&](int64_t, int64_t r, int64_t n, Tensor buffer) {
    at::mm_out(buffer, g.narrow(0, r, n), matrix);
    const T* gw = buffer.const_data_ptr<T>();
    points<T>(n, in, [&](Lanes<T> lanes, int64_t a, int64_t i) {
      V<T> total{};
      const T* own = gw + a * f.size() * in + i;
      f(lanes.get(px + (r + a) * in + i), [&](int k, V<T> value) { total += value * lanes.get(own + k * in); });
      lanes.put(pz + (r + a) * in + i, total);
    });
  });
  return z;
}

template <typename T, typename F>
Tensor dense_weight(const F& f, const Tensor& x, const Maybe& v, const Tensor& g) {
  const int64_t in = x.size(1), out = g.size(1);
  const T *px = x.const_data_ptr<T>(), *pv = v ? v->const_data_ptr<T>() : nullptr;
  const int64_t parts = at::get_num_threads();
  std::vector<Tensor> partial(parts);
  for (Tensor& own : partial) own = at::zeros({out, f.size() * in}, x.options());
  blocks<T>(x, f.size(), parts, [&](int64_t part, int64_t r, int64_t n, Tensor buffer) {
    expand<T>(f, px + r * in, pv ? pv + r * in : nullptr, n, in, buffer.data_ptr<T>());
    at::addmm_out(partial[part], partial[part], g.narrow(0, r, n).t(), buffer);
  });
  for (int64_t part = 1; part < parts; ++part) partial[0] += partial[part];
  return partial[0].view({out, f.size(), in});
}

// v C_{d+1} [N, in], A_d(v) [N, out] (empty unless asked for), B_d(v) [out, columns, in], with one evaluation of the functions for all
// three; v = 1 where there is none.
template <typename T, typename F>
Gradients dense_gradients(const F& f, const Tensor& x, const Maybe& v, const Tensor& g, const Tensor& weight, bool output) {
  const int64_t in = x.size(1), out = weight.size(0), width = f.size() * in;
  const Tensor matrix = weight.view({out, width});
  Tensor y = at::empty({output ? x.size(0) : 0, out}, x.options()), z = at::empty(x.sizes(), x.options());
  const T *px = x.const_data_ptr<T>(), *pv = v ? v->const_data_ptr<T>() : nullptr;
  T* pz = z.data_ptr<T>();
  const int64_t parts = at::get_num_threads();
  std::vector<Tensor> partial(parts);
  for (Tensor& own : partial) own = at::zeros({out, width}, x.options());
  blocks<T>(x, 2 * f.size(), parts, [&](int64_t part, int64_t r, int64_t n, Tensor buffer) {
    Tensor gw = buffer.view(-1).narrow(0, 0, n * width).view({n, width}), phi = buffer.view(-1).narrow(0, n * width, n * width).view({n, width});
    at::mm_out(gw, g.narrow(0, r, n), matrix);
    const T* pg = gw.const_data_ptr<T>();
    T* pp = phi.data_ptr<T>();
    points<T>(n, in, [&](Lanes<T> lanes, int64_t a, int64_t i) {
      V<T> total{};
      const V<T> factor = pv ? lanes.get(pv + (r + a) * in + i) : splat<T>(1);
      const int64_t at = a * width + i;
      f.both(lanes.get(px + (r + a) * in + i), [&](int k, V<T> value, V<T> next) {
        total += next * lanes.get(pg + at + k * in);
        lanes.put(pp + at + k * in, value * factor);
      });
      lanes.put(pz + (r + a) * in + i, total * factor);
    });
    if (output) {
      Tensor target = y.narrow(0, r, n);
      at::mm_out(target, phi, matrix.t());
    }
    at::addmm_out(partial[part], partial[part], g.narrow(0, r, n).t(), phi);
  });
  for (int64_t part = 1; part < parts; ++part) partial[0] += partial[part];
  return {z, y, partial[0].view({out, f.size(), in})};
}

}  // namespace kanmlip
