// SPDX-License-Identifier: Apache-2.0
// Between stages: linear and maximum over children going up, linear and gather coming down.
#pragma once
#include <omp.h>

#include "activation.h"
#include "gemm.h"
#include "kernels.h"

namespace {

constexpr int POOL_TILE = 48;   // rows of one product
constexpr int POOL_TASK = 192;  // rows of a task, about: a task ends where a parent ends

inline std::size_t pooling_scratch(int channels) {
  return sizeof(float) * POOL_TILE * channels;
}

// The maximum over rows [from, to) of `linear` joins that of earlier tiles, which x holds; the affine
// and GELU follow once all children are seen.
template <class P>
void pool_parent(const pd::Pool& a, int parent, const float* linear, int rows, bool first,
                 bool last) {
  const std::size_t at = static_cast<std::size_t>(parent) * a.channels;
  for (int c = 0; c < a.channels; c += W) {
    vf most = first ? splat(-__builtin_inff()) : load(a.x + at + c);
    for (int row = 0; row < rows; ++row) most = maximum(load(linear + row * a.channels + c), most);
    if (last) most = gelu_of<P>(fma(most, load(a.scale + c), load(a.shift + c)));
    store(a.x + at + c, most);
    if (last && a.copy) store_as(static_cast<typename P::T*>(a.copy) + at + c, most);
  }
}

// Parents [begin, end): their children are consecutive rows, however many each has.
template <class P>
void pool_parents(const pd::Pool& a, int begin, int end, float* linear) {
  const int32_t* child = a.child_begin;
  int parent = begin;
  for (int row = child[begin]; row < child[end]; row += POOL_TILE) {
    const int left = child[end] - row;
    const int stop = row + (left < POOL_TILE ? left : POOL_TILE);
    gemm<P>(stop - row, a.in, a.channels,
            static_cast<const typename P::T*>(a.input) + static_cast<std::size_t>(row) * a.in, a.in,
            static_cast<const typename P::T*>(a.weight), a.bias, linear, a.channels);
    while (parent < end && child[parent] < stop) {
      const bool first = child[parent] >= row, last = child[parent + 1] <= stop;
      const int from = first ? child[parent] : row, to = last ? child[parent + 1] : stop;
      pool_parent<P>(a, parent, linear + (from - row) * a.channels, to - from, first, last);
      if (!last) break;
      ++parent;
    }
  }
  for (; parent < end; ++parent) pool_parent<P>(a, parent, linear, 0, true, true);  // no children
}

template <class P>
void pool(const pd::Pool& a, const pd::Workers& workers) {
  if (a.parents <= 0) return;
  int64_t per_task = a.rows > 0 ? int64_t{POOL_TASK} * a.parents / a.rows : a.parents;
  if (per_task < 1) per_task = 1;
  const int tasks = static_cast<int>((a.parents + per_task - 1) / per_task);
#pragma omp parallel for num_threads(workers.threads) schedule(dynamic) if (tasks > 1)
  for (int task = 0; task < tasks; ++task) {
    const int64_t begin = task * per_task, end = begin + per_task;
    char* scratch = workers.scratch + omp_get_thread_num() * workers.per_thread;
    pool_parents<P>(a, static_cast<int>(begin), static_cast<int>(end < a.parents ? end : a.parents),
                    reinterpret_cast<float*>(scratch));
  }
}

// to = gelu(from W + bias), float
template <class P>
void unpool_coarse(const pd::Unpool& a, int begin, int rows) {
  const std::size_t at = static_cast<std::size_t>(begin) * a.channels;
  float* up = a.up + at;
  gemm<P>(rows, a.in, a.channels,
          static_cast<const typename P::T*>(a.coarse) + static_cast<std::size_t>(begin) * a.in, a.in,
          static_cast<const typename P::T*>(a.weight), a.bias, up, a.channels);
  for (int i = 0; i < rows * a.channels; i += W) store(up + i, gelu_of<P>(load(up + i)));
}

template <class P>
void unpool_fine(const pd::Unpool& a, int begin, int rows, float* linear) {
  typedef typename P::T T;
  const T* skip = static_cast<const T*>(a.skip) + static_cast<std::size_t>(begin) * a.skip_channels;
  gemm<P>(rows, a.skip_channels, a.channels, skip, a.skip_channels,
          static_cast<const T*>(a.skip_weight), a.skip_bias, linear, a.channels);
  for (int row = 0; row < rows; ++row) {
    const float* up = a.up + static_cast<std::size_t>(a.parent[begin + row]) * a.channels;
    const std::size_t at = static_cast<std::size_t>(begin + row) * a.channels;
    for (int c = 0; c < a.channels; c += W) {
      const vf branch = gelu_of<P>(load(linear + row * a.channels + c));
      const vf x = branch + load(up + c);
      store(a.x + at + c, x);
      if (a.copy) store_as(static_cast<T*>(a.copy) + at + c, x);
      if (a.branch) store_as(static_cast<T*>(a.branch) + at + c, branch);
    }
  }
}

template <class P>
void unpool(const pd::Unpool& a, const pd::Workers& workers) {
  const int coarse_tiles = (a.coarse_rows + POOL_TILE - 1) / POOL_TILE;
  const int tiles = (a.rows + POOL_TILE - 1) / POOL_TILE;
#pragma omp parallel num_threads(workers.threads) if (tiles > 1)
  {
    char* scratch = workers.scratch + omp_get_thread_num() * workers.per_thread;
#pragma omp for schedule(dynamic)
    for (int tile = 0; tile < coarse_tiles; ++tile) {
      const int begin = tile * POOL_TILE, left = a.coarse_rows - begin;
      unpool_coarse<P>(a, begin, left < POOL_TILE ? left : POOL_TILE);
    }
#pragma omp for schedule(dynamic)
    for (int tile = 0; tile < tiles; ++tile) {
      const int begin = tile * POOL_TILE, left = a.rows - begin;
      unpool_fine<P>(a, begin, left < POOL_TILE ? left : POOL_TILE,
                     reinterpret_cast<float*>(scratch));
    }
  }
}

}  // namespace
