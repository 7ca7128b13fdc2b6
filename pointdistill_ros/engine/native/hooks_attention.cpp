// SPDX-License-Identifier: Apache-2.0
// The attention kernel on its own, for tests and timing. Nothing runs unless every count is valid.
#include <cstdlib>
#include <ctime>

#include "api.h"
#include "geometry.h"
#include "kernels.h"

namespace {

constexpr int32_t MOST_ROWS = 1 << 24, MOST_CHANNELS = 4096, MOST_THREADS = 256;

bool valid(const pd::Attention& a, int32_t threads) {
  if (a.rows < 0 || a.rows > MOST_ROWS || a.channels < 16 || a.channels > MOST_CHANNELS ||
      a.heads < 1 || a.channels % a.heads || a.channels / a.heads % 16 || a.patch < 1 ||
      a.scans < 1 || threads < 1 || threads > MOST_THREADS || !a.offsets || !a.qkv)
    return false;
  if (a.offsets[0] != 0 || a.offsets[a.scans] != a.rows) return false;
  for (int32_t scan = 0; scan < a.scans; ++scan)
    if (a.offsets[scan + 1] < a.offsets[scan]) return false;
  for (int32_t i = 0; a.order && i < a.rows; ++i)
    if (a.order[i] < 0 || a.order[i] >= a.rows) return false;
  return true;
}

double cpu_seconds() {
  timespec now;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

}  // namespace

// See Attention. qkv: float32, or the bits of bfloat16. seconds: CPU time of the kernel alone.
// Returns a Status; BAD_ARGUMENT too where this CPU lacks the tier in this precision.
PD_API int32_t pd_test_attention(int32_t tier, int32_t precision, int32_t threads, int32_t rows,
                                 int32_t channels, int32_t heads, int32_t patch, int32_t scans,
                                 const int32_t* offsets, const int32_t* order, void* qkv,
                                 double* seconds) {
  if (tier < pd::PORTABLE || tier > pd::AVX512_BF16) return pd::BAD_ARGUMENT;
  const pd::Kernels* kernels =
      pd::find_kernels(static_cast<pd::Tier>(tier), static_cast<pd::Precision>(precision));
  const pd::Attention work = {rows, channels, heads, patch, scans, offsets, order, qkv};
  if (!kernels || !seconds || !valid(work, threads)) return pd::BAD_ARGUMENT;
  const int32_t longest = patch < rows ? patch : rows > 0 ? rows : 1;
  const std::size_t per_thread = (kernels->scratch(channels, channels, longest) + 63) / 64 * 64;
  char* scratch = static_cast<char*>(std::aligned_alloc(64, per_thread * threads));
  if (!scratch) return pd::OUT_OF_MEMORY;
  const double start = cpu_seconds();
  kernels->attention(work, {threads, scratch, per_thread});
  *seconds = cpu_seconds() - start;
  std::free(scratch);
  return pd::OK;
}
