// SPDX-License-Identifier: Apache-2.0
// Products of training: sparse convolution, linear layers (a convolution with one offset) and their
// gradients. Arrays are float32, row-major, of any channel count and alignment; only the products
// inside may be bfloat16. Sums are taken in an order that depends on the shapes alone.
#pragma once
#include <cstddef>
#include <cstdint>

#include "tier_names.h"

namespace pd {

// y[r][o] = bias[o] + sum over k, i of x[table[k][r]][i] * w(o, k, i)
struct Convolution {
  int32_t rows, in, out;
  int32_t offsets;        // odd; the middle one pairs every row with itself
  const int32_t* table;   // [offsets][rows], -1 = none; null where offsets = 1
  const float* x;         // [rows][in]
  const float* weight;    // w(o, k, i) = weight[o * out_stride + k * offset_stride + i * in_stride]
  int64_t out_stride, offset_stride, in_stride;
  const float* bias;      // [out] or null
  float* y;               // [rows][out]
};

// weight_grad[o][k][i] = sum over r of grad[r][o] * x[table[k][r]][i]; bias_grad[o] = sum of grad[r][o]
struct WeightGradient {
  int32_t rows, in, out, offsets;
  const int32_t* table;   // as above
  const float* x;         // [rows][in]
  const float* grad;      // [rows][out]
  float* weight_grad;     // [out][offsets][in]
  float* bias_grad;       // [out] or null
};

// Working memory: `shared` once, then `per_thread` for each thread; 64-byte aligned, multiples of 64.
struct ProductScratch {
  std::size_t shared, per_thread;
};

struct ProductWorkers {
  int threads;
  char* scratch;
  ProductScratch size;
};

}  // namespace pd

extern "C" {
PD_DECLARE_TIERS(pd::ProductScratch, pd_convolution_scratch, const pd::Convolution&, bool);
PD_DECLARE_TIERS(void, pd_convolution, const pd::Convolution&, bool, const pd::ProductWorkers&);
PD_DECLARE_TIERS(pd::ProductScratch, pd_weight_gradient_scratch, const pd::WeightGradient&, bool);
PD_DECLARE_TIERS(void, pd_weight_gradient, const pd::WeightGradient&, bool,
                 const pd::ProductWorkers&);
}
