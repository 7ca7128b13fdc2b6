// SPDX-License-Identifier: Apache-2.0
// linear, GELU, linear for rows that stay in cache; backward computes the hidden layer anew, so that
// it is never written to memory.
#pragma once
#include <omp.h>

#include "activation.h"
#include "convolution.h"
#include "feed_forward_work.h"
#include "weight_gradient.h"

namespace {

// Phi(x) + x phi(x), the derivative of gelu, to 1e-6 (short: 1e-4). NaN where x is not finite.
template <class P>
PD_INLINE vf gelu_slope(vf x, vf& value) {
  constexpr float most = P::is_bf16 ? 4.5f : 5.5f;
  const vf magnitude = maximum(x, -x);
  const vf a = magnitude < most ? magnitude : splat(most);
  vf tail, density;
  if constexpr (P::is_bf16) {
    tail = power_of_two(polynomial(a, LOG2_PHI_SHORT), EXP2_SHORT);
    density = power_of_two(a * a * -0.72134752f, EXP2_SHORT);
  } else {
    tail = power_of_two(polynomial(a, LOG2_PHI), EXP2);
    density = power_of_two(a * a * -0.72134752f, EXP2);
  }
  value = maximum((vf){}, x) - a * tail;
  const vf less = tail - a * density * 0.39894228f;  // at -a
  return (x > 0.0f ? 1.0f - less : less) + (x - x);
}

// A linear layer as a convolution; transposed for the gradient of its input.
inline pd::Convolution layer(int rows, int in, int out, const float* weight, bool transposed) {
  pd::Convolution a = {};
  a.rows = rows;
  a.in = transposed ? out : in;
  a.out = transposed ? in : out;
  a.offsets = 1;
  a.weight = weight;
  a.out_stride = transposed ? 1 : in;
  a.in_stride = transposed ? in : 1;
  return a;
}

// Weights and bias of a layer, packed.
template <class P>
struct PackedLayer {
  pd::Convolution shape;
  typename P::T* weight;
  float* bias;
  static std::size_t bytes(const pd::Convolution& a) {
    const std::size_t columns = round_up(a.out, 16);
    return round_up(sizeof(typename P::T) * operand_channels<P>(a.in) * columns, 64) +
           sizeof(float) * columns;
  }
  PackedLayer(const pd::Convolution& a, const float* from, char*& room) : shape(a) {
    const int columns = int(round_up(a.out, 16));
    bias = reinterpret_cast<float*>(room);
    weight = reinterpret_cast<typename P::T*>(room + sizeof(float) * columns);
    for (int i = 0; i < columns; ++i) bias[i] = from && i < a.out ? from[i] : 0;
    pack_offset<P>(a, 0, weight);
    room += bytes(a);
  }
  // sum[rows][stride] = x W + bias; x: operands [rows]
  void apply(const typename P::T* x, int rows, Pairs pairs, float* sum, std::size_t stride) const {
    sum_tile<P>(shape, x, 0, weight, bias, 0, rows, pairs, sum, stride);
  }
};

// Room of a thread for CHUNK rows.
template <class P>
struct FeedForwardRoom {
  std::size_t lists, narrow_x, narrow_hidden, narrow_out, hidden, wide, packed_x, packed_out,
      packed_hidden;
  explicit FeedForwardRoom(const pd::FeedForward& a) {
    typedef typename P::T T;
    lists = 2 * sizeof(int32_t) * (CHUNK + PAIRS_MARGIN);
    narrow_x = round_up(sizeof(T) * CHUNK * operand_channels<P>(a.in), 64);
    narrow_hidden = round_up(sizeof(T) * CHUNK * operand_channels<P>(a.hidden), 64);
    narrow_out = round_up(sizeof(T) * CHUNK * operand_channels<P>(a.out), 64);
    hidden = sizeof(float) * CHUNK * round_up(a.hidden, 16);
    wide = sizeof(float) * CHUNK * round_up(a.in > a.out ? a.in : a.out, 16);
    packed_x = sizeof(T) * CHUNK * round_up(a.in, 16);
    packed_out = sizeof(T) * CHUNK * round_up(a.out, 16);
    packed_hidden = sizeof(T) * CHUNK * round_up(a.hidden, 16);
  }
  std::size_t bytes() const {
    return lists + narrow_x + narrow_hidden + narrow_out + 2 * hidden + wide + packed_x +
           packed_out + packed_hidden;
  }
};

PD_INLINE void copy_columns(const float* from, std::size_t stride, int rows, int channels,
                            float* to) {
  for (int row = 0; row < rows; ++row)
    std::memcpy(to + std::size_t(row) * channels, from + row * stride, sizeof(float) * channels);
}

template <class P>
pd::ProductScratch feed_forward_scratch(const pd::FeedForward& a) {
  return {PackedLayer<P>::bytes(layer(0, a.in, a.hidden, nullptr, false)) +
              PackedLayer<P>::bytes(layer(0, a.hidden, a.out, nullptr, false)),
          FeedForwardRoom<P>(a).bytes()};
}

template <class P>
void feed_forward(const pd::FeedForward& a, const pd::ProductWorkers& workers) {
  typedef typename P::T T;
  const FeedForwardRoom<P> room(a);
  char* shared = workers.scratch;
  const PackedLayer<P> up(layer(a.rows, a.in, a.hidden, a.up_weight, false), a.up_bias, shared);
  const PackedLayer<P> down(layer(a.rows, a.hidden, a.out, a.down_weight, false), a.down_bias,
                            shared);
  const int tiles = (a.rows + CHUNK - 1) / CHUNK;
  const std::size_t wide = round_up(a.hidden, 16), out = round_up(a.out, 16);
#pragma omp parallel for num_threads(workers.threads) schedule(dynamic)
  for (int tile = 0; tile < tiles; ++tile) {
    char* own = workers.scratch + workers.size.shared +
                omp_get_thread_num() * workers.size.per_thread;
    int32_t* lists = reinterpret_cast<int32_t*>(own);
    const Pairs pairs = {lists, lists + CHUNK + PAIRS_MARGIN};
    T* narrow = reinterpret_cast<T*>(own += room.lists);
    T* active = reinterpret_cast<T*>(own += room.narrow_x);
    float* hidden = reinterpret_cast<float*>(own += room.narrow_hidden);
    float* sum = reinterpret_cast<float*>(own + room.hidden);
    const int first = tile * CHUNK, left = a.rows - first, rows = left < CHUNK ? left : CHUNK;
    narrow_rows<P>(a.x + std::size_t(first) * a.in, rows, a.in, narrow);
    up.apply(narrow, rows, pairs, hidden, wide);
    for (std::size_t i = 0; i < rows * wide; i += W)
      store(hidden + i, gelu_of<P>(load(hidden + i)));
    const int channels = operand_channels<P>(a.hidden);
    for (int row = 0; row < rows; ++row)
      narrow_row(hidden + row * wide, a.hidden, channels, active + std::size_t(row) * channels);
    float* y = a.y + std::size_t(first) * a.out;
    const bool whole = a.out % 16 == 0;
    down.apply(active, rows, pairs, whole ? y : sum, out);
    if (!whole) copy_columns(sum, out, rows, a.out, y);
  }
}

// Sums of a block of rows: both weights, both biases.
struct FeedForwardSums {
  std::size_t up, down, up_bias, down_bias;  // floats
  explicit FeedForwardSums(const pd::FeedForward& a) {
    const std::size_t in = round_up(a.in, 16), hidden = round_up(a.hidden, 16);
    up = a.hidden * in;
    down = round_up(a.out * hidden, 16);
    up_bias = hidden;
    down_bias = round_up(a.out, 16);
  }
  std::size_t floats() const { return up + down + up_bias + down_bias; }
};

inline int feed_forward_blocks(const pd::FeedForward& a) {
  return a.rows < 1 ? 1 : (a.rows + BLOCK_ROWS - 1) / BLOCK_ROWS;
}

template <class P>
pd::ProductScratch feed_forward_gradient_scratch(const pd::FeedForward& a) {
  pd::ProductScratch size = {feed_forward_scratch<P>(a).shared, FeedForwardRoom<P>(a).bytes()};
  size.shared += PackedLayer<P>::bytes(layer(0, a.in, a.hidden, nullptr, true)) +
                 PackedLayer<P>::bytes(layer(0, a.hidden, a.out, nullptr, true));
  size.shared += sizeof(float) * FeedForwardSums(a).floats() * feed_forward_blocks(a);
  return size;
}

// to[out][in] = sum over the blocks of from[out][stride], `next` floats from block to block
inline void add_blocks(const float* from, int blocks, std::size_t next, int out, int in,
                       std::size_t stride, float* to) {
  for (int o = 0; o < out; ++o)
    for (int i = 0; i < in; ++i) {
      float value = from[o * stride + i];
      for (int block = 1; block < blocks; ++block) value += from[block * next + o * stride + i];
      to[std::size_t(o) * in + i] = value;
    }
}

template <class P>
void feed_forward_gradient(const pd::FeedForward& a, const pd::FeedForwardGradient& g,
                           const pd::ProductWorkers& workers) {
  typedef typename P::T T;
  const FeedForwardRoom<P> room(a);
  const FeedForwardSums sums(a);
  char* shared = workers.scratch;
  const PackedLayer<P> up(layer(a.rows, a.in, a.hidden, a.up_weight, false), a.up_bias, shared);
  const PackedLayer<P> down_back(layer(a.rows, a.hidden, a.out, a.down_weight, true), nullptr,
                                 shared);
  const PackedLayer<P> up_back(layer(a.rows, a.in, a.hidden, a.up_weight, true), nullptr, shared);
  float* all = reinterpret_cast<float*>(shared);
  const int blocks = feed_forward_blocks(a);
  const int wide = int(round_up(a.hidden, 16)), channels = operand_channels<P>(a.hidden);
  const std::size_t in = round_up(a.in, 16);
#pragma omp parallel for num_threads(workers.threads) schedule(dynamic)
  for (int block = 0; block < blocks; ++block) {
    char* own = workers.scratch + workers.size.shared +
                omp_get_thread_num() * workers.size.per_thread;
    int32_t* lists = reinterpret_cast<int32_t*>(own);
    const Pairs pairs = {lists, lists + CHUNK + PAIRS_MARGIN};
    T* narrow_x = reinterpret_cast<T*>(own += room.lists);
    T* narrow_hidden = reinterpret_cast<T*>(own += room.narrow_x);
    T* narrow_out = reinterpret_cast<T*>(own += room.narrow_hidden);
    float* hidden = reinterpret_cast<float*>(own += room.narrow_out);
    float* grad = reinterpret_cast<float*>(own += room.hidden);
    float* sum = reinterpret_cast<float*>(own += room.hidden);
    T* packed_x = reinterpret_cast<T*>(own += room.wide);
    T* packed_out = reinterpret_cast<T*>(own += room.packed_x);
    T* packed_hidden = reinterpret_cast<T*>(own += room.packed_out);
    float* up_sum = all + block * sums.floats();
    float* down_sum = up_sum + sums.up;
    float* up_bias = down_sum + sums.down;
    float* down_bias = up_bias + sums.up_bias;
    std::memset(up_bias, 0, sizeof(float) * (sums.up_bias + sums.down_bias));
    const int begin = tile_begin(a.rows, blocks, block), end = tile_begin(a.rows, blocks, block + 1);
    if (begin == end) std::memset(up_sum, 0, sizeof(float) * (sums.up + sums.down));
    for (int first = begin; first < end; first += CHUNK) {
      const int rows = end - first < CHUNK ? end - first : CHUNK;
      const float* x = a.x + std::size_t(first) * a.in;
      const float* y_grad = g.y_grad + std::size_t(first) * a.out;
      narrow_rows<P>(x, rows, a.in, narrow_x);
      up.apply(narrow_x, rows, pairs, hidden, wide);
      narrow_rows<P>(y_grad, rows, a.out, narrow_out);
      down_back.apply(narrow_out, rows, pairs, grad, wide);
      for (int i = 0; i < rows * wide; i += W) {
        vf value;
        const vf factor = gelu_slope<P>(load(hidden + i), value);
        store(hidden + i, value);
        store(grad + i, load(grad + i) * factor);
      }
      list_identity(0, rows, pairs);
      pack_chunk(y_grad, a.out, pairs.from, rows, packed_out);
      pack_chunk(hidden, wide, pairs.from, rows, packed_hidden);
      gradient_chunk<P>(packed_hidden, packed_out, wide / 16, a.out, rows, first == begin, down_sum,
                        wide);
      add_columns(y_grad, rows, a.out, down_bias);
      pack_chunk(x, a.in, pairs.from, rows, packed_x);
      pack_chunk(grad, wide, pairs.from, rows, packed_hidden);
      gradient_chunk<P>(packed_x, packed_hidden, int(in / 16), a.hidden, rows, first == begin, up_sum,
                        in);
      add_columns(grad, rows, wide, up_bias);
      if (g.x_grad) {
        for (int row = 0; row < rows; ++row)
          narrow_row(grad + std::size_t(row) * wide, a.hidden, channels,
                     narrow_hidden + std::size_t(row) * channels);
        float* x_grad = g.x_grad + std::size_t(first) * a.in;
        const bool whole = a.in % 16 == 0;
        up_back.apply(narrow_hidden, rows, pairs, whole ? x_grad : sum, in);
        if (!whole) copy_columns(sum, in, rows, a.in, x_grad);
      }
    }
  }
  const std::size_t next = sums.floats();
  add_blocks(all, blocks, next, a.hidden, a.in, in, g.up_weight_grad);
  all += sums.up;
  add_blocks(all, blocks, next, a.out, a.hidden, wide, g.down_weight_grad);
  all += sums.down;
  add_blocks(all, blocks, next, 1, a.hidden, wide, g.up_bias_grad);
  add_blocks(all + sums.up_bias, blocks, next, 1, a.out, wide, g.down_bias_grad);
}

}  // namespace
