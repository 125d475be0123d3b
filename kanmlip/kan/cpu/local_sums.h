// The three contractions over functions of local support for one block of rows and one chunk of inputs.
#pragma once

#include "local_tiles.h"

namespace kanmlip {

template <typename T>
struct Span {  // inputs [first, last) of rows [row, row + n); coefficients begin with those of input panel
  int64_t row, n, first, last, panel;
};

// Calls step(vectors, first output) for groups of 4, 2 and 1 vectors that together cover the outputs.
template <typename T, typename Step>
void groups(const Sizes<T>& s, Step step) {
  constexpr int lanes = Vec<T>::lanes;
  int64_t o = 0;
  for (; o + 4 * lanes <= s.outs; o += 4 * lanes) step(std::integral_constant<int, 4>(), o);
  for (; o + 2 * lanes <= s.outs; o += 2 * lanes) step(std::integral_constant<int, 2>(), o);
  for (; o + lanes <= s.outs; o += lanes) step(std::integral_constant<int, 1>(), o);
}

// Calls step(interval, rows, number of rows) for the intervals that have rows.
template <typename T, typename Step>
void runs(const Local<T>& f, const Sorted<T>& b, Step step) {
  for (int j = 0; j <= f.intervals(); ++j)
    if (b.count[j] > 0) step(j, b.order.data() + j * b.block, int64_t(b.count[j]));
}

// y [n][outs] += the chunk's part; w in slots.
template <typename T, int TERMS>
void local_output(const Local<T>& f, const Sizes<T>& s, Sorted<T>& b, Span<T> a, const T* x, const T* v, const T* w, T* y) {
  for (int64_t i = a.first; i < a.last; ++i) {
    const T *c = w + (i - a.panel) * s.stride, *wb = c + f.slot(f.size) * s.outs;
    b.fill(f, x, v, a.first, i, s.in, a.n);
    if (s.out == 1) {
      tabulate(f, c, b.table.data());
      for (int64_t r = 0; r < a.n; ++r) y[r] += scalar_value(f, b, b.table.data(), *wb, r);
      continue;
    }
    b.sort(a.n);
    groups<T>(s, [&](auto vectors, int64_t o) {
      runs<T>(f, b, [&](int j, const int32_t* rows, int64_t n) {
        const Coefficients<T, TERMS, vectors()> own(f, s.outs, j, c + o);
        output_run<T, vectors()>(f, s, b, own, wb + o, rows, n, y + o);
      });
    });
  }
}

// z [n][in] = the chunk's part of its columns; g [n][outs].
template <typename T, int TERMS>
void local_input(const Local<T>& f, const Sizes<T>& s, Sorted<T>& b, Span<T> a, const T* x, const T* g, const T* w, T* z, T* column) {
  for (int64_t i = a.first; i < a.last; ++i) {
    const T *c = w + (i - a.panel) * s.stride, *wb = c + f.slot(f.size) * s.outs;
    b.fill(f, x, nullptr, a.first, i, s.in, a.n);
    if (s.out == 1) {
      tabulate(f, c, b.table.data());
      for (int64_t r = 0; r < a.n; ++r) z[r * s.in + i] = g[r] * scalar_value(f, b, b.table.data(), *wb, r);
      continue;
    }
    b.sort(a.n);
    std::fill_n(column, a.n, T(0));
    groups<T>(s, [&](auto vectors, int64_t o) {
      runs<T>(f, b, [&](int j, const int32_t* rows, int64_t n) {
        const Coefficients<T, TERMS, vectors()> own(f, s.outs, j, c + o);
        input_run<T, vectors()>(f, s, b, own, wb + o, b.base, rows, n, g + o, column);
      });
    });
    for (int64_t r = 0; r < a.n; ++r) z[r * s.in + i] = column[r];
  }
}

template <typename T, int TERMS, int VECS>
void weight_any(const Local<T>& f, const Sizes<T>& s, const Sorted<T>& b, int j, T* slots, T* wb, const int32_t* rows, int64_t n, const T* g) {
  if constexpr (TERMS > 0) weight_run<T, TERMS, VECS>(f, s, b, j, slots, wb, rows, n, g);
  else weight_run_any<T, VECS>(f, s, b, j, slots, wb, rows, n, g);
}

// w, in slots, += the block's part.
template <typename T, int TERMS>
void local_weight(const Local<T>& f, const Sizes<T>& s, Sorted<T>& b, Span<T> a, const T* x, const T* v, const T* g, T* w) {
  for (int64_t i = a.first; i < a.last; ++i) {
    T *c = w + (i - a.panel) * s.stride, *wb = c + f.slot(f.size) * s.outs;
    b.fill(f, x, v, a.first, i, s.in, a.n);
    if (s.out == 1) {
      std::fill(b.table.begin(), b.table.end(), T(0));
      for (int64_t r = 0; r < a.n; ++r) scalar_weight(f, b, b.table.data(), *wb, g[r], r);
      distribute_table(f, b.table.data(), c);
      continue;
    }
    b.sort(a.n);
    groups<T>(s, [&](auto vectors, int64_t o) {
      runs<T>(f, b, [&](int j, const int32_t* rows, int64_t n) { weight_any<T, TERMS, vectors()>(f, s, b, j, c + o, wb + o, rows, n, g + o); });
    });
  }
}

// What local_gradients does for one output and one input.
template <typename T>
void scalar_gradients(const Local<T>& f, Sorted<T>& b, int64_t n, const T* c, T wb, const T* g, T* y, T* dw, T& dwb, T* column) {
  T *table = b.table.data(), *gradient = table + (f.intervals() + 1) * f.terms;
  tabulate(f, c, table);
  std::fill_n(gradient, (f.intervals() + 1) * f.terms, T(0));
  for (int64_t r = 0; r < n; ++r) {
    column[r] = g[r] * scalar_slope(f, b, table, wb, r);
    if (y) y[r] += scalar_value(f, b, table, wb, r);
    scalar_weight(f, b, gradient, dwb, g[r], r);
  }
  distribute_table(f, gradient, dw);
}

// z = v C_{d+1}, y += A_d(v) if there is a y, dw += B_d(v), in one pass; v = 1 where there is none.
template <typename T, int TERMS>
void local_gradients(const Local<T>& f, const Sizes<T>& s, Sorted<T>& b, Span<T> a, const T* x, const T* v, const T* g, const T* w, T* z, T* y, T* dw, T* column) {
  for (int64_t i = a.first; i < a.last; ++i) {
    const int64_t base = f.slot(f.size) * s.outs;
    const T* c = w + (i - a.panel) * s.stride;
    T* dc = dw + (i - a.panel) * s.stride;
    b.fill(f, x, v, a.first, i, s.in, a.n, true);
    if (s.out == 1) {
      scalar_gradients(f, b, a.n, c, c[base], g, y, dc, dc[base], column);
    } else {
      b.sort(a.n);
      std::fill_n(column, a.n, T(0));
      groups<T>(s, [&](auto vectors, int64_t o) {
        runs<T>(f, b, [&](int j, const int32_t* rows, int64_t n) {
          const Coefficients<T, TERMS, vectors()> own(f, s.outs, j, c + o);
          input_run<T, vectors()>(f, s, b, slope_of(own, f.inverse_spacing), c + base + o, b.slope, rows, n, g + o, column);
          if (y) output_run<T, vectors()>(f, s, b, own, c + base + o, rows, n, y + o);
          weight_run<T, TERMS, vectors()>(f, s, b, j, dc + o, dc + base + o, rows, n, g + o);
        });
      });
    }
    for (int64_t r = 0; r < a.n; ++r) z[r * s.in + i] = b.v ? b.v[r] * column[r] : column[r];
  }
}

}  // namespace kanmlip
