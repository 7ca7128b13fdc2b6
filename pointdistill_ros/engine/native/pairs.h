// SPDX-License-Identifier: Apache-2.0
// Tiles of rows, and the pairs of a kernel offset that exist within one.
#pragma once
#include "simd.h"

namespace {

// Tiles of like size, at most `most` rows each, as many for every thread. Tile i begins at
// tile_begin(i).
inline int tile_count(int rows, int most, int threads) {
  const int tiles = int((int64_t{rows} + most - 1) / most);
  const int64_t even = (int64_t{tiles} + threads - 1) / threads * threads;
  return even < rows ? int(even) : tiles;
}
inline int tile_begin(int rows, int tiles, int tile) {
  return int(int64_t{rows} * tile / tiles);
}

// Input row `from[i]` adds to row `to[i]` of the tile.
struct Pairs {
  int32_t* from;
  int32_t* to;
};
constexpr int PAIRS_MARGIN = 16;  // room behind both lists that is written, too

// Every row with itself.
inline int list_identity(int first, int rows, Pairs pairs) {
  for (int i = 0; i < rows; ++i) {
    pairs.from[i] = first + i;
    pairs.to[i] = i;
  }
  return rows;
}

// neighbours: [rows] of one offset, -1 = none. Returns the number of pairs.
inline int list_pairs(const int32_t* neighbours, int rows, Pairs pairs) {
  int count = 0;
#if PD_TIER >= 2
  __m512i to = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  for (int i = 0; i < rows; i += 16, to = _mm512_add_epi32(to, _mm512_set1_epi32(16))) {
    const __mmask16 valid = rows - i >= 16 ? 0xFFFF : (1u << (rows - i)) - 1;
    const __m512i from = _mm512_maskz_loadu_epi32(valid, neighbours + i);
    const __mmask16 exists = _mm512_mask_cmpge_epi32_mask(valid, from, _mm512_setzero_si512());
    // into a register, then stored whole: compressing to memory takes over 100 cycles on Zen 4
    _mm512_storeu_si512(pairs.from + count, _mm512_maskz_compress_epi32(exists, from));
    _mm512_storeu_si512(pairs.to + count, _mm512_maskz_compress_epi32(exists, to));
    count += __builtin_popcount(exists);
  }
#else
  for (int i = 0; i < rows; ++i) {
    pairs.from[count] = neighbours[i];
    pairs.to[count] = i;
    count += neighbours[i] >= 0;
  }
#endif
  return count;
}

}  // namespace
