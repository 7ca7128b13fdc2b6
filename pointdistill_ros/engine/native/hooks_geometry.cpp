// SPDX-License-Identifier: Apache-2.0
// Geometry, array by array, for tests.
#include <cstring>
#include <new>

#include "api.h"
#include "arena.h"
#include "geometry.h"
#include "parallel.h"

namespace {

struct Handle {
  pd::Arena arena;
  int32_t points = 0;
  pd::Voxels voxels = {};
  pd::Pyramid pyramid = {};
};

// Numbers as in tests/engine/test_geometry.py.
enum Array : int32_t {
  VOXEL_CODE, VOXEL_INVERSE, VOXEL_POINT, STEM_BEGIN, STEM_ROW, STEM_OFFSET,
  CODE, OFFSETS, PARENT, CHILD_BEGIN, NEIGHBOURS, ORDER,  // ORDER + curve
};

struct Bytes {
  const void* data;
  int64_t size;
};

template <class T>
Bytes bytes_of(const T* data, int64_t count) {
  return {data, data ? count * static_cast<int64_t>(sizeof(T)) : -1};
}

Bytes find(const Handle& handle, int32_t array, int32_t stage) {
  const pd::Voxels& voxels = handle.voxels;
  const pd::Pyramid& pyramid = handle.pyramid;
  int32_t rows = pyramid.levels ? pyramid.level[0].rows : 0;
  switch (array) {
    case VOXEL_CODE: return bytes_of(voxels.code, voxels.rows);
    case VOXEL_INVERSE: return bytes_of(voxels.inverse, handle.points);
    case VOXEL_POINT: return bytes_of(voxels.point, voxels.rows);
    case STEM_BEGIN: return bytes_of(pyramid.stem_begin, int64_t{rows} + 1);
    case STEM_ROW: return bytes_of(pyramid.stem_row, rows ? pyramid.stem_begin[rows] : 0);
    case STEM_OFFSET: return bytes_of(pyramid.stem_offset, rows ? pyramid.stem_begin[rows] : 0);
    default: break;
  }
  if (stage < 0 || stage >= pyramid.levels) return {nullptr, -1};
  const pd::Level& level = pyramid.level[stage];
  switch (array) {
    case CODE: return bytes_of(level.code, level.rows);
    case OFFSETS: return bytes_of(level.offsets, int64_t{pyramid.scans} + 1);
    case PARENT: return bytes_of(level.parent, level.rows);
    case CHILD_BEGIN:
      return bytes_of(level.child_begin,
                      stage + 1 < pyramid.levels ? int64_t{pyramid.level[stage + 1].rows} + 1 : 0);
    case NEIGHBOURS: return bytes_of(level.neighbours, 27 * int64_t{level.rows});
    default: break;
  }
  if (array >= ORDER && array < ORDER + 4) return bytes_of(level.order[array - ORDER], level.rows);
  return {nullptr, -1};
}

}  // namespace

PD_API void* pd_geometry_create() { return new (std::nothrow) Handle; }

PD_API void pd_geometry_destroy(void* handle) { delete static_cast<Handle*>(handle); }

// Forgets the arrays and keeps the memory.
PD_API int32_t pd_geometry_reset(void* handle) {
  if (!handle) return pd::BAD_ARGUMENT;
  Handle& h = *static_cast<Handle*>(handle);
  h.voxels = {};
  h.pyramid = {};
  try {
    h.arena.reset();
  } catch (const std::bad_alloc&) {
    return pd::OUT_OF_MEMORY;
  }
  return pd::OK;
}

PD_API int64_t pd_geometry_memory(const void* handle) {
  return handle ? static_cast<int64_t>(static_cast<const Handle*>(handle)->arena.bytes()) : -1;
}

PD_API int32_t pd_geometry_voxelise(void* handle, const float* xyz, const float* intensity,
                                    int32_t points, double grid_size, float max_range,
                                    int32_t threads) {
  if (!handle) return pd::BAD_ARGUMENT;
  Handle& h = *static_cast<Handle*>(handle);
  h.points = points;
  return pd::voxelise(h.arena, xyz, intensity, points, grid_size, max_range, threads, &h.voxels);
}

// curves: [levels]; shift: [levels - 1].
PD_API int32_t pd_geometry_build(void* handle, const uint64_t* code, int32_t rows, int32_t scans,
                                 int32_t levels, const int32_t* shift, const uint32_t* curves,
                                 int32_t threads) {
  if (!handle || !curves) return pd::BAD_ARGUMENT;
  Handle& h = *static_cast<Handle*>(handle);
  pd::PyramidShape shape = {};
  shape.levels = levels;
  for (int32_t s = 0; s < levels && s < pd::MAX_LEVELS; ++s) {
    shape.curves[s] = curves[s];
    if (s + 1 < levels && shift) shape.shift[s] = shift[s];
  }
  return pd::build_pyramid(h.arena, code, rows, scans, shape, threads, &h.pyramid);
}

// Copies an array into `out` where that has room; answers its size in bytes, -1 where it is absent.
PD_API int64_t pd_geometry_array(const void* handle, int32_t array, int32_t stage, void* out,
                                 int64_t room) {
  if (!handle) return -1;
  Bytes bytes = find(*static_cast<const Handle*>(handle), array, stage);
  if (out && bytes.size > 0 && bytes.size <= room)
    std::memcpy(out, bytes.data, static_cast<std::size_t>(bytes.size));
  return bytes.size;
}

// label, probability and entropy: [rows of the voxels]; out: [points].
PD_API int32_t pd_geometry_scatter(const void* handle, int32_t rows, int32_t points,
                                   const uint8_t* label, const float* probability,
                                   const float* entropy, uint8_t* labels_out,
                                   float* probability_out, float* entropy_out, int32_t threads) {
  if (!handle) return pd::BAD_ARGUMENT;
  const Handle& h = *static_cast<const Handle*>(handle);
  if (points != h.points || rows != h.voxels.rows) return pd::BAD_ARGUMENT;
  return pd::scatter(h.voxels, points, label, probability, entropy, labels_out, probability_out,
                     entropy_out, threads);
}

PD_API void pd_geometry_cell(uint64_t code, int32_t* cell) { pd::cell_of(code, cell); }

// Which copy of the code runs, at most; answers the one that ran before.
PD_API int32_t pd_geometry_tier(int32_t tier) {
  int32_t best = pd::best_tier();
  return pd::geometry_tier.exchange(tier < 0 || tier > best ? best : tier);
}
