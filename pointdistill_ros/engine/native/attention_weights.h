// SPDX-License-Identifier: Apache-2.0
// From scores to softmax weights, with a running maximum.
//
// Scores are summed from minus the maximum so far instead of zero. The maximum of a query follows
// only where one rises above it by more than SLACK: weights up to 2^SLACK are as exact as up to 1.
#pragma once
#include "attention_pack.h"
#include "exp2.h"

namespace {
namespace attend {

#if PD_TIER >= 2
// Scores stay in registers and become weights, a pair of keys at a time, between the multiply-adds
// of the next scores: powers of two keep other execution units busy.
constexpr int SV = 1, PHASES = N / 2;  // PHASES divides the words of a key
constexpr bool DEFER = true;
#else
constexpr int SV = QV, PHASES = 1;  // too few registers for that
constexpr bool DEFER = false;
#endif
typedef Tile<SV> Scores;

constexpr int KEYS = 64;  // whose weights wait in the first-level cache for their values
constexpr float SLACK = 16 * EXP2_SCALE;
constexpr float ABSENT = -0x1p100f;  // score of a key that does not exist

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

// Scores that are not weights yet, and where those belong.
struct Waiting {
  Scores scores;
  word* weight;
  float* sum;
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

// Weights of keys n and n + 1. The sum is of the weights as they will be multiplied.
PD_INLINE void put_pair(Float32, const Waiting& waiting, int n) {
#pragma GCC unroll 4
  for (int q = 0; q < SV; ++q) {
    const vf even = exp2_fine(waiting.scores.at[q][n]);
    const vf odd = exp2_fine(waiting.scores.at[q][n + 1]);
    word* to = waiting.weight + n * LANES + q * W;
    std::memcpy(to, &even, sizeof even);
    std::memcpy(to + LANES, &odd, sizeof odd);
    store(waiting.sum + q * W, load(waiting.sum + q * W) + (even + odd));
  }
}
PD_INLINE void scale_weights(Float32, word* weight, int keys, vf factor) {
  for (int i = 0; i < keys; ++i, weight += LANES) {
    vf value;
    std::memcpy(&value, weight, sizeof value);
    value *= factor;
    std::memcpy(weight, &value, sizeof value);
  }
}
#if PD_TIER == 3
PD_INLINE void put_pair(Bfloat16, const Waiting& waiting, int n) {
  const vi even = exp2_bf16(waiting.scores.at[0][n]), odd = exp2_bf16(waiting.scores.at[0][n + 1]);
  const __m512i pair = _mm512_mask_blend_epi16(0xAAAAAAAA, (__m512i)((vu)even >> 16), (__m512i)odd);
  std::memcpy(waiting.weight + n / 2 * LANES, &pair, sizeof pair);
  const __m512bh ones = (__m512bh)_mm512_set1_epi32(0x3F803F80);
  const __m512 sum = (__m512)load(waiting.sum);
  store(waiting.sum, (vf)_mm512_dpbf16_ps(sum, (__m512bh)pair, ones));
}
PD_INLINE void scale_weights(Bfloat16, word* weight, int keys, vf factor) {
  for (int i = 0; i < keys; i += 2, weight += LANES) {
    vu pair;
    std::memcpy(&pair, weight, sizeof pair);
    const vu even = (vu)((vf)(pair << 16) * factor), odd = (vu)((vf)(pair & 0xFFFF0000u) * factor);
    pair = even >> 16 | (odd & 0xFFFF0000u);
    std::memcpy(weight, &pair, sizeof pair);
  }
}
#endif

// Lower scores to a new maximum where they rise above the old one, and what was summed under that.
// q: first vector of queries; ready: keys of the block that have weights. Queries whose scores are
// not finite get a sum of NaN here.
template <class P>
__attribute__((noinline, cold)) void raise_maximum(const Block& b, Scores& scores, int q, int ready,
                                                   bool first) {
  for (int i = 0; i < SV; ++i, ++q) {
    vf most = scores.at[i][0], nothing = most * 0.0f;
    for (int n = 1; n < N; ++n) {
      most = maximum(most, scores.at[i][n]);
      nothing += scores.at[i][n] * 0.0f;
    }
    const vi rises = most > SLACK;
    const vf rise = first ? most : rises ? most : (vf){};
    for (int n = 0; n < N; ++n) scores.at[i][n] -= rise;
    store(b.maximum + q * W, load(b.maximum + q * W) - rise);
    if (first) {
      store(b.sum + q * W, nothing);
      continue;
    }
    const vf factor = rises ? exp2_fine(-rise) : (vf){} + 1.0f;
    store(b.sum + q * W, load(b.sum + q * W) * factor + rise * 0.0f);
    scale_weights(P(), b.weight + q * W, ready, factor);
    for (int j = 0; j < b.d; ++j) {
      float* out = b.out + j * LANES + q * W;
      store(out, load(out) * factor);
    }
  }
}

}  // namespace attend
}  // namespace
