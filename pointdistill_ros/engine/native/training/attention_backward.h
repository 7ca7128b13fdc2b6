// SPDX-License-Identifier: Apache-2.0
// Patch attention backward: weights once more from queries, keys and the saved sums, then
//   grad score = weight * (grad out . value - grad out . out)
// and three products with that and the weights. A task is a patch of one head. The queries left over
// at the end of a scan attend to keys of the patch before, so they belong to its task: whatever the
// threads, a row is only ever added to by one of them, in one order.
#pragma once
#include "attention_forward.h"

namespace {
namespace attend {

// Gradients of keys and values: V vectors of a row's channels, M keys at a time.
#if PD_TIER >= 2
constexpr int TILE = 16;
#else
constexpr int TILE = 8;
#endif

template <class P>
struct BackwardMemory {
  static constexpr int per_word = Rows<P>::per_word;
  // of the patch
  word *key, *value;           // pack_keys
  word* key_rows;              // pack_values
  float *grad_key, *grad_value;  // [keys][d]
  typename P::T* rows;         // [keys][3 w] queries as forward scales them, keys, values
  typename P::T* grads;        // [keys][w] gradients of the result
  float* delta;                // [heads][keys] minus grad out . out
  // of a block of queries
  word *query, *grad;          // pack_lanes
  word *query_rows, *grad_rows;  // pack_values
  float *grad_query;           // [d][LANES]
  float *start, *product;      // [LANES] what scores and products are summed from
  // of KEYS keys
  word *weight, *score;        // T [KEYS][LANES], of scores the gradients
  word* score_words;           // [KEYS / per_word][LANES]; in float32 the same as score
  std::size_t bytes;

