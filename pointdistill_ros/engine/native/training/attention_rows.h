// SPDX-License-Identifier: Apache-2.0
// Rows of one head between float32 memory, where they lie far apart, and a patch's own arrays.
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

// to [count][d] = rows * scale; then zeros up to `room` rows.
template <class T>
void gather_rows(const Strided<const float>& rows, int d, float scale, T* to, int room = 0) {
  for (int i = 0; i < rows.count; ++i, to += d) {
    if (i + FAR_AHEAD < rows.count) {
      const char* line = reinterpret_cast<const char*>(rows[i + FAR_AHEAD]);
      for (std::size_t byte = 0; byte < sizeof(float) * d; byte += 64) __builtin_prefetch(line + byte);
    }
    const float* from = rows[i];
    for (int c = 0; c < d; c += W) store_as(to + c, load(from + c) * scale);
  }
  if (room > rows.count) std::memset(to, 0, sizeof(T) * d * (room - rows.count));
}

// to [count * d] = from * scale
template <class T>
PD_INLINE void scale_to(const float* from, int count, float scale, T* to) {
  for (int i = 0; i < count; i += W) store_as(to + i, load(from + i) * scale);
}

template <class P>
PD_INLINE Rows<P> together(typename P::T* rows, int count, int d) {
  return {rows, static_cast<std::size_t>(d), nullptr, 0, count, d};
}

// [words][LANES] of LANES rows.
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
