// The kernels as operators of torch; see backend_cpu.py, which calls them.
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include "dense_sums.h"
#include "local_sums.h"

namespace kanmlip {
namespace {

using Numbers = at::ArrayRef<double>;

// numbers: start, spacing, pieces, terms, then the pieces' coefficients about the middle of an interval.
template <typename T>
Local<T> local(Numbers numbers, int64_t size, bool base, int64_t order) {
  Local<T> f;
  f.size = int(size);
  f.pieces = int(numbers[2]);
  f.order = int(order);
  f.base = base;
  f.middle = T(numbers[0] + f.intervals() / 2 * numbers[1]);
  f.inverse_spacing = T(1 / numbers[1]);
  const int terms = int(numbers[3]);
  TORCH_CHECK(f.pieces <= kMaxPieces && terms <= kMaxTerms, "at most ", kMaxPieces, " pieces of ", kMaxTerms, " terms");
  f.terms = std::max(1, terms - f.order);
  for (int m = 0; m < f.pieces; ++m)
    for (int p = 0; p < f.terms; ++p) {
      double c = p + f.order < terms ? numbers[4 + m * terms + p + f.order] : 0;
      for (int d = 0; d < f.order; ++d) c *= (p + f.order - d) / numbers[1];
      f.coefficients[m][p] = c;
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
const T* pointer(const std::optional<Tensor>& v) {
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
Tensor output_as(const Local<T>& f, const Tensor& x, const std::optional<Tensor>& v, const Tensor& weight, bool zero) {
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
Tensor weight_as(const Local<T>& f, const Tensor& x, const std::optional<Tensor>& v, const Tensor& g, bool zero) {
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
  if (zero) {
    const Tensor total = v ? at::mm(g.t(), *v) : g.sum(0).unsqueeze(1);
    f.at_zero([&](int k, T value) { weight.select(1, k).sub_(total, value); });
  }
  return weight;
}

// v C_{d+1} [N, in], A_d(v) [N, out], B_d(v) [out, columns, in]; for d ≥ 1.
template <typename T, int TERMS>
std::tuple<Tensor, Tensor, Tensor> input_gradients_as(const Local<T>& f, const Tensor& x, const Tensor& v, const Tensor& g, const Tensor& weight) {
  const Sizes<T> s(f, x.size(0), x.size(1), weight.size(0));
  const T *px = x.const_data_ptr<T>(), *pv = v.const_data_ptr<T>(), *pg = g.const_data_ptr<T>(), *pw = weight.const_data_ptr<T>();
  const std::vector<T> wide = s.outs == s.out ? std::vector<T>() : padded<T>(s, pg);
  if (!wide.empty()) pg = wide.data();
  Tensor z = at::empty({s.rows, s.in}, x.options()), y = at::zeros({s.rows, s.outs}, x.options());
  Tensor by_weight = at::empty(weight.sizes(), x.options());
  T *pz = z.data_ptr<T>(), *py = y.data_ptr<T>();
  std::vector<T> w;
  std::vector<std::vector<T>> partial;
  panels<T>(s, [&](Panel<T> p) {
    pack<T>(f, s, p, pw, w);
    weight_sum<T>(f, s, p, by_weight.data_ptr<T>(), partial, [&](int64_t begin, int64_t end, T* dw) {
      Sorted<T> sorted(f, s);
      std::vector<T> column(s.block);
      spans<T>(s, p, begin, end, [&](Span<T> a) {
        const int64_t in = a.row * s.in, out = a.row * s.outs;
        local_input_gradients<T, TERMS>(f, s, sorted, a, px + in, pv + in, pg + out, w.data(), pz + in, py + out, dw, column.data());
      });
    });
  });
  return {z, s.outs == s.out ? y : y.narrow(1, 0, s.out).contiguous(), by_weight};
}

// Calls call(zero of the dtype, number of terms if it has code of its own, else 0).
template <typename Call>
auto typed(const Tensor& x, Numbers numbers, int64_t size, bool base, int64_t order, Call call) {
  auto of = [&](auto zero) {
    using T = decltype(zero);
    const Local<T> f = local<T>(numbers, size, base, order);
    if (f.terms == 4) return call(f, std::integral_constant<int, 4>());
    if (f.terms == 3) return call(f, std::integral_constant<int, 3>());
    if (f.terms == 2) return call(f, std::integral_constant<int, 2>());
    return call(f, std::integral_constant<int, 0>());
  };
  return x.scalar_type() == at::kDouble ? of(double()) : of(float());
}

Tensor local_output_op(const Tensor& x, const std::optional<Tensor>& v, const Tensor& weight, Numbers numbers, int64_t size, bool base, bool zero, int64_t order) {
  return typed(x, numbers, size, base, order, [&](auto& f, auto terms) {
    return output_as<decltype(f.middle), terms()>(f, x, v, weight, zero && order == 0);
  });
}

Tensor local_input_op(const Tensor& x, const Tensor& g, const Tensor& weight, Numbers numbers, int64_t size, bool base, bool zero, int64_t order) {
  return typed(x, numbers, size, base, order, [&](auto& f, auto terms) {
    return input_as<decltype(f.middle), terms()>(f, x, g, weight, zero && order == 0);
  });
}

Tensor local_weight_op(const Tensor& x, const std::optional<Tensor>& v, const Tensor& g, Numbers numbers, int64_t size, bool base, bool zero, int64_t order) {
  return typed(x, numbers, size, base, order, [&](auto& f, auto terms) {
    return weight_as<decltype(f.middle), terms()>(f, x, v, g, zero && order == 0);
  });
}

std::tuple<Tensor, Tensor, Tensor> local_input_gradients_op(const Tensor& x, const Tensor& v, const Tensor& g, const Tensor& weight, Numbers numbers, int64_t size, bool base, bool zero, int64_t order) {
  return typed(x, numbers, size, base, order, [&](auto& f, auto terms) -> std::tuple<Tensor, Tensor, Tensor> {
    using T = decltype(f.middle);
    if constexpr (terms() > 1) {
      if (!zero || order > 0) return input_gradients_as<T, terms()>(f, x, v, g, weight);
    }
    return {local_input_op(x, g, weight, numbers, size, base, zero, order + 1).mul_(v), local_output_op(x, v, weight, numbers, size, base, zero, order),
            local_weight_op(x, v, g, numbers, size, base, zero, order)};
  });
}

// Calls call(columns) with the functions of a family: 0 even Gaussians (first, inverse width), 1 Gaussians (by shape), 2 waves
// (frequency), 3 Chebyshev polynomials (inverse width).
template <typename T, typename Call>
auto with_columns(int64_t family, Numbers numbers, int64_t size, const std::optional<Tensor>& shape, bool base, bool zero, int64_t order, Call call) {
  const int k = int(size), d = int(order);
  auto with = [&](auto f) { return call(Columns<T, decltype(f)>(f, base, zero, d)); };
  if (family == 0) return with(EvenGaussians<T>{k, T(numbers[0]), T(numbers[1])});
  if (family == 1) return with(Gaussians<T>{k, shape->const_data_ptr<T>(), shape->const_data_ptr<T>() + size});
  if (family == 2) return with(Waves<T>{k, T(numbers[0])});
  return with(Chebyshev<T>{k, T(numbers[0])});
}

template <typename Call>
auto dense(const Tensor& x, Call call) {
  return x.scalar_type() == at::kDouble ? call(double()) : call(float());
}

Tensor dense_output_op(const Tensor& x, const std::optional<Tensor>& v, const Tensor& weight, const std::optional<Tensor>& shape, int64_t family, Numbers numbers, int64_t size, bool base, bool zero, int64_t order) {
  return dense(x, [&](auto t) {
    using T = decltype(t);
    return with_columns<T>(family, numbers, size, shape, base, zero, order, [&](const auto& f) { return dense_output<T>(f, x, v, weight); });
  });
}

Tensor dense_input_op(const Tensor& x, const Tensor& g, const Tensor& weight, const std::optional<Tensor>& shape, int64_t family, Numbers numbers, int64_t size, bool base, bool zero, int64_t order) {
  return dense(x, [&](auto t) {
    using T = decltype(t);
    return with_columns<T>(family, numbers, size, shape, base, zero, order, [&](const auto& f) { return dense_input<T>(f, x, g, weight); });
  });
}

Tensor dense_weight_op(const Tensor& x, const std::optional<Tensor>& v, const Tensor& g, const std::optional<Tensor>& shape, int64_t family, Numbers numbers, int64_t size, bool base, bool zero, int64_t order) {
  return dense(x, [&](auto t) {
    using T = decltype(t);
    return with_columns<T>(family, numbers, size, shape, base, zero, order, [&](const auto& f) { return dense_weight<T>(f, x, v, g); });
  });
}

std::tuple<Tensor, Tensor, Tensor> dense_input_gradients_op(const Tensor& x, const Tensor& v, const Tensor& g, const Tensor& weight, const std::optional<Tensor>& shape, int64_t family, Numbers numbers, int64_t size, bool base, bool zero, int64_t order) {
  return dense(x, [&](auto t) {
    using T = decltype(t);
    return with_columns<T>(family, numbers, size, shape, base, zero, order, [&](const auto& f) { return dense_input_gradients<T>(f, x, v, g, weight); });
  });
}

}  // namespace
}  // namespace kanmlip

TORCH_LIBRARY_FRAGMENT(kanmlip_cpu, m) {
  m.def("local_output(Tensor x, Tensor? v, Tensor weight, float[] numbers, int size, bool base, bool zero, int order) -> Tensor");
  m.def("local_input(Tensor x, Tensor g, Tensor weight, float[] numbers, int size, bool base, bool zero, int order) -> Tensor");
  m.def("local_weight(Tensor x, Tensor? v, Tensor g, float[] numbers, int size, bool base, bool zero, int order) -> Tensor");
  m.def("local_input_gradients(Tensor x, Tensor v, Tensor g, Tensor weight, float[] numbers, int size, bool base, bool zero, int order) -> (Tensor, Tensor, Tensor)");
  m.def("dense_input_gradients(Tensor x, Tensor v, Tensor g, Tensor weight, Tensor? shape, int family, float[] numbers, int size, bool base, bool zero, int order) -> (Tensor, Tensor, Tensor)");
  m.def("dense_output(Tensor x, Tensor? v, Tensor weight, Tensor? shape, int family, float[] numbers, int size, bool base, bool zero, int order) -> Tensor");
  m.def("dense_input(Tensor x, Tensor g, Tensor weight, Tensor? shape, int family, float[] numbers, int size, bool base, bool zero, int order) -> Tensor");
  m.def("dense_weight(Tensor x, Tensor? v, Tensor g, Tensor? shape, int family, float[] numbers, int size, bool base, bool zero, int order) -> Tensor");
}

TORCH_LIBRARY_IMPL(kanmlip_cpu, CPU, m) {
  m.impl("local_output", kanmlip::local_output_op);
  m.impl("local_input", kanmlip::local_input_op);
  m.impl("local_weight", kanmlip::local_weight_op);
  m.impl("local_input_gradients", kanmlip::local_input_gradients_op);
  m.impl("dense_input_gradients", kanmlip::dense_input_gradients_op);
  m.impl("dense_output", kanmlip::dense_output_op);
  m.impl("dense_input", kanmlip::dense_input_op);
  m.impl("dense_weight", kanmlip::dense_weight_op);
}
