// SPDX-License-Identifier: Apache-2.0
// BatchNorm over the rows of a batch, then GELU, forward and backward.
#pragma once
#include <math.h>

#include "gelu.h"
#include "norm_work.h"

namespace {
namespace batch {

// Sums over the rows of a block: of one vector of channels in float, which 512 rows allow.
template <class Body>
PD_INLINE void over_rows(int64_t rows, int64_t block, const Body& body) {
  const int64_t begin = block * pd::NORM_BLOCK;
  const int64_t end = begin + pd::NORM_BLOCK < rows ? begin + pd::NORM_BLOCK : rows;
  for (int64_t row = begin; row < end; ++row) body(row);
}

PD_INLINE void widen(vf v, double* to) {
  for (int i = 0; i < W; ++i) to[i] = static_cast<double>(v[i]);
}

// partial [blocks][2][channels] -> sums [2][channels] in its first block
inline void add_blocks(double* partial, int64_t blocks, int channels) {
  for (int64_t block = 1; block < blocks; ++block)
    for (int c = 0; c < 2 * channels; ++c) partial[c] += partial[block * 2 * channels + c];
}

// Sums of x - pivot and its square; the pivot, the first row, keeps the squares small.
inline void moments(const pd::TrainingBatchNorm& a, int threads) {
  const int64_t blocks = pd::norm_blocks(a.rows);
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t block = 0; block < blocks; ++block)
    for (int c = 0; c < a.channels; c += W) {
      const vf pivot = load(a.x + c);
      vf sum = {}, squares = {};
      over_rows(a.rows, block, [&](int64_t row) {
        const vf x = load(a.x + row * a.channels + c) - pivot;
        sum += x;
        squares = fma(x, x, squares);
      });
      widen(sum, a.partial + block * 2 * a.channels + c);
      widen(squares, a.partial + (block * 2 + 1) * a.channels + c);
    }
  add_blocks(a.partial, blocks, a.channels);
  for (int c = 0; c < a.channels; ++c) {
    const double mean = a.partial[c] / static_cast<double>(a.rows);
    const double square = a.partial[a.channels + c] / static_cast<double>(a.rows);
    const double variance = square - mean * mean;
    a.mean[c] = static_cast<float>(mean + a.x[c]);
    a.variance[c] = static_cast<float>(variance < 0 ? 0 : variance);  // NaN stays
  }
}

PD_INLINE vf inverse_deviation(const pd::TrainingBatchNorm& a, int c) {
  vf out = load(a.variance + c) + a.epsilon;
  for (int i = 0; i < W; ++i) out[i] = 1.0f / sqrtf(out[i]);
  return out;
}

inline void forward(const pd::TrainingBatchNorm& a, int threads) {
  moments(a, threads);
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t block = 0; block < pd::norm_blocks(a.rows); ++block)
    for (int c = 0; c < a.channels; c += W) {
      const vf mean = load(a.mean + c), shift = load(a.shift + c);
      const vf scale = inverse_deviation(a, c) * load(a.scale + c);
      over_rows(a.rows, block, [&](int64_t row) {
        const int64_t at = row * a.channels + c;
        store(a.out + at, gelu(fma(load(a.x + at) - mean, scale, shift)));
      });
    }
}

// First the gradient of the norm's result, which waits in grad_x, and its sums; then that of x.
inline void backward(const pd::TrainingBatchNorm& a, int threads) {
  const int64_t blocks = pd::norm_blocks(a.rows);
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t block = 0; block < blocks; ++block)
    for (int c = 0; c < a.channels; c += W) {
      const vf mean = load(a.mean + c), shift = load(a.shift + c), scale = load(a.scale + c);
      const vf inverse = inverse_deviation(a, c);
      vf sum = {}, product = {};
      over_rows(a.rows, block, [&](int64_t row) {
        const int64_t at = row * a.channels + c;
        const vf unit = (load(a.x + at) - mean) * inverse;
        const vf g = load(a.grad + at) * gelu_slope(fma(unit, scale, shift));
        sum += g;
        product = fma(g, unit, product);
        store(a.grad_x + at, g);
      });
      widen(sum, a.partial + block * 2 * a.channels + c);
      widen(product, a.partial + (block * 2 + 1) * a.channels + c);
    }
  add_blocks(a.partial, blocks, a.channels);
  for (int c = 0; c < a.channels; ++c) {
    a.grad_shift[c] = static_cast<float>(a.partial[c]);
    a.grad_scale[c] = static_cast<float>(a.partial[a.channels + c]);
  }
  const float count = static_cast<float>(a.rows);
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t block = 0; block < blocks; ++block)
    for (int c = 0; c < a.channels; c += W) {
      const vf mean = load(a.mean + c), inverse = inverse_deviation(a, c);
      const vf scale = load(a.scale + c) * inverse;
      const vf sum = load(a.grad_shift + c) / count, product = load(a.grad_scale + c) / count;
      over_rows(a.rows, block, [&](int64_t row) {
        const int64_t at = row * a.channels + c;
        const vf unit = (load(a.x + at) - mean) * inverse;
        store(a.grad_x + at, (load(a.grad_x + at) - sum - unit * product) * scale);
      });
    }
}

}  // namespace batch
}  // namespace
