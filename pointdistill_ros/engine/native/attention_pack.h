// SPDX-License-Identifier: Apache-2.0
// Rows of one patch and head to and from the layouts that the register tiles read.
#pragma once
#include "attention_tile.h"
#include "exp2.h"
#include "kernels.h"

namespace {
namespace attend {

constexpr int round_up(int count, int unit) { return (count + unit - 1) / unit * unit; }

// One head of some rows of qkv, in the order of a curve.
template <class P>
struct Rows {
  typedef typename P::T T;
  static constexpr int per_word = sizeof(word) / sizeof(T);

  T* base;             // of row 0
  std::size_t stride;  // elements
  const int32_t* order;
  int32_t first;       // position of row 0 of this stretch

  T* row(int i) const { return base + stride * (order ? order[first + i] : first + i); }
};

// [count / N][words of a row][N]; rows missing in the last tile are zero.
template <class P>
void pack_keys(const Rows<P>& keys, int count, int d, word* to) {
  const int words = d / Rows<P>::per_word;
  for (int tile = 0; tile < count; tile += N, to += words * N) {
    for (int n = 0; n < N; ++n) {
      if (tile + n < count) {
        const auto* from = keys.row(tile + n);
        for (int w = 0; w < words; ++w) std::memcpy(to + w * N + n, from + w * Rows<P>::per_word, 4);
      } else {
        for (int w = 0; w < words; ++w) to[w * N + n] = 0;
      }
    }
  }
}

// [count][d] words; in bfloat16 [count / 2][d], the pairs made of neighbouring rows. Rows up to the
// next multiple of N are zero.
void pack_values(const Rows<Float32>& values, int count, int d, word* to) {
  for (int i = 0; i < count; ++i, to += d) std::memcpy(to, values.row(i), sizeof(float) * d);
  std::memset(to, 0, sizeof(word) * d * (round_up(count, N) - count));
}

// [words of a row][LANES], times FIXED_POINT (see exp2.h); lanes from `count` on are zero.
void pack_queries(const Rows<Float32>& queries, int count, int d, word* to) {
  for (int i = 0; i < LANES; ++i) {
    const float* from = i < count ? queries.row(i) : nullptr;
    for (int j = 0; j < d; ++j) {
      float value = from ? from[j] * FIXED_POINT : 0;
      std::memcpy(to + j * LANES + i, &value, 4);
    }
  }
}

// out: [d][LANES], sums: [LANES]
void unpack_results(const float* out, const float* sums, int count, int d, Rows<Float32>& queries) {
  for (int i = 0; i < count; ++i) {
    float* to = queries.row(i);
    float factor = 1 / sums[i];
    for (int j = 0; j < d; ++j) to[j] = out[j * LANES + i] * factor;
  }
}

#if PD_TIER == 3
void pack_values(const Rows<Bfloat16>& values, int count, int d, word* to) {
  for (int i = 0; i < round_up(count, N); i += 2, to += d) {
    const bf16* even = i < count ? values.row(i) : nullptr;
    const bf16* odd = i + 1 < count ? values.row(i + 1) : nullptr;
    for (int j = 0; j < d; ++j)
      to[j] = (even ? even[j] : 0u) | (odd ? static_cast<word>(odd[j]) << 16 : 0u);
  }
}

void pack_queries(const Rows<Bfloat16>& queries, int count, int d, word* to) {
  for (int i = 0; i < LANES; ++i) {
    const bf16* from = i < count ? queries.row(i) : nullptr;
    for (int j = 0; j < d; j += 2) {
      word low = from ? to_bf16(from_bf16(from[j]) * FIXED_POINT) : 0;
      word high = from ? to_bf16(from_bf16(from[j + 1]) * FIXED_POINT) : 0;
      to[j / 2 * LANES + i] = low | high << 16;
    }
  }
}

void unpack_results(const float* out, const float* sums, int count, int d, Rows<Bfloat16>& queries) {
  for (int i = 0; i < count; ++i) {
    bf16* to = queries.row(i);
    float factor = 1 / sums[i];
    for (int j = 0; j < d; ++j) to[j] = to_bf16(out[j * LANES + i] * factor);
  }
}
#endif

}  // namespace attend
}  // namespace
