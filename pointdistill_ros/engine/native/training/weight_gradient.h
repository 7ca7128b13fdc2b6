// SPDX-License-Identifier: Apache-2.0
// Weight gradient: per offset the sum over its pairs of grad^T x.
//
// Pairs are taken in chunks whose rows of x and grad are packed side by side; a register tile of
// outputs x inputs is summed over a chunk, then added to the block's sums. Rows are cut into blocks by
// the shapes alone (a linear layer has one offset, so blocks are what threads share), and the sums of
// blocks are added in their order.
#pragma once
#include <omp.h>

#include "gemm.h"
#include "narrow.h"
#include "pairs.h"
#include "products.h"

namespace {

constexpr int CHUNK = 128;          // pairs packed at a time; even
constexpr int LIST_ROWS = 2048;     // rows listed at a time
constexpr int BLOCK_ROWS = 2048;    // of a linear layer

// Outputs of a register tile that is `UNITS` x 16 inputs wide; divides 16.
template <int UNITS>
constexpr int outputs_at_once() {
#if PD_TIER >= 2
  return UNITS == 4 ? 4 : UNITS == 1 ? 16 : 8;
#elif PD_TIER == 1 || defined(__aarch64__)
  return 4;
#else
  return 2;
#endif
}

inline int gradient_blocks(const pd::WeightGradient& a) {
  if (a.offsets > 1) return 1;
  const int blocks = (a.rows + BLOCK_ROWS - 1) / BLOCK_ROWS;
  return blocks < 1 ? 1 : blocks;
}

// Rows list[0..count) of [.][channels] -> [channels / 16][steps][16], in bfloat16
// [channels / 16][steps][16][2] with two rows side by side. Channels and rows that are missing are 0.
PD_INLINE void pack_chunk(const float* from, int channels, const int32_t* list, int count,
                          float* to) {
  for (int first = 0; first < channels; first += 16, to += CHUNK * 16) {
    const int width = channels - first < 16 ? channels - first : 16;
    for (int i = 0; i < count; ++i)
      narrow_row(from + std::size_t(list[i]) * channels + first, width, 16, to + i * 16);
  }
}

#if PD_TIER == 3
PD_INLINE vf load_some(const float* p, int count) {
  return count >= W ? load(p) : (vf)_mm512_maskz_loadu_ps((1u << count) - 1, p);
}

PD_INLINE void pack_chunk(const float* from, int channels, const int32_t* list, int count,
                          bf16* to) {
  // a pair of rows as one vector: low halves of the lanes from the first, high from the second
  const __m512i sides = _mm512_set_epi16(
      31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4, 19,
      3, 18, 2, 17, 1, 16, 0);
  for (int i = 0; i < count; i += 2) {
    const float* a = from + std::size_t(list[i]) * channels;
    const float* b = i + 1 < count ? from + std::size_t(list[i + 1]) * channels : nullptr;
    bf16* at = to + i * 16;
    for (int first = 0; first < channels; first += 16, at += CHUNK * 16) {
      const vf low = load_some(a + first, channels - first);
      const vf high = b ? load_some(b + first, channels - first) : (vf){};
      const __m512bh both = _mm512_cvtne2ps_pbh((__m512)high, (__m512)low);
      _mm512_storeu_si512(at, _mm512_permutexvar_epi16(sides, (__m512i)both));
    }
  }
}
#endif

// total[channels] += sum of the rows, in their order
PD_INLINE void add_columns(const float* from, int rows, int channels, float* total) {
  int c = 0;
  for (; c + 4 * W <= channels; c += 4 * W) {
    vf sum[4];
    for (int v = 0; v < 4; ++v) sum[v] = load(total + c + v * W);
    for (int row = 0; row < rows; ++row)
      for (int v = 0; v < 4; ++v) sum[v] += load(from + std::size_t(row) * channels + c + v * W);
    for (int v = 0; v < 4; ++v) store(total + c + v * W, sum[v]);
  }
  for (; c < channels; ++c)
    for (int row = 0; row < rows; ++row) total[c] += from[std::size_t(row) * channels + c];
}

// Adds one tile of R outputs x UNITS * 16 inputs, summed over `steps`, to or into `sum`.
template <class P, int UNITS, int R>
void gradient_tile(const typename P::T* x, const typename P::T* grad, int steps, int outputs,
                   bool begin, float* sum, std::size_t stride) {
  constexpr int step = P::is_bf16 ? 2 : 1, V = UNITS * (16 / W);
  constexpr std::size_t unit = std::size_t(CHUNK) * 16;
  vf total[R][V];
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < V; ++v) total[r][v] = (vf){};
  for (int s = 0; s < steps; ++s) {
    decltype(weights(x)) w[V];
    for (int v = 0; v < V; ++v)
      w[v] = weights(x + v / (16 / W) * unit + s * 16 * step + v % (16 / W) * (W * step));
    for (int r = 0; r < R; ++r) {
      const auto g = inputs(grad + (s * 16 + r) * step);
      for (int v = 0; v < V; ++v) total[r][v] = multiply_add(g, w[v], total[r][v]);
    }
  }
  for (int r = 0; r < R && r < outputs; ++r)
    for (int v = 0; v < V; ++v) {
      float* to = sum + r * stride + v * W;
      store(to, begin ? total[r][v] : load(to) + total[r][v]);
    }
}

