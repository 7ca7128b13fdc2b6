// SPDX-License-Identifier: Apache-2.0
// Patch attention in training: what the kernels of a tier are given.
#pragma once
#include <cstddef>
#include <cstdint>

namespace pd {

// See model/attention.py for the patches. All memory is float32; products are in the precision that
// the kernel is chosen for, sums and softmax in float32.
struct TrainingAttention {
  int32_t rows, channels, heads, patch;  // d = channels / heads: a multiple of 16
  int32_t scans;
  const int32_t* offsets;   // [scans + 1]
  const int64_t* order;     // [rows] row at each position
  const float* qkv;         // [rows][3 channels]: q, k, v, head by head
  float* out;               // [rows][channels]
  float* log_sum;           // [heads][rows] by position: log2 of the sum of 2^score
  // backward alone; forward leaves them null
  const float* grad_out;    // [rows][channels]
  float* grad_qkv;          // [rows][3 channels], overwritten
};

// Scratch memory of one thread; longest: rows of the longest scan or patch, whichever is less.
typedef std::size_t AttentionScratch(int32_t precision, int32_t channels, int32_t heads,
                                     int32_t longest);
// Thread i owns scratch + i * per_thread. The result is the same for any number of threads.
typedef void AttentionKernel(int32_t precision, const TrainingAttention&, int threads,
                             char* scratch, std::size_t per_thread);

}  // namespace pd
