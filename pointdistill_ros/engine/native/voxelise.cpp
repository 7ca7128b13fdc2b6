// SPDX-License-Identifier: Apache-2.0
// Points -> voxels in z order. Twin of model/voxels.py.
#include <cmath>
#include <limits>

#include "cloud.h"
#include "geometry.h"
#include "morton.h"
#include "parallel.h"
#include "radix.h"

namespace pd {
namespace {

constexpr double MOST_CELLS = 1 << DEPTH;

// What a part of the points says about the scan.
struct alignas(64) Extent {
  float low[3], high[3];
  int32_t valid;
};

// Smallest and largest coordinate of the valid points, and how many there are in each part.
Extent measure(const Cloud& cloud, Extent* per_part, int parts) {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  run(parts, [&](int part) PD_BODY {
    // Blocks of valid points, the rule, as plain floats: lane j holds axis j % 3.
    constexpr int LANES = 48;
    float low[LANES], high[LANES];
    for (int j = 0; j < LANES; ++j) {
      low[j] = infinity;
      high[j] = -infinity;
    }
    int32_t valid = 0;
    Range range = part_of(cloud.points, parts, part);
    for (int64_t begin = range.begin; begin < range.end; begin += BLOCK) {
      int64_t end = begin + BLOCK < range.end ? begin + BLOCK : range.end;
      if (end - begin == BLOCK && cloud.all_valid(begin)) {
        const float* values = cloud.xyz + 3 * begin;
        for (int i = 0; i < 3 * BLOCK; i += LANES) {
          for (int j = 0; j < LANES; ++j) {
            low[j] = values[i + j] < low[j] ? values[i + j] : low[j];
            high[j] = values[i + j] > high[j] ? values[i + j] : high[j];
          }
        }
        valid += BLOCK;
        continue;
      }
      for (int64_t i = begin; i < end; ++i) {
        if (!cloud.valid(i)) continue;
        ++valid;
        for (int axis = 0; axis < 3; ++axis) {
          float value = cloud.xyz[3 * i + axis];
          low[axis] = value < low[axis] ? value : low[axis];
          high[axis] = value > high[axis] ? value : high[axis];
        }
      }
    }
    for (int j = 3; j < LANES; ++j) {
      low[j % 3] = low[j] < low[j % 3] ? low[j] : low[j % 3];
      high[j % 3] = high[j] > high[j % 3] ? high[j] : high[j % 3];
    }
    Extent& mine = per_part[part];
    mine.valid = valid;
    for (int axis = 0; axis < 3; ++axis) {
      mine.low[axis] = low[axis];
      mine.high[axis] = high[axis];
    }
  });
  Extent all = per_part[0];
  for (int part = 1; part < parts; ++part) {
    const Extent& other = per_part[part];
    all.valid += other.valid;
    for (int axis = 0; axis < 3; ++axis) {
      all.low[axis] = std::fmin(all.low[axis], other.low[axis]);
      all.high[axis] = std::fmax(all.high[axis], other.high[axis]);
    }
  }
  return all;
}

// One item (z code, point) for each valid point; inverse = -1 for the others.
template <class Item>
void make_items(const Cloud& cloud, const double first_cell[3], const Extent* per_part, int parts,
                const Packing& packing, Item* items, int32_t* inverse) {
  run(parts, [&](int part) PD_BODY {
    Item* out = items;
    for (int before = 0; before < part; ++before) out += per_part[before].valid;
    Range range = part_of(cloud.points, parts, part);
    float axes[3][BLOCK];
    uint32_t cells[3][BLOCK], index[BLOCK];
    for (int64_t begin = range.begin; begin < range.end; begin += BLOCK) {
      int64_t end = begin + BLOCK < range.end ? begin + BLOCK : range.end;
      int count = 0;
      if (end - begin == BLOCK && cloud.all_valid(begin)) {
        count = BLOCK;
        for (int j = 0; j < BLOCK; ++j) {
          for (int axis = 0; axis < 3; ++axis) axes[axis][j] = cloud.xyz[3 * (begin + j) + axis];
          index[j] = static_cast<uint32_t>(begin + j);
        }
      } else {
        for (int64_t i = begin; i < end; ++i) {
          for (int axis = 0; axis < 3; ++axis) axes[axis][count] = cloud.xyz[3 * i + axis];
          index[count] = static_cast<uint32_t>(i);
          count += cloud.valid(i);
          inverse[i] = -1;
        }
      }
      for (int axis = 0; axis < 3; ++axis) {
        double grid_size = cloud.grid_size, first = first_cell[axis];
        for (int j = 0; j < count; ++j) {
          // float64 like numpy; the difference lies in [0, 65535]
          double cell = std::floor(static_cast<double>(axes[axis][j]) / grid_size) - first;
          cells[axis][j] = static_cast<uint32_t>(static_cast<int32_t>(cell));
        }
      }
      for (int j = 0; j < count; ++j)
        set_item(out[j], interleave(cells[0][j], cells[1][j], cells[2][j]), index[j], packing);
      out += count;
    }
  });
}

// Runs of equal codes in the sorted items become voxels.
template <class Item>
void make_voxels(Arena& arena, const Cloud& cloud, const Item* items, int64_t count,
                 const Packing& packing, int parts, Voxels* out) {
  auto head = [&](int64_t i) PD_BODY {
    return i == 0 || key_of(items[i], packing) != key_of(items[i - 1], packing);
  };
  auto next_head = [&](int64_t i) PD_BODY {
    while (i < count && !head(i)) ++i;
    return i;
  };
  int32_t* first_row = arena.take<int32_t>(static_cast<std::size_t>(parts) + 1);
  if (parts > 1) {
    first_row[0] = 0;
    run(parts, [&](int part) PD_BODY {
      Range range = part_of(count, parts, part);
      int32_t heads = 0;
      for (int64_t i = range.begin; i < range.end; ++i) heads += head(i);
      first_row[part + 1] = heads;
    });
    for (int part = 0; part < parts; ++part) first_row[part + 1] += first_row[part];
  }
  run(parts, [&](int part) PD_BODY {
    int32_t row = parts > 1 ? first_row[part] : 0;
    Range range = part_of(count, parts, part);  // whole runs: from head to head
    range = {next_head(range.begin), next_head(range.end)};
    for (int64_t i = range.begin; i < range.end; ++row) {
      uint64_t code = key_of(items[i], packing);
      uint32_t best = row_of(items[i], packing);
      out->inverse[best] = row;
      if (++i < range.end && key_of(items[i], packing) == code) {
        int64_t best_key = position_key(cloud, best);
        for (; i < range.end && key_of(items[i], packing) == code; ++i) {
          uint32_t point = row_of(items[i], packing);
          out->inverse[point] = row;
          int64_t key = position_key(cloud, point);
          if (key < best_key || (key == best_key && exactly_less(cloud, point, best))) {
            best = point;
            best_key = key;
          }
        }
      }
      out->code[row] = code;
      out->point[row] = static_cast<int32_t>(best);
    }
    if (parts == 1) first_row[1] = row;
  });
  out->rows = first_row[parts];
}

template <class Item>
void sort_into_voxels(Arena& arena, const Cloud& cloud, const double first_cell[3],
                      const Extent* per_part, int64_t valid, const Packing& packing, int parts,
                      Voxels* out) {
  Item* items = arena.take<Item>(static_cast<std::size_t>(valid));
  Item* spare = arena.take<Item>(static_cast<std::size_t>(valid));
  make_items(cloud, first_cell, per_part, parts, packing, items, out->inverse);
  items = radix_sort(arena, items, spare, valid, packing, parts);
  make_voxels(arena, cloud, items, valid, packing, parts, out);
}

Status voxelise_cloud(Arena& arena, const Cloud& cloud, int threads, Voxels* out) {
  std::size_t points = static_cast<std::size_t>(cloud.points);
  out->rows = 0;
  out->inverse = arena.take<int32_t>(points);
  out->point = arena.take<int32_t>(points);
  out->code = arena.take<uint64_t>(points);
  Arena::Mark results = arena.mark();
  int parts = parts_for(cloud.points, threads);
  Extent* per_part = arena.take<Extent>(static_cast<std::size_t>(parts));
  Extent all = measure(cloud, per_part, parts);
  if (all.valid == 0) {
    for (std::size_t i = 0; i < points; ++i) out->inverse[i] = -1;
    arena.rewind(results);
    return OK;
  }
  double first_cell[3];
  int most_bits = 0;
  for (int axis = 0; axis < 3; ++axis) {
    first_cell[axis] = std::floor(static_cast<double>(all.low[axis]) / cloud.grid_size);
    double last = std::floor(static_cast<double>(all.high[axis]) / cloud.grid_size);
    double span = last - first_cell[axis];
    if (!(span < MOST_CELLS)) return TOO_FAR;  // also where it is not a number
    int bits = bit_length(static_cast<uint64_t>(span));
    if (bits > most_bits) most_bits = bits;
  }
  Packing packed = packing(3 * most_bits, cloud.points);
  if (packed.fits()) {
    sort_into_voxels<PackedItem>(arena, cloud, first_cell, per_part, all.valid, packed, parts, out);
  } else {
    sort_into_voxels<WideItem>(arena, cloud, first_cell, per_part, all.valid, packed, parts, out);
  }
  arena.rewind(results);
  return OK;
}

}  // namespace

Status voxelise(Arena& arena, const float* xyz, const float* intensity, int32_t points,
                double grid_size, float max_range, int threads, Voxels* out) {
  if (!out) return BAD_ARGUMENT;
  *out = {};
  bool grid_ok = grid_size > 0 && grid_size < std::numeric_limits<double>::infinity();
  if (points < 0 || threads < 1 || !grid_ok || (points > 0 && (!xyz || !intensity)))
    return BAD_ARGUMENT;
  Arena::Mark before = arena.mark();
  Status status;
  try {
    status = voxelise_cloud(arena, {xyz, intensity, points, grid_size, max_range}, threads, out);
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
