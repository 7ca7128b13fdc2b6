// SPDX-License-Identifier: Apache-2.0
// Norms in training, for one tier.
#include "norm_batch.h"
#include "norm_residual.h"
#include "tier_names.h"

void PD_TIERED(pd_residual)(const pd::TrainingResidual& a, int threads) {
  residual::forward(a, threads);
}
void PD_TIERED(pd_residual_backward)(const pd::TrainingResidual& a, int threads) {
  residual::backward(a, threads);
}
void PD_TIERED(pd_batch_norm)(const pd::TrainingBatchNorm& a, int threads) {
  batch::forward(a, threads);
}
void PD_TIERED(pd_batch_norm_backward)(const pd::TrainingBatchNorm& a, int threads) {
  batch::backward(a, threads);
}
