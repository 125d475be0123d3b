// Vectors of the machine's width by the compiler's vector extension, and the few functions of them that the kernels need.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace kanmlip {

#if defined(__AVX512F__)
constexpr int kBytes = 64;
#else
constexpr int kBytes = 32;
#endif

template <typename T>
struct Vec;

template <>
struct Vec<float> {
  typedef float type __attribute__((vector_size(kBytes)));
  typedef int32_t index __attribute__((vector_size(kBytes)));
  using integer = int32_t;
  static constexpr int lanes = kBytes / 4, mantissa = 23, bias = 127;
};

template <>
struct Vec<double> {
  typedef double type __attribute__((vector_size(kBytes)));
  typedef int64_t index __attribute__((vector_size(kBytes)));
  using integer = int64_t;
  static constexpr int lanes = kBytes / 8, mantissa = 52, bias = 1023;
};

template <typename T>
using V = typename Vec<T>::type;
template <typename T>
using VI = typename Vec<T>::index;

template <typename T>
inline V<T> load(const T* p) {
  V<T> r;
  std::memcpy(&r, p, sizeof r);
  return r;
}

template <typename T>
inline void store(T* p, V<T> v) {
  std::memcpy(p, &v, sizeof v);
}

// The first ``count`` of a vector, with zeros behind them; memory beyond them is not touched. A copy of variable length would be a call.
template <typename T>
inline V<T> load_part(const T* p, int64_t count) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) return (V<T>)_mm512_maskz_loadu_ps(__mmask16((1u << count) - 1), p);
  else return (V<T>)_mm512_maskz_loadu_pd(__mmask8((1u << count) - 1), p);
#elif defined(__AVX2__)
  if constexpr (sizeof(T) == 4) return (V<T>)_mm256_maskload_ps(p, _mm256_cmpgt_epi32(_mm256_set1_epi32(int(count)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)));
  else return (V<T>)_mm256_maskload_pd(p, _mm256_cmpgt_epi64(_mm256_set1_epi64x(count), _mm256_setr_epi64x(0, 1, 2, 3)));
#else
  V<T> r{};
  for (int k = 0; k < Vec<T>::lanes; ++k)
    if (k < count) r[k] = p[k];
  return r;
#endif
}

template <typename T>
inline void store_part(T* p, V<T> v, int64_t count) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) _mm512_mask_storeu_ps(p, __mmask16((1u << count) - 1), (__m512)v);
  else _mm512_mask_storeu_pd(p, __mmask8((1u << count) - 1), (__m512d)v);
#elif defined(__AVX2__)
  if constexpr (sizeof(T) == 4) _mm256_maskstore_ps(p, _mm256_cmpgt_epi32(_mm256_set1_epi32(int(count)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)), (__m256)v);
  else _mm256_maskstore_pd(p, _mm256_cmpgt_epi64(_mm256_set1_epi64x(count), _mm256_setr_epi64x(0, 1, 2, 3)), (__m256d)v);
#else
  for (int k = 0; k < Vec<T>::lanes; ++k)
    if (k < count) p[k] = v[k];
#endif
}

template <typename T>
inline V<T> splat(T value) {
  return V<T>{} + value;
}

template <typename T>
inline T sum(V<T> v) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) return _mm512_reduce_add_ps((__m512)v);
  else return _mm512_reduce_add_pd((__m512d)v);
#endif
  T parts[Vec<T>::lanes];
  store(parts, v);
  for (int half = Vec<T>::lanes / 2; half > 0; half /= 2)
    for (int k = 0; k < half; ++k) parts[k] += parts[k + half];
  return parts[0];
}

// The sums of four vectors.
template <typename T>
inline void sums(V<T> a, V<T> b, V<T> c, V<T> d, T* out) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) {
    // Fold two vectors into one, and again, so that each quarter holds four partial sums of one of them.
    auto fold = [](__m512 u, __m512 v) { return _mm512_shuffle_f32x4(u, v, 0x44) + _mm512_shuffle_f32x4(u, v, 0xee); };
    __m512 u = fold((__m512)a, (__m512)b), v = fold((__m512)c, (__m512)d);
    __m512 t = _mm512_shuffle_f32x4(u, v, 0x88) + _mm512_shuffle_f32x4(u, v, 0xdd);
    t += _mm512_permute_ps(t, 0x4e);
    t += _mm512_permute_ps(t, 0xb1);
    _mm_storeu_ps(out, _mm512_castps512_ps128(_mm512_maskz_compress_ps(0x1111, t)));
    return;
  }
#endif
  out[0] = sum<T>(a);
  out[1] = sum<T>(b);
  out[2] = sum<T>(c);
  out[3] = sum<T>(d);
}

// A product's own rounding, as if it had been stored: the compiler may not merge it with a sum to come.
template <typename X>
inline X rounded(X product) {
#if defined(__x86_64__)
  asm("" : "+v"(product));
#elif defined(__aarch64__)
  asm("" : "+w"(product));
#else
  asm("" : "+m"(product));
#endif
  return product;
}

// The smaller and the larger of x and a limit; a NaN stays one. As comparisons they would be two instructions each.
template <typename T>
inline V<T> at_most(V<T> x, T limit) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) return (V<T>)_mm512_min_ps((__m512)splat<T>(limit), (__m512)x);
  else return (V<T>)_mm512_min_pd((__m512d)splat<T>(limit), (__m512d)x);
#endif
  return x > limit ? splat<T>(limit) : x;
}

template <typename T>
inline V<T> at_least(V<T> x, T limit) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) return (V<T>)_mm512_max_ps((__m512)splat<T>(limit), (__m512)x);
  else return (V<T>)_mm512_max_pd((__m512d)splat<T>(limit), (__m512d)x);
