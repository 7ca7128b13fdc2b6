// SPDX-License-Identifier: Apache-2.0
// Which tiers this build has and this CPU can run.
#include "kernels.h"

extern "C" {
const pd::Kernels* pd_kernels_portable(int precision);
#ifdef PD_X86
const pd::Kernels* pd_kernels_avx2(int precision);
const pd::Kernels* pd_kernels_avx512(int precision);
const pd::Kernels* pd_kernels_avx512_bf16(int precision);
#endif
}

namespace pd {

Tier best_tier() {
#ifdef PD_X86
  __builtin_cpu_init();
  bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                __builtin_cpu_supports("avx512vl");
  if (avx512 && __builtin_cpu_supports("avx512bf16")) return AVX512_BF16;
  if (avx512) return AVX512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("bmi2"))
    return AVX2;
#endif
  return PORTABLE;
}

const Kernels* find_kernels(Tier tier, Precision precision) {
  if (tier > best_tier()) return nullptr;
  switch (tier) {
    case PORTABLE:
      return pd_kernels_portable(precision);
#ifdef PD_X86
    case AVX2:
      return pd_kernels_avx2(precision);
    case AVX512:
      return pd_kernels_avx512(precision);
    case AVX512_BF16:
      return pd_kernels_avx512_bf16(precision);
#endif
    default:
      return nullptr;
  }
}

}  // namespace pd
