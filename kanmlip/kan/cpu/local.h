// Functions of local support: the layer as one polynomial for each input channel, interval and output.
//
// Between two knots Σ_k W_oki φ_k(x) is a polynomial in the distance from the interval's middle. The rows of a block are sorted by
// interval, one input channel after the other, so that a polynomial's coefficients stay in registers while they are used.
#pragma once

#include <algorithm>
#include <vector>

#include "vec.h"

namespace kanmlip {

constexpr int kMaxPieces = 8, kMaxTerms = 24;
constexpr int64_t kPanelBytes = 1 << 21;

// See LocalPolynomials in family.py. The coefficients are those of the wanted derivative by x, about the middle of an interval.
template <typename T>
struct Local {
  using Number = T;
  int size, pieces, terms, order;
  bool base;
  T middle, inverse_spacing;  // middle: the knot where interval intervals()/2 begins
  double coefficients[kMaxPieces][kMaxTerms];

  // Calls step(k, φ_k(0)) for the functions that are not zero at zero.
  template <typename Step>
  void at_zero(Step step) const {
    const double t = -double(middle) * inverse_spacing + intervals() / 2;
    if (t < 0 || t >= intervals()) return;
    const int j = int(t);
    for (int m = 0; m < pieces; ++m) {
      double value = 0;
      for (int p = terms - 1; p >= 0; --p) value = value * (t - j - 0.5) + coefficients[m][p];
      if (const int k = j + m - pieces + 1; k >= 0 && k < size) step(k, T(value));
    }
  }

  int intervals() const { return size + pieces - 1; }
  int columns() const { return size + int(base); }
};

// Sizes of one call. Coefficients lie as [input of a panel][intervals + 1][terms][outs] and the base branch's weights as [outs] after each
// input's; the last interval is everything outside of the functions' support and has zeros.
template <typename T>
struct Sizes {
  int64_t rows, in, out, outs, stride, block, chunk, panel;

  Sizes(const Local<T>& f, int64_t rows, int64_t in, int64_t out) : rows(rows), in(in), out(out) {
    constexpr int lanes = Vec<T>::lanes;
    outs = out == 1 ? 1 : (out + lanes - 1) / lanes * lanes;
    stride = ((f.intervals() + 1) * f.terms + int(f.base)) * outs;
    // A block's outputs should fit the first-level cache, the coefficients of a chunk of inputs the second.
    block = std::clamp<int64_t>(262144 / int64_t(outs * sizeof(T)) / lanes * lanes, 64, 512);
    chunk = std::clamp<int64_t>(393216 / int64_t(stride * sizeof(T)), 1, in);
    // Coefficients are made for a panel of inputs at a time: those of a fine grid are many times the weights.
    panel = std::clamp<int64_t>(kPanelBytes / int64_t(stride * sizeof(T)) / chunk * chunk, chunk, in);
  }

  int64_t blocks() const { return (rows + block - 1) / block; }
};

constexpr int kTile = 16;  // input channels transposed at a time

// The inputs of a block of rows for one input channel, sorted by interval: rows ``order[j * block]`` and the next ``count[j]``.
template <typename T>
struct Sorted {
  int64_t block;
  std::vector<T> xs, vs, fraction, base, slope;  // base: v SiLU⁽ᵈ⁾(x); slope: SiLU⁽ᵈ⁺¹⁾(x), where asked for
  std::vector<typename Vec<T>::integer> interval;
  std::vector<int32_t> order, count;
  const T *x = nullptr, *v = nullptr;  // this channel's inputs and factors

  Sorted(const Local<T>& f, const Sizes<T>& s)
      : block(s.block), xs(kTile * block), vs(kTile * block), fraction(block), base(block), slope(block), interval(block),
        order((f.intervals() + 1) * block), count(f.intervals() + 1) {}

  // Channel i of a span that begins at channel ``begin`` of [n][in] inputs and factors.
  void fill(const Local<T>& f, const T* px, const T* pv, int64_t begin, int64_t i, int64_t in, int64_t n, bool slopes = false) {
    const int64_t k = (i - begin) % kTile;
    if (k == 0) {
      transpose(px + i, in, std::min<int64_t>(kTile, in - i), n, xs.data());
      if (pv) transpose(pv + i, in, std::min<int64_t>(kTile, in - i), n, vs.data());
    }
    x = xs.data() + k * block;
    v = pv ? vs.data() + k * block : nullptr;
    for (int64_t r = 0; r < n; r += Vec<T>::lanes) locate(f, r);
    if (slopes && f.base)
      for (int64_t r = 0; r < n; r += Vec<T>::lanes) store<T>(&slope[r], silu<T>(load<T>(x + r), f.order + 1));
  }

  void sort(int64_t n) {
    std::fill(count.begin(), count.end(), 0);
    for (int64_t r = 0; r < n; ++r) {
      const auto j = interval[r];
      order[j * block + count[j]++] = int32_t(r);
    }
  }

  void transpose(const T* source, int64_t in, int64_t width, int64_t n, T* target) const {
    for (int64_t r = 0; r < n; ++r)
      for (int64_t k = 0; k < width; ++k) target[k * block + r] = source[r * in + k];
  }

