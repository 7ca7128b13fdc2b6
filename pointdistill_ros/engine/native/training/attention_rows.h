// SPDX-License-Identifier: Apache-2.0
// Rows of a patch between float32 memory, where they lie far apart, and its own arrays.
#pragma once
#include "attention.h"
#include "attention_work.h"
#include "row_norm.h"

namespace {
namespace attend {

// One head of rows along the curve, in memory of the caller.
template <class F>  // float or const float
struct Strided {
  F* base;             // of row 0
  std::size_t stride;  // floats
  const int64_t* order;
  int32_t first, count;

  F* operator[](int i) const { return base + stride * static_cast<std::size_t>(order[first + i]); }
};

constexpr int FAR_AHEAD = 16;  // rows

// Neighbouring heads of a patch, whose rows are read together: [first, last).
struct Heads {
  int first, last, d;
  int channels() const { return (last - first) * d; }
};

// Tasks of a patch: one for all heads, unless that leaves threads without work.
inline int head_groups(std::int64_t patches, int heads, int threads) {
  const int enough = 4 * threads;
  if (threads == 1 || patches >= enough) return 1;
  const std::int64_t groups = (enough + patches - 1) / patches;
  return groups < heads ? static_cast<int>(groups) : heads;
}
inline Heads heads_of(const pd::TrainingAttention& a, int group, int groups) {
  return {a.heads * group / groups, a.heads * (group + 1) / groups, a.channels / a.heads};
}

// to [count][3 w] of the heads' w channels: queries times `scale`, keys, values.
template <class T>
void gather_rows(const pd::TrainingAttention& a, const Heads& heads, int first, int count,
                 float scale, T* to) {
  const int w = heads.channels();
  const std::size_t at = static_cast<std::size_t>(heads.first) * heads.d;
  const Strided<const float> rows = {a.qkv + at, std::size_t{3} * a.channels, a.order, first, count};
  for (int i = 0; i < count; ++i) {
    const float* from = rows[i];
    for (int part = 0; part < 3; ++part, from += a.channels, to += w) {
      if (i + FAR_AHEAD < count) {
        const char* line = reinterpret_cast<const char*>(rows[i + FAR_AHEAD] + part * a.channels);
        for (std::size_t byte = 0; byte < sizeof(float) * w; byte += 64)
          __builtin_prefetch(line + byte);
      }
      const vf factor = splat(part == 0 ? scale : 1.0f);
      for (int c = 0; c < w; c += W) store_as(to + c, load(from + c) * factor);
    }
  }
}

// One head of rows that lie together.
template <class P>
PD_INLINE Rows<P> near_rows(typename P::T* base, int stride, int first, int count, int d) {
  return {base + static_cast<std::size_t>(first) * stride, static_cast<std::size_t>(stride), nullptr,
          0, count, d};
}

// [words][LANES] of up to LANES rows; lanes of none are zero.
template <class P>
void pack_lanes(const Rows<P>& rows, word* to) {
  const int words = rows.words();
  for (int q = 0; q < QV; ++q)
    for (int begin = 0; begin < words; begin += W) {
      vf columns[W];
      load_columns(rows, q * W, begin, columns);
#pragma GCC unroll 16
      for (int j = 0; j < W; ++j) {
        if (begin + j >= words) break;
        std::memcpy(to + (begin + j) * LANES + q * W, &columns[j], sizeof(vf));
      }
    }
}

// Rows of the caller = turned [d][LANES] * factor [LANES].
void scatter_lanes(const float* turned, const float* factor, const Strided<float>& rows, int d) {
  for (int q = 0; q < QV; ++q) {
    const vf scale = load(factor + q * W);
    for (int begin = 0; begin < d; begin += W) {
      vf lines[W];
#pragma GCC unroll 16
      for (int j = 0; j < W; ++j) lines[j] = load(turned + (begin + j) * LANES + q * W) * scale;
      transpose(lines);
#pragma GCC unroll 16
      for (int i = 0; i < W; ++i) {
        if (q * W + i >= rows.count) break;
        store(rows[q * W + i] + begin, lines[i]);
      }
    }
  }
}

}  // namespace attend
}  // namespace
