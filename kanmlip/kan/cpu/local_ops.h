// The three contractions over functions of local support for whole tensors: panels of inputs, blocks of rows, threads.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>

#include "local_sums.h"
#include "plan.h"

namespace kanmlip {

// The plan's numbers: start, spacing, pieces, terms, then the pieces' coefficients about the middle of an interval.
template <typename T>
Local<T> local(const Plan& plan, int64_t order) {
  const std::vector<double>& numbers = plan.numbers;
  Local<T> f;
  f.size = int(plan.size);
  f.pieces = int(numbers[2]);
  f.order = int(order);
  f.base = plan.base;
  f.middle = T(numbers[0] + f.intervals() / 2 * numbers[1]);
  f.inverse_spacing = T(1 / numbers[1]);
  const int terms = int(numbers[3]);
  f.terms = std::max(1, terms - f.order);
  for (int m = 0; m < f.pieces; ++m)
    for (int p = 0; p < f.terms; ++p) {
      double c = p + f.order < terms ? numbers[4 + m * terms + p + f.order] : 0;
      for (int d = 0; d < f.order; ++d) c *= (p + f.order - d) / numbers[1];
      f.coefficients[m][p] = c;
      f.rounded[m][p] = T(c);
    }
  return f;
}

template <typename T>
std::vector<T> padded(const Sizes<T>& s, const T* g) {
  std::vector<T> result(s.rows * s.outs, T(0));
  for (int64_t r = 0; r < s.rows; ++r) std::copy_n(g + r * s.out, s.out, result.data() + r * s.outs);
  return result;
}

template <typename T>
const T* pointer(const Maybe& v) {
  return v ? v->const_data_ptr<T>() : nullptr;
}

template <typename T, typename Step>
void panels(const Sizes<T>& s, Step step) {
  for (int64_t i = 0; i < s.in; i += s.panel) step(Panel<T>{i, std::min(s.in, i + s.panel)});
}

// Calls step(span) for the blocks [begin, end), chunk of inputs by chunk of inputs.
template <typename T, typename Step>
void spans(const Sizes<T>& s, Panel<T> p, int64_t begin, int64_t end, Step step) {
  for (int64_t i = p.first; i < p.last; i += s.chunk)
    for (int64_t k = begin; k < end; ++k) {
      const int64_t r = k * s.block;
      step(Span<T>{r, std::min(s.block, s.rows - r), i, std::min(p.last, i + s.chunk), p.first});
    }
}

// Σ_k φ_k(0) W_oki [out, in].
template <typename T>
Tensor weight_at_zero(const Local<T>& f, const Tensor& weight) {
  Tensor total = at::zeros({weight.size(0), weight.size(2)}, weight.options());
  f.at_zero([&](int k, T value) { total.add_(weight.select(1, k), value); });
  return total;
}

template <typename T, int TERMS>
Tensor output_as(const Local<T>& f, const Tensor& x, const Maybe& v, const Tensor& weight, bool zero) {
  const Sizes<T> s(f, x.size(0), x.size(1), weight.size(0));
  Tensor wide = at::zeros({s.rows, s.outs}, x.options());
  const T *px = x.const_data_ptr<T>(), *pv = pointer<T>(v), *pw = weight.const_data_ptr<T>();
  T* py = wide.data_ptr<T>();
  // By the very same arithmetic as a row of the input, so that f(0) = 0 to the last bit.
  std::vector<T> w, at_zero(zero && !v ? s.outs : 0, T(0));
  const std::vector<T> origin(at_zero.empty() ? 0 : s.in, T(0));
  panels<T>(s, [&](Panel<T> p) {
    pack<T>(f, s, p, pw, w);
    if (!at_zero.empty()) {
      Sorted<T> sorted(f, s);
      local_output<T, TERMS>(f, s, sorted, Span<T>{0, 1, p.first, p.last, p.first}, origin.data(), nullptr, w.data(), at_zero.data());
    }
    at::parallel_for(0, s.blocks(), 1, [&](int64_t begin, int64_t end) {
      Sorted<T> sorted(f, s);
      spans<T>(s, p, begin, end, [&](Span<T> a) {
        T* y = py + a.row * s.outs;
        local_output<T, TERMS>(f, s, sorted, a, px + a.row * s.in, pv ? pv + a.row * s.in : nullptr, w.data(), y);
        if (a.last == s.in && !at_zero.empty())
          for (int64_t r = 0; r < a.n; ++r)
            for (int64_t o = 0; o < s.outs; ++o) y[r * s.outs + o] -= at_zero[o];
      });
    });
  });
  Tensor y = s.outs == s.out ? wide : wide.narrow(1, 0, s.out).contiguous();
  if (zero && v) y.sub_(at::mm(*v, weight_at_zero(f, weight).t()));
  return y;
}

template <typename T, int TERMS>
Tensor input_as(const Local<T>& f, const Tensor& x, const Tensor& g, const Tensor& weight, bool zero) {
  const Sizes<T> s(f, x.size(0), x.size(1), weight.size(0));
  const T *px = x.const_data_ptr<T>(), *pg = g.const_data_ptr<T>(), *pw = weight.const_data_ptr<T>();
  const std::vector<T> wide = s.outs == s.out ? std::vector<T>() : padded<T>(s, pg);
  if (!wide.empty()) pg = wide.data();
  Tensor z = at::empty({s.rows, s.in}, x.options());
  T* pz = z.data_ptr<T>();
  std::vector<T> w;
  panels<T>(s, [&](Panel<T> p) {
    pack<T>(f, s, p, pw, w);
    at::parallel_for(0, s.blocks(), 1, [&](int64_t begin, int64_t end) {
      Sorted<T> sorted(f, s);
      std::vector<T> column(s.block);
      spans<T>(s, p, begin, end, [&](Span<T> a) {
        local_input<T, TERMS>(f, s, sorted, a, px + a.row * s.in, pg + a.row * s.outs, w.data(), pz + a.row * s.in, column.data());
      });
    });
  });
  if (zero) z.sub_(at::mm(g, weight_at_zero(f, weight)));
  return z;
}

// Takes the share of the functions' values at zero from a B_0(v).
template <typename T>
void less_at_zero(const Local<T>& f, const Maybe& v, const Tensor& g, const Tensor& by_weight) {
  const Tensor total = v ? at::mm(g.t(), *v) : g.sum(0).unsqueeze(1);
  f.at_zero([&](int k, T value) { by_weight.select(1, k).sub_(total, value); });
}

// Gradients of a panel's coefficients into those of the weights. One sum a thread, added up in their order, so that a result
// depends on the number of threads alone. Calls step(first block, last block, sum).
template <typename T, typename Step>
void weight_sum(const Local<T>& f, const Sizes<T>& s, Panel<T> p, T* weight, std::vector<std::vector<T>>& partial, Step step) {
  const int64_t blocks = s.blocks(), parts = std::max<int64_t>(1, std::min<int64_t>(at::get_num_threads(), blocks));
  partial.resize(parts);
  at::parallel_for(0, parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t part = begin; part < end; ++part) {
      partial[part].assign((p.last - p.first) * s.stride, T(0));
      step(part * blocks / parts, (part + 1) * blocks / parts, partial[part].data());
    }
  });
  for (int64_t part = 1; part < parts; ++part)
    for (size_t k = 0; k < partial[0].size(); ++k) partial[0][k] += partial[part][k];
  unpack<T>(f, s, p, partial[0].data(), weight);
}

