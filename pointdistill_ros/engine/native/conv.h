// SPDX-License-Identifier: Apache-2.0
// xCPE and what follows it per row: submanifold 3^3 convolution, norm, residual, norm, qkv product.
//
// Rows are tiled. Per tile and kernel offset the pairs that exist are listed, their input rows
// multiplied by the offset's weights and added to float sums that stay in cache; the order of the
// additions into one sum does not depend on the tiles, so neither does any result.
#pragma once
#include <omp.h>

#include <cstring>

#include "gemm.h"
#include "kernels.h"
#include "pairs.h"
#include "row_norm.h"
#include "simd.h"
#include "stem.h"

namespace {

// Weights of an offset are cut into panels of columns whose products with a few rows fill the
// registers: 32 of 16 floats, or 16 of 8 or 4. Width in units of 16 columns.
template <int UNITS>
constexpr int panel_rows() {
#if PD_TIER >= 2
  return UNITS == 4 ? 6 : UNITS == 3 ? 8 : UNITS == 2 ? 10 : 12;
#elif PD_TIER == 1
  return 6;
#elif defined(__aarch64__)
  return 4;
#else
  return 2;
#endif
}

struct Panels {
  int units, count;
  explicit Panels(int channels) : units(channels / 16), count((units + WIDEST - 1) / WIDEST) {}
  // widths differ by one at most
  int width(int panel) const { return units / count + (panel < units % count); }
};

template <class P>
std::size_t conv_bytes(int channels) {
  return std::size_t{27} * channels * channels * sizeof(typename P::T);
}

// [27][panel][in][columns of panel]; in bfloat16 [27][panel][in / 2][columns of panel][2]
template <class P>
void pack_conv(const float* weight, int channels, void* packed) {
  constexpr int step = P::is_bf16 ? 2 : 1;
  typename P::T* to = static_cast<typename P::T*>(packed);
  const Panels panels(channels);
  for (int k = 0; k < 27; ++k, weight += std::size_t(channels) * channels) {
    for (int panel = 0, first = 0; panel < panels.count; ++panel) {
      const int end = first + 16 * panels.width(panel);
      for (int in = 0; in < channels; in += step)
        for (int column = first; column < end; ++column)
          for (int i = in; i < in + step; ++i)
            put(to++, weight[std::size_t(i) * channels + column]);
      first = end;
    }
  }
}

// What one panel of one offset adds, for a block of input channels.
template <class P>
struct PanelProduct {
  const typename P::T* input;   // row 0, at the first channel of the block
  const typename P::T* weight;  // [depth][columns]
  int channels, depth;
  const float* start;           // what the sums begin with, `start_stride` floats from row to row
  std::size_t start_stride;
  float* sum;                   // [tile][channels], at the panel's first column
};

// M pairs times a panel, in registers.
template <class P, int UNITS, int M>
void multiply_rows(const PanelProduct<P>& p, const int32_t* from, const int32_t* to) {
  constexpr int N = UNITS * (16 / W), step = P::is_bf16 ? 2 : 1;
  const typename P::T* row[M];
  vf sum[M][N];
  for (int i = 0; i < M; ++i) {
    row[i] = p.input + std::size_t(from[i]) * p.channels;
    for (int j = 0; j < N; ++j) sum[i][j] = load(p.start + to[i] * p.start_stride + j * W);
  }
  const typename P::T* weight = p.weight;
  for (int c = 0; c < p.depth; c += step, weight += N * W * step) {
    decltype(weights(weight)) w[N];
    for (int j = 0; j < N; ++j) w[j] = weights(weight + j * W * step);
    for (int i = 0; i < M; ++i) {
      const auto x = inputs(row[i] + c);
      for (int j = 0; j < N; ++j) sum[i][j] = multiply_add(x, w[j], sum[i][j]);
    }
  }
  for (int i = 0; i < M; ++i)
    for (int j = 0; j < N; ++j)
      store(p.sum + std::size_t(to[i]) * p.channels + j * W, sum[i][j]);
}

template <class P, int UNITS, int M>
PD_INLINE void multiply_last(const PanelProduct<P>& p, int rows, const int32_t* from,
                             const int32_t* to) {
  if (rows == M) {
    multiply_rows<P, UNITS, M>(p, from, to);
  } else if constexpr (M > 1) {
    multiply_last<P, UNITS, M - 1>(p, rows, from, to);
  }
}

template <class P, int UNITS>
void multiply_pairs(const PanelProduct<P>& p, int count, Pairs pairs) {
  constexpr int M = panel_rows<UNITS>();
  int i = 0;
  for (; count - i >= 2 * M || count - i == M; i += M)
    multiply_rows<P, UNITS, M>(p, pairs.from + i, pairs.to + i);
  // two like groups rather than a full and a tiny one, which would wait for its own sums
  if (count - i > M) {
    const int half = (count - i + 1) / 2;
    multiply_last<P, UNITS, M>(p, half, pairs.from + i, pairs.to + i);
    i += half;
  }
  if (count > i) multiply_last<P, UNITS, M>(p, count - i, pairs.from + i, pairs.to + i);
}

// 16 channels where one vector holds them: an offset's weights stay in registers, and the CPU
// overlaps the rows.
template <class P>
void multiply_16(const PanelProduct<P>& p, int count, Pairs pairs) {
  constexpr int step = P::is_bf16 ? 2 : 1;
  decltype(weights(p.weight)) w[16 / step];
  for (int c = 0; c < 16 / step; ++c) w[c] = weights(p.weight + c * 16 * step);
  for (int i = 0; i < count; ++i) {
    const typename P::T* row = p.input + std::size_t(pairs.from[i]) * 16;
    vf sum = load(p.start + pairs.to[i] * p.start_stride);
    for (int c = 0; c < 16 / step; ++c) sum = multiply_add(inputs(row + c * step), w[c], sum);
    store(p.sum + std::size_t(pairs.to[i]) * 16, sum);
  }
}

template <class P>
PD_INLINE void multiply_panel(const PanelProduct<P>& p, int units, int count, Pairs pairs) {
  if constexpr (WIDEST > 1) {
    if (units == 4) return multiply_pairs<P, 4>(p, count, pairs);
    if (units == 3) return multiply_pairs<P, 3>(p, count, pairs);
    if (units == 2) return multiply_pairs<P, 2>(p, count, pairs);
    if (p.channels == 16) return multiply_16<P>(p, count, pairs);
  }
  multiply_pairs<P, 1>(p, count, pairs);
}

// sum[rows][channels] = bias + convolution, for rows [first, first + rows)
template <class P>
void convolve_tile(const pd::ConvQkv& a, int first, int rows, Pairs pairs, float* sum) {
  typedef typename P::T T;
  const int channels = a.channels;
  const Panels panels(channels);
  constexpr int block_bytes = 16 * 1024;  // of weights: half a level 1 cache
  for (int step = 0; step < 27; ++step) {
    const int k = step == 0 ? 13 : step <= 13 ? step - 1 : step;  // the centre begins the sums
    const int count = step == 0
                          ? list_identity(first, rows, pairs)
                          : list_pairs(a.neighbours + std::size_t(k) * a.total + first, rows, pairs);
    if (count == 0) continue;
    const T* weight = static_cast<const T*>(a.conv_weight) + std::size_t(k) * channels * channels;
    for (int panel = 0, column = 0; panel < panels.count; ++panel) {
      const int columns = 16 * panels.width(panel);
      const int block = block_bytes / int(columns * sizeof(T));
      for (int in = 0; in < channels; in += block) {
        const int depth = channels - in < block ? channels - in : block;
        const bool begin = step == 0 && in == 0;
        const PanelProduct<P> product = {
            static_cast<const T*>(a.input) + in,
            weight,
            channels,
            depth,
            begin ? a.conv_bias + column : sum + column,
            begin ? 0 : std::size_t(channels),
            sum + column,
        };
        multiply_panel<P>(product, columns / 16, count, pairs);
        weight += std::size_t(depth) * columns;
      }
      column += columns;
    }
  }
}

// x_out = x + norm(sum); qkv = unit_norm(x_out) W + b, for rows [first, first + rows). Reuses sum.
template <class P>
void finish_tile(const pd::ConvQkv& a, int first, int rows, float* sum, typename P::T* unit) {
  typedef typename P::T T;
  const int channels = a.channels;
  const std::size_t at = std::size_t(first) * channels;
  if (a.conv_weight) {
    norm_add_rows(sum, rows, channels, a.norm_scale, a.norm_shift, a.x + at, a.x_out + at);
  } else {
    std::memcpy(sum, a.x + at, std::size_t(rows) * channels * sizeof(float));
    std::memmove(a.x_out + at, a.x + at, std::size_t(rows) * channels * sizeof(float));
  }
  if (!a.qkv) return;
  unit_norm_rows(sum, rows, channels, unit);
  gemm_narrow<P>(rows, channels, 3 * channels, unit, channels,
                 static_cast<const T*>(a.qkv_weight), a.qkv_bias,
                 static_cast<T*>(a.qkv) + 3 * std::size_t(first - a.first) * channels, 3 * channels);
}

// Rows of a tile: many, because each tile reads all weights and every offset costs a little; few
// enough for the sums to stay in a level 2 cache.
constexpr int CONV_ROWS = 512;

template <class P>
std::size_t conv_scratch(int channels) {
  const std::size_t values = std::size_t(CONV_ROWS) * channels;
  return values * (sizeof(float) + sizeof(typename P::T)) +
         2 * sizeof(int32_t) * (CONV_ROWS + PAIRS_MARGIN);
}

template <class P>
void conv_qkv(const pd::ConvQkv& a, const pd::Workers& workers) {
  const std::size_t values = std::size_t(CONV_ROWS) * a.channels;
  const int tiles = tile_count(a.rows, CONV_ROWS, workers.threads);
#pragma omp parallel for num_threads(workers.threads) schedule(dynamic)
  for (int tile = 0; tile < tiles; ++tile) {
    char* scratch = workers.scratch + omp_get_thread_num() * workers.per_thread;
    float* sum = reinterpret_cast<float*>(scratch);                    // [CONV_ROWS][channels]
    typename P::T* unit = reinterpret_cast<typename P::T*>(sum + values);  // the same
    int32_t* lists = reinterpret_cast<int32_t*>(unit + values);
    const int first = a.first + tile_begin(a.rows, tiles, tile);
    const int rows = a.first + tile_begin(a.rows, tiles, tile + 1) - first;
    if (a.conv_weight)
      convolve_tile<P>(a, first, rows, {lists, lists + CONV_ROWS + PAIRS_MARGIN}, sum);
    finish_tile<P>(a, first, rows, sum, unit);
  }
}

}  // namespace
