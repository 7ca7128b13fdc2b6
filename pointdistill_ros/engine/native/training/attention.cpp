// SPDX-License-Identifier: Apache-2.0
// Patch attention in training: checks of what Python sends, scratch memory, choice of the tier.
#include <cstdlib>

#include "api.h"
#include "attention_work.h"
#include "geometry.h"
#include "tier_names.h"

PD_DECLARE_TIERS(std::size_t, pd_attention_scratch, int32_t precision, int32_t channels,
                 int32_t heads, int32_t longest);
PD_DECLARE_TIERS(void, pd_attention_forward, int32_t precision, const pd::TrainingAttention&,
                 int threads, char* scratch, std::size_t per_thread);
PD_DECLARE_TIERS(void, pd_attention_backward, int32_t precision, const pd::TrainingAttention&,
                 int threads, char* scratch, std::size_t per_thread);

namespace {

constexpr int32_t MOST_ROWS = 1 << 27, MOST_CHANNELS = 1 << 14, MOST_THREADS = 256;

bool valid(const pd::TrainingAttention& a, int32_t threads) {
  if (a.rows < 0 || a.rows > MOST_ROWS || a.channels < 16 || a.channels > MOST_CHANNELS ||
      a.heads < 1 || a.channels % a.heads || a.channels / a.heads % 16 || a.patch < 1 ||
      a.scans < 1 || threads < 1 || threads > MOST_THREADS || !a.offsets || !a.order || !a.qkv ||
      !a.out || !a.log_sum)
    return false;
  if (a.offsets[0] != 0 || a.offsets[a.scans] != a.rows) return false;
  for (int32_t scan = 0; scan < a.scans; ++scan)
    if (a.offsets[scan + 1] < a.offsets[scan]) return false;
  int64_t outside = 0;
  for (int32_t i = 0; i < a.rows; ++i) outside |= (a.order[i] < 0) | (a.order[i] >= a.rows);
  return !outside;
}

// Kept from call to call by every thread that calls.
class Scratch {
 public:
  ~Scratch() { std::free(data_); }
  char* of(std::size_t bytes) {
    if (bytes > size_) {
      std::free(data_);
      data_ = static_cast<char*>(std::aligned_alloc(64, bytes));
      size_ = data_ ? bytes : 0;
    }
    return data_;
  }

 private:
  char* data_ = nullptr;
  std::size_t size_ = 0;
};
thread_local Scratch scratch_memory;

pd::Status run(int32_t tier, int32_t precision, int32_t threads, const pd::TrainingAttention& a,
               pd::AttentionScratch* scratch_bytes, pd::AttentionKernel* kernel) {
  if (!pd::find_kernels(static_cast<pd::Tier>(tier), static_cast<pd::Precision>(precision)))
    return pd::BAD_ARGUMENT;
  if (!valid(a, threads)) return pd::BAD_ARGUMENT;
  int32_t longest = 0;
  for (int32_t scan = 0; scan < a.scans; ++scan) {
    const int32_t rows = a.offsets[scan + 1] - a.offsets[scan];
    if (rows > longest) longest = rows;
  }
  if (longest > a.patch) longest = a.patch;
  if (longest == 0) return pd::OK;
  const std::size_t bytes = scratch_bytes(precision, a.channels, a.heads, longest);
  const std::size_t per_thread = (bytes + 63) / 64 * 64;
  char* scratch = scratch_memory.of(per_thread * threads);
  if (!scratch) return pd::OUT_OF_MEMORY;
  kernel(precision, a, threads, scratch, per_thread);
  return pd::OK;
}

}  // namespace

// See TrainingAttention. order must be a permutation of the rows; a row that it leaves out keeps
// what the results held. BAD_ARGUMENT too where this CPU lacks the tier in this precision.
PD_API int32_t pd_training_attention_forward(int32_t tier, int32_t precision, int32_t threads,
                                             int32_t rows, int32_t channels, int32_t heads,
                                             int32_t patch, int32_t scans, const int32_t* offsets,
                                             const int64_t* order, const float* qkv, float* out,
                                             float* log_sum) {
  if (tier < pd::PORTABLE || tier > pd::AVX512_BF16) return pd::BAD_ARGUMENT;
  const pd::TrainingAttention a = {rows,    channels, heads, patch, scans,   offsets,
                                   order,   qkv,      out,   log_sum, nullptr, nullptr};
  return run(tier, precision, threads, a, PD_PICK(pd_attention_scratch, tier),
             PD_PICK(pd_attention_forward, tier));
}

// out and log_sum as forward left them.
PD_API int32_t pd_training_attention_backward(int32_t tier, int32_t precision, int32_t threads,
                                              int32_t rows, int32_t channels, int32_t heads,
                                              int32_t patch, int32_t scans, const int32_t* offsets,
                                              const int64_t* order, const float* qkv, float* out,
                                              float* log_sum, const float* grad_out,
                                              float* grad_qkv) {
  if (tier < pd::PORTABLE || tier > pd::AVX512_BF16 || !grad_out || !grad_qkv)
    return pd::BAD_ARGUMENT;
  const pd::TrainingAttention a = {rows,  channels, heads, patch,   scans,    offsets,
                                   order, qkv,      out,   log_sum, grad_out, grad_qkv};
  return run(tier, precision, threads, a, PD_PICK(pd_attention_scratch, tier),
             PD_PICK(pd_attention_backward, tier));
}
