// SPDX-License-Identifier: Apache-2.0
// The points of one scan: which are valid, and which of two represents a voxel.
#pragma once
#include <cmath>
#include <cstdint>

#include "parallel.h"

namespace pd {

constexpr int BLOCK = 256;  // points handled together, in the first cache

struct Cloud {
  const float* xyz;
  const float* intensity;
  int32_t points;
  double grid_size;
  float max_range;

  PD_BODY bool valid(int64_t i) const {
    const float* p = xyz + 3 * i;
    bool x = std::fabs(p[0]) <= max_range, y = std::fabs(p[1]) <= max_range;
    return x & y & (std::fabs(p[2]) <= max_range);
  }
  PD_BODY bool all_valid(int64_t first) const {  // of BLOCK points
    const float* values = xyz + 3 * first;
    int wrong = 0;
    for (int j = 0; j < 3 * BLOCK; ++j) wrong |= !(std::fabs(values[j]) <= max_range);
    return wrong == 0;
  }
};

// Position inside the cell, 3 x 21 bits, compared as a signed number (model/voxels.py).
PD_BODY inline int64_t position_key(const Cloud& cloud, uint32_t point) {
  uint64_t inside[3];
  for (int axis = 0; axis < 3; ++axis) {
    double cell = static_cast<double>(cloud.xyz[3 * int64_t{point} + axis]) / cloud.grid_size;
    inside[axis] = static_cast<uint64_t>(
        static_cast<int64_t>((cell - std::floor(cell)) * double{1 << 21}));
  }
  return static_cast<int64_t>(inside[0] << 42 | inside[1] << 21 | inside[2]);
}

// Closer than 2^-21 of a cell: x, then y, then z, then intensity.
PD_BODY inline bool exactly_less(const Cloud& cloud, uint32_t a, uint32_t b) {
  const float *p = cloud.xyz + 3 * int64_t{a}, *q = cloud.xyz + 3 * int64_t{b};
  for (int axis = 0; axis < 3; ++axis)
    if (p[axis] != q[axis]) return p[axis] < q[axis];
  return cloud.intensity[a] < cloud.intensity[b];
}

}  // namespace pd
