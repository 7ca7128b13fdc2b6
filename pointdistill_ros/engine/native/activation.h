// SPDX-License-Identifier: Apache-2.0
// GELU and the exponential in vectors. Polynomials are weighted minimax fits made for these forms.
//
// gelu(x) = x Phi(x) = max(x, 0) - |x| Phi(-|x|), and log2 Phi(-a) is nearly a parabola: a short
// polynomial, then 2^y. Exact for large |x|, no cancellation, no division.
#pragma once
#include "simd.h"

namespace {

template <int N>
PD_INLINE vf polynomial(vf x, const float (&coefficient)[N]) {
  vf y = splat(coefficient[N - 1]);
#pragma GCC unroll 8
  for (int i = N - 2; i >= 0; --i) y = fma(y, x, splat(coefficient[i]));
  return y;
}

// 2^y for -126 <= y <= 126; the polynomial is that of 2^f, |f| <= 1/2.
template <int N>
PD_INLINE vf power_of_two(vf y, const float (&coefficient)[N]) {
  const vf magic = splat(12582912.0f);  // 1.5 * 2^23: the sum's last bits are y rounded
  const vf rounded = y + magic;
  const vf fraction = polynomial(y - (rounded - magic), coefficient);
  typedef uint32_t bits __attribute__((vector_size(4 * W)));  // unsigned: NaN may wrap around
  return (vf)((bits)fraction + ((bits)rounded << 23));
}

constexpr float EXP2[] = {1.0f,  // exactly, so that e^0 = 1
                          0.6931470036506653f,   0.24022242426872253f,  0.05550733581185341f,
                          0.009671512991189957f, 0.001326472731307149f};
constexpr float EXP2_SHORT[] = {0.9999280571937561f, 0.6932609677314758f, 0.2426111251115799f,
                                0.0551716685295105f};
constexpr float LOG2_PHI[] = {-0.999993085861206f,   -1.1512017250061035f,  -0.4587709605693817f,
                              -0.05341210216283798f, 0.00808071531355381f,  -0.000769219477660954f,
                              3.3092790545197204e-05f};
constexpr float LOG2_PHI_SHORT[] = {-1.0004795789718628f, -1.1473724842071533f,
                                    -0.4680144786834717f, -0.04407945275306702f,
                                    0.0038662957958877087f};

// e^x for -87 <= x <= 0, relative error 2e-7. NaN gives any value.
PD_INLINE vf exp_negative(vf x) { return power_of_two(x * 1.44269504f, EXP2); }

// x (1 + erf(x / sqrt 2)) / 2 to 2e-7 max(1, |x|). NaN stays NaN.
PD_INLINE vf gelu(vf x) {
  const vf magnitude = maximum(x, -x);
  const vf a = magnitude < 5.5f ? magnitude : splat(5.5f);
  return maximum((vf){}, x) - a * power_of_two(polynomial(a, LOG2_PHI), EXP2);
}

// The same to 3e-5, finer than a bfloat16 can tell.
PD_INLINE vf gelu_short(vf x) {
  const vf magnitude = maximum(x, -x);
  const vf a = magnitude < 4.5f ? magnitude : splat(4.5f);
  return maximum((vf){}, x) - a * power_of_two(polynomial(a, LOG2_PHI_SHORT), EXP2_SHORT);
}

template <class P>
PD_INLINE vf gelu_of(vf x) {
  if constexpr (P::is_bf16) return gelu_short(x);
  return gelu(x);
}

}  // namespace
