// SPDX-License-Identifier: Apache-2.0
// Matrix product with weights packed at load: c[m][n] = a[m][k] W + bias.
//
// A panel holds 16 output columns: float32 [n / 16][k][16], bfloat16 [n / 16][k / 2][16][2] (two
// neighbouring inputs side by side, as the dot-product instruction reads them). k and n are multiples
// of 16. A register tile of about 24 vectors is summed over all of k, then given to an epilogue.
#pragma once
#include "simd.h"

namespace {

constexpr int PANEL = 16;             // columns
constexpr int VECTORS = PANEL / W;    // of a panel
#if PD_TIER >= 2
constexpr int WIDEST = 4;             // panels of a register tile; 32 vector registers
#else
constexpr int WIDEST = 1;
#endif

// Rows of a register tile that is `panels` wide: accumulators, one row of weights and one value of a
// fit the registers.
constexpr int tile_rows(int panels) {
#if PD_TIER >= 2
  return panels == 4 ? 6 : panels == 3 ? 8 : 12;
#elif PD_TIER == 1
  return panels == 1 ? 6 : 1;
#elif defined(__aarch64__)
  return panels == 1 ? 6 : 1;
#else
  return panels == 1 ? 3 : 1;
#endif
}

template <class P>
std::size_t dense_bytes(int in, int out) {
  return sizeof(typename P::T) * in * out;
}

PD_INLINE void put(float* to, float value) { *to = value; }
PD_INLINE void put(bf16* to, float value) { *to = to_bf16(value); }

// weight [out][in] -> panels
template <class P>
void pack_dense(const float* weight, int in, int out, void* packed) {
  typename P::T* to = static_cast<typename P::T*>(packed);
  constexpr int step = P::is_bf16 ? 2 : 1;
  for (int panel = 0; panel < out; panel += PANEL)
    for (int k = 0; k < in; k += step)
      for (int column = panel; column < panel + PANEL; ++column)
        for (int i = k; i < k + step; ++i)
          put(to++, weight[static_cast<std::size_t>(column) * in + i]);
}

// One step along k: one input in float32, a pair of them in bfloat16.
PD_INLINE vf weights(const float* p) { return load(p); }
PD_INLINE vf inputs(const float* p) { return splat(*p); }
PD_INLINE vf multiply_add(vf a, vf w, vf c) { return fma(a, w, c); }
#if PD_TIER == 3
PD_INLINE __m512bh weights(const bf16* p) { return (__m512bh)_mm512_loadu_si512(p); }
PD_INLINE __m512bh inputs(const bf16* p) {
  int32_t pair;
  std::memcpy(&pair, p, 4);
  return (__m512bh)_mm512_set1_epi32(pair);
}
PD_INLINE vf multiply_add(__m512bh a, __m512bh w, vf c) {
  return (vf)_mm512_dpbf16_ps((__m512)c, a, w);
}
#endif

// R rows x N panels. out(row, column, vector) gets every vector once.
template <class P, int R, int N, class Out>
__attribute__((noinline)) void gemm_tile(int k, const typename P::T* a, std::size_t lda,
                                        const typename P::T* packed, const float* bias,
                                        int row, int column, Out& out) {
  constexpr int V = N * VECTORS, step = P::is_bf16 ? 2 : 1;
  const std::size_t panel = static_cast<std::size_t>(k) * PANEL;
  vf sum[R][V];
#pragma GCC unroll 16
  for (int v = 0; v < V; ++v) {
    const vf start = bias ? load(bias + v * W) : (vf){};
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) sum[r][v] = start;
  }
  for (int i = 0; i < k; i += step) {
    decltype(weights(packed)) row_of_weights[V];
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v)
      row_of_weights[v] =
          weights(packed + v / VECTORS * panel + i * PANEL + v % VECTORS * (W * step));
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const auto value = inputs(a + r * lda + i);
#pragma GCC unroll 16
      for (int v = 0; v < V; ++v) sum[r][v] = multiply_add(value, row_of_weights[v], sum[r][v]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) out(row + r, column + v * W, sum[r][v]);
}

// N panels, all rows.
template <class P, int N, class Out>
void gemm_strip(int m, int k, const typename P::T* a, std::size_t lda, const typename P::T* packed,
                const float* bias, int column, Out& out) {
  constexpr int most = tile_rows(N), some = most / 2;
  int row = 0;
  for (; row + most <= m; row += most)
    gemm_tile<P, most, N>(k, a + row * lda, lda, packed, bias, row, column, out);
  if (some > 1 && row + some <= m) {
    gemm_tile<P, some, N>(k, a + row * lda, lda, packed, bias, row, column, out);
    row += some;
  }
  for (; row < m; ++row)
    gemm_tile<P, 1, N>(k, a + row * lda, lda, packed, bias, row, column, out);
}

// Every vector of a W + bias (bias [n] or null) goes to out(row, column, vector).
template <class P, class Out>
PD_INLINE void gemm_into(int m, int k, int n, const typename P::T* a, int lda,
                         const typename P::T* packed, const float* bias, Out out) {
  const int panels = n / PANEL;
  int panel = 0;
  while (panel < panels) {
    const int left = panels - panel;
    const int column = panel * PANEL;
    const typename P::T* weight = packed + static_cast<std::size_t>(column) * k;
    const float* start = bias ? bias + column : nullptr;
    if (left >= WIDEST) {
      gemm_strip<P, WIDEST>(m, k, a, lda, weight, start, column, out);
      panel += WIDEST;
    } else if (left == 3) {
      gemm_strip<P, WIDEST == 4 ? 3 : 1>(m, k, a, lda, weight, start, column, out);
      panel += 3;
    } else if (left == 2) {
      gemm_strip<P, WIDEST == 4 ? 2 : 1>(m, k, a, lda, weight, start, column, out);
      panel += 2;
    } else {
      gemm_strip<P, 1>(m, k, a, lda, weight, start, column, out);
      panel += 1;
    }
  }
}

// c = a W + bias
template <class P>
void gemm(int m, int k, int n, const typename P::T* a, int lda, const typename P::T* packed,
          const float* bias, float* c, int ldc) {
  gemm_into<P>(m, k, n, a, lda, packed, bias, [=](int row, int column, vf value) {
    store(c + static_cast<std::size_t>(row) * ldc + column, value);
  });
}

// c += a W + bias
template <class P>
void gemm_add(int m, int k, int n, const typename P::T* a, int lda, const typename P::T* packed,
              const float* bias, float* c, int ldc) {
  gemm_into<P>(m, k, n, a, lda, packed, bias, [=](int row, int column, vf value) {
    float* to = c + static_cast<std::size_t>(row) * ldc + column;
    store(to, load(to) + value);
  });
}

// c = a W + bias in the type of activations
template <class P>
void gemm_narrow(int m, int k, int n, const typename P::T* a, int lda, const typename P::T* packed,
                 const float* bias, typename P::T* c, int ldc) {
  gemm_into<P>(m, k, n, a, lda, packed, bias, [=](int row, int column, vf value) {
    store_as(c + static_cast<std::size_t>(row) * ldc + column, value);
  });
}

}  // namespace
