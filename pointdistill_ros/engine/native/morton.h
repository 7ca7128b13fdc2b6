// SPDX-License-Identifier: Apache-2.0
// z codes (Morton): bit i of x, y, z <-> bit 3i+2, 3i+1, 3i; the scan index above bit 48.
#pragma once
#include <cstdint>

#include "parallel.h"

namespace pd {

constexpr uint64_t CELL_BITS = (uint64_t{1} << 48) - 1;
constexpr uint64_t Z_BITS = 0x249249249249;  // bits 0, 3, ... 45

// 16 bits, two zeros after each
PD_BODY inline uint64_t spread(uint64_t bits) {
  bits = (bits | bits << 32) & 0x1F00000000FFFF;
  bits = (bits | bits << 16) & 0x1F0000FF0000FF;
  bits = (bits | bits << 8) & 0x100F00F00F00F00F;
  bits = (bits | bits << 4) & 0x10C30C30C30C30C3;
  return (bits | bits << 2) & 0x1249249249249249;
}

PD_BODY inline uint64_t interleave(uint32_t x, uint32_t y, uint32_t z) {
  return spread(x) << 2 | spread(y) << 1 | spread(z);
}

// Every third bit from bit 0: inverse of spread.
PD_BODY inline uint32_t gather(uint64_t code) {
  code &= Z_BITS;
  code = (code | code >> 2) & 0x10C30C30C30C30C3;
  code = (code | code >> 4) & 0x100F00F00F00F00F;
  code = (code | code >> 8) & 0x1F0000FF0000FF;
  code = (code | code >> 16) & 0x1F00000000FFFF;
  return static_cast<uint32_t>((code | code >> 32) & 0xFFFF);
}

// The enclosing cell `shift` stages up; the scan index stays.
PD_BODY inline uint64_t coarser(uint64_t code, int shift) {
  return (code & ~CELL_BITS) | (code & CELL_BITS) >> (3 * shift);
}

}  // namespace pd