  static BackwardMemory in(char* scratch, int channels, int d, int keys) {
    const std::size_t some = round_up(keys, TILE > W ? TILE : W);
    const std::size_t lanes = static_cast<std::size_t>(LANES) * d;
    Room room(scratch);
    BackwardMemory m;
    m.key = room.take<word>(some * d / per_word);
    m.value = room.take<word>(some * d / per_word);
    m.key_rows = room.take<word>(some * d / per_word);
    m.grad_key = room.take<float>(some * d);
    m.grad_value = room.take<float>(some * d);
    m.rows = room.take<typename P::T>(static_cast<std::size_t>(keys) * 3 * channels);
    m.grads = room.take<typename P::T>(static_cast<std::size_t>(keys) * channels);
    m.delta = room.take<float>(some * (channels / d));
    m.query = room.take<word>(lanes / per_word);
    m.grad = room.take<word>(lanes / per_word);
    m.query_rows = room.take<word>(lanes / per_word);
    m.grad_rows = room.take<word>(lanes / per_word);
    m.grad_query = room.take<float>(lanes);
    m.start = room.take<float>(LANES);
    m.product = room.take<float>(LANES);
    m.weight = room.take<word>(KEYS * LANES / per_word);
    m.score = room.take<word>(KEYS * LANES / per_word);
    m.score_words = P::is_bf16 ? room.take<word>(KEYS * LANES / per_word) : m.score;
    m.bytes = room.used();
    return m;
  }
};

// Weights and gradients of the scores of keys n and n + 1 for W queries.
PD_INLINE void put_gradients(const BackwardMemory<Float32>& m, int key, int q, const vf (&score)[N],
                             const vf (&product)[N], int n) {
#pragma GCC unroll 2
  for (int i = n; i < n + 2; ++i) {
    const vf weight = exp2_fine(score[i]);
    const vf grad = weight * product[i];
    const std::size_t at = static_cast<std::size_t>(key + i) * LANES + q * W;
    std::memcpy(m.weight + at, &weight, sizeof weight);
    std::memcpy(m.score + at, &grad, sizeof grad);
  }
}
#if PD_TIER == 3
PD_INLINE void put_halves(word* to, __m512i both) {
  std::memcpy(to, &both, sizeof both / 2);
  const __m256i upper = _mm512_maskz_extracti64x4_epi64(0xF, both, 1);
  std::memcpy(to + LANES / 2, &upper, sizeof upper);
}
PD_INLINE void put_gradients(const BackwardMemory<Bfloat16>& m, int key, int q,
                             const vf (&score)[N], const vf (&product)[N], int n) {
  const vi upper = -65536 - (vi){};
  const vf even = (vf)(exp2_bf16(score[n]) & upper), odd = (vf)(exp2_bf16(score[n + 1]) & upper);
  word* const to = m.weight + (key + n) * (LANES / 2) + q * (W / 2);
  put_halves(to, (__m512i)_mm512_cvtne2ps_pbh((__m512)odd, (__m512)even));
  const __m512i grads = (__m512i)_mm512_cvtne2ps_pbh((__m512)(odd * product[n + 1]),
                                                     (__m512)(even * product[n]));
  put_halves(m.score + (key + n) * (LANES / 2) + q * (W / 2), grads);
  short order[2 * W];  // a pair of both keys' halves for every query
#pragma GCC unroll 32
  for (int i = 0; i < 2 * W; ++i) order[i] = static_cast<short>(i % 2 * W + i / 2);
  __m512i index;
  std::memcpy(&index, order, sizeof index);
  const __m512i pairs = _mm512_maskz_permutexvar_epi16(~__mmask32{0}, index, grads);
  std::memcpy(m.score_words + (key + n) / 2 * LANES + q * W, &pairs, sizeof pairs);
}
#endif

// Weights and gradients of the scores of keys [begin, begin + left).
template <class P>
void fill_gradients(const BackwardMemory<P>& m, int words, int begin, int left) {
  for (int key = 0; key < left; key += N) {
    const word* keys = m.key + static_cast<std::size_t>(begin + key) * words;
    const word* values = m.value + static_cast<std::size_t>(begin + key) * words;
    for (int q = 0; q < QV; ++q) {
      Tile<1> score, product;
      const vf start = load(m.start + q * W), delta = load(m.product + q * W);
#pragma GCC unroll 8
      for (int n = 0; n < N; ++n) {
        score.at[0][n] = start;
        product.at[0][n] = delta;
      }
      add_product<P>(score, m.query + q * W, keys, N, words);
      add_product<P>(product, m.grad + q * W, values, N, words);
      if (__builtin_expect(left - key < N, 0))
#pragma GCC unroll 8
        for (int n = 1; n < N; ++n)
          if (n >= left - key) score.at[0][n] = splat(ABSENT);
#pragma GCC unroll 4
      for (int n = 0; n < N; n += 2) put_gradients(m, key, q, score.at[0], product.at[0], n);
    }
  }
}

// to [M][d] += sum over queries of weight [M][LANES] * rows [LANES][d], for V vectors of channels.
template <class P, int V, int M>
PD_INLINE void add_rows(const word* weight, const word* rows, int d, float* to) {
  constexpr int words = LANES / Rows<P>::per_word;
  vf sum[M][V];
#pragma GCC unroll 16
  for (int n = 0; n < M; ++n)
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) sum[n][v] = load(to + n * d + v * W);
  for (int w = 0; w < words; ++w, rows += d) {
    vf row[V];
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) std::memcpy(&row[v], rows + v * W, sizeof(vf));
#pragma GCC unroll 16
    for (int n = 0; n < M; ++n)
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v)
        sum[n][v] = multiply_add(P(), row[v], weight + n * words + w, sum[n][v]);
  }
#pragma GCC unroll 16
  for (int n = 0; n < M; ++n)
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) store(to + n * d + v * W, sum[n][v]);
}

template <class P>
void add_to_keys(const word* weight, const word* rows, int d, int keys, float* to) {
  constexpr int words = LANES / Rows<P>::per_word;
  for (int key = 0; key < keys; key += TILE, weight += TILE * words, to += TILE * d) {
    int c = 0;
    for (; c + 2 * W <= d; c += 2 * W)
      for (int n = 0; n < TILE; n += TILE / 2)
        add_rows<P, 2, TILE / 2>(weight + n * words, rows + c, d, to + n * d + c);
    if (c < d) add_rows<P, 1, TILE>(weight, rows + c, d, to + c);
  }
}

