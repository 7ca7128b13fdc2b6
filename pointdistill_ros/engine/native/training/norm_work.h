// SPDX-License-Identifier: Apache-2.0
// Norms of a residual branch in training: what the kernels of a tier are given.
#pragma once
#include <cstdint>

namespace pd {

// A LayerNorm (eps 1e-5): null scale means that there is none.
struct TrainingNorm {
  const float *scale, *shift;  // [channels]
  float* moments;              // [2][rows] mean and inverse deviation; forward writes them
  float *grad_scale, *grad_shift;  // [channels], overwritten
};

// sum = x + mask * inner(branch); out = outer(sum). All [rows][channels], channels a multiple of 16.
struct TrainingResidual {
  int64_t rows;
  int32_t channels;
  const float *x, *branch;
  const float* mask;        // [rows], or null for 1
  TrainingNorm inner, outer;  // inner may be none
  float *sum, *out;
  // backward: the gradients of sum and out; of x, and of branch where that is another
  const float *grad_sum, *grad_out;
  float *grad_x, *grad_branch;
  float* partial;           // [blocks][4][channels] working memory
};

// gelu(norm(x)) over a batch: norm as nn.BatchNorm1d in training.
struct TrainingBatchNorm {
  int64_t rows;
  int32_t channels;          // a multiple of 16
  const float *x, *scale, *shift;
  float epsilon;
  float* out;                // [rows][channels]
  float *mean, *variance;    // [channels]; biased; forward writes them
  const float* grad;         // [rows][channels] of out
  float *grad_x, *grad_scale, *grad_shift;
  double* partial;           // [blocks][2][channels] working memory
};

// Rows whose sums are added up together: fixed, so that no sum depends on the threads.
constexpr int64_t NORM_BLOCK = 512;
constexpr int64_t norm_blocks(int64_t rows) { return (rows + NORM_BLOCK - 1) / NORM_BLOCK; }

}  // namespace pd
