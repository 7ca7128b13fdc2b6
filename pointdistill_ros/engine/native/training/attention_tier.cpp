// SPDX-License-Identifier: Apache-2.0
// Patch attention in training, for one tier.
#include "attention_backward.h"
#include "tier_names.h"

std::size_t PD_TIERED(pd_attention_scratch)(int32_t precision, int32_t channels, int32_t heads,
                                            int32_t longest) {
  const int d = channels / heads;
  std::size_t most = attend::ForwardMemory<Float32>::in(nullptr, channels, d, longest).bytes;
  std::size_t other = attend::BackwardMemory<Float32>::in(nullptr, channels, d, longest).bytes;
  if (other > most) most = other;
#if PD_TIER == 3
  if (precision == pd::BFLOAT16) {
    most = attend::ForwardMemory<Bfloat16>::in(nullptr, channels, d, longest).bytes;
    other = attend::BackwardMemory<Bfloat16>::in(nullptr, channels, d, longest).bytes;
    if (other > most) most = other;
  }
#endif
  (void)precision;
  return most;
}

void PD_TIERED(pd_attention_forward)(int32_t precision, const pd::TrainingAttention& a, int threads,
                                     char* scratch, std::size_t per_thread) {
#if PD_TIER == 3
  if (precision == pd::BFLOAT16) return attend::forward<Bfloat16>(a, threads, scratch, per_thread);
#endif
  (void)precision;
  attend::forward<Float32>(a, threads, scratch, per_thread);
}

void PD_TIERED(pd_attention_backward)(int32_t precision, const pd::TrainingAttention& a,
                                      int threads, char* scratch, std::size_t per_thread) {
#if PD_TIER == 3
  if (precision == pd::BFLOAT16) return attend::backward<Bfloat16>(a, threads, scratch, per_thread);
#endif
  (void)precision;
  attend::backward<Float32>(a, threads, scratch, per_thread);
}