#endif
  return x < limit ? splat<T>(limit) : x;
}

// x = n ln 2 + r, |r| ≤ ln 2 / 2.
template <typename T>
struct Halvings {
  V<T> r;
  VI<T> n;  // more or less Vec::bias: see power()

  explicit Halvings(V<T> x) {
    constexpr bool single = sizeof(T) == 4;
    // ln 2 in two parts, the first with so few bits that n times it is exact.
    constexpr T high = single ? T(0.693359375) : T(6.93145751953125e-1);
    constexpr T low = single ? T(-2.12194440054690583e-4) : T(1.42860682030941723212e-6);
    constexpr T shift = single ? T(12582912.0) : T(6755399441055744.0);  // 1.5 · 2^mantissa: adding it rounds to an integer
    V<T> rounded = x * T(1.44269504088896340736) + shift;
    std::memcpy(&n, &rounded, sizeof n);
    rounded -= shift;
    r = x - rounded * high - rounded * low;
  }
  // 2^n, or 2^−n. What the shift left in the upper bits is lost in going to the exponent.
  V<T> power(bool inverse = false) const {
    VI<T> bits = (inverse ? Vec<T>::bias - n : n + Vec<T>::bias) << Vec<T>::mantissa;
    V<T> value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
  }
};

template <typename T>
struct Factorials {
  static constexpr int degree = sizeof(T) == 4 ? 7 : 13;
  T inverse[degree + 1] = {1};
  constexpr Factorials() {
    T product = 1;
    for (int k = 1; k <= degree; ++k) inverse[k] = 1 / (product *= T(k));
  }
};

// e^x to the last bit or two, by Taylor's series in r. NaN stays NaN. For −87 ≤ x ≤ 88 and, in double, −708 to 709.
template <typename T>
inline V<T> exp_within(V<T> x) {
  constexpr Factorials<T> f;
  const Halvings<T> h(x);
  V<T> y = splat<T>(f.inverse[f.degree]);
  for (int k = f.degree - 1; k >= 0; --k) y = y * h.r + f.inverse[k];
  return y * h.power();
}

// e^x and e^−x, as sums and differences of the even and the odd terms; for |x| ≤ 87 and, in double, 708.
template <typename T>
inline void exp_both(V<T> x, V<T>& up, V<T>& down) {
  constexpr Factorials<T> f;
  const Halvings<T> h(x);
  const V<T> square = h.r * h.r;
  V<T> even = splat<T>(f.inverse[f.degree - 1]), odd = splat<T>(f.inverse[f.degree]);
  for (int k = f.degree - 3; k >= 0; k -= 2) {
    even = even * square + f.inverse[k];
    odd = odd * square + f.inverse[k + 1];
  }
  odd *= h.r;
  up = (even + odd) * h.power();
  down = (even - odd) * h.power(true);
}

// The same for any x; saturates at the ends of the exponent.
template <typename T>
inline V<T> exp(V<T> x) {
  constexpr bool single = sizeof(T) == 4;
  return exp_within<T>(at_least<T>(at_most<T>(x, single ? T(88) : T(709)), single ? T(-87) : T(-708)));
}

// Sine and cosine: x = n π/2 + r, |r| ≤ π/4, Taylor in r. Accurate while n fits the mantissa with room, |x| up to some 10^4.
template <typename T>
inline void sincos(V<T> x, V<T>& sine, V<T>& cosine) {
  constexpr bool single = sizeof(T) == 4;
  constexpr T shift = single ? T(12582912.0) : T(6755399441055744.0);
  constexpr T a = single ? T(1.5703125) : T(1.57079631090164184570);
  constexpr T b = single ? T(4.837512969970703125e-4) : T(1.58932547735281966916e-8);
  constexpr T c = single ? T(7.54978995489188216e-8) : T(6.12323399573676603587e-17);
  V<T> rounded = x * T(0.636619772367581343076) + shift;
  VI<T> n;
  std::memcpy(&n, &rounded, sizeof n);
  rounded -= shift;
  V<T> r = ((x - rounded * a) - rounded * b) - rounded * c;
  V<T> square = r * r;
  constexpr int terms = single ? 5 : 9;
  V<T> s = splat<T>(0), k = splat<T>(0);
  T odd = 1, even = 1;
  T odds[terms], evens[terms];
  for (int p = 0; p < terms; ++p) {
    odds[p] = 1 / odd;
    evens[p] = 1 / even;
    odd *= -T((2 * p + 2) * (2 * p + 3));
    even *= -T((2 * p + 1) * (2 * p + 2));
  }
  for (int p = terms - 1; p >= 0; --p) {
    s = s * square + odds[p];
    k = k * square + evens[p];
  }
  s = s * r;
  VI<T> swap = (n & 1) != 0, negative_sine = (n & 2) != 0, negative_cosine = ((n + 1) & 2) != 0;
  sine = swap ? k : s;
  cosine = swap ? s : k;
  sine = negative_sine ? -sine : sine;
  cosine = negative_cosine ? -cosine : cosine;
}

// Derivative of order 0 to 3 of x σ(x), from σ' = σ (1 − σ).
template <typename T>
inline V<T> silu(V<T> x, int order) {
  V<T> s = T(1) / (T(1) + exp<T>(-x));
  if (order == 0) return x * s;
  if (order == 1) return s * (T(1) + x * (T(1) - s));
  V<T> slope = s * (T(1) - s);
  if (order == 2) return slope * (T(2) + x * (T(1) - T(2) * s));
  return slope * (T(3) * (T(1) - T(2) * s) + x * (T(1) - T(6) * slope));
}

}  // namespace kanmlip
