// SPDX-License-Identifier: Apache-2.0
// Functions of a *_tier.cpp exist once per tier: PD_TIERED(name) -> name_avx512. The dispatcher
// declares them with PD_DECLARE_TIERS and picks with PD_PICK.
#pragma once
#include "kernels.h"

#define PD_JOIN_(a, b) a##b
#define PD_JOIN(a, b) PD_JOIN_(a, b)
#define PD_TIERED(name) PD_JOIN(name, PD_SUFFIX)

#ifdef PD_X86
#define PD_DECLARE_TIERS(result, name, ...) \
  result name##_portable(__VA_ARGS__);      \
  result name##_avx2(__VA_ARGS__);          \
  result name##_avx512(__VA_ARGS__);        \
  result name##_avx512_bf16(__VA_ARGS__)
// The function of a tier; the tier must be one that this CPU runs.
#define PD_PICK(name, tier)                     \
  ((tier) == pd::AVX512_BF16 ? name##_avx512_bf16 \
   : (tier) == pd::AVX512    ? name##_avx512      \
   : (tier) == pd::AVX2      ? name##_avx2        \
                             : name##_portable)
#else
#define PD_DECLARE_TIERS(result, name, ...) result name##_portable(__VA_ARGS__)
#define PD_PICK(name, tier) ((void)(tier), name##_portable)
#endif
