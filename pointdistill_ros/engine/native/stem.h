// SPDX-License-Identifier: Apache-2.0
// Stem: submanifold convolution of a few input features, norm folded in, GELU. Row by row over
// the pairs that exist; sums stay in registers, weights in cache.
#pragma once
#include <omp.h>

#include "activation.h"
#include "kernels.h"
#include "pairs.h"
#include "simd.h"

namespace {

// Rows [first, end) of N vectors of columns, from `column` on.
template <class P, int N>
void stem_columns(const pd::Stem& a, int first, int end, int column) {
  constexpr int CHAINS = N > 2 ? 1 : 2;  // sums per vector, to hide the latency of additions
  const std::size_t channels = a.channels;
  for (int i = first; i < end; ++i) {
    vf sum[CHAINS][N] = {};
    for (int j = 0; j < N; ++j) sum[0][j] = load(a.bias + column + j * W);
    for (int32_t pair = a.begin[i]; pair < a.begin[i + 1]; ++pair) {
      const float* feature = a.features + std::size_t(a.row[pair]) * a.in;
      const float* weight = a.weight + std::size_t(a.offset[pair]) * a.in * channels + column;
      const auto add = [&](vf* to, int c) {
        for (int j = 0; j < N; ++j) to[j] = fma(splat(feature[c]), load(weight + j * W), to[j]);
        weight += channels;
      };
      int c = 0;
      for (; c + CHAINS <= a.in; c += CHAINS)
        for (int chain = 0; chain < CHAINS; ++chain) add(sum[chain], c + chain);
      if (c < a.in) add(sum[0], c);
    }
    const std::size_t at = std::size_t(i) * channels + column;
    for (int j = 0; j < N; ++j) {
      const vf y = gelu(CHAINS == 2 ? sum[0][j] + sum[CHAINS - 1][j] : sum[0][j]);
      store(a.x + at + j * W, y);
      if (a.copy) store_as(static_cast<typename P::T*>(a.copy) + at + j * W, y);
    }
  }
}

template <class P>
void stem(const pd::Stem& a, const pd::Workers& workers) {
  constexpr int rows_per_tile = 256;
  const int tiles = tile_count(a.rows, rows_per_tile, workers.threads);
#pragma omp parallel for num_threads(workers.threads) schedule(dynamic)
  for (int tile = 0; tile < tiles; ++tile) {
    const int first = tile_begin(a.rows, tiles, tile), end = tile_begin(a.rows, tiles, tile + 1);
    int column = 0;
    for (; column + 4 * W <= a.channels; column += 4 * W) stem_columns<P, 4>(a, first, end, column);
    for (; column + 2 * W <= a.channels; column += 2 * W) stem_columns<P, 2>(a, first, end, column);
    if (column < a.channels) stem_columns<P, 1>(a, first, end, column);
  }
}

}  // namespace
