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

// y [n][outs] += the chunk's part.
template <typename T, int TERMS>
void local_output(const Local<T>& f, const Sizes<T>& s, Sorted<T>& b, Span<T> a, const T* x, const T* v, const T* w, T* y) {
  for (int64_t i = a.first; i < a.last; ++i) {
    const T* c = w + (i - a.panel) * s.stride;
    const T* wb = c + (f.intervals() + 1) * f.terms * s.outs;
    b.fill(f, x, v, a.first, i, s.in, a.n);
    if (s.out == 1) {
      for (int64_t r = 0; r < a.n; ++r) y[r] += scalar_value(f, b, c, *wb, r);
      continue;
    }
    b.sort(a.n);
    groups<T>(s, [&](auto vectors, int64_t o) {
      runs<T>(f, b, [&](int j, const int32_t* rows, int64_t n) {
        output_run<T, TERMS, vectors()>(f, s, b, c + j * f.terms * s.outs + o, wb + o, rows, n, y + o);
      });
    });
  }
}

// z [n][in] = the chunk's part of its columns; g [n][outs].
template <typename T, int TERMS>
void local_input(const Local<T>& f, const Sizes<T>& s, Sorted<T>& b, Span<T> a, const T* x, const T* g, const T* w, T* z, T* column) {
  for (int64_t i = a.first; i < a.last; ++i) {
    const T* c = w + (i - a.panel) * s.stride;
    const T* wb = c + (f.intervals() + 1) * f.terms * s.outs;
    b.fill(f, x, nullptr, a.first, i, s.in, a.n);
    if (s.out == 1) {
      for (int64_t r = 0; r < a.n; ++r) z[r * s.in + i] = g[r] * scalar_value(f, b, c, *wb, r);
      continue;
    }
    b.sort(a.n);
    std::fill_n(column, a.n, T(0));
    groups<T>(s, [&](auto vectors, int64_t o) {
      runs<T>(f, b, [&](int j, const int32_t* rows, int64_t n) {
        const Coefficients<T, TERMS, vectors()> own(c + j * f.terms * s.outs + o, s.outs, f.terms);
        input_run<T, vectors()>(f, s, b, own, wb + o, b.base, rows, n, g + o, column);
      });
    });
    for (int64_t r = 0; r < a.n; ++r) z[r * s.in + i] = column[r];
  }
}

template <typename T, int TERMS, int VECS>
void weight_any(const Local<T>& f, const Sizes<T>& s, Sorted<T>& b, T* w, T* wb, const int32_t* rows, int64_t n, const T* g) {
  if constexpr (TERMS > 0) weight_run<T, TERMS, VECS>(f, s, b, w, wb, rows, n, g);
  else weight_run_any<T, VECS>(f, s, b, w, wb, rows, n, g);
}

// w += the block's part.
template <typename T, int TERMS>
void local_weight(const Local<T>& f, const Sizes<T>& s, Sorted<T>& b, Span<T> a, const T* x, const T* v, const T* g, T* w) {
  for (int64_t i = a.first; i < a.last; ++i) {
    T* c = w + (i - a.panel) * s.stride;
    T* wb = c + (f.intervals() + 1) * f.terms * s.outs;
    b.fill(f, x, v, a.first, i, s.in, a.n);
    if (s.out == 1) {
      for (int64_t r = 0; r < a.n; ++r) scalar_weight(f, b, c, *wb, g[r], r);
      continue;
    }
    b.sort(a.n);
    groups<T>(s, [&](auto vectors, int64_t o) {
      runs<T>(f, b, [&](int j, const int32_t* rows, int64_t n) {
        weight_any<T, TERMS, vectors()>(f, s, b, c + j * f.terms * s.outs + o, wb + o, rows, n, g + o);
      });
    });
  }
}

// z = v C_{d+1}, y += A_d(v) if there is a y, dw += B_d(v), in one pass; v = 1 where there is none.
template <typename T, int TERMS>
void local_gradients(const Local<T>& f, const Sizes<T>& s, Sorted<T>& b, Span<T> a, const T* x, const T* v, const T* g, const T* w, T* z, T* y, T* dw, T* column) {
  for (int64_t i = a.first; i < a.last; ++i) {
    const int64_t at = (i - a.panel) * s.stride, base = (f.intervals() + 1) * f.terms * s.outs;
    b.fill(f, x, v, a.first, i, s.in, a.n, true);
    if (s.out == 1) {
      for (int64_t r = 0; r < a.n; ++r) {
        column[r] = g[r] * scalar_slope(f, b, w + at, w[at + base], r);
        if (y) y[r] += scalar_value(f, b, w + at, w[at + base], r);
        scalar_weight(f, b, dw + at, dw[at + base], g[r], r);
      }
    } else {
      b.sort(a.n);
      std::fill_n(column, a.n, T(0));
      groups<T>(s, [&](auto vectors, int64_t o) {
        runs<T>(f, b, [&](int j, const int32_t* rows, int64_t n) {
          const int64_t own = at + j * f.terms * s.outs + o;
          const Slope<T, TERMS - 1, vectors()> slope(w + own, s.outs, f.inverse_spacing);
          input_run<T, vectors()>(f, s, b, slope, w + at + base + o, b.slope, rows, n, g + o, column);
          if (y) output_run<T, TERMS, vectors()>(f, s, b, w + own, w + at + base + o, rows, n, y + o);
          weight_run<T, TERMS, vectors()>(f, s, b, dw + own, dw + at + base + o, rows, n, g + o);
        });
      });
    }
    for (int64_t r = 0; r < a.n; ++r) z[r * s.in + i] = b.v ? b.v[r] * column[r] : column[r];
  }
}

}  // namespace kanmlip
