// SPDX-License-Identifier: Apache-2.0
// LayerNorm of one row: eps 1e-5, biased variance, two passes. A scale and shift that the next linear
// has absorbed are left out.
#pragma once
#include <math.h>

#include "simd.h"

namespace {

constexpr float NORM_EPSILON = 1e-5f;

struct Moments {
  float mean, inverse_deviation;
};

// x: [channels], a multiple of 16
PD_INLINE Moments moments(const float* x, int channels) {
  vf total = {};
  for (int c = 0; c < channels; c += W) total += load(x + c);
  const float mean = sum(total) / static_cast<float>(channels);
  vf squares = {};
  for (int c = 0; c < channels; c += W) {
    const vf centred = load(x + c) - mean;
    squares = fma(centred, centred, squares);
  }
  const float variance = sum(squares) / static_cast<float>(channels);
  return {mean, 1.0f / sqrtf(variance + NORM_EPSILON)};
}

// out = (x - mean) / deviation; out: float or T, may be x itself
template <class T>
PD_INLINE void unit_norm(const float* x, int channels, T* out) {
  const Moments m = moments(x, channels);
  for (int c = 0; c < channels; c += W)
    store_as(out + c, (load(x + c) - m.mean) * m.inverse_deviation);
}

// out = (x - mean) / deviation * scale + shift
template <class T>
PD_INLINE void layer_norm(const float* x, int channels, const float* scale, const float* shift,
                          T* out) {
  const Moments m = moments(x, channels);
  for (int c = 0; c < channels; c += W) {
    const vf unit = (load(x + c) - m.mean) * m.inverse_deviation;
    store_as(out + c, fma(unit, load(scale + c), load(shift + c)));
  }
}

}  // namespace
