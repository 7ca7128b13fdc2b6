// SPDX-License-Identifier: Apache-2.0
// Which voxels of a scan stay when there is no time for all: the twin of model/thinning.py and
// model/thinned_pyramid.py, equal to them entry for entry.
#pragma once
#include <cstdint>

#include "arena.h"
#include "geometry.h"

namespace pd {

// One step of load shedding, see model/degradation.py.
struct Degradation {
  int64_t near_limit;   // squared horizontal distance in cells, -1 = no near field
  int32_t coarse;       // 1 = cells of 2x2x2 voxels are thinned at any distance
  int32_t max_voxels;   // 0 = no cap
};

struct Thinning {
  int32_t voxels;       // M before
  int32_t rows;         // M' after
  int32_t* kept;        // [rows] ascending
  int32_t* owner;       // [voxels] index into kept, non-decreasing
};

// code: [rows] z codes of one scan, checked (NOT_SORTED). sensor: x, y of the cell that begins at
// the sensor, within +-2^30.
Status thin(Arena&, const uint64_t* code, int32_t rows, const int32_t sensor[2],
            const Degradation&, Thinning* out);

// What there is to thin, without thinning: voxels per stage, and of the finest stage those that
// stay when cells of 2x2x2 voxels are thinned everywhere and in the near field.
struct VoxelCounts {
  int32_t stages[MAX_LEVELS];
  int32_t coarse, near;
};
Status count_voxels(const uint64_t* code, int32_t rows, const int32_t sensor[2],
                    int64_t near_limit, int32_t levels, const int32_t* shift, VoxelCounts* out);

// The kept rows of a pyramid of all voxels, and their ancestors; a neighbour that went is replaced by
// its owner. Stages that lost nothing share the arrays of `full`, which must live as long. A thinning
// of several scans must not mix them. BAD_ARGUMENT where it is not one of `full`.
Status thin_pyramid(Arena&, const Pyramid& full, const Thinning&, int threads, Pyramid* out);

// The kept voxels; points of the others count as points of their owners.
Status thin_voxels(Arena&, const Thinning&, int32_t points, Voxels*);

}  // namespace pd
