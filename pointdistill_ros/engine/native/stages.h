// SPDX-License-Identifier: Apache-2.0
// The steps of build_pyramid, by file: levels.cpp, curves.cpp, neighbours.cpp, finest.cpp.
#pragma once
#include <cstdint>

#include "arena.h"
#include "geometry.h"

namespace pd {

// What all steps know about a batch.
struct Batch {
  int32_t rows, scans;
  int cell_bits;            // bits of the largest coordinate
  int stem_size;            // 3 or 5, edge of the stem's kernel
  int shift[MAX_LEVELS];    // of each stage against the finest, in bits per axis
};

// Level::order of every stage, whose arrays are there already.
void build_orders(Arena&, const Batch&, const PyramidShape&, int threads, Pyramid*);

// Level::neighbours of every stage, whose arrays are there already, and the stem. False where the
// pairs of the stem are too many for 32 bits.
bool build_neighbours(Arena&, const Batch&, int threads, Pyramid*);

// Level::neighbours of the finest stage, and the stem. False as above.
struct Blocks;
bool build_finest(Arena&, const Blocks&, int stem_size, int parts, Pyramid*);

}  // namespace pd
