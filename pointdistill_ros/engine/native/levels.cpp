// SPDX-License-Identifier: Apache-2.0
// Stages by shifting z codes: rows of a coarser stage are runs of equal prefixes. Twin of
// model/pyramid.py.
#include <algorithm>

#include "geometry.h"
#include "morton.h"
#include "parallel.h"
#include "radix.h"
#include "runs.h"
#include "stages.h"

namespace pd {

std::atomic<int> geometry_tier{best_tier()};

void cell_of(uint64_t code, int32_t cell[3]) {
  for (int axis = 0; axis < 3; ++axis)
    cell[axis] = static_cast<int32_t>(gather(code >> (2 - axis)));
}

namespace {

// Codes increase strictly, scans count up from 0 without a gap; how many bits cells have.
Status survey(const uint64_t* code, int32_t rows, int32_t scans, int parts, int* cell_bits) {
  uint64_t all[MAX_PARTS];
  int64_t scan_heads[MAX_PARTS];
  bool sorted[MAX_PARTS];
  run(parts, [&](int part) PD_BODY {
    Range range = part_of(rows, parts, part);
    if (range.begin == 0) range.begin = 1;
    uint64_t bits = code[0], wrong = 0;
    int64_t heads = 0;
    for (int64_t i = range.begin; i < range.end; ++i) {
      bits |= code[i];
      wrong |= code[i] <= code[i - 1];
      heads += ((code[i] ^ code[i - 1]) >> 48) != 0;
    }
    all[part] = bits;
    scan_heads[part] = heads;
    sorted[part] = wrong == 0;
  });
  int64_t found = 1;
  uint64_t bits = 0;
  for (int part = 0; part < parts; ++part) {
    if (!sorted[part]) return NOT_SORTED;
    found += scan_heads[part];
    bits |= all[part];
  }
  if (found != scans || code[rows - 1] >> 48 != static_cast<uint64_t>(scans - 1))
    return BAD_ARGUMENT;
  *cell_bits = (bit_length(bits & CELL_BITS) + 2) / 3;
  return OK;
}

int32_t count_runs(const uint64_t* code, int32_t rows, int shift, int parts) {
  int32_t heads[MAX_PARTS];
  run(parts, [&](int part) PD_BODY {
    Range range = part_of(rows, parts, part);
    if (range.begin == 0) range.begin = 1;
    int32_t here = 0;
    for (int64_t i = range.begin; i < range.end; ++i)
      here += ((code[i] ^ code[i - 1]) >> (3 * shift)) != 0;
    heads[part] = here;
  });
  int32_t total = 1;
  for (int part = 0; part < parts; ++part) total += heads[part];
  return total;
}

// code of the next stage, parent and child_begin of this one
void link(const Level& fine, const Level& coarse, int shift, int parts) {
  auto head = [&](int64_t i) PD_BODY {
    return i == 0 || ((fine.code[i] ^ fine.code[i - 1]) >> (3 * shift)) != 0;
  };
  RunParts runs = split_runs(fine.rows, parts, head);
  fine.child_begin[0] = 0;
  run(parts, [&](int part) PD_BODY {
    int32_t row = runs.run[part] - 1;
    for (int64_t i = runs.begin[part]; i < runs.begin[part + 1]; ++i) {
      row += head(i);
      fine.parent[i] = row;
      fine.child_begin[row + 1] = static_cast<int32_t>(i + 1);  // the last child's stays
      coarse.code[row] = coarser(fine.code[i], shift);
    }
  });
}

void find_scans(const Level& level, int32_t scans) {
  for (int32_t scan = 0; scan < scans; ++scan) {
    uint64_t first = static_cast<uint64_t>(scan) << 48;
    level.offsets[scan] = static_cast<int32_t>(
        std::lower_bound(level.code, level.code + level.rows, first) - level.code);
  }
  level.offsets[scans] = level.rows;
}

bool shape_is_valid(const PyramidShape& shape) {
  if (shape.levels < 1 || shape.levels > MAX_LEVELS) return false;
  if (shape.depth < 1 || shape.depth > DEPTH) return false;
  if (shape.stem_size != 3 && shape.stem_size != 5) return false;
  int total = 0;
  for (int s = 0; s + 1 < shape.levels; ++s) {
    if (shape.shift[s] < 1 || shape.shift[s] > DEPTH) return false;
    total += shape.shift[s];
  }
  return total <= shape.depth;
}

Status build(Arena& arena, const uint64_t* code, Batch& batch, const PyramidShape& shape,
             int threads, Pyramid* out) {
  int32_t rows = batch.rows;
  int parts = parts_for(rows, threads, 16384);
  Status status = survey(code, rows, batch.scans, parts, &batch.cell_bits);
  if (status != OK) return status;
  if (batch.cell_bits > shape.depth) return BAD_ARGUMENT;
  out->levels = shape.levels;
  out->scans = batch.scans;
  for (int s = 0; s < shape.levels; ++s) {
    Level& level = out->level[s];
    batch.shift[s] = s == 0 ? 0 : batch.shift[s - 1] + shape.shift[s - 1];
    level.rows = s == 0 ? rows : count_runs(out->level[s - 1].code, out->level[s - 1].rows,
                                            shape.shift[s - 1], parts);
    std::size_t count = static_cast<std::size_t>(level.rows);
    level.code = arena.take<uint64_t>(count);
    level.offsets = arena.take<int32_t>(static_cast<std::size_t>(batch.scans) + 1);
    level.neighbours = arena.take<int32_t>(27 * count);
    for (int curve = 1; curve < 4; ++curve)
      if (shape.curves[s] >> curve & 1) level.order[curve] = arena.take<int32_t>(count);
    if (s == 0) {
      std::copy(code, code + rows, level.code);
    } else {
      Level& fine = out->level[s - 1];
      fine.parent = arena.take<int32_t>(static_cast<std::size_t>(fine.rows));
      fine.child_begin = arena.take<int32_t>(count + 1);
      link(fine, level, shape.shift[s - 1], parts);
    }
    find_scans(level, batch.scans);
  }
  build_orders(arena, batch, shape, threads, out);
  return build_neighbours(arena, batch, threads, out) ? OK : OUT_OF_MEMORY;
}

}  // namespace

Status build_pyramid(Arena& arena, const uint64_t* code, int32_t rows, int32_t scans,
                     const PyramidShape& shape, int threads, Pyramid* out) {
  if (!out) return BAD_ARGUMENT;
  *out = {};
  if (!code || rows < 1 || scans < 1 || scans > rows || threads < 1 || !shape_is_valid(shape))
    return BAD_ARGUMENT;
  Arena::Mark before = arena.mark();
  Batch batch = {rows, scans, 0, shape.stem_size, {}};
  Status status;
  try {
    status = build(arena, code, batch, shape, threads, out);
  } catch (const std::bad_alloc&) {
    status = OUT_OF_MEMORY;
  }
  if (status != OK) {
    arena.rewind(before);
    *out = {};
  }
  return status;
}

}  // namespace pd
