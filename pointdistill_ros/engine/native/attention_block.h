// SPDX-License-Identifier: Apache-2.0
// Softmax attention of one block of queries over the keys of a patch, with a running maximum.
//
// The scores of a tile start at minus the maximum so far instead of zero. They are rescaled only
// where one rises above it by more than SLACK: weights up to 2^SLACK are as exact as those up to 1.
#pragma once
#include "attention_pack.h"
#include "exp2.h"

namespace {
namespace attend {

constexpr int KEYS = 64;  // whose weights wait in the first-level cache for their values
constexpr float SLACK = 16 * EXP2_SCALE;

struct Block {
  int d, words, keys;  // words of a key; keys > 0
  const word* key;     // pack_keys
  const word* value;   // pack_values
  const word* query;   // pack_queries
  word* weight;        // [KEYS or KEYS / 2][LANES]
  float* out;          // [d][LANES]
  float* sum;          // [LANES]
  float* maximum;      // [LANES] negated, times EXP2_SCALE
};

PD_INLINE bool any(vi condition) {
#if PD_TIER >= 2
  return _mm512_movepi32_mask((__m512i)condition);
#elif PD_TIER == 1
  return _mm256_movemask_ps((__m256)condition);
#else
  int32_t all = 0;
  for (int i = 0; i < W; ++i) all |= condition[i];
  return all;
#endif
}

// Scores of N keys to weights, stored and summed. The sums are of the weights as they are multiplied.
PD_INLINE void put_weights(Float32, const Tile& tile, word* to, float* sum) {
#pragma GCC unroll 4
  for (int q = 0; q < QV; ++q) {
    vf total = {};
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) {
      vf weight = exp2_fine(tile.at[q][n]);
      std::memcpy(to + n * LANES + q * W, &weight, sizeof weight);
      total = n ? total + weight : weight;
    }
    store(sum + q * W, load(sum + q * W) + total);
  }
}
#if PD_TIER == 3
PD_INLINE void put_weights(Bfloat16, const Tile& tile, word* to, float* sum) {
  const __m512bh ones = (__m512bh)_mm512_set1_epi32(0x3F803F80);
#pragma GCC unroll 4
  for (int q = 0; q < QV; ++q) {
    __m512 total = (__m512)load(sum + q * W);
#pragma GCC unroll 4
    for (int n = 0; n < N; n += 2) {
      vi even = exp2_bf16(tile.at[q][n]), odd = exp2_bf16(tile.at[q][n + 1]);
      __m512i pair = _mm512_mask_blend_epi16(0xAAAAAAAA, (__m512i)((vu)even >> 16),
                                             (__m512i)odd);
      std::memcpy(to + n / 2 * LANES + q * W, &pair, sizeof pair);
      total = _mm512_dpbf16_ps(total, (__m512bh)pair, ones);
    }
    store(sum + q * W, (vf)total);
  }
}
#endif

// out += weights of keys [begin, end) times their values; begin and end count from the key block.
template <class P>
PD_INLINE void add_values(const Block& b, const word* value, int begin, int end) {
  constexpr int keys_per_word = P::is_bf16 ? 2 : 1;
  if (begin == end) return;
  const word* weight = b.weight + begin / keys_per_word * LANES;
  value += begin / keys_per_word * b.d;
  for (int j = 0; j < b.d; j += N) {
    Tile tile = {};
    add_product<P>(tile, weight, value + j, b.d, (end - begin) / keys_per_word);
    for (int n = 0; n < N; ++n)
      for (int q = 0; q < QV; ++q) {
        float* out = b.out + (j + n) * LANES + q * W;
        store(out, load(out) + tile.at[q][n]);
      }
  }
}

// Lower the scores of a tile to a new maximum, and with them what was summed under the old one.
// Queries whose scores are not finite get a sum of NaN here.
__attribute__((noinline, cold)) void raise_maximum(const Block& b, Tile& tile, bool first) {
  for (int q = 0; q < QV; ++q) {
    vf most = tile.at[q][0], nothing = most * 0.0f;
    for (int n = 1; n < N; ++n) {
      most = maximum(most, tile.at[q][n]);
      nothing += tile.at[q][n] * 0.0f;
    }
    vf rise = first ? most : maximum(most, (vf){});
    for (int n = 0; n < N; ++n) tile.at[q][n] -= rise;
    store(b.maximum + q * W, load(b.maximum + q * W) - rise);
    if (first) {
      store(b.sum + q * W, nothing);
      continue;
    }
    vf factor = exp2_fine(-rise);
    store(b.sum + q * W, load(b.sum + q * W) * factor + rise * 0.0f);
    for (int j = 0; j < b.d; ++j) {
      float* out = b.out + j * LANES + q * W;
      store(out, load(out) * factor);
    }
  }
}

template <class P>
void attend_block(const Block& b) {
  constexpr int keys_per_word = P::is_bf16 ? 2 : 1;
  constexpr float absent = -0x1p100f;
  std::memset(b.out, 0, sizeof(float) * b.d * LANES);
  std::memset(b.maximum, 0, sizeof(float) * LANES);
  for (int block = 0; block < b.keys; block += KEYS) {
    const int left = b.keys - block < KEYS ? b.keys - block : KEYS;
    const word* value = b.value + static_cast<std::size_t>(block) / keys_per_word * b.d;
    int multiplied = 0, key = 0;
    for (; key < left; key += N) {
      Tile tile;
      for (int q = 0; q < QV; ++q)
        for (int n = 0; n < N; ++n) tile.at[q][n] = load(b.maximum + q * W);
      add_product<P>(tile, b.query, b.key + static_cast<std::size_t>(block + key) * b.words, N,
                     b.words);
      if (__builtin_expect(left - key < N, 0))
        for (int n = 1; n < N; ++n)
          for (int q = 0; q < QV; ++q)
            if (n >= left - key) tile.at[q][n] = splat(absent);
      vf most = tile.at[0][0];
#pragma GCC unroll 4
      for (int q = 0; q < QV; ++q)
#pragma GCC unroll 8
        for (int n = 0; n < N; ++n) most = maximum(most, tile.at[q][n]);
      const bool first = block + key == 0;
      if (__builtin_expect(first || any(most > SLACK), 0)) {
        add_values<P>(b, value, multiplied, key);
        multiplied = key;
        Tile raised = tile;
        raise_maximum(b, raised, first);
        tile = raised;
      }
      put_weights(P(), tile, b.weight + key / keys_per_word * LANES, b.sum);
    }
    add_values<P>(b, value, multiplied, key);
  }
}

}  // namespace attend
}  // namespace