  void locate(const Local<T>& f, int64_t r) {
    const T half = T(f.intervals() / 2), last = T(f.intervals());
    V<T> point = load<T>(x + r);
    // Counted from the middle knot, where a float has the most digits left for the fraction.
    V<T> t = (point - f.middle) * f.inverse_spacing;
    V<T> inside = t > -half ? t : splat<T>(-half);
    inside = inside < last - half ? inside : splat<T>(last - half);
    VI<T> k = __builtin_convertvector(inside + half, VI<T>);
    k = k < f.intervals() - 1 ? k : VI<T>{} + (f.intervals() - 1);
    V<T> distance = inside - (__builtin_convertvector(k, V<T>) + (T(0.5) - half));
    // A NaN is outside too, where no coefficient is read from a bad address, and stays NaN.
    VI<T> known = (t >= -half) & (t < last - half);
    k = known ? k : VI<T>{} + f.intervals();
    distance = known ? distance : point * T(0);
    std::memcpy(&interval[r], &k, sizeof k);
    store<T>(&fraction[r], distance);
    if (f.base) store<T>(&base[r], v ? load<T>(v + r) * silu<T>(point, f.order) : silu<T>(point, f.order));
  }
};

template <typename T>
struct Panel {  // inputs [first, last)
  int64_t first, last;
};

// Coefficient p of an interval from the functions' weights [pieces][outs] there.
template <typename T>
inline void combine(const Local<T>& f, int64_t outs, int p, const T* row, T* target) {
  constexpr int lanes = Vec<T>::lanes;
  if (outs == 1) {
    T total = 0;
    for (int m = 0; m < f.pieces; ++m) total += T(f.coefficients[m][p]) * row[m];
    *target = total;
    return;
  }
  for (int64_t o = 0; o < outs; o += lanes) {
    V<T> total{};
    for (int m = 0; m < f.pieces; ++m) total += T(f.coefficients[m][p]) * load<T>(row + m * outs + o);
    store<T>(target + o, total);
  }
}

// Its transpose: adds the gradient of a coefficient to those of the weights.
template <typename T>
inline void distribute(const Local<T>& f, int64_t outs, int p, const T* source, T* row) {
  constexpr int lanes = Vec<T>::lanes;
  if (outs == 1) {
    for (int m = 0; m < f.pieces; ++m) row[m] += T(f.coefficients[m][p]) * *source;
    return;
  }
  for (int64_t o = 0; o < outs; o += lanes) {
    const V<T> value = load<T>(source + o);
    for (int m = 0; m < f.pieces; ++m) store<T>(row + m * outs + o, load<T>(row + m * outs + o) + T(f.coefficients[m][p]) * value);
  }
}

// The weights of up to kTile inputs as [input][slot][outs], with empty slots for functions that do not exist; the base branch's last.
template <typename T>
struct Slots {
  const Local<T>& f;
  const Sizes<T>& s;
  int64_t before, stride;
  std::vector<T> data;

  Slots(const Local<T>& f, const Sizes<T>& s)
      : f(f), s(s), before(f.pieces - 1), stride((f.size + 2 * (f.pieces - 1) + 1) * s.outs), data(kTile * stride, T(0)) {}

  T* functions(int64_t t) { return data.data() + t * stride; }
  T* base(int64_t t) { return data.data() + (t + 1) * stride - s.outs; }
  // Calls copy(element of a weight [out][columns][in], element here) for inputs first + t, t < n.
  template <typename W, typename Copy>
  void each(W* weight, int64_t first, int64_t n, Copy copy) {
    for (int64_t o = 0; o < s.out; ++o)
      for (int k = 0; k < f.columns(); ++k) {
        W* w = weight + (o * f.columns() + k) * s.in + first;
        T* own = data.data() + o + (k < f.size ? (k + before) * s.outs : stride - s.outs);
        for (int64_t t = 0; t < n; ++t) copy(w[t], own[t * stride]);
      }
  }
};

// W [out][columns][in] to the coefficients of a panel's inputs, which are linear in it.
template <typename T>
void pack(const Local<T>& f, const Sizes<T>& s, Panel<T> a, const T* weight, std::vector<T>& packed) {
  packed.resize((a.last - a.first) * s.stride);
  Slots<T> slots(f, s);
  T* target = packed.data();
  for (int64_t first = a.first; first < a.last; first += kTile) {
    const int64_t n = std::min<int64_t>(kTile, a.last - first);
    slots.each(weight, first, n, [](T w, T& own) { own = w; });
    for (int64_t t = 0; t < n; ++t) {
      const T* row = slots.functions(t);
      for (int j = 0; j < f.intervals(); ++j, row += s.outs)
        for (int p = 0; p < f.terms; ++p, target += s.outs) combine(f, s.outs, p, row, target);
      std::fill_n(target, f.terms * s.outs, T(0));  // outside
      target += f.terms * s.outs;
      if (f.base) target = std::copy_n(slots.base(t), s.outs, target);
    }
  }
}

// The transpose of pack.
template <typename T>
void unpack(const Local<T>& f, const Sizes<T>& s, Panel<T> a, const T* packed, T* weight) {
  Slots<T> slots(f, s);
  const T* source = packed;
  for (int64_t first = a.first; first < a.last; first += kTile) {
    const int64_t n = std::min<int64_t>(kTile, a.last - first);
    std::fill(slots.data.begin(), slots.data.end(), T(0));
    for (int64_t t = 0; t < n; ++t) {
      T* row = slots.functions(t);
      for (int j = 0; j < f.intervals(); ++j, row += s.outs)
        for (int p = 0; p < f.terms; ++p, source += s.outs) distribute(f, s.outs, p, source, row);
      source += f.terms * s.outs;
      if (f.base) {
        std::copy_n(source, s.outs, slots.base(t));
        source += s.outs;
      }
    }
    slots.each(weight, first, n, [](T& w, T own) { w = own; });
  }
}

}  // namespace kanmlip
