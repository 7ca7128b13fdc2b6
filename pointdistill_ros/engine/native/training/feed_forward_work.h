// SPDX-License-Identifier: Apache-2.0
// The MLP of a block as one function of training.
#pragma once
#include "products.h"

namespace pd {

// y = down(gelu(up(x)))
struct FeedForward {
  int32_t rows, in, hidden, out;
  const float* x;            // [rows][in]
  const float* up_weight;    // [hidden][in]
  const float* up_bias;      // [hidden]
  const float* down_weight;  // [out][hidden]
  const float* down_bias;    // [out]
  float* y;                  // [rows][out]; not read by the gradient
};

struct FeedForwardGradient {
  const float* y_grad;       // [rows][out]
  float* x_grad;             // [rows][in] or null
  float *up_weight_grad, *up_bias_grad, *down_weight_grad, *down_bias_grad;  // as the parameters
};

}  // namespace pd

extern "C" {
PD_DECLARE_TIERS(pd::ProductScratch, pd_feed_forward_scratch, const pd::FeedForward&, bool, bool);
PD_DECLARE_TIERS(void, pd_feed_forward, const pd::FeedForward&, bool, const pd::ProductWorkers&);
PD_DECLARE_TIERS(void, pd_feed_forward_gradient, const pd::FeedForward&,
                 const pd::FeedForwardGradient&, bool, const pd::ProductWorkers&);
}