// grad_query [d][LANES] += scores times keys
template <class P>
void add_to_queries(const BackwardMemory<P>& m, int d, const word* key_rows, int words) {
  for (int j = 0; j < d; j += N) {
    Tile<QV> tile;
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n)
#pragma GCC unroll 4
      for (int q = 0; q < QV; ++q) tile.at[q][n] = load(m.grad_query + (j + n) * LANES + q * W);
    add_product<P>(tile, m.score_words, key_rows + j, d, words);
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n)
#pragma GCC unroll 4
      for (int q = 0; q < QV; ++q) store(m.grad_query + (j + n) * LANES + q * W, tile.at[q][n]);
  }
}

// grads [count][w] of the heads' w channels, and delta [heads][keys] for them.
template <class P>
void gather_grads(const pd::TrainingAttention& a, const BackwardMemory<P>& m, const Heads& heads,
                  int first, int count, std::size_t keys) {
  const int d = heads.d, w = heads.channels();
  const std::size_t at = static_cast<std::size_t>(heads.first) * d;
  const std::size_t stride = static_cast<std::size_t>(a.channels);
  const Strided<const float> grad = {a.grad_out + at, stride, a.order, first, count};
  const Strided<const float> out = {a.out + at, stride, a.order, first, count};
  auto* to = m.grads;
  for (int begin = 0; begin < count; begin += W) {
    const int some = count - begin < W ? count - begin : W;
    for (int i = begin + W; i < begin + 2 * W && i < count; ++i)
      for (int c = 0; c < w; c += 16) {
        __builtin_prefetch(grad[i] + c);
        __builtin_prefetch(out[i] + c);
      }
    for (int c = 0; c < w; c += d) {
      vf product[W] = {};
      for (int i = 0; i < some; ++i)
        for (int j = c; j < c + d; j += W) {
          const vf g = load(grad[begin + i] + j);
          product[i] = fma(g, load(out[begin + i] + j), product[i]);
          store_as(to + static_cast<std::size_t>(i) * w + j, g);
        }
      store(m.delta + c / d * keys + begin, -lane_sums(product));
    }
    to += static_cast<std::size_t>(W) * w;
  }
}

// [LANES / per_word][d] of up to LANES rows; the others are zero.
template <class P>
PD_INLINE void pack_block(const Rows<P>& rows, word* to) {
  pack_values(rows, to);
  const int written = round_up(rows.count, N) / Rows<P>::per_word, all = LANES / Rows<P>::per_word;
  std::memset(to + static_cast<std::size_t>(written) * rows.d, 0,
              sizeof(word) * rows.d * (all - written));
}

// Rows of the caller = from [count][d] * scale, or += for the first `added` of them.
void put_rows(const float* from, int d, float scale, int added, const Strided<float>& rows) {
  for (int i = 0; i < rows.count; ++i, from += d) {
    float* to = rows[i];
    for (int c = 0; c < d; c += W) {
      const vf value = load(from + c) * scale;
      store(to + c, i < added ? load(to + c) + value : value);
    }
  }
}

