// SPDX-License-Identifier: Apache-2.0
// Thinning on its own, for tests. Arrays come and go as plain buffers.
#include <cstring>
#include <new>

#include "api.h"
#include "thinning.h"

namespace {

struct Handle {
  pd::Arena arena;
  int32_t points = 0;
  pd::Voxels voxels = {};
  pd::Thinning thinning = {};
  pd::Pyramid pyramid = {};

  // Forgets the arrays and keeps the memory.
  bool reset() {
    points = 0;
    voxels = {};
    thinning = {};
    pyramid = {};
    try {
      arena.reset();
    } catch (const std::bad_alloc&) {
      return false;
    }
    return true;
  }
};

// Numbers as in tests/engine/test_thinning_native.py.
enum Array : int32_t {
  KEPT, OWNER, CODE, OFFSETS, PARENT, CHILD_BEGIN, NEIGHBOURS, STEM_BEGIN, STEM_ROW, STEM_OFFSET,
  VOXEL_CODE, VOXEL_POINT, VOXEL_INVERSE, ORDER,  // ORDER + curve
};

struct Bytes {
  const void* data;
  int64_t size;
};

template <class T>
Bytes bytes_of(const T* data, int64_t count) {
  return {data, data ? count * static_cast<int64_t>(sizeof(T)) : -1};
}

Bytes find(const Handle& h, int32_t array, int32_t stage) {
  const pd::Pyramid& pyramid = h.pyramid;
  switch (array) {
    case KEPT: return bytes_of(h.thinning.kept, h.thinning.rows);
    case OWNER: return bytes_of(h.thinning.owner, h.thinning.voxels);
    case VOXEL_CODE: return bytes_of(h.voxels.code, h.voxels.rows);
    case VOXEL_POINT: return bytes_of(h.voxels.point, h.voxels.rows);
    case VOXEL_INVERSE: return bytes_of(h.voxels.inverse, h.points);
    default: break;
  }
  if (stage < 0 || stage >= pyramid.levels) return {nullptr, -1};
  const pd::Level& level = pyramid.level[stage];
  const int32_t pairs = pyramid.stem_begin[pyramid.level[0].rows];
  switch (array) {
    case CODE: return bytes_of(level.code, level.rows);
    case OFFSETS: return bytes_of(level.offsets, int64_t{pyramid.scans} + 1);
    case PARENT: return bytes_of(level.parent, level.rows);
    case CHILD_BEGIN:
      return bytes_of(level.child_begin,
                      stage + 1 < pyramid.levels ? int64_t{pyramid.level[stage + 1].rows} + 1 : 0);
    case NEIGHBOURS: return bytes_of(level.neighbours, 27 * int64_t{level.rows});
    case STEM_BEGIN: return bytes_of(pyramid.stem_begin, int64_t{pyramid.level[0].rows} + 1);
    case STEM_ROW: return bytes_of(pyramid.stem_row, pairs);
    case STEM_OFFSET: return bytes_of(pyramid.stem_offset, pairs);
    default: break;
  }
  if (array >= ORDER && array < ORDER + 4) return bytes_of(level.order[array - ORDER], level.rows);
  return {nullptr, -1};
}

}  // namespace

PD_API void* pd_thinning_create() { return new (std::nothrow) Handle; }

PD_API void pd_thinning_destroy(void* handle) { delete static_cast<Handle*>(handle); }

PD_API int32_t pd_thinning_thin(void* handle, const uint64_t* code, int32_t rows,
                                const int32_t* sensor, int64_t near_limit, int32_t coarse,
                                int32_t max_voxels) {
  if (!handle) return pd::BAD_ARGUMENT;
  Handle& h = *static_cast<Handle*>(handle);
  if (!h.reset()) return pd::OUT_OF_MEMORY;
  return pd::thin(h.arena, code, rows, sensor, {near_limit, coarse, max_voxels}, &h.thinning);
}

// counts: [levels + 2] voxels per stage, coarse, near
PD_API int32_t pd_thinning_count(const uint64_t* code, int32_t rows, const int32_t* sensor,
                                 int64_t near_limit, int32_t levels, const int32_t* shift,
                                 int32_t* counts) {
  if (!counts) return pd::BAD_ARGUMENT;
  pd::VoxelCounts out;
  const pd::Status status = pd::count_voxels(code, rows, sensor, near_limit, levels, shift, &out);
  if (status != pd::OK) return status;
  std::memcpy(counts, out.stages, sizeof(int32_t) * static_cast<std::size_t>(levels));
  counts[levels] = out.coarse;
  counts[levels + 1] = out.near;
  return pd::OK;
}

// Thins the pyramid of these codes ([rows], several scans allowed) by any thinning of them.
PD_API int32_t pd_thinning_pyramid(void* handle, const uint64_t* code, int32_t rows, int32_t scans,
                                   int32_t levels, const int32_t* shift, const uint32_t* curves,
                                   int32_t kept_rows, const int32_t* kept, const int32_t* owner,
                                   int32_t threads) {
  if (!handle || !curves || !kept || !owner || levels < 1 || levels > pd::MAX_LEVELS ||
      (levels > 1 && !shift) || kept_rows < 0)
    return pd::BAD_ARGUMENT;
  Handle& h = *static_cast<Handle*>(handle);
  if (!h.reset()) return pd::OUT_OF_MEMORY;
  pd::PyramidShape shape = {};
  shape.levels = levels;
  for (int32_t s = 0; s < levels; ++s) {
    shape.curves[s] = curves[s];
    if (s + 1 < levels) shape.shift[s] = shift[s];
  }
  pd::Pyramid full;
  pd::Status status = pd::build_pyramid(h.arena, code, rows, scans, shape, threads, &full);
  if (status != pd::OK) return status;
  const pd::Thinning thinning = {rows, kept_rows, const_cast<int32_t*>(kept),
                                 const_cast<int32_t*>(owner)};
  return pd::thin_pyramid(h.arena, full, thinning, threads, &h.pyramid);
}

// Voxels of a scan, thinned.
PD_API int32_t pd_thinning_voxels(void* handle, const float* xyz, const float* intensity,
                                  int32_t points, double grid_size, float max_range,
                                  const int32_t* sensor, int64_t near_limit, int32_t coarse,
                                  int32_t max_voxels) {
  if (!handle) return pd::BAD_ARGUMENT;
  Handle& h = *static_cast<Handle*>(handle);
  if (!h.reset()) return pd::OUT_OF_MEMORY;
  pd::Status status =
      pd::voxelise(h.arena, xyz, intensity, points, grid_size, max_range, 1, &h.voxels);
  if (status == pd::OK)
    status = pd::thin(h.arena, h.voxels.code, h.voxels.rows, sensor,
                      {near_limit, coarse, max_voxels}, &h.thinning);
  if (status == pd::OK) status = pd::thin_voxels(h.arena, h.thinning, points, &h.voxels);
  if (status == pd::OK) h.points = points;
  return status;
}

// Copies an array into `out` where that has room; answers its size in bytes, -1 where it is absent.
PD_API int64_t pd_thinning_array(const void* handle, int32_t array, int32_t stage, void* out,
                                 int64_t room) {
  if (!handle) return -1;
  const Bytes bytes = find(*static_cast<const Handle*>(handle), array, stage);
  if (out && bytes.size > 0 && bytes.size <= room)
    std::memcpy(out, bytes.data, static_cast<std::size_t>(bytes.size));
  return bytes.size;
}
