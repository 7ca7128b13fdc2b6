// SPDX-License-Identifier: Apache-2.0
// Softmax attention of one block of queries over the keys of a patch.
#pragma once
#include "attention_weights.h"

namespace {
namespace attend {

// Scores of N keys for the queries of vector q on; meanwhile those that wait become weights. The
// new ones wait instead.
template <class P, bool any_wait>
PD_INLINE void next_scores(const Block& b, int q, const word* key, Waiting& waiting) {
  const int some = b.words / PHASES;
  const word* query = b.query + q * W;
  Scores scores;
#pragma GCC unroll 4
  for (int i = 0; i < SV; ++i) {
    const vf start = load(b.maximum + (q + i) * W);
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) scores.at[i][n] = start;
  }
#pragma GCC unroll 4
  for (int phase = 0; phase < PHASES; ++phase) {
    add_product<P>(scores, query, key, N, some);
    query += some * LANES;
    key += some * N;
    if (any_wait) put_pair(P(), waiting, 2 * phase);
  }
  waiting.scores = scores;
}

template <class P>
PD_INLINE void put_pairs(const Waiting& waiting) {
#pragma GCC unroll 4
  for (int n = 0; n < N; n += 2) put_pair(P(), waiting, n);
}

// out += weights times values, `rows` words of both
template <class P>
PD_INLINE void add_values(const Block& b, const word* value, int rows) {
  for (int j = 0; j < b.d; j += N) {
    Tile<QV> tile = {};
    add_product<P>(tile, b.weight, value + j, b.d, rows);
    for (int n = 0; n < N; ++n)
      for (int q = 0; q < QV; ++q) {
        float* out = b.out + (j + n) * LANES + q * W;
        store(out, load(out) + tile.at[q][n]);
      }
  }
}

template <class P>
void attend_block(const Block& b) {
  constexpr int keys_per_word = P::is_bf16 ? 2 : 1;
  std::memset(b.out, 0, sizeof(float) * b.d * LANES);
  std::memset(b.maximum, 0, sizeof(float) * LANES);
  for (int block = 0; block < b.keys; block += KEYS) {
    const int left = b.keys - block < KEYS ? b.keys - block : KEYS;
    Waiting waiting;
    waiting.weight = nullptr;
    int key = 0;
    for (; key < left; key += N) {
      const word* words = b.key + static_cast<std::size_t>(block + key) * b.words;
#pragma GCC unroll 2
      for (int q = 0; q < QV; q += SV) {
        if (DEFER && waiting.weight) next_scores<P, true>(b, q, words, waiting);
        else next_scores<P, false>(b, q, words, waiting);
        Scores& scores = waiting.scores;
        if (__builtin_expect(left - key < N, 0))
#pragma GCC unroll 8
          for (int n = 1; n < N; ++n)
#pragma GCC unroll 4
            for (int i = 0; i < SV; ++i)
              if (n >= left - key) scores.at[i][n] = splat(ABSENT);
        vf most = scores.at[0][0];
#pragma GCC unroll 4
        for (int i = 0; i < SV; ++i)
#pragma GCC unroll 8
          for (int n = 0; n < N; ++n) most = maximum(most, scores.at[i][n]);
        const bool first = block + key == 0;
        if (__builtin_expect(first || any(most > SLACK), 0)) {
          Scores raised = scores;
          raise_maximum<P>(b, raised, q, key, first);
          scores = raised;
        }
        waiting.weight = b.weight + key / keys_per_word * LANES + q * W;
        waiting.sum = b.sum + q * W;
        if (!DEFER) put_pairs<P>(waiting);
      }
    }
    if (DEFER) put_pairs<P>(waiting);
    add_values<P>(b, b.value + static_cast<std::size_t>(block) / keys_per_word * b.d,
                  key / keys_per_word);
  }
}

}  // namespace attend
}  // namespace
