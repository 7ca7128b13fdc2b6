// SPDX-License-Identifier: Apache-2.0
// The products of training, once per tier. bfloat16 is asked for only where the tier has it.
#include "convolution.h"
#include "products.h"
#include "weight_gradient.h"

extern "C" {

pd::ProductScratch PD_TIERED(pd_convolution_scratch)(const pd::Convolution& a, bool bfloat16) {
#if PD_TIER == 3
  if (bfloat16) return convolution_scratch<Bfloat16>(a);
#endif
  (void)bfloat16;
  return convolution_scratch<Float32>(a);
}

void PD_TIERED(pd_convolution)(const pd::Convolution& a, bool bfloat16,
                               const pd::ProductWorkers& workers) {
#if PD_TIER == 3
  if (bfloat16) return convolution<Bfloat16>(a, workers);
#endif
  (void)bfloat16;
  convolution<Float32>(a, workers);
}

pd::ProductScratch PD_TIERED(pd_weight_gradient_scratch)(const pd::WeightGradient& a,
                                                         bool bfloat16) {
#if PD_TIER == 3
  if (bfloat16) return weight_gradient_scratch<Bfloat16>(a);
#endif
  (void)bfloat16;
  return weight_gradient_scratch<Float32>(a);
}

void PD_TIERED(pd_weight_gradient)(const pd::WeightGradient& a, bool bfloat16,
                                   const pd::ProductWorkers& workers) {
#if PD_TIER == 3
  if (bfloat16) return weight_gradient<Bfloat16>(a, workers);
#endif
  (void)bfloat16;
  weight_gradient<Float32>(a, workers);
}

}  // extern "C"
