// SPDX-License-Identifier: Apache-2.0
// LayerNorm of W rows at a time. Adding up the lanes of a vector, a division and a square root cost
// more than all other arithmetic on a row of few channels; here W rows share them.
#pragma once
#include <math.h>

#include "norm.h"
#include "simd.h"

namespace {

// Adds lanes that lie STEP apart. Sums of a go to lanes whose bit STEP is 0, sums of b to the rest.
template <int STEP>
PD_INLINE vf add_lanes(vf a, vf b) {
  vi near = {}, far = {};
#pragma GCC unroll 16
  for (int i = 0; i < W; ++i) {
    near[i] = i & STEP ? W + i - STEP : i;
    far[i] = near[i] + STEP;
  }
  return __builtin_shuffle(a, b, near) + __builtin_shuffle(a, b, far);
}

// Lane i = sum of v[i], added in the same order for every i. v [W] is overwritten.
template <int STEP = 1>
PD_INLINE vf lane_sums(vf* v) {
#pragma GCC unroll 16
  for (int i = 0; i < W; i += 2 * STEP) v[i] = add_lanes<STEP>(v[i], v[i + STEP]);
  if constexpr (2 * STEP < W) return lane_sums<2 * STEP>(v);
  return v[0];
}

struct RowMoments {
  float mean[W], inverse_deviation[W];
};

// x: [rows][channels], rows <= W
PD_INLINE void row_moments(const float* x, int rows, int channels, RowMoments* m) {
  const float count = static_cast<float>(channels);
  vf total[W] = {};
  for (int i = 0; i < rows; ++i)
    for (int c = 0; c < channels; c += W) total[i] += load(x + i * channels + c);
  store(m->mean, lane_sums(total) / count);

  for (int i = 0; i < W; ++i) total[i] = (vf){};
  for (int i = 0; i < rows; ++i) {
    for (int c = 0; c < channels; c += W) {
      const vf centred = load(x + i * channels + c) - m->mean[i];
      total[i] = fma(centred, centred, total[i]);
    }
  }
  const vf variance = lane_sums(total) / count + NORM_EPSILON;
  for (int i = 0; i < W; ++i) m->inverse_deviation[i] = 1.0f / sqrtf(variance[i]);
}

// out = (x - mean) / deviation of every row; out: float or T, may be x itself
template <class T>
void unit_norm_rows(const float* x, int rows, int channels, T* out) {
  for (int row = 0; row < rows; row += W, x += W * channels, out += W * channels) {
    const int some = rows - row < W ? rows - row : W;
    RowMoments m;
    row_moments(x, some, channels, &m);
    for (int i = 0, at = 0; i < some; ++i)
      for (int c = 0; c < channels; c += W, at += W)
        store_as(out + at, (load(x + at) - m.mean[i]) * m.inverse_deviation[i]);
  }
}

// x = (x - mean) / deviation * scale + shift + residual of every row, which goes to out, too; out
// may be residual itself
inline void norm_add_rows(float* x, int rows, int channels, const float* scale, const float* shift,
                          const float* residual, float* out) {
  for (int row = 0; row < rows; row += W) {
    const int some = rows - row < W ? rows - row : W;
    RowMoments m;
    row_moments(x, some, channels, &m);
    for (int i = 0; i < some; ++i, x += channels, residual += channels, out += channels) {
      for (int c = 0; c < channels; c += W) {
        const vf unit = (load(x + c) - m.mean[i]) * m.inverse_deviation[i];
        const vf y = load(residual + c) + fma(unit, load(scale + c), load(shift + c));
        store(x + c, y);
        store(out + c, y);
      }
    }
  }
}

}  // namespace