template <class P, int UNITS>
void gradient_panel(const typename P::T* x, const typename P::T* grad, int out, int steps,
                    bool begin, float* sum, std::size_t stride) {
  constexpr int R = outputs_at_once<UNITS>(), step = P::is_bf16 ? 2 : 1;
  for (int o = 0; o < out; o += R)
    gradient_tile<P, UNITS, R>(x, grad + std::size_t(o / 16) * CHUNK * 16 + o % 16 * step, steps,
                               out - o, begin, sum + o * stride, stride);
}

// sum[out][stride] = (begin) or += grad^T x of a packed chunk of `count` pairs, 16 * units inputs
template <class P>
void gradient_chunk(const typename P::T* x, const typename P::T* grad, int units, int out, int count,
                    bool begin, float* sum, std::size_t stride) {
  constexpr int step = P::is_bf16 ? 2 : 1;
  const int steps = (count + step - 1) / step;
  for (int unit = 0; unit < units;) {
    const int left = units - unit;
    const typename P::T* at = x + std::size_t(unit) * CHUNK * 16;
    float* to = sum + unit * 16;
    if (WIDEST > 1 && left >= 4) {
      gradient_panel<P, WIDEST == 4 ? 4 : 1>(at, grad, out, steps, begin, to, stride);
      unit += 4;
    } else if (WIDEST > 1 && left == 3) {
      gradient_panel<P, WIDEST == 4 ? 3 : 1>(at, grad, out, steps, begin, to, stride);
      unit += 3;
    } else if (WIDEST > 1 && left == 2) {
      gradient_panel<P, WIDEST == 4 ? 2 : 1>(at, grad, out, steps, begin, to, stride);
      unit += 2;
    } else {
      gradient_panel<P, 1>(at, grad, out, steps, begin, to, stride);
      unit += 1;
    }
  }
}

// sum[out][stride] of one offset over the rows [first, end). total: sums of grad, or null.
template <class P>
void gradient_block(const pd::WeightGradient& a, int offset, int first, int end, Pairs pairs,
                    typename P::T* x, typename P::T* grad, float* sum, std::size_t stride,
                    float* total) {
  const int units = (a.in + 15) / 16;
  bool begin = true;
  for (int row = first; row < end; row += LIST_ROWS) {
    const int rows = end - row < LIST_ROWS ? end - row : LIST_ROWS;
    const int found = offset == a.offsets / 2
                          ? list_identity(row, rows, pairs)
                          : list_pairs(a.table + std::size_t(offset) * a.rows + row, rows, pairs);
    const float* rows_of_grad = a.grad + std::size_t(row) * a.out;
    for (int i = 0; i < found; i += CHUNK) {
      const int count = found - i < CHUNK ? found - i : CHUNK;
      pack_chunk(a.x, a.in, pairs.from + i, count, x);
      pack_chunk(rows_of_grad, a.out, pairs.to + i, count, grad);
      if (total)  // of the centre: all rows
        add_columns(rows_of_grad + std::size_t(i) * a.out, count, a.out, total);
      gradient_chunk<P>(x, grad, units, a.out, count, begin, sum, stride);
      begin = false;
    }
  }
  if (begin) {
    for (int o = 0; o < a.out; ++o) std::memset(sum + o * stride, 0, sizeof(float) * units * 16);
  }
}

