// SPDX-License-Identifier: Apache-2.0
// All kernels of one tier. Compiled once per tier with -DPD_TIER=n and that tier's flags.
#include "kernels.h"
#include "simd.h"
#include "attention.h"
#include "conv.h"
#include "dense.h"

namespace {

template <class P>
std::size_t scratch(int channels, int hidden, int patch) {
  std::size_t most = conv_scratch<P>(channels);
  std::size_t other = dense_scratch<P>(channels, hidden);
  if (other > most) most = other;
  other = attention_scratch<P>(channels, patch);
  return other > most ? other : most;
}

template <class P>
const pd::Kernels* table(const char* name) {
  static const pd::Kernels kernels = {
      name,         sizeof(typename P::T), dense_bytes<P>, pack_dense<P>, conv_bytes<P>,
      pack_conv<P>, scratch<P>,            stem<P>,        conv_qkv<P>,   attention<P>,
      proj_mlp<P>,  pool<P>,               unpool<P>,      head<P>,
  };
  return &kernels;
}

}  // namespace

extern "C" const pd::Kernels* PD_TABLE(int precision) {
#if PD_TIER == 3
  if (precision == pd::BFLOAT16) return table<Bfloat16>(PD_NAME);
#endif
  return precision == pd::FLOAT32 ? table<Float32>(PD_NAME) : nullptr;
}
