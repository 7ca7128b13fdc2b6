// SPDX-License-Identifier: Apache-2.0
// One vector of floats, as wide as the tier that is being compiled (PD_TIER, see kernels.h).
// Everything here and in the kernel headers has internal linkage: code compiled for one tier must
// never be merged by the linker with that of another. For the same reason: no std:: templates.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#if PD_TIER > 0
#include <immintrin.h>
#endif

namespace {

#if PD_TIER >= 2
constexpr int W = 16;
#elif PD_TIER == 1
constexpr int W = 8;
#else
constexpr int W = 4;
#endif

typedef float vf __attribute__((vector_size(4 * W)));
typedef int32_t vi __attribute__((vector_size(4 * W)));

#define PD_INLINE static inline __attribute__((always_inline))

PD_INLINE vf load(const float* p) {
  vf v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
PD_INLINE void store(float* p, vf v) { std::memcpy(p, &v, sizeof v); }
PD_INLINE vf splat(float value) { return value - (vf){}; }
PD_INLINE vf maximum(vf a, vf b) { return a > b ? a : b; }

// a * b + c in one rounding where the tier has it
PD_INLINE vf fma(vf a, vf b, vf c) {
#if PD_TIER >= 2
  return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif PD_TIER == 1
  return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
  return a * b + c;
#endif
}

PD_INLINE float sum(vf v) {
#if PD_TIER >= 2  // as _mm512_reduce_add_ps, which GCC 12 warns about wherever it is inlined
  typedef float v8 __attribute__((vector_size(32)));
  typedef float v4 __attribute__((vector_size(16)));
  const v8 eight = __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7) +
                   __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15);
  const v4 four = __builtin_shufflevector(eight, eight, 0, 1, 2, 3) +
                  __builtin_shufflevector(eight, eight, 4, 5, 6, 7);
  const v4 two = four + __builtin_shufflevector(four, four, 2, 3, 0, 1);
  return two[0] + two[1];
#else
  float total = 0;
  for (int i = 0; i < W; ++i) total += v[i];
  return total;
#endif
}

typedef uint16_t bf16;

// Round to nearest even, without instructions of the tier; for packing weights.
PD_INLINE bf16 to_bf16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return static_cast<bf16>((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}
PD_INLINE float from_bf16(bf16 value) {
  uint32_t bits = static_cast<uint32_t>(value) << 16;
  float out;
  std::memcpy(&out, &bits, 4);
  return out;
}

// A vector as stored activations, rounded to nearest even.
PD_INLINE void store_as(float* p, vf v) { store(p, v); }
#if PD_TIER == 3
PD_INLINE void store_as(bf16* p, vf v) {
  const __m256bh narrow = _mm512_cvtneps_pbh((__m512)v);
  std::memcpy(p, &narrow, sizeof narrow);
}
#endif

// The two precisions a kernel is instantiated for.
struct Float32 {
  typedef float T;
  static constexpr bool is_bf16 = false;
};
#if PD_TIER == 3
struct Bfloat16 {
  typedef bf16 T;
  static constexpr bool is_bf16 = true;
};
#endif

}  // namespace
