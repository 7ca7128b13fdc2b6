// SPDX-License-Identifier: Apache-2.0
// Rows of float32 as operands of a product: as they are, or rounded to bfloat16.
#pragma once
#include "simd.h"

namespace {

inline std::size_t round_up(std::size_t value, std::size_t step) {
  return (value + step - 1) / step * step;
}

// Channels of a row as an operand: bfloat16 is multiplied in pairs.
template <class P>
int operand_channels(int channels) {
  return P::is_bf16 ? (channels + 1) / 2 * 2 : channels;
}

// count floats -> operands; the tail up to `padded` becomes 0
PD_INLINE void narrow_row(const float* from, int count, int padded, float* to) {
  int i = 0;
  for (; i + W <= count; i += W) store(to + i, load(from + i));
  for (; i < count; ++i) to[i] = from[i];
  for (; i < padded; ++i) to[i] = 0;
}
PD_INLINE void narrow_row(const float* from, int count, int padded, bf16* to) {
  int i = 0;
#if PD_TIER == 3
  for (; i + W <= count; i += W) store_as(to + i, load(from + i));
#endif
  for (; i < count; ++i) to[i] = to_bf16(from[i]);
  for (; i < padded; ++i) to[i] = 0;
}

template <class P>
void narrow_rows(const float* from, int rows, int channels, typename P::T* to) {
  const int padded = operand_channels<P>(channels);
  for (int row = 0; row < rows; ++row)
    narrow_row(from + std::size_t(row) * channels, channels, padded, to + std::size_t(row) * padded);
}

}  // namespace
