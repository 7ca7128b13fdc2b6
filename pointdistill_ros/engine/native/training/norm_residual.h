// SPDX-License-Identifier: Apache-2.0
// A residual branch with the norms around it, forward and backward in one sweep each.
#pragma once
#include "norm_work.h"
#include "row_norm.h"

namespace {
namespace residual {

struct Rows {
  int64_t first;
  int count, channels;  // count <= W
  int64_t at(int i) const { return (first + i) * channels; }
};

PD_INLINE void save_moments(const pd::TrainingNorm& norm, int64_t rows, const Rows& r,
                            const RowMoments& m) {
  for (int i = 0; i < r.count; ++i) {
    norm.moments[r.first + i] = m.mean[i];
    norm.moments[rows + r.first + i] = m.inverse_deviation[i];
  }
}
PD_INLINE RowMoments saved_moments(const pd::TrainingNorm& norm, int64_t rows, const Rows& r) {
  RowMoments m;
  for (int i = 0; i < r.count; ++i) {
    m.mean[i] = norm.moments[r.first + i];
    m.inverse_deviation[i] = norm.moments[rows + r.first + i];
  }
  return m;
}

inline void forward_rows(const pd::TrainingResidual& a, const Rows& r) {
  RowMoments m;
  if (a.inner.scale) {
    row_moments(a.branch + r.at(0), r.count, r.channels, &m);
    save_moments(a.inner, a.rows, r, m);
  }
  for (int i = 0; i < r.count; ++i) {
    const float mask = a.mask ? a.mask[r.first + i] : 1.0f;
    for (int c = 0; c < r.channels; c += W) {
      vf y = load(a.branch + r.at(i) + c);
      if (a.inner.scale)
        y = fma((y - m.mean[i]) * m.inverse_deviation[i], load(a.inner.scale + c),
                load(a.inner.shift + c));
      store(a.sum + r.at(i) + c, fma(y, splat(mask), load(a.x + r.at(i) + c)));
    }
  }
  row_moments(a.sum + r.at(0), r.count, r.channels, &m);
  save_moments(a.outer, a.rows, r, m);
  for (int i = 0; i < r.count; ++i)
    for (int c = 0; c < r.channels; c += W)
      store(a.out + r.at(i) + c,
            fma((load(a.sum + r.at(i) + c) - m.mean[i]) * m.inverse_deviation[i],
                load(a.outer.scale + c), load(a.outer.shift + c)));
}

// What goes through a norm: with u = (x - mean) / deviation and g = grad * mask * scale,
// (g - mean of g - u mean of g u) / deviation, plus `plus` where there is one. Adds to the gradients
// of scale and shift.
inline void norm_backward(const pd::TrainingNorm& norm, int64_t rows, const Rows& r, const float* x,
                          const float* grad, const float* mask, const float* plus, float* out,
                          float* grad_scale, float* grad_shift) {
  const RowMoments m = saved_moments(norm, rows, r);
  vf first[W] = {}, second[W] = {};
  float factor[W];
  for (int i = 0; i < r.count; ++i) factor[i] = mask ? mask[r.first + i] : 1.0f;
  for (int c = 0; c < r.channels; c += W) {
    const vf scale = load(norm.scale + c);
    vf to_scale = load(grad_scale + c), to_shift = load(grad_shift + c);
    for (int i = 0; i < r.count; ++i) {
      const vf g = load(grad + r.at(i) + c) * factor[i];
      const vf u = (load(x + r.at(i) + c) - m.mean[i]) * m.inverse_deviation[i];
      to_shift += g;
      to_scale = fma(g, u, to_scale);
      first[i] = fma(g, scale, first[i]);
      second[i] = fma(g * scale, u, second[i]);
    }
    store(grad_scale + c, to_scale);
    store(grad_shift + c, to_shift);
  }
  float mean[W], product[W];
  const float count = static_cast<float>(r.channels);
  store(mean, lane_sums(first) / count);
  store(product, lane_sums(second) / count);
  for (int i = 0; i < r.count; ++i)
    for (int c = 0; c < r.channels; c += W) {
      const vf g = load(grad + r.at(i) + c) * factor[i] * load(norm.scale + c);
      const vf u = (load(x + r.at(i) + c) - m.mean[i]) * m.inverse_deviation[i];
      const vf y = (g - mean[i] - u * product[i]) * m.inverse_deviation[i];
      store(out + r.at(i) + c, plus ? y + load(plus + r.at(i) + c) : y);
    }
}

// partial: [4][channels] of outer scale, outer shift, inner scale, inner shift
inline void backward_rows(const pd::TrainingResidual& a, const Rows& r, float* partial) {
  norm_backward(a.outer, a.rows, r, a.sum, a.grad_out, nullptr, a.grad_sum, a.grad_x, partial,
                partial + r.channels);
  if (!a.grad_branch) return;
  if (a.inner.scale) {
    norm_backward(a.inner, a.rows, r, a.branch, a.grad_x, a.mask, nullptr, a.grad_branch,
                  partial + 2 * r.channels, partial + 3 * r.channels);
    return;
  }
  for (int i = 0; i < r.count; ++i)
    for (int c = 0; c < r.channels; c += W)
      store(a.grad_branch + r.at(i) + c,
            load(a.grad_x + r.at(i) + c) * (a.mask ? a.mask[r.first + i] : 1.0f));
}

// The rows of a block, W at a time.
template <class Body>
PD_INLINE void each(int64_t rows, int channels, int64_t block, const Body& body) {
  const int64_t end = (block + 1) * pd::NORM_BLOCK < rows ? (block + 1) * pd::NORM_BLOCK : rows;
  for (int64_t row = block * pd::NORM_BLOCK; row < end; row += W)
    body(Rows{row, static_cast<int>(end - row < W ? end - row : W), channels});
}

inline void forward(const pd::TrainingResidual& a, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t block = 0; block < pd::norm_blocks(a.rows); ++block)
    each(a.rows, a.channels, block, [&](const Rows& r) { forward_rows(a, r); });
}

inline void backward(const pd::TrainingResidual& a, int threads) {
  const int64_t blocks = pd::norm_blocks(a.rows);
  const std::size_t four = std::size_t{4} * a.channels;
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t block = 0; block < blocks; ++block) {
    float* partial = a.partial + block * four;
    std::memset(partial, 0, sizeof(float) * four);
    each(a.rows, a.channels, block, [&](const Rows& r) { backward_rows(a, r, partial); });
  }
  float* const grads[4] = {a.outer.grad_scale, a.outer.grad_shift, a.inner.grad_scale,
                           a.inner.grad_shift};
  for (int part = 0; part < 4; ++part)
    for (int c = 0; grads[part] && c < a.channels; ++c) {
      double total = 0;
      for (int64_t block = 0; block < blocks; ++block)
        total += a.partial[block * four + part * a.channels + c];
      grads[part][c] = static_cast<float>(total);
    }
}

}  // namespace residual
}  // namespace
