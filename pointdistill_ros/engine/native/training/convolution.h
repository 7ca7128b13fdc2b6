// SPDX-License-Identifier: Apache-2.0
// Forward and data gradient: the engine's convolution (conv.h) for any channel counts, on float32.
//
// Rows are tiled. Per tile and offset the pairs that exist are listed, their input rows multiplied by
// the offset's weights and added to sums that stay in cache. The order of the additions into one sum
// does not depend on the tiles, so neither does any result.
#pragma once
#include <omp.h>

#include "gemm.h"
#include "narrow.h"
#include "pairs.h"
#include "products.h"

namespace {

constexpr int ROWS = 512;                    // of a tile, at most
constexpr int WEIGHT_BLOCK = 16 * 1024;      // bytes of weights: half a level 1 cache

// Pairs multiplied at a time by a panel `UNITS` x 16 columns wide: sums that fit the registers.
template <int UNITS>
constexpr int pairs_at_once() {
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

// Columns cut into panels of at most WIDEST units of 16; widths differ by one at most.
struct ColumnPanels {
  int units, count;
  explicit ColumnPanels(int channels)
      : units((channels + 15) / 16), count((units + WIDEST - 1) / WIDEST) {}
  int width(int panel) const { return units / count + (panel < units % count); }
};

// One offset's weights: [panel][in][columns of panel], in bfloat16 [panel][in / 2][columns][2].
// Columns and inputs that do not exist are 0.
template <class P>
void pack_offset(const pd::Convolution& a, int offset, typename P::T* to) {
  constexpr int step = P::is_bf16 ? 2 : 1;
  const ColumnPanels panels(a.out);
  const float* weight = a.weight + offset * a.offset_stride;
  for (int panel = 0, first = 0; panel < panels.count; ++panel) {
    const int end = first + 16 * panels.width(panel);
    for (int in = 0; in < a.in; in += step)
      for (int column = first; column < end; ++column)
        for (int i = in; i < in + step; ++i)
          put(to++, column < a.out && i < a.in ? weight[column * a.out_stride + i * a.in_stride] : 0);
    first = end;
  }
}

// What one panel of one offset adds, for a block of input channels.
template <class P>
struct PanelTask {
  const typename P::T* x;       // row 0, at the first channel of the block
  std::size_t x_stride;
  const typename P::T* weight;  // [depth][columns]
  int depth;
  const float* start;           // what the sums begin with, `start_stride` floats from row to row
  std::size_t start_stride;
  float* sum;                   // at the panel's first column
  std::size_t sum_stride;
};

// M pairs times a panel, in registers.
template <class P, int UNITS, int M>
void multiply_some(const PanelTask<P>& p, const int32_t* from, const int32_t* to) {
  constexpr int N = UNITS * (16 / W), step = P::is_bf16 ? 2 : 1;
  const typename P::T* row[M];
  vf sum[M][N];
  for (int i = 0; i < M; ++i) {
    row[i] = p.x + std::size_t(from[i]) * p.x_stride;
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
    for (int j = 0; j < N; ++j) store(p.sum + to[i] * p.sum_stride + j * W, sum[i][j]);
}

template <class P, int UNITS, int M>
PD_INLINE void multiply_rest(const PanelTask<P>& p, int rows, const int32_t* from,
                             const int32_t* to) {
  if (rows == M) {
    multiply_some<P, UNITS, M>(p, from, to);
  } else if constexpr (M > 1) {
    multiply_rest<P, UNITS, M - 1>(p, rows, from, to);
  }
}

template <class P, int UNITS>
void multiply_all(const PanelTask<P>& p, int count, Pairs pairs) {
  constexpr int M = pairs_at_once<UNITS>();
  int i = 0;
  for (; count - i >= 2 * M || count - i == M; i += M)
    multiply_some<P, UNITS, M>(p, pairs.from + i, pairs.to + i);
  // two like groups rather than a full and a tiny one, which would wait for its own sums
  if (count - i > M) {
    const int half = (count - i + 1) / 2;
    multiply_rest<P, UNITS, M>(p, half, pairs.from + i, pairs.to + i);
    i += half;
  }
  if (count > i) multiply_rest<P, UNITS, M>(p, count - i, pairs.from + i, pairs.to + i);
}

template <class P>
PD_INLINE void multiply_task(const PanelTask<P>& p, int units, int count, Pairs pairs) {
  if constexpr (WIDEST > 1) {
    if (units == 4) return multiply_all<P, 4>(p, count, pairs);
    if (units == 3) return multiply_all<P, 3>(p, count, pairs);
    if (units == 2) return multiply_all<P, 2>(p, count, pairs);
  }
  multiply_all<P, 1>(p, count, pairs);
}

// sum[rows][16 units] = bias + convolution, for rows [first, first + rows)
template <class P>
void sum_tile(const pd::Convolution& a, const typename P::T* x, int x_first,
              const typename P::T* packed, const float* bias, int first, int rows, Pairs pairs,
              float* sum, std::size_t sum_stride) {
  typedef typename P::T T;
  const ColumnPanels panels(a.out);
  const int channels = operand_channels<P>(a.in), centre = a.offsets / 2;
  for (int step = 0; step < a.offsets; ++step) {
    const int k = step == 0 ? centre : step <= centre ? step - 1 : step;  // the centre begins the sums
    const int count = step == 0
                          ? list_identity(first - x_first, rows, pairs)
                          : list_pairs(a.table + std::size_t(k) * a.rows + first, rows, pairs);
    if (count == 0) continue;
    const T* weight = packed + std::size_t(k) * channels * panels.units * 16;
    for (int panel = 0, column = 0; panel < panels.count; ++panel) {
      const int columns = 16 * panels.width(panel);
      const int block = WEIGHT_BLOCK / int(columns * sizeof(T));
      for (int in = 0; in < channels; in += block) {
        const int depth = channels - in < block ? channels - in : block;
        const bool begin = step == 0 && in == 0;
        const PanelTask<P> task = {
            x + in,
            std::size_t(channels),
            weight,
            depth,
            begin ? bias + column : sum + column,
            begin ? 0 : sum_stride,
            sum + column,
            sum_stride,
        };
        multiply_task<P>(task, columns / 16, count, pairs);
        weight += std::size_t(depth) * columns;
      }
      column += columns;
    }
  }
}

// shared: packed weights, padded bias, operands of all rows (bfloat16 and a table); per thread: pair
// lists, sums where columns are padded, operands of a tile (bfloat16 without a table).
template <class P>
struct ConvolutionRoom {
  std::size_t packed, bias, x, lists, sum, tile;
  explicit ConvolutionRoom(const pd::Convolution& a) {
    typedef typename P::T T;
    const std::size_t columns = round_up(a.out, 16), channels = operand_channels<P>(a.in);
    packed = round_up(sizeof(T) * a.offsets * channels * columns, 64);
    bias = sizeof(float) * columns;
    const std::size_t row = P::is_bf16 ? sizeof(T) * channels : 0;
    x = a.table ? round_up(row * a.rows, 64) : 0;
    lists = 2 * sizeof(int32_t) * (ROWS + PAIRS_MARGIN);
    sum = a.out % 16 ? sizeof(float) * ROWS * columns : 0;
    tile = a.table ? 0 : round_up(row * ROWS, 64);
  }
};

template <class P>
pd::ProductScratch convolution_scratch(const pd::Convolution& a) {
  const ConvolutionRoom<P> room(a);
  return {room.packed + room.bias + room.x, room.lists + room.sum + room.tile};
}

template <class P>
void convolution(const pd::Convolution& a, const pd::ProductWorkers& workers) {
  typedef typename P::T T;
  const ConvolutionRoom<P> room(a);
  const int columns = int(round_up(a.out, 16)), channels = operand_channels<P>(a.in);
  T* packed = reinterpret_cast<T*>(workers.scratch);
  float* bias = reinterpret_cast<float*>(workers.scratch + room.packed);
  T* narrow = reinterpret_cast<T*>(workers.scratch + room.packed + room.bias);
  for (int i = 0; i < columns; ++i) bias[i] = a.bias && i < a.out ? a.bias[i] : 0;
  const int tiles = tile_count(a.rows, ROWS, workers.threads);
#pragma omp parallel num_threads(workers.threads)
  {
#pragma omp for schedule(static) nowait
    for (int k = 0; k < a.offsets; ++k)
      pack_offset<P>(a, k, packed + std::size_t(k) * channels * columns);
    if (room.x) {
#pragma omp for schedule(static) nowait
      for (int tile = 0; tile < tiles; ++tile) {
        const int first = tile_begin(a.rows, tiles, tile);
        narrow_rows<P>(a.x + std::size_t(first) * a.in,
                       tile_begin(a.rows, tiles, tile + 1) - first, a.in,
                       narrow + std::size_t(first) * channels);
      }
    }
#pragma omp barrier
    char* own = workers.scratch + workers.size.shared +
                omp_get_thread_num() * workers.size.per_thread;
    int32_t* lists = reinterpret_cast<int32_t*>(own);
    float* padded = reinterpret_cast<float*>(own + room.lists);
    T* tile_x = reinterpret_cast<T*>(own + room.lists + room.sum);
#pragma omp for schedule(dynamic)
    for (int tile = 0; tile < tiles; ++tile) {
      const int first = tile_begin(a.rows, tiles, tile);
      const int rows = tile_begin(a.rows, tiles, tile + 1) - first;
      const T* x;
      int x_first = 0;
      if constexpr (P::is_bf16) {
        x = narrow;
        if (room.tile) {
          narrow_rows<P>(a.x + std::size_t(first) * a.in, rows, a.in, tile_x);
          x = tile_x;
          x_first = first;
        }
      } else {
        x = a.x;
      }
      float* y = a.y + std::size_t(first) * a.out;
      const Pairs pairs = {lists, lists + ROWS + PAIRS_MARGIN};
      sum_tile<P>(a, x, x_first, packed, bias, first, rows, pairs, room.sum ? padded : y,
                  room.sum ? columns : a.out);
      if (room.sum) {
        for (int row = 0; row < rows; ++row)
          std::memcpy(y + std::size_t(row) * a.out, padded + std::size_t(row) * columns,
                      sizeof(float) * a.out);
      }
    }
  }
}

}  // namespace
