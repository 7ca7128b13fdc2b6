// SPDX-License-Identifier: Apache-2.0
// W vectors of W lanes, rows to columns, in registers.
#pragma once
#include "simd.h"

namespace {

// low = a0 b0 a1 b1 ... of the lower halves, high = the same of the upper halves
PD_INLINE void interleave(vf a, vf b, vf& low, vf& high) {
#if PD_TIER >= 2
  const __m512i lower = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const __m512i upper = _mm512_add_epi32(lower, _mm512_set1_epi32(8));
  low = (vf)_mm512_permutex2var_ps((__m512)a, lower, (__m512)b);
  high = (vf)_mm512_permutex2var_ps((__m512)a, upper, (__m512)b);
#elif PD_TIER == 1
  const __m256 even = _mm256_unpacklo_ps((__m256)a, (__m256)b);
  const __m256 odd = _mm256_unpackhi_ps((__m256)a, (__m256)b);
  low = (vf)_mm256_permute2f128_ps(even, odd, 0x20);
  high = (vf)_mm256_permute2f128_ps(even, odd, 0x31);
#else
  low = (vf){a[0], b[0], a[1], b[1]};
  high = (vf){a[2], b[2], a[3], b[3]};
#endif
}

// Riffles the rows log2(W) times: after that, row i holds what was column i.
PD_INLINE void transpose(vf (&rows)[W]) {
#pragma GCC unroll 4
  for (int times = 1; times < W; times *= 2) {
    vf riffled[W];
#pragma GCC unroll 8
    for (int i = 0; i < W / 2; ++i)
      interleave(rows[i], rows[i + W / 2], riffled[2 * i], riffled[2 * i + 1]);
#pragma GCC unroll 16
    for (int i = 0; i < W; ++i) rows[i] = riffled[i];
  }
}

}  // namespace
