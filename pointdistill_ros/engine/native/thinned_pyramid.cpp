// SPDX-License-Identifier: Apache-2.0
// A pyramid of the voxels that stayed, in which the others still count as neighbours.
#include <cstring>
#include <new>

#include "thinning.h"

namespace pd {
namespace {

// Rows of one stage: which stay, and who speaks for each.
struct Selection {
  int32_t rows, count;   // before, after
  const int32_t* kept;   // [count]
  const int32_t* owner;  // [rows]
};

template <class T>
T* pick(Arena& arena, const T* from, const Selection& s) {
  T* to = arena.take<T>(s.count);
  for (int32_t i = 0; i < s.count; ++i) to[i] = from[s.kept[i]];
  return to;
}

// [27][count]
int32_t* lend_neighbours(Arena& arena, const int32_t* full, const Selection& s, int threads) {
  int32_t* to = arena.take<int32_t>(std::size_t{27} * s.count);
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1 && s.count > 4096)
  for (int k = 0; k < 27; ++k) {
    const int32_t* from = full + std::size_t(k) * s.rows;
    int32_t* row = to + std::size_t(k) * s.count;
    for (int32_t i = 0; i < s.count; ++i) {
      const int32_t neighbour = from[s.kept[i]];
      row[i] = neighbour < 0 ? -1 : s.owner[neighbour];
    }
  }
  return to;
}

void lend_stem(Arena& arena, const Pyramid& full, const Selection& s, Pyramid* out) {
  out->stem_begin = arena.take<int32_t>(static_cast<std::size_t>(s.count) + 1);
  out->stem_begin[0] = 0;
  for (int32_t i = 0; i < s.count; ++i)
    out->stem_begin[i + 1] =
        out->stem_begin[i] + full.stem_begin[s.kept[i] + 1] - full.stem_begin[s.kept[i]];
  out->stem_row = arena.take<int32_t>(out->stem_begin[s.count]);
  out->stem_offset = arena.take<uint8_t>(out->stem_begin[s.count]);
  for (int32_t i = 0; i < s.count; ++i) {
    const int32_t from = full.stem_begin[s.kept[i]], to = out->stem_begin[i];
    const int32_t pairs = out->stem_begin[i + 1] - to;
    for (int32_t pair = 0; pair < pairs; ++pair)
      out->stem_row[to + pair] = s.owner[full.stem_row[from + pair]];
    std::memcpy(out->stem_offset + to, full.stem_offset + from, pairs);
  }
}

// The same walk, past the rows that went. position: [rows] in kept, -1 = nowhere.
int32_t* shorten(Arena& arena, const int32_t* order, const int32_t* position,
                 const Selection& s) {
  int32_t* to = arena.take<int32_t>(s.count);
  int32_t count = 0;
  for (int32_t i = 0; i < s.rows; ++i)
    if (position[order[i]] >= 0) to[count++] = position[order[i]];
  return to;
}

// parent and child_begin of a thinned stage; answers the selection of the next.
Selection ascend(Arena& arena, const Level& fine, int32_t parents, const Selection& s,
                 Level* out) {
  int32_t* kept = arena.take<int32_t>(parents);
  int32_t* owner = arena.take<int32_t>(parents);
  out->parent = arena.take<int32_t>(s.count);
  int32_t count = 0;
  for (int32_t i = 0; i < s.count; ++i) {
    const int32_t parent = fine.parent[s.kept[i]];
    if (!count || kept[count - 1] != parent) kept[count++] = parent;
    out->parent[i] = count - 1;
  }
  out->child_begin = arena.take<int32_t>(static_cast<std::size_t>(count) + 1);
  for (int32_t i = s.count - 1; i >= 0; --i) out->child_begin[out->parent[i]] = i;
  out->child_begin[count] = s.count;
  // a cell that went whole is spoken for by the cell of the voxel that speaks for its own
  for (int32_t i = 0; i < s.rows; ++i) owner[fine.parent[i]] = out->parent[s.owner[i]];
  return {parents, count, kept, owner};
}

void thin_level(Arena& arena, const Level& full, int32_t scans, const Selection& s, int threads,
                Level* out) {
  out->rows = s.count;
  out->code = pick(arena, full.code, s);
  out->neighbours = lend_neighbours(arena, full.neighbours, s, threads);
  out->offsets = arena.take<int32_t>(static_cast<std::size_t>(scans) + 1);
  for (int32_t scan = 0, row = 0; scan <= scans; ++scan) {
    while (row < s.count && s.kept[row] < full.offsets[scan]) ++row;
    out->offsets[scan] = row;
  }
  int32_t* position = nullptr;
  for (int curve = 0; curve < 4; ++curve) {
    if (!full.order[curve]) continue;
    if (!position) {
      position = arena.take<int32_t>(s.rows);
      std::memset(position, 0xFF, sizeof(int32_t) * static_cast<std::size_t>(s.rows));
      for (int32_t i = 0; i < s.count; ++i) position[s.kept[i]] = i;
    }
    out->order[curve] = shorten(arena, full.order[curve], position, s);
  }
}

// Whether kept ascends within the rows and every owner is an index into it.
bool valid(const Pyramid& full, const Thinning& t) {
  if (full.levels < 1 || full.levels > MAX_LEVELS || t.voxels != full.level[0].rows ||
      t.rows < 1 || t.rows > t.voxels || !t.kept || !t.owner)
    return false;
  for (int32_t i = 0; i < t.rows; ++i)
    if (t.kept[i] < 0 || t.kept[i] >= t.voxels || (i && t.kept[i] <= t.kept[i - 1])) return false;
  for (int32_t i = 0; i < t.voxels; ++i)
    if (t.owner[i] < 0 || t.owner[i] >= t.rows) return false;
  return true;
}

}  // namespace

Status thin_pyramid(Arena& arena, const Pyramid& full, const Thinning& thinning, int threads,
                    Pyramid* out) {
  *out = {};
  if (threads < 1 || !valid(full, thinning)) return BAD_ARGUMENT;
  try {
    Selection s = {thinning.voxels, thinning.rows, thinning.kept, thinning.owner};
    lend_stem(arena, full, s, out);
    for (int level = 0; level < full.levels; ++level) {
      if (s.count == s.rows) {  // nothing went here, so nothing went further up
        out->level[level] = full.level[level];
        continue;
      }
      thin_level(arena, full.level[level], full.scans, s, threads, &out->level[level]);
      if (level + 1 < full.levels)
        s = ascend(arena, full.level[level], full.level[level + 1].rows, s, &out->level[level]);
    }
  } catch (const std::bad_alloc&) {
    *out = {};
    return OUT_OF_MEMORY;
  }
  out->levels = full.levels;
  out->scans = full.scans;
  return OK;
}

Status thin_voxels(Arena& arena, const Thinning& thinning, int32_t points, Voxels* voxels) {
  if (points < 0 || !voxels || voxels->rows != thinning.voxels) return BAD_ARGUMENT;
  try {
    const Selection s = {thinning.voxels, thinning.rows, thinning.kept, thinning.owner};
    uint64_t* code = pick(arena, voxels->code, s);
    int32_t* point = pick(arena, voxels->point, s);
    int32_t* inverse = arena.take<int32_t>(points);
    for (int32_t i = 0; i < points; ++i)
      inverse[i] = voxels->inverse[i] < 0 ? -1 : s.owner[voxels->inverse[i]];
    *voxels = {s.count, code, inverse, point};
  } catch (const std::bad_alloc&) {
    return OUT_OF_MEMORY;
  }
  return OK;
}

}  // namespace pd
