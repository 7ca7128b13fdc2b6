// SPDX-License-Identifier: Apache-2.0
// 2^x of a vector, for softmax weights, x <= 126. Relative error: exp2_fine 2e-7, exp2_bf16 that of
// rounding to bfloat16.
//
// The argument comes as y = EXP2_SCALE * x; whoever makes x as a product scales a factor of it for
// nothing. With AVX-512 there are instructions for the whole part of a number and for powers of
// two, and the scale is 1. Elsewhere it is 2^23: as an integer y is 2^x already, but for the shape
// of its mantissa, which spares taking it apart. There the result for x < -126 or NaN is 2^-126.
#pragma once
#include "simd.h"

namespace {

// Polynomials of 2^f, 0 <= f < 1, with the smallest largest relative error: 1.6e-7 and 7.5e-5.
PD_INLINE vf exp2_of_fraction(vf f) {
  vf p = fma(splat(0x1.ec320ap-10f), f, splat(0x1.26900cp-7f));
  p = fma(p, f, splat(0x1.c95446p-5f));
  p = fma(p, f, splat(0x1.ebd5a8p-3f));
  p = fma(p, f, splat(0x1.62e4f6p-1f));
  return fma(p, f, splat(0x1.fffffep-1f));
}

// `plus` is added to the result, a number from 1 to 2.
PD_INLINE vf exp2_of_fraction_coarse(vf f, float plus) {
  vf p = fma(splat(0x1.3f96a4p-4f), f, splat(0x1.cefc4cp-3f));
  p = fma(p, f, splat(0x1.64444cp-1f));
  return fma(p, f, splat(0x1.fff632p-1f + plus));
}

#if PD_TIER >= 2
constexpr float EXP2_SCALE = 1;

PD_INLINE vf whole_part(vf y) {
  return (vf)_mm512_maskz_roundscale_ps(0xFFFF, (__m512)y, _MM_FROUND_TO_NEG_INF);
}
// p * 2^n
PD_INLINE vf times_power(vf p, vf n) {
  return (vf)_mm512_maskz_scalef_ps(0xFFFF, (__m512)p, (__m512)n);
}

PD_INLINE vf exp2_fine(vf y) {
  const vf n = whole_part(y);
  return times_power(exp2_of_fraction(y - n), n);
}

// The upper 16 bits are 2^x rounded to the nearest bfloat16, the lower 16 bits mean nothing.
PD_INLINE vi exp2_bf16(vf y) {
  const vf n = whole_part(y);
  return (vi)times_power(exp2_of_fraction_coarse(y - n, 0x1p-8f), n);
}
#else
constexpr float EXP2_SCALE = 8388608.0f;

// y to the nearest integer (towards zero in the portable tier), at least -126 * 2^23.
PD_INLINE vi exponent_and_mantissa(vf y) {
  constexpr int32_t least = -126 * (1 << 23);
#if PD_TIER == 1
  const vi i = (vi)_mm256_cvtps_epi32((__m256)y);
  const vi bound = least - (vi){};
  return i > bound ? i : bound;
#else
  const vf bound = splat(least);
  return __builtin_convertvector(y > bound ? y : bound, vi);
#endif
}

PD_INLINE vf exp2_fine(vf y) {
  constexpr int32_t mantissa = 0x007FFFFF, one = 0x3F800000;
  const vi i = exponent_and_mantissa(y);
  const vi p = (vi)exp2_of_fraction((vf)((i & mantissa) | one) - 1.0f);
  return (vf)(p + (i & ~mantissa));
}
#endif

}  // namespace
