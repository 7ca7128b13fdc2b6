// SPDX-License-Identifier: Apache-2.0
// Groups of voxels are runs of z codes, so everything is one pass over the codes per octree level.
#include "thinning.h"

#include <cmath>
#include <new>

#include "morton.h"

namespace pd {
namespace {

constexpr int RINGS = 256;      // of 16 cells
constexpr int KEYS = 8 * RINGS;

// Bits in which a code differs from the one before; the first differs at every level.
uint64_t differs(const uint64_t* code, int64_t i) {
  return i ? code[i] ^ code[i - 1] : uint64_t{1} << 62;
}

// Squared horizontal distance, in cells, of the centre of the code's cell (level >= 1).
int64_t squared_range(uint64_t code, const int32_t sensor[2], int level) {
  const int64_t middle = int64_t{1} << (level - 1);
  const int64_t x = (int64_t{gather(code >> 2)} >> level << level) + middle - sensor[0];
  const int64_t y = (int64_t{gather(code >> 1)} >> level << level) + middle - sensor[1];
  return x * x + y * y;
}

Status check(const uint64_t* code, int32_t rows, const int32_t sensor[2]) {
  if (rows < 0 || (rows && !code) || !sensor) return BAD_ARGUMENT;
  for (int axis = 0; axis < 2; ++axis)
    if (sensor[axis] < -(1 << 30) || sensor[axis] > 1 << 30) return BAD_ARGUMENT;
  for (int32_t i = 0; i < rows; ++i)
    if (code[i] > CELL_BITS || (i && code[i] <= code[i - 1])) return NOT_SORTED;
  return OK;
}

// Where runs of voxels begin.
struct Groups {
  int32_t count;
  int32_t* start;
};

// Merge the groups of the densest cells, then of the nearest, until `excess` of them are gone.
// first: [cells + 1] the first group of each cell.
int32_t merge_cells(const uint64_t* code, const int32_t sensor[2], int level, int32_t cells,
                    const int32_t* first, int64_t excess, int32_t* key, Groups* groups) {
  int64_t saving[KEYS] = {};
  for (int32_t cell = 0; cell < cells; ++cell) {
    const int32_t size = first[cell + 1] - first[cell];
    const double range = std::sqrt(static_cast<double>(
        squared_range(code[groups->start[first[cell]]], sensor, level)));
    const int64_t ring = static_cast<int64_t>(range) >> 4;
    key[cell] = (8 - size) * RINGS + static_cast<int32_t>(ring < RINGS - 1 ? ring : RINGS - 1);
    saving[key[cell]] += size - 1;
  }
  int32_t last = 0;
  while (last < KEYS - 1 && saving[last] < excess) excess -= saving[last++];
  int32_t count = 0;
  for (int32_t cell = 0; cell < cells; ++cell) {
    const int32_t size = first[cell + 1] - first[cell];
    bool merge = key[cell] < last;
    if (key[cell] == last && excess > 0) {
      merge = true;
      excess -= size - 1;
    }
    for (int32_t group = 0; group < (merge ? 1 : size); ++group)
      groups->start[count++] = groups->start[first[cell] + group];
  }
  return count;
}

// Merge groups, level by level, until `most` are left.
void cap(Arena& arena, const uint64_t* code, const int32_t sensor[2], int32_t most,
         Groups* groups) {
  int32_t* first = arena.take<int32_t>(static_cast<std::size_t>(groups->count) + 1);
  int32_t* key = arena.take<int32_t>(groups->count);
  for (int level = 1; level <= DEPTH && groups->count > most; ++level) {
    int32_t cells = 0;
    for (int32_t group = 0; group < groups->count; ++group) {
      const int32_t here = groups->start[group];
      const uint64_t bits =
          group ? code[here] ^ code[groups->start[group - 1]] : uint64_t{1} << 62;
      if (bits >> (3 * level)) first[cells++] = group;
    }
    first[cells] = groups->count;
    if (cells < most) {
      groups->count =
          merge_cells(code, sensor, level, cells, first, groups->count - most, key, groups);
    } else {
      for (int32_t cell = 0; cell < cells; ++cell) groups->start[cell] = groups->start[first[cell]];
      groups->count = cells;
    }
  }
}

// The row of [begin, end) nearest to the centroid (in 16ths of a cell), the first among equals.
int32_t spokesman(const uint64_t* code, int32_t begin, int32_t end) {
  if (end - begin == 1) return begin;
  int64_t sum[3] = {};
  for (int32_t i = begin; i < end; ++i)
    for (int axis = 0; axis < 3; ++axis) sum[axis] += gather(code[i] >> axis);
  int64_t centroid[3];
  for (int axis = 0; axis < 3; ++axis) centroid[axis] = 16 * sum[axis] / (end - begin);
  int32_t best = begin;
  int64_t least = INT64_MAX;
  for (int32_t i = begin; i < end; ++i) {
    int64_t distance = 0;
    for (int axis = 0; axis < 3; ++axis) {
      const int64_t apart = 16 * int64_t{gather(code[i] >> axis)} - centroid[axis];
      distance += apart * apart;
    }
    if (distance < least) {
      least = distance;
      best = i;
    }
  }
  return best;
}

}  // namespace

Status thin(Arena& arena, const uint64_t* code, int32_t rows, const int32_t sensor[2],
            const Degradation& step, Thinning* out) {
  *out = {};
  if (step.max_voxels < 0) return BAD_ARGUMENT;
  if (Status bad = check(code, rows, sensor)) return bad;
  try {
    out->kept = arena.take<int32_t>(rows);
    out->owner = arena.take<int32_t>(rows);
    const Arena::Mark mark = arena.mark();
    Groups groups = {0, arena.take<int32_t>(rows)};
    for (int32_t i = 0; i < rows; ++i) {
      const bool thinned = step.coarse || (step.near_limit >= 0 &&
                                           squared_range(code[i], sensor, 1) <= step.near_limit);
      if (differs(code, i) >> (thinned ? 3 : 0)) groups.start[groups.count++] = i;
    }
    if (step.max_voxels) cap(arena, code, sensor, step.max_voxels, &groups);
    for (int32_t group = 0; group < groups.count; ++group) {
      const int32_t begin = groups.start[group];
      const int32_t end = group + 1 < groups.count ? groups.start[group + 1] : rows;
      out->kept[group] = spokesman(code, begin, end);
      for (int32_t i = begin; i < end; ++i) out->owner[i] = group;
    }
    out->voxels = rows;
    out->rows = groups.count;
    arena.rewind(mark);
  } catch (const std::bad_alloc&) {
    return OUT_OF_MEMORY;
  }
  return OK;
}

Status count_voxels(const uint64_t* code, int32_t rows, const int32_t sensor[2],
                    int64_t near_limit, int32_t levels, const int32_t* shift, VoxelCounts* out) {
  *out = {};
  if (levels < 1 || levels > MAX_LEVELS || (levels > 1 && !shift)) return BAD_ARGUMENT;
  int bits[MAX_LEVELS] = {};
  for (int level = 1; level < levels; ++level) {
    if (shift[level - 1] < 1 || shift[level - 1] > DEPTH) return BAD_ARGUMENT;
    bits[level] = bits[level - 1] + 3 * shift[level - 1];
    if (bits[level] > 3 * DEPTH) return BAD_ARGUMENT;
  }
  if (Status bad = check(code, rows, sensor)) return bad;
  for (int32_t i = 0; i < rows; ++i) {
    const uint64_t changed = differs(code, i);
    for (int level = 0; level < levels; ++level) out->stages[level] += (changed >> bits[level]) != 0;
    const bool parent = (changed >> 3) != 0;
    out->coarse += parent;
    out->near += parent || squared_range(code[i], sensor, 1) > near_limit;
  }
  return OK;
}

}  // namespace pd
