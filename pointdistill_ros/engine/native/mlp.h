// SPDX-License-Identifier: Apache-2.0
// Attention's projection and the MLP of a block, tile by tile: what passes between the three
// products stays in cache.
#pragma once
#include <omp.h>

#include "activation.h"
#include "gemm.h"
#include "kernels.h"
#include "norm.h"

namespace {

constexpr int TILE = 48;    // rows
constexpr int STRIP = 64;   // hidden columns that get their GELU at a time

template <class P>
std::size_t mlp_scratch(int channels, int hidden) {
  return (sizeof(typename P::T) * (channels + hidden) + sizeof(float) * STRIP) * TILE;
}

// to[row][columns] = gelu(from[row][columns])
template <class P>
void gelu_rows(int rows, int columns, const float* from, int stride, typename P::T* to,
               int to_stride) {
  for (int row = 0; row < rows; ++row)
    for (int c = 0; c < columns; c += W)
      store_as(to + static_cast<std::size_t>(row) * to_stride + c,
               gelu_of<P>(load(from + row * stride + c)));
}

// Ask for `count` values before they are needed.
template <class T>
PD_INLINE void prefetch(const T* p, int count) {
  for (int i = 0; i < count; i += 64 / sizeof(T)) __builtin_prefetch(p + i, 0, 2);
}

template <class P>
void mlp_tile(const pd::ProjMlp& a, int begin, int rows, char* scratch) {
  typedef typename P::T T;
  const int channels = a.channels, hidden = a.hidden;
  const std::size_t first = static_cast<std::size_t>(begin) * channels;
  T* unit = reinterpret_cast<T*>(scratch);                              // [TILE][channels]
  T* wide = unit + TILE * channels;                                     // [TILE][hidden]
  float* strip = reinterpret_cast<float*>(wide + static_cast<std::size_t>(TILE) * hidden);
  float* x = a.x + first;

  const T* attended = nullptr;
  if (a.attended) {
    attended = static_cast<const T*>(a.attended) + static_cast<std::size_t>(begin) * a.stride;
    gemm_add<P>(rows, channels, channels, attended, a.stride, static_cast<const T*>(a.proj_weight),
                a.proj_bias, x, channels);
  }
  const bool ahead = a.rows - begin >= 2 * TILE;  // fetch the next tile while this one computes
  for (int row = 0; row < rows; ++row) {
    if (ahead) {
      if (attended)
        prefetch(attended + static_cast<std::size_t>(row + TILE) * a.stride, channels);
      prefetch(x + static_cast<std::size_t>(row + TILE) * channels, channels);
    }
    unit_norm(x + row * channels, channels, unit + row * channels);
  }

  const T* fc1 = static_cast<const T*>(a.fc1_weight);
  for (int h = 0; h < hidden; h += STRIP) {
    const int columns = hidden - h < STRIP ? hidden - h : STRIP;
    gemm<P>(rows, channels, columns, unit, channels, fc1 + static_cast<std::size_t>(h) * channels,
            a.fc1_bias + h, strip, columns);
    gelu_rows<P>(rows, columns, strip, columns, wide + h, hidden);
  }

  T* copy = a.copy ? static_cast<T*>(a.copy) + first : nullptr;
  T* branch = a.branch ? static_cast<T*>(a.branch) + first : nullptr;
  gemm_into<P>(rows, hidden, channels, wide, hidden, static_cast<const T*>(a.fc2_weight), a.fc2_bias,
               [=](int row, int column, vf value) {
                 const int at = row * channels + column;
                 const vf sum = load(x + at) + value;
                 store(x + at, sum);
                 if (copy) store_as(copy + at, sum);
                 if (branch) store_as(branch + at, value);
               });
}

template <class P>
void proj_mlp(const pd::ProjMlp& a, const pd::Workers& workers) {
  const int tiles = (a.rows + TILE - 1) / TILE;
  const int run = tiles >= 64 * workers.threads ? 4 : 1;  // so that what was fetched ahead is used
#pragma omp parallel for num_threads(workers.threads) schedule(dynamic, run) if (tiles > 1)
  for (int tile = 0; tile < tiles; ++tile) {
    const int begin = tile * TILE, left = a.rows - begin;
    mlp_tile<P>(a, begin, left < TILE ? left : TILE,
                workers.scratch + omp_get_thread_num() * workers.per_thread);
  }
}

}  // namespace
