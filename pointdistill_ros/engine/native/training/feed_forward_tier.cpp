// SPDX-License-Identifier: Apache-2.0
// The MLP of training, once per tier. bfloat16 is asked for only where the tier has it.
#include "feed_forward.h"

extern "C" {

pd::ProductScratch PD_TIERED(pd_feed_forward_scratch)(const pd::FeedForward& a, bool bfloat16,
                                                      bool gradient) {
#if PD_TIER == 3
  if (bfloat16)
    return gradient ? feed_forward_gradient_scratch<Bfloat16>(a) : feed_forward_scratch<Bfloat16>(a);
#endif
  (void)bfloat16;
  return gradient ? feed_forward_gradient_scratch<Float32>(a) : feed_forward_scratch<Float32>(a);
}

void PD_TIERED(pd_feed_forward)(const pd::FeedForward& a, bool bfloat16,
                                const pd::ProductWorkers& workers) {
#if PD_TIER == 3
  if (bfloat16) return feed_forward<Bfloat16>(a, workers);
#endif
  (void)bfloat16;
  feed_forward<Float32>(a, workers);
}

void PD_TIERED(pd_feed_forward_gradient)(const pd::FeedForward& a,
                                         const pd::FeedForwardGradient& gradient, bool bfloat16,
                                         const pd::ProductWorkers& workers) {
#if PD_TIER == 3
  if (bfloat16) return feed_forward_gradient<Bfloat16>(a, gradient, workers);
#endif
  (void)bfloat16;
  feed_forward_gradient<Float32>(a, gradient, workers);
}

}  // extern "C"