// shared: sums of every offset and block, unless they can be added up in their final place; sums of
// grad of every block. per thread: pair lists, packed chunks.
template <class P>
struct GradientRoom {
  int blocks;
  bool in_place;
  std::size_t stride, sums, totals, lists, x, grad;
  explicit GradientRoom(const pd::WeightGradient& a) {
    const std::size_t in = round_up(a.in, 16), out = round_up(a.out, 16);
    blocks = gradient_blocks(a);
    in_place = blocks == 1 && a.in % 16 == 0;
    stride = in;
    sums = in_place ? 0 : sizeof(float) * a.offsets * blocks * a.out * in;
    totals = a.bias_grad ? sizeof(float) * blocks * out : 0;
    lists = 2 * sizeof(int32_t) * (LIST_ROWS + PAIRS_MARGIN);
    x = sizeof(typename P::T) * CHUNK * in;
    grad = sizeof(typename P::T) * CHUNK * out;
  }
};

template <class P>
pd::ProductScratch weight_gradient_scratch(const pd::WeightGradient& a) {
  const GradientRoom<P> room(a);
  return {room.sums + room.totals, room.lists + room.x + room.grad};
}

template <class P>
void weight_gradient(const pd::WeightGradient& a, const pd::ProductWorkers& workers) {
  typedef typename P::T T;
  const GradientRoom<P> room(a);
  float* sums = reinterpret_cast<float*>(workers.scratch);
  float* totals = reinterpret_cast<float*>(workers.scratch + room.sums);
  const std::size_t block_size = a.out * room.stride, padded_out = round_up(a.out, 16);
  const int tasks = a.offsets * room.blocks, centre = a.offsets / 2;
#pragma omp parallel num_threads(workers.threads)
  {
    char* own = workers.scratch + workers.size.shared +
                omp_get_thread_num() * workers.size.per_thread;
    int32_t* lists = reinterpret_cast<int32_t*>(own);
    T* x = reinterpret_cast<T*>(own + room.lists);
    T* grad = reinterpret_cast<T*>(own + room.lists + room.x);
#pragma omp for schedule(dynamic)
    for (int task = 0; task < tasks; ++task) {
      const int step = task / room.blocks, block = task % room.blocks;
      const int k = step == 0 ? centre : step <= centre ? step - 1 : step;  // the largest first
      float* sum = room.in_place ? a.weight_grad + std::size_t(k) * a.in
                                 : sums + task * block_size;
      float* total = nullptr;
      if (room.totals && k == centre) {
        total = totals + block * padded_out;
        std::memset(total, 0, sizeof(float) * padded_out);
      }
      gradient_block<P>(a, k, tile_begin(a.rows, room.blocks, block),
                        tile_begin(a.rows, room.blocks, block + 1),
                        {lists, lists + LIST_ROWS + PAIRS_MARGIN}, x, grad, sum,
                        room.in_place ? std::size_t(a.offsets) * a.in : room.stride, total);
    }
    if (!room.in_place) {
#pragma omp for schedule(static)
      for (int o = 0; o < a.out; ++o)
        for (int step = 0; step < a.offsets; ++step) {
          const int k = step == 0 ? centre : step <= centre ? step - 1 : step;
          float* to = a.weight_grad + (std::size_t(o) * a.offsets + k) * a.in;
          const float* from = sums + step * room.blocks * block_size + o * room.stride;
          for (int i = 0; i < a.in; ++i) {
            float value = from[i];
            for (int block = 1; block < room.blocks; ++block) value += from[block * block_size + i];
            to[i] = value;
          }
        }
    }
  }
  if (!a.bias_grad) return;
  for (int o = 0; o < a.out; ++o) {
    float value = totals[o];
    for (int block = 1; block < room.blocks; ++block) value += totals[block * padded_out + o];
    a.bias_grad[o] = value;
  }
}

}  // namespace
