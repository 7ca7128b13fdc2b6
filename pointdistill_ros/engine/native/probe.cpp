// SPDX-License-Identifier: Apache-2.0
// What this machine can do at most: fused multiply-adds in registers, bytes copied through memory.
// The benchmark states its figures as shares of these.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <ctime>

#ifdef PD_X86
#include <immintrin.h>
#endif

#include "api.h"
#include "kernels.h"

namespace {

enum Kind : int32_t { FMA_FLOAT32 = 0, FMA_BFLOAT16 = 1, COPY = 2 };

constexpr int64_t ROUNDS = 4'000'000;
constexpr int ROWS = 12;                       // independent sums, more than latency x ports
constexpr std::size_t BYTES = std::size_t{1} << 28;

// Seconds this thread has run. What it waited for a core that others use is no property of the machine.
double now() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
}

std::size_t part(int i, int threads) { return BYTES / threads * i; }

// Every probe answers the floating point operations it did; `sink` keeps the sums alive.
using Probe = double (*)(float* sink);

double fma_portable(float* sink) {
  constexpr int WIDTH = 4;  // the vectors of any 64-bit ARM and x86
  typedef float Vector __attribute__((vector_size(4 * WIDTH)));
  Vector sum[ROWS] = {}, a = {}, b = {};
  for (int i = 0; i < WIDTH; ++i) a[i] = 0.999f, b[i] = 0.001f;
  for (int64_t round = 0; round < ROUNDS; ++round)
    for (int i = 0; i < ROWS; ++i) sum[i] = sum[i] * a + b;
  for (int i = 0; i < ROWS; ++i) *sink += sum[i][0];
  return 2.0 * WIDTH * ROWS * ROUNDS;
}

#ifdef PD_X86
__attribute__((target("avx2,fma"))) double fma_avx2(float* sink) {
  __m256 sum[ROWS], a = _mm256_set1_ps(0.999f), b = _mm256_set1_ps(0.001f);
  for (int i = 0; i < ROWS; ++i) sum[i] = _mm256_setzero_ps();
  for (int64_t round = 0; round < ROUNDS; ++round)
    for (int i = 0; i < ROWS; ++i) sum[i] = _mm256_fmadd_ps(sum[i], a, b);
  for (int i = 0; i < ROWS; ++i) *sink += _mm256_cvtss_f32(sum[i]);
  return 2.0 * 8 * ROWS * ROUNDS;
}

__attribute__((target("avx512f"))) double fma_avx512(float* sink) {
  __m512 sum[ROWS], a = _mm512_set1_ps(0.999f), b = _mm512_set1_ps(0.001f);
  for (int i = 0; i < ROWS; ++i) sum[i] = _mm512_setzero_ps();
  for (int64_t round = 0; round < ROUNDS; ++round)
    for (int i = 0; i < ROWS; ++i) sum[i] = _mm512_fmadd_ps(sum[i], a, b);
  for (int i = 0; i < ROWS; ++i) *sink += _mm512_cvtss_f32(sum[i]);
  return 2.0 * 16 * ROWS * ROUNDS;
}

__attribute__((target("avx512f,avx512bf16"))) double dot_bfloat16(float* sink) {
  __m512 sum[ROWS];
  __m512bh a = _mm512_cvtne2ps_pbh(_mm512_set1_ps(0.5f), _mm512_set1_ps(0.5f));
  for (int i = 0; i < ROWS; ++i) sum[i] = _mm512_setzero_ps();
  for (int64_t round = 0; round < ROUNDS; ++round)
    for (int i = 0; i < ROWS; ++i) sum[i] = _mm512_dpbf16_ps(sum[i], a, a);
  for (int i = 0; i < ROWS; ++i) *sink += _mm512_cvtss_f32(sum[i]);
  return 2.0 * 32 * ROWS * ROUNDS;
}
#endif

Probe find_probe(int32_t kind) {
#ifdef PD_X86
  pd::Tier tier = pd::best_tier();
  if (kind == FMA_BFLOAT16) return tier >= pd::AVX512_BF16 ? dot_bfloat16 : nullptr;
  if (tier >= pd::AVX512) return fma_avx512;
  if (tier >= pd::AVX2) return fma_avx2;
#endif
  return kind == FMA_FLOAT32 ? fma_portable : nullptr;
}

// Sum over threads, which run at the same time, of what each does per second.
double compute(Probe probe, int threads) {
  double rate = 0;
  volatile float sink = 0;
#pragma omp parallel for num_threads(threads) schedule(static, 1) reduction(+ : rate)
  for (int i = 0; i < threads; ++i) {
    float sum = 0;
    double begin = now();
    double operations = probe(&sum);
    rate += operations / (now() - begin);
    if (i == 0) sink = sum;
  }
  (void)sink;
  return rate;
}

double copy(int threads) {
  char* from = static_cast<char*>(std::aligned_alloc(4096, BYTES));
  char* to = static_cast<char*>(std::aligned_alloc(4096, BYTES));
  double rate = 0;
  if (from && to) {
#pragma omp parallel num_threads(threads) reduction(+ : rate)
    {
#pragma omp for schedule(static, 1)
      for (int i = 0; i < threads; ++i) {  // makes the pages
        std::memset(from + part(i, threads), 1, part(i + 1, threads) - part(i, threads));
        std::memset(to + part(i, threads), 1, part(i + 1, threads) - part(i, threads));
      }
#pragma omp for schedule(static, 1)
      for (int i = 0; i < threads; ++i) {
        std::size_t count = part(i + 1, threads) - part(i, threads);
        double begin = now();
        std::memcpy(to + part(i, threads), from + part(i, threads), count);
        rate += 2.0 * double(count) / (now() - begin);
      }
    }
  }
  std::free(from);
  std::free(to);
  return rate;
}

}  // namespace

// FLOP/s (kinds 0 and 1) or bytes/s read plus written (kind 2) of so many threads; 0 where this CPU
// or this build cannot.
PD_API double pd_probe(int32_t kind, int32_t threads) {
  if (threads < 1 || threads > 256) return 0;
  if (kind == COPY) return copy(threads);
  if (kind != FMA_FLOAT32 && kind != FMA_BFLOAT16) return 0;
  Probe probe = find_probe(kind);
  return probe ? compute(probe, threads) : 0;
}
