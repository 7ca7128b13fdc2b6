// SPDX-License-Identifier: Apache-2.0
// 2^x of a vector, for softmax weights: x <= 126, relative error 1.9e-7 (fine) or 7.5e-5 (coarse).
//
// The argument is y = 2^23 x: as an integer it is 2^x already, but for the shape of its mantissa. So
// range reduction needs no addition, and whoever makes x as a product scales a factor of it for
// nothing. Below x = -126 the result stays 2^-126; that of NaN is 2^-126, too.
#pragma once
#include "simd.h"

namespace {

constexpr float FIXED_POINT = 8388608.0f;  // 2^23
constexpr int32_t MANTISSA = 0x007FFFFF, ONE = 0x3F800000;

// y to the nearest integer (towards zero in the portable tier), at least -126 * 2^23.
PD_INLINE vi exponent_and_mantissa(vf y) {
  constexpr int32_t least = -126 * (1 << 23);
#if PD_TIER >= 2
  vi i = (vi)_mm512_maskz_cvtps_epi32(0xFFFF, (__m512)y);  // masked: GCC warns of the other
#elif PD_TIER == 1
  vi i = (vi)_mm256_cvtps_epi32((__m256)y);
#else
  vf smallest = splat(least);
  vi i = __builtin_convertvector(y > smallest ? y : smallest, vi);
#endif
  vi bound = least - (vi){};
  return i > bound ? i : bound;
}

// Polynomials in g = 1 + f of 2^f, 0 <= f < 1, with the smallest largest relative error.
PD_INLINE vf mantissa_fine(vf g) {
  vf p = fma(splat(0x1.ec320ap-10f), g, splat(-0x1.a1e726p-12f));
  p = fma(p, g, splat(0x1.3c93dcp-5f));
  p = fma(p, g, splat(0x1.b9b12p-4f));
  p = fma(p, g, splat(0x1.6a3ed6p-2f));
  return fma(p, g, splat(0x1.fe3eaap-2f));
}

// `plus` is added to the mantissa, a number from 1 to 2.
PD_INLINE vf mantissa_coarse(vf g, float plus) {
  vf p = fma(splat(0x1.3f96a4p-4f), g, splat(-0x1.065aa8p-7f));
  p = fma(p, g, splat(0x1.e93d46p-2f));
  return fma(p, g, splat(0x1.cefc4cp-2f + plus));
}

PD_INLINE vf exp2_fine(vf y) {
  vi i = exponent_and_mantissa(y);
  vi p = (vi)mantissa_fine((vf)((i & MANTISSA) | ONE));
  return (vf)(p + (i & ~MANTISSA));
}

// The upper 16 bits are 2^x rounded to the nearest bfloat16, the lower 16 bits mean nothing.
PD_INLINE vi exp2_bf16(vf y) {
  vi i = exponent_and_mantissa(y);
  vi p = (vi)mantissa_coarse((vf)((i & MANTISSA) | ONE), 0x1p-8f);
  return p + (i & ~MANTISSA);
}

}  // namespace