template <typename T, int TERMS>
Tensor weight_as(const Local<T>& f, const Tensor& x, const Maybe& v, const Tensor& g, bool zero) {
  const Sizes<T> s(f, x.size(0), x.size(1), g.size(1));
  const T *px = x.const_data_ptr<T>(), *pv = pointer<T>(v), *pg = g.const_data_ptr<T>();
  const std::vector<T> wide = s.outs == s.out ? std::vector<T>() : padded<T>(s, pg);
  if (!wide.empty()) pg = wide.data();
  Tensor weight = at::empty({s.out, f.columns(), s.in}, x.options());
  std::vector<std::vector<T>> partial;
  panels<T>(s, [&](Panel<T> p) {
    weight_sum<T>(f, s, p, weight.data_ptr<T>(), partial, [&](int64_t begin, int64_t end, T* w) {
      Sorted<T> sorted(f, s);
      spans<T>(s, p, begin, end, [&](Span<T> a) {
        local_weight<T, TERMS>(f, s, sorted, a, px + a.row * s.in, pv ? pv + a.row * s.in : nullptr, pg + a.row * s.outs, w);
      });
    });
  });
  if (zero) less_at_zero(f, v, g, weight);
  return weight;
}

// v C_{d+1} [N, in], A_d(v) [N, out] (empty unless asked for), B_d(v) [out, columns, in]; v = 1 where there is none.
template <typename T, int TERMS>
Gradients gradients_as(const Local<T>& f, const Tensor& x, const Maybe& v, const Tensor& g, const Tensor& weight, bool zero, bool output) {
  const Sizes<T> s(f, x.size(0), x.size(1), weight.size(0));
  const T *px = x.const_data_ptr<T>(), *pv = pointer<T>(v), *pg = g.const_data_ptr<T>(), *pw = weight.const_data_ptr<T>();
  const std::vector<T> wide = s.outs == s.out ? std::vector<T>() : padded<T>(s, pg);
  if (!wide.empty()) pg = wide.data();
  Tensor z = at::empty({s.rows, s.in}, x.options()), by_weight = at::empty(weight.sizes(), x.options());
  Tensor y = at::zeros({output ? s.rows : 0, s.outs}, x.options());
  T *pz = z.data_ptr<T>(), *py = output ? y.data_ptr<T>() : nullptr;
  std::vector<T> w;
  std::vector<std::vector<T>> partial;
  panels<T>(s, [&](Panel<T> p) {
    pack<T>(f, s, p, pw, w);
    weight_sum<T>(f, s, p, by_weight.data_ptr<T>(), partial, [&](int64_t begin, int64_t end, T* dw) {
      Sorted<T> sorted(f, s);
      std::vector<T> column(s.block);
      spans<T>(s, p, begin, end, [&](Span<T> a) {
        const int64_t in = a.row * s.in, out = a.row * s.outs;
        local_gradients<T, TERMS>(f, s, sorted, a, px + in, pv ? pv + in : nullptr, pg + out, w.data(), pz + in, py ? py + out : nullptr, dw, column.data());
      });
    });
  });
  if (output && s.outs != s.out) y = y.narrow(1, 0, s.out).contiguous();
  if (zero && output) y.sub_(v ? at::mm(*v, weight_at_zero(f, weight).t()) : weight_at_zero(f, weight).sum(1));
  if (zero) less_at_zero(f, v, g, by_weight);
  return {z, y, by_weight};
}

}  // namespace kanmlip
