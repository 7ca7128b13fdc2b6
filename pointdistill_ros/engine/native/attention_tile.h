// SPDX-License-Identifier: Apache-2.0
// The two matrix products of attention on one register tile.
//
// Queries lie in the lanes: QV vectors of W of them. A word is 32 bits of a row: one float32 or a
// pair of bfloat16. Words of keys and values are broadcast, each to QV multiply-adds.
#pragma once
#include "simd.h"

namespace {
namespace attend {

#if PD_TIER >= 2
constexpr int QV = 2, N = 8;  // 16 accumulators of 32 registers
#elif PD_TIER == 1
constexpr int QV = 3, N = 4;  // 12 of 16
#else
constexpr int QV = 2, N = 4;  // 8 of 16
#endif
constexpr int LANES = QV * W;

typedef uint32_t word;

template <int V>  // vectors of queries
struct Tile {
  vf at[V][N];
};

// acc + a * b with b broadcast; of bfloat16 both halves of the words.
PD_INLINE vf multiply_add(Float32, vf a, const word* b, vf acc) {
#if PD_TIER >= 2
  // The broadcast inside the instruction is free; a vector broadcast once takes a shuffle's time.
  __asm__("vfmadd231ps %2%{1to16%}, %1, %0" : "+v"(acc) : "v"(a), "m"(*b));
  return acc;
#else
  float value;
  std::memcpy(&value, b, sizeof value);
  return fma(a, splat(value), acc);
#endif
}
#if PD_TIER == 3
PD_INLINE vf multiply_add(Bfloat16, vf a, const word* b, vf acc) {
  __asm__("vdpbf16ps %2%{1to16%}, %1, %0" : "+v"(acc) : "v"(a), "m"(*b));
  return acc;
}
#endif

// tile[q][n] += sum over w of a[w][q] * b[w][n]; rows of a lie LANES apart, those of b `step`.
template <class P, int V>
PD_INLINE void add_product(Tile<V>& tile, const word* a, const word* b, int step, int words) {
  for (int w = 0; w < words; ++w, a += LANES, b += step) {
    vf lanes[V];
#pragma GCC unroll 4
    for (int q = 0; q < V; ++q) std::memcpy(&lanes[q], a + q * W, sizeof(vf));
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n)
#pragma GCC unroll 4
      for (int q = 0; q < V; ++q)
        tile.at[q][n] = multiply_add(P(), lanes[q], b + n, tile.at[q][n]);
  }
}

}  // namespace attend
}  // namespace
