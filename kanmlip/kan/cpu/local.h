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
  T rounded[kMaxPieces][kMaxTerms];

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
  // Where the weights of column k are kept; see Sizes.
  int slot(int k) const { return k < size ? k + pieces - 1 : size + 2 * (pieces - 1); }
};

// Sizes of one call. Weights lie as [input of a panel][slot][outs]: a slot for each function, empty ones before and after them, so that
// every interval has ``pieces`` slots, those from its own number on, and the base branch's last.
template <typename T>
struct Sizes {
  int64_t rows, in, out, outs, stride, block, chunk, panel;

  Sizes(const Local<T>& f, int64_t rows, int64_t in, int64_t out) : rows(rows), in(in), out(out) {
    constexpr int lanes = Vec<T>::lanes;
    outs = out == 1 ? 1 : (out + lanes - 1) / lanes * lanes;
    stride = (f.size + 2 * (f.pieces - 1) + int(f.base)) * outs;
    // A block's outputs should fit the first-level cache, the weights of a chunk of inputs the second.
    block = std::clamp<int64_t>(262144 / int64_t(outs * sizeof(T)) / lanes * lanes, 64, 512);
    chunk = std::clamp<int64_t>(393216 / int64_t(stride * sizeof(T)), 1, in);
    panel = std::clamp<int64_t>(kPanelBytes / int64_t(stride * sizeof(T)) / chunk * chunk, chunk, in);
  }

  int64_t blocks() const { return (rows + block - 1) / block; }
};

constexpr int kTile = 16;  // input channels transposed at a time

// The inputs of a block of rows for one input channel, sorted by interval: rows ``order[j * block]`` and the next ``count[j]``.
template <typename T>
struct Sorted {
  int64_t block;
  std::vector<T> xs, vs, fraction, base, slope, table;  // base: v SiLU⁽ᵈ⁾(x); slope: SiLU⁽ᵈ⁺¹⁾(x), where asked for; table: for one output
  std::vector<typename Vec<T>::integer> interval;
  std::vector<int32_t> order, count;
  const T *x = nullptr, *v = nullptr;  // this channel's inputs and factors

  Sorted(const Local<T>& f, const Sizes<T>& s)
      : block(s.block), xs(kTile * block), vs(kTile * block), fraction(block), base(block), slope(block), table(2 * (f.intervals() + 1) * f.terms), interval(block),
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

// Calls copy(element of a weight [out][columns][in], its element in slots) for the inputs of a panel, tile by tile.
template <typename T, typename W, typename S, typename Copy>
void each_weight(const Local<T>& f, const Sizes<T>& s, Panel<T> a, W* weight, S* slots, Copy copy) {
  for (int64_t first = a.first; first < a.last; first += kTile) {
    const int64_t n = std::min<int64_t>(kTile, a.last - first);
    for (int64_t o = 0; o < s.out; ++o)
      for (int k = 0; k < f.columns(); ++k) {
        W* w = weight + (o * f.columns() + k) * s.in + first;
        S* own = slots + (first - a.first) * s.stride + f.slot(k) * s.outs + o;
        for (int64_t t = 0; t < n; ++t) copy(w[t], own[t * s.stride]);
      }
  }
}

// W [out][columns][in] to the slots of a panel's inputs, and back.
template <typename T>
void pack(const Local<T>& f, const Sizes<T>& s, Panel<T> a, const T* weight, std::vector<T>& slots) {
  slots.assign((a.last - a.first) * s.stride + s.outs, T(0));  // one more, where reading a base branch that is not there ends
  each_weight(f, s, a, weight, slots.data(), [](T w, T& own) { own = w; });
}

template <typename T>
void unpack(const Local<T>& f, const Sizes<T>& s, Panel<T> a, const T* slots, T* weight) {
  each_weight(f, s, a, weight, slots, [](T& w, T own) { w = own; });
}

}  // namespace kanmlip
