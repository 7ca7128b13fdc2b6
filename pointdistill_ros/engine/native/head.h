// SPDX-License-Identifier: Apache-2.0
// The last linear and what a user sees of it: label, probability, entropy. W rows at a time, a row a
// lane. A row with a NaN among its logits gets some valid label, probability 0 and entropy 1.
#pragma once
#include <math.h>
#include <omp.h>

#include "activation.h"
#include "gemm.h"
#include "kernels.h"

namespace {

constexpr int HEAD_TILE = 48;         // rows of one product
constexpr int HEAD_CLASSES = 256;     // a label is a byte

inline std::size_t head_scratch() { return sizeof(float) * HEAD_CLASSES * (HEAD_TILE + 16); }

// logits: [classes][W]; answers for `rows` <= W rows from `begin` on
inline void head_rows(const pd::Head& a, const float* logits, int begin, int rows) {
  vf most = load(logits);
  vi label = {};
  for (int c = 1; c < a.classes; ++c) {
    const vf value = load(logits + c * W);
    const vi larger = value > most;
    label = larger ? (vi){} + c : label;
    most = larger ? value : most;
  }
  if (a.label)
    for (int row = 0; row < rows; ++row) a.label[begin + row] = static_cast<uint8_t>(label[row]);
  if (!a.probability && !a.entropy) return;

  vf total = {}, moment = {};  // sums of e^d and of -d e^d, d = logit - largest
  for (int c = 0; c < a.classes; ++c) {
    const vf d = maximum(splat(-87.0f), load(logits + c * W) - most);  // stays NaN where it is
    const vf e = exp_negative(d);
    total += e;
    moment -= d * e;
  }
  const float scale = 1.0f / logf(static_cast<float>(a.classes > 2 ? a.classes : 2));
  for (int row = 0; row < rows; ++row) {
    const bool known = moment[row] >= 0;  // false for NaN
    const float probability = known ? 1.0f / total[row] : 0;
    const float entropy = known ? (logf(total[row]) + moment[row] * probability) * scale : 1;
    if (a.probability) a.probability[begin + row] = probability;
    if (a.entropy) a.entropy[begin + row] = entropy < 1 ? (entropy > 0 ? entropy : 0) : 1;
  }
}

template <class P>
void head_tile(const pd::Head& a, int begin, int rows, float* scratch) {
  float* logits = scratch;                            // [HEAD_TILE][padded]
  float* lanes = scratch + HEAD_TILE * HEAD_CLASSES;  // [classes][W]
  gemm<P>(rows, a.in, a.padded,
          static_cast<const typename P::T*>(a.input) + static_cast<std::size_t>(begin) * a.in, a.in,
          static_cast<const typename P::T*>(a.weight), a.bias, logits, a.padded);
  if (a.logits)
    for (int row = 0; row < rows; ++row)
      std::memcpy(a.logits + static_cast<std::size_t>(begin + row) * a.classes,
                  logits + row * a.padded, sizeof(float) * a.classes);
  for (int first = 0; first < rows; first += W) {
    const int count = rows - first < W ? rows - first : W;
    for (int lane = 0; lane < W; ++lane) {  // lanes without a row repeat the first
      const float* row = logits + (lane < count ? first + lane : first) * a.padded;
      for (int c = 0; c < a.classes; ++c) lanes[c * W + lane] = row[c];
    }
    head_rows(a, lanes, begin + first, count);
  }
}

template <class P>
void head(const pd::Head& a, const pd::Workers& workers) {
  const int tiles = (a.rows + HEAD_TILE - 1) / HEAD_TILE;
#pragma omp parallel for num_threads(workers.threads) schedule(dynamic) if (tiles > 1)
  for (int tile = 0; tile < tiles; ++tile) {
    const int begin = tile * HEAD_TILE, left = a.rows - begin;
    char* scratch = workers.scratch + omp_get_thread_num() * workers.per_thread;
    head_tile<P>(a, begin, left < HEAD_TILE ? left : HEAD_TILE, reinterpret_cast<float*>(scratch));
  }
}

}  // namespace
