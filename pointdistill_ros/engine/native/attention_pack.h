// SPDX-License-Identifier: Apache-2.0
// Rows of one patch and head to and from the layouts that the register tiles read.
#pragma once
#include "attention_tile.h"
#include "exp2.h"
#include "transpose.h"

namespace {
namespace attend {

typedef uint32_t vu __attribute__((vector_size(4 * W)));

constexpr int AHEAD = 32;  // rows; they lie far apart and out of the caches

constexpr int round_up(int count, int unit) { return (count + unit - 1) / unit * unit; }

// One head of a stretch of rows along the curve.
template <class P>
struct Rows {
  typedef typename P::T T;
  static constexpr int per_word = sizeof(word) / sizeof(T);

  T* base;             // of row 0
  std::size_t stride;  // elements
  const int32_t* order;
  int32_t first, count;
  int d;

  int words() const { return d / per_word; }
  T* operator[](int i) const { return base + stride * (order ? order[first + i] : first + i); }
  void prefetch(int i) const {
    if (i >= count) return;
    const char* line = reinterpret_cast<const char*>((*this)[i]);
    for (std::size_t byte = 0; byte < sizeof(T) * d; byte += 64) __builtin_prefetch(line + byte);
  }
};

// Words [begin, begin + W) of rows [first, first + W), turned: columns[j] holds word begin + j of
// all. What does not exist is zero.
template <class P>
PD_INLINE void load_columns(const Rows<P>& rows, int first, int begin, vf (&columns)[W]) {
  const int words = rows.words() - begin;
#pragma GCC unroll 16
  for (int i = 0; i < W; ++i) {
    columns[i] = (vf){};
    if (first + i >= rows.count) continue;
    const auto* from = rows[first + i] + begin * Rows<P>::per_word;
    // a row of bfloat16 may end with half a vector
    if (words >= W) std::memcpy(&columns[i], from, sizeof(vf));
    else std::memcpy(&columns[i], from, sizeof(vf) / 2);
  }
  transpose(columns);
}

// [count / N][words][N]; whole groups of W rows are written.
template <class P>
void pack_keys(const Rows<P>& keys, word* to) {
  const int words = keys.words();
  for (int first = 0; first < keys.count; first += W, to += words * W) {
    for (int i = 0; i < W; ++i) keys.prefetch(first + AHEAD + i);
    for (int begin = 0; begin < words; begin += W) {
      vf columns[W];
      load_columns(keys, first, begin, columns);
#pragma GCC unroll 16
      for (int j = 0; j < W; ++j) {
        if (begin + j >= words) break;
#pragma GCC unroll 4
        for (int part = 0; part < W / N; ++part)
          std::memcpy(to + (part * words + begin + j) * N,
                      reinterpret_cast<const char*>(&columns[j]) + part * N * 4, N * 4);
      }
    }
  }
}

// [count][d]; in bfloat16 [count / 2][d], pairs of neighbouring rows. Zero up to a multiple of
// N rows.
void pack_values(const Rows<Float32>& values, word* to) {
  for (int i = 0; i < values.count; ++i, to += values.d) {
    values.prefetch(i + AHEAD);
    std::memcpy(to, values[i], sizeof(float) * values.d);
  }
  std::memset(to, 0, sizeof(word) * values.d * (round_up(values.count, N) - values.count));
}

PD_INLINE void store_row(float* to, vf v) { std::memcpy(to, &v, sizeof v); }

#if PD_TIER == 3
void pack_values(const Rows<Bfloat16>& values, word* to) {
  for (int i = 0; i < round_up(values.count, N); i += 2, to += values.d) {
    values.prefetch(i + AHEAD);
    values.prefetch(i + AHEAD + 1);
    for (int j = 0; j < values.d; j += W) {
      __m256i even = _mm256_setzero_si256(), odd = even;
      if (i < values.count) std::memcpy(&even, values[i] + j, sizeof even);
      if (i + 1 < values.count) std::memcpy(&odd, values[i + 1] + j, sizeof odd);
      const vu low = (vu)_mm512_maskz_cvtepu16_epi32(0xFFFF, even);
      const vu high = (vu)_mm512_maskz_cvtepu16_epi32(0xFFFF, odd);
      const vu pairs = low | high << 16;
      std::memcpy(to + j, &pairs, sizeof pairs);
    }
  }
}

PD_INLINE void store_row(bf16* to, vf v) {
  const __m256bh narrow = _mm512_cvtneps_pbh((__m512)v);
  std::memcpy(to, &narrow, sizeof narrow);
}
#endif

// [words][LANES], times EXP2_SCALE (see exp2.h); lanes of no query are zero.
template <class P>
void pack_queries(const Rows<P>& queries, word* to) {
  const int words = queries.words();
  for (int q = 0; q < QV; ++q)
    for (int begin = 0; begin < words; begin += W) {
      vf columns[W];
      load_columns(queries, q * W, begin, columns);
#pragma GCC unroll 16
      for (int j = 0; j < W; ++j) {
        if (begin + j >= words) break;
        const vf column = columns[j] * EXP2_SCALE;  // of pairs of bfloat16: 1
        std::memcpy(to + (begin + j) * LANES + q * W, &column, sizeof column);
      }
    }
}

// Over the queries: out [d][LANES] divided by sum [LANES].
template <class P>
void unpack_results(const float* out, const float* sum, const Rows<P>& queries) {
  for (int q = 0; q < QV; ++q) {
    const vf factor = 1.0f / load(sum + q * W);
    for (int begin = 0; begin < queries.d; begin += W) {
      vf rows[W];
#pragma GCC unroll 16
      for (int j = 0; j < W; ++j) rows[j] = load(out + (begin + j) * LANES + q * W) * factor;
      transpose(rows);
#pragma GCC unroll 16
      for (int i = 0; i < W; ++i) {
        if (q * W + i >= queries.count) break;
        store_row(queries[q * W + i] + begin, rows[i]);
      }
    }
  }
}

}  // namespace attend
}  // namespace
