// SPDX-License-Identifier: Apache-2.0
// A body runs over parts of the work: one part per thread, compiled for several generations of CPU.
//
// Bodies are lambdas marked PD_BODY and call only PD_BODY functions, so that each generation gets
// its own copy (popcount, wider vectors) without intrinsics. The result never depends on the parts.
#pragma once
#include <atomic>
#include <cstdint>

#include "kernels.h"

#define PD_BODY __attribute__((always_inline))

namespace pd {

// Tests lower it, so that one machine checks every copy.
extern std::atomic<int> geometry_tier;

constexpr int MAX_PARTS = 64;

struct Range {
  int64_t begin, end;
};

inline Range part_of(int64_t count, int parts, int part) {
  return {count * part / parts, count * (part + 1) / parts};
}

// Fewer parts than threads where a part would be too small to pay for waking its thread.
inline int parts_for(int64_t count, int threads, int64_t least = 4096) {
  int64_t parts = count / least;
  if (parts > threads) parts = threads;
  if (parts > MAX_PARTS) parts = MAX_PARTS;
  return parts < 1 ? 1 : static_cast<int>(parts);
}

template <class Body>
void run_portable(const Body& body, int part) {
  body(part);
}
#ifdef PD_X86
template <class Body>
__attribute__((target("avx2,bmi,bmi2,lzcnt,popcnt"))) void run_avx2(const Body& body, int part) {
  body(part);
}
template <class Body>
__attribute__((target("avx512f,avx512bw,avx512cd,avx512dq,avx512vl,bmi,bmi2,lzcnt,popcnt"))) void
run_avx512(const Body& body, int part) {
  body(part);
}
#endif

// body(part) for each part. Nothing in it may throw.
template <class Body>
void run(int parts, const Body& body) {
  void (*copy)(const Body&, int) = run_portable<Body>;
#ifdef PD_X86
  int tier = geometry_tier.load(std::memory_order_relaxed);
  if (tier >= AVX512) copy = run_avx512<Body>;
  else if (tier >= AVX2) copy = run_avx2<Body>;
#endif
  if (parts == 1) {
    copy(body, 0);
    return;
  }
#pragma omp parallel for num_threads(parts) schedule(static, 1)
  for (int part = 0; part < parts; ++part) copy(body, part);
}

}  // namespace pd
