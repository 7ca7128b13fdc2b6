// SPDX-License-Identifier: Apache-2.0
// The derivative of GELU by the error function; the value is in activation.h.
#pragma once
#include "activation.h"
#include "simd.h"

namespace {

// Phi(x) + x phi(x), to 3e-6. NaN stays NaN.
PD_INLINE vf gelu_slope(vf x) {
  const vf magnitude = maximum(x, -x);
  const vf a = magnitude < 5.5f ? magnitude : splat(5.5f);
  const vf tail = power_of_two(polynomial(a, LOG2_PHI), EXP2);  // Phi(-|x|)
  const vf b = magnitude < 13.0f ? magnitude : splat(13.0f);
  const vf density = power_of_two(b * b * -0.72134752f, EXP2) * 0.39894228f;
  return fma(x, density, x > 0.0f ? 1.0f - tail : tail);
}

}  // namespace
