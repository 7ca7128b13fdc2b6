// SPDX-License-Identifier: Apache-2.0
// Norms in training: checks of what Python sends, working memory, choice of the tier.
#include <new>
#include <vector>

#include "api.h"
#include "geometry.h"
#include "norm_work.h"
#include "tier_names.h"

PD_DECLARE_TIERS(void, pd_residual, const pd::TrainingResidual&, int threads);
PD_DECLARE_TIERS(void, pd_residual_backward, const pd::TrainingResidual&, int threads);
PD_DECLARE_TIERS(void, pd_batch_norm, const pd::TrainingBatchNorm&, int threads);
PD_DECLARE_TIERS(void, pd_batch_norm_backward, const pd::TrainingBatchNorm&, int threads);

namespace {

constexpr int64_t MOST_ROWS = int64_t{1} << 31;
constexpr int32_t MOST_CHANNELS = 1 << 14, MOST_THREADS = 256;

bool valid(int32_t tier, int32_t threads) {
  return tier >= pd::PORTABLE && tier <= pd::best_tier() && threads >= 1 && threads <= MOST_THREADS;
}
bool valid_shape(int64_t rows, int32_t channels) {
  return rows >= 0 && rows <= MOST_ROWS && channels >= 16 && channels <= MOST_CHANNELS &&
         channels % 16 == 0;
}
bool complete(const pd::TrainingNorm& norm, bool backward) {
  return norm.moments && (backward ? norm.grad_scale && norm.grad_shift : norm.shift != nullptr);
}
bool valid(const pd::TrainingResidual& a, bool backward) {
  if (!valid_shape(a.rows, a.channels) || !a.branch || !a.sum) return false;
  if (!a.outer.scale || !complete(a.outer, backward)) return false;
  if (a.inner.scale && !complete(a.inner, backward)) return false;
  if (!backward) return a.x && a.out;
  return a.grad_sum && a.grad_out && a.grad_x &&
         (a.grad_branch || (!a.inner.scale && !a.mask));
}

}  // namespace

// See TrainingResidual; `partial` is provided here.
PD_API int32_t pd_training_residual(int32_t tier, int32_t threads, const pd::TrainingResidual* a) {
  if (!valid(tier, threads) || !a || !valid(*a, false)) return pd::BAD_ARGUMENT;
  PD_PICK(pd_residual, tier)(*a, threads);
  return pd::OK;
}

PD_API int32_t pd_training_residual_backward(int32_t tier, int32_t threads,
                                             const pd::TrainingResidual* a) {
  if (!valid(tier, threads) || !a || !valid(*a, true)) return pd::BAD_ARGUMENT;
  try {
    pd::TrainingResidual work = *a;
    std::vector<float> partial(static_cast<std::size_t>(pd::norm_blocks(a->rows)) * 4 *
                               static_cast<std::size_t>(a->channels));
    work.partial = partial.data();
    PD_PICK(pd_residual_backward, tier)(work, threads);
  } catch (const std::bad_alloc&) {
    return pd::OUT_OF_MEMORY;
  }
  return pd::OK;
}

// See TrainingBatchNorm, rows >= 1; `partial` is provided here.
PD_API int32_t pd_training_batch_norm(int32_t tier, int32_t threads, int32_t backward,
                                      const pd::TrainingBatchNorm* a) {
  if (!valid(tier, threads) || !a || !valid_shape(a->rows, a->channels) || a->rows < 1 || !a->x ||
      !a->scale || !a->shift || !a->mean || !a->variance)
    return pd::BAD_ARGUMENT;
  if (backward ? !a->grad || !a->grad_x || !a->grad_scale || !a->grad_shift : !a->out)
    return pd::BAD_ARGUMENT;
  try {
    pd::TrainingBatchNorm work = *a;
    std::vector<double> partial(static_cast<std::size_t>(pd::norm_blocks(a->rows)) * 2 *
                                static_cast<std::size_t>(a->channels));
    work.partial = partial.data();
    if (backward) PD_PICK(pd_batch_norm_backward, tier)(work, threads);
    else PD_PICK(pd_batch_norm, tier)(work, threads);
  } catch (const std::bad_alloc&) {
    return pd::OUT_OF_MEMORY;
  }
  return pd::OK;
}