// One head of a patch whose rows are gathered.
template <class P>
void backward_head(const pd::TrainingAttention& a, const BackwardMemory<P>& m, const Heads& heads,
                   int head, const Patch& patch, std::size_t keys_room) {
  const int d = heads.d, w = heads.channels(), keys = patch.keys, words = d / Rows<P>::per_word;
  const int shared = patch.first_query - patch.first_key;  // keys that are the patch's before
  const std::size_t stride = std::size_t{3} * a.channels, at = static_cast<std::size_t>(head) * d;
  auto* const rows = m.rows + (head - heads.first) * d;
  auto* const grads = m.grads + (head - heads.first) * d;
  const float* delta = m.delta + (head - heads.first) * keys_room;
  const float* log_sum = a.log_sum + static_cast<std::size_t>(head) * a.rows + patch.first_query;
  pack_keys(near_rows<P>(rows + w, 3 * w, 0, keys, d), m.key);
  pack_values(near_rows<P>(rows + w, 3 * w, 0, keys, d), m.key_rows);
  pack_keys(near_rows<P>(rows + 2 * w, 3 * w, 0, keys, d), m.value);
  const std::size_t floats = sizeof(float) * d * round_up(keys, TILE);
  std::memset(m.grad_key, 0, floats);
  std::memset(m.grad_value, 0, floats);
  float scale[LANES];
  for (int i = 0; i < LANES; ++i) scale[i] = 1.0f / sqrtf(static_cast<float>(d));

  for (int done = 0; done < patch.queries; done += LANES) {
    const int count = patch.queries - done < LANES ? patch.queries - done : LANES;
    const Rows<P> queries = near_rows<P>(rows, 3 * w, shared + done, count, d);
    const Rows<P> grad = near_rows<P>(grads, w, done, count, d);
    pack_lanes(queries, m.query);
    pack_block(queries, m.query_rows);
    pack_lanes(grad, m.grad);
    pack_block(grad, m.grad_rows);
    for (int i = 0; i < LANES; ++i) {
      m.start[i] = i < count ? -EXP2_SCALE * log_sum[done + i] : 0.0f;
      m.product[i] = i < count ? delta[done + i] : 0.0f;
    }
    std::memset(m.grad_query, 0, sizeof(float) * d * LANES);
    for (int begin = 0; begin < keys; begin += KEYS) {
      const int left = keys - begin < KEYS ? keys - begin : KEYS;
      const int written = round_up(left, N), tiles = round_up(left, TILE);
      fill_gradients<P>(m, words, begin, left);
      constexpr int per_key = LANES / Rows<P>::per_word;
      // what the last tile reads beyond
      std::memset(m.weight + written * per_key, 0, sizeof(word) * per_key * (tiles - written));
      std::memset(m.score + written * per_key, 0, sizeof(word) * per_key * (tiles - written));
      add_to_queries<P>(m, d, m.key_rows + static_cast<std::size_t>(begin) * words,
                        written / Rows<P>::per_word);
      const std::size_t to = static_cast<std::size_t>(begin) * d;
      add_to_keys<P>(m.weight, m.grad_rows, d, tiles, m.grad_value + to);
      add_to_keys<P>(m.score, m.query_rows, d, tiles, m.grad_key + to);
    }
    scatter_lanes(m.grad_query, scale,
                  {a.grad_qkv + at, stride, a.order, patch.first_query + done, count}, d);
  }
  // queries carry log2(e) / sqrt(d), and what EXP2_SCALE is
  put_rows(m.grad_key, d, 1.0f / (LOG2_E * EXP2_SCALE), shared,
           {a.grad_qkv + at + a.channels, stride, a.order, patch.first_key, keys});
  put_rows(m.grad_value, d, 1.0f, shared,
           {a.grad_qkv + at + 2 * a.channels, stride, a.order, patch.first_key, keys});
}

template <class P>
void backward_patch(const pd::TrainingAttention& a, const Heads& heads, const Patch& patch,
                    char* scratch) {
  const BackwardMemory<P> m = BackwardMemory<P>::in(scratch, heads.channels(), heads.d, patch.keys);
  const std::size_t keys_room = round_up(patch.keys, TILE > W ? TILE : W);
  gather_rows(a, heads, patch.first_key, patch.keys, query_scale(heads.d), m.rows);
  gather_grads<P>(a, m, heads, patch.first_query, patch.queries, keys_room);
  for (int head = heads.first; head < heads.last; ++head)
    backward_head<P>(a, m, heads, head, patch, keys_room);
}

template <class P>
void backward(const pd::TrainingAttention& a, int threads, char* scratch, std::size_t per_thread) {
  const pd::Attention shape = patches_of(a);
  const int total = Patches(shape).total();
  if (total == 0) return;
  const int groups = head_groups(total, a.heads, threads);
  const auto is_rest = [](const Patch& patch) { return patch.first_query != patch.first_key; };
#pragma omp parallel num_threads(threads)
  {
    char* mine = scratch + omp_get_thread_num() * per_thread;
    Patches patches(shape);
#pragma omp for schedule(monotonic : dynamic, 1)
    for (std::int64_t task = 0; task < std::int64_t{total} * groups; ++task) {
      const Heads heads = heads_of(a, static_cast<int>(task % groups), groups);
      const int index = static_cast<int>(task / groups);
      const Patch patch = patches.at(index);
      if (is_rest(patch)) continue;
      backward_patch<P>(a, heads, patch, mine);
      if (index + 1 == total) continue;
      const Patch next = patches.at(index + 1);
      if (is_rest(next)) backward_patch<P>(a, heads, next, mine);
    }
  }
}

}  // namespace attend
}  // namespace
