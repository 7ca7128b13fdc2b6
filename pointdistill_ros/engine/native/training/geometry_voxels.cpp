// SPDX-License-Identifier: Apache-2.0
// Points of one scan grouped by voxel, as the arrays of model/voxels.py; which of them represents a
// voxel is drawn by the caller.
#include <cmath>

#include "api.h"
#include "arena.h"
#include "geometry.h"
#include "morton.h"
#include "parallel.h"
#include "radix.h"

namespace {

constexpr int32_t MOST_POINTS = 1 << 27;
constexpr double MOST_CELLS = 1 << pd::DEPTH;

struct Points {
  const float* xyz;  // [count][3]
  int32_t count;
  double grid_size;
};

// First cell and number of cells per axis; not finite where a point is not.
void measure(const Points& points, double first[3], double span[3]) {
  for (int axis = 0; axis < 3; ++axis) {
    float low = points.xyz[axis], high = low, sum = 0;
    pd::run(1, [&](int) PD_BODY {
      for (int32_t i = 0; i < points.count; ++i) {
        const float x = points.xyz[3 * static_cast<int64_t>(i) + axis];
        low = x < low ? x : low;
        high = x > high ? x : high;
        sum += x * 0.0f;  // 0, or NaN
      }
    });
    first[axis] = std::floor(static_cast<double>(low) / points.grid_size);
    span[axis] = std::floor(static_cast<double>(high) / points.grid_size) - first[axis] + sum;
  }
}

template <class Item>
int32_t group(pd::Arena& arena, const Points& points, const double first[3],
              const pd::Packing& packing, int64_t* coords, int64_t* inverse, int64_t* order,
              int64_t* start) {
  const std::size_t count = static_cast<std::size_t>(points.count);
  Item* items = arena.take<Item>(count);
  Item* spare = arena.take<Item>(count);
  pd::run(1, [&](int) PD_BODY {
    for (int32_t i = 0; i < points.count; ++i) {
      uint32_t cell[3];
      for (int axis = 0; axis < 3; ++axis) {
        const double x = points.xyz[3 * static_cast<int64_t>(i) + axis];
        cell[axis] = static_cast<uint32_t>(
            static_cast<int32_t>(std::floor(x / points.grid_size) - first[axis]));
      }
      pd::set_item(items[i], pd::interleave(cell[0], cell[1], cell[2]), static_cast<uint32_t>(i),
                   packing);
    }
  });
  items = pd::radix_sort(arena, items, spare, points.count, packing, 1);
  int32_t rows = 0;
  pd::run(1, [&](int) PD_BODY {
    uint64_t last = ~uint64_t{0};
    for (int32_t i = 0; i < points.count; ++i) {
      const uint64_t code = pd::key_of(items[i], packing);
      if (code != last) {
        start[rows] = i;
        coords[3 * rows] = pd::gather(code >> 2);
        coords[3 * rows + 1] = pd::gather(code >> 1);
        coords[3 * rows + 2] = pd::gather(code);
        ++rows;
        last = code;
      }
      const uint32_t point = pd::row_of(items[i], packing);
      order[i] = point;
      inverse[point] = rows - 1;
    }
    start[rows] = points.count;
  });
  return rows;
}

}  // namespace

// xyz: float32 [count][3], count >= 1. Room: coords [count][3], inverse and order [count], start
// [count + 1]; rows: how many voxels there are. TOO_FAR where the scan spans 2^16 cells along an
// axis, BAD_ARGUMENT where a point is not finite.
PD_API int32_t pd_training_voxelise(const float* xyz, int64_t count, double grid_size,
                                    int64_t* coords, int64_t* inverse, int64_t* order,
                                    int64_t* start, int64_t* rows) {
  const bool grid_ok = grid_size > 0 && std::isfinite(grid_size);
  if (!xyz || count < 1 || count > MOST_POINTS || !grid_ok || !coords || !inverse || !order ||
      !start || !rows)
    return pd::BAD_ARGUMENT;
  const Points points = {xyz, static_cast<int32_t>(count), grid_size};
  double first[3], span[3];
  measure(points, first, span);
  int bits = 0;
  for (double cells : span) {
    if (std::isnan(cells) || std::isinf(cells)) return pd::BAD_ARGUMENT;
    if (cells >= MOST_CELLS) return pd::TOO_FAR;
    const int length = pd::bit_length(static_cast<uint64_t>(cells));
    bits = length > bits ? length : bits;
  }
  const pd::Packing packing = pd::packing(3 * bits, count);
  static thread_local pd::Arena arena;
  try {
    arena.reset();
    *rows = packing.fits() ? group<pd::PackedItem>(arena, points, first, packing, coords, inverse,
                                                   order, start)
                           : group<pd::WideItem>(arena, points, first, packing, coords, inverse,
                                                 order, start);
  } catch (const std::bad_alloc&) {
    return pd::OUT_OF_MEMORY;
  }
  return pd::OK;
}
