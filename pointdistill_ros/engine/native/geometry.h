// SPDX-License-Identifier: Apache-2.0
// Integer geometry of a batch: voxels, stages, curve orders, neighbours. The twin of model/voxels.py,
// model/pyramid.py and model/neighbours.py, equal to them entry for entry. Nothing depends on weights.
#pragma once
#include <cstdint>

#include "arena.h"

namespace pd {

constexpr int MAX_LEVELS = 8;
constexpr int DEPTH = 16;  // bits per axis; the scan index stands above bit 48 of a code

enum Status : int32_t {
  OK = 0,
  BAD_ARGUMENT = 1,   // a count, pointer or shape that cannot be
  TOO_FAR = 2,        // the scan spans 2^16 cells or more along an axis
  NOT_SORTED = 3,     // codes do not increase strictly (duplicate voxel or wrong order)
  OUT_OF_MEMORY = 4,
};

// Points of one scan → voxels in ascending z code.
struct Voxels {
  int32_t rows;        // M
  uint64_t* code;      // [M] z code of the cell, cells counted from the scan's minimum
  int32_t* inverse;    // [points] voxel row of each point, -1 where the point is not valid
  int32_t* point;      // [M] the canonical point of each voxel (model/voxels.py canonical_points)
};

// A point is valid where all |coordinate| <= max_range (never for NaN). rows may come out 0.
// xyz float32 [points][3] and intensity [points]; intensity must be finite (it breaks ties only).
Status voxelise(Arena&, const float* xyz, const float* intensity, int32_t points, double grid_size,
                float max_range, int threads, Voxels* out);

// Values of voxels -> values of points: label, probability and entropy of the point's voxel, and
// NO_LABEL, 0, 0 for points that are not valid. `points` as given to voxelise.
constexpr uint8_t NO_LABEL = 255;
Status scatter(const Voxels&, int32_t points, const uint8_t* label, const float* probability,
               const float* entropy, uint8_t* labels_out, float* probability_out,
               float* entropy_out, int threads);

// What a network needs to know about its geometry.
struct PyramidShape {
  int32_t levels;               // stages, 1..MAX_LEVELS
  int32_t shift[MAX_LEVELS];    // [levels - 1] log2 of the stride to the next stage
  uint32_t curves[MAX_LEVELS];  // per stage a bit mask of curves some block walks:
                                // 1 z, 2 z-trans, 4 hilbert, 8 hilbert-trans
  int32_t stem_size = 5;        // edge of the stem's kernel: 5, or 3
  int32_t depth = DEPTH;        // bits per axis of the finest stage, which Hilbert orders depend on
};

struct Level {
  int32_t rows;
  uint64_t* code;         // [rows] z code | scan << 48, strictly ascending
  int32_t* offsets;       // [scans + 1] first row of each scan, and rows
  int32_t* parent;        // [rows] row in the next stage, non-decreasing; null in the last
  int32_t* child_begin;   // [rows of next stage + 1] first child of each; null in the last
  int32_t* neighbours;    // [27][rows] row at offset (kx*3 + ky)*3 + kz, each -1..1; -1 = none
  int32_t* order[4];      // per curve [rows]: the row at each position; null = z order or not asked
};

struct Pyramid {
  int32_t levels, scans;
  Level level[MAX_LEVELS];
  // Stem at level 0, by output row, pairs ascending in offset (kx*5 + ky)*5 + kz, self (62) too; for
  // a 3^3 kernel (kx*3 + ky)*3 + kz, self 13.
  int32_t* stem_begin;    // [rows + 1]
  int32_t* stem_row;      // [stem_begin[rows]] input row
  uint8_t* stem_offset;   // [stem_begin[rows]]
};

// code: [rows] as in Level.code, checked (NOT_SORTED); scans: 1 + the largest scan index, each >= 1
// voxel.
Status build_pyramid(Arena&, const uint64_t* code, int32_t rows, int32_t scans, const PyramidShape&,
                     int threads, Pyramid* out);

// x, y, z of a code: inverse of the bit interleaving (x at bit 3i+2, y 3i+1, z 3i).
void cell_of(uint64_t code, int32_t cell[3]);

}  // namespace pd
