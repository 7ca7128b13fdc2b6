// SPDX-License-Identifier: Apache-2.0
// The geometry of a training batch as the tensors of model/pyramid.py: built once, then asked for
// its counts, then copied into arrays of the caller.
#include "geometry.h"

#include <new>

#include "api.h"
#include "arena.h"
#include "morton.h"
#include "parallel.h"

namespace {

constexpr int CENTRE3 = 13, CENTRE5 = 62;
constexpr int64_t MOST_ROWS = int64_t{1} << 27;

struct Handle {
  pd::Arena arena;
  pd::Pyramid pyramid = {};
  int64_t* scan = nullptr;  // [scans] the caller's index of each; they may leave gaps
};

// Where one stage goes. Null pointers are left out.
struct StageArrays {
  int64_t* coords;      // [rows][3]
  int64_t* scan;        // [rows]
  int64_t* parent;      // [rows]
  int64_t* output_rows; // [pairs] by offset, ascending within one
  int64_t* input_rows;  // [pairs]
  int64_t* order[4];    // [rows] per curve: row at each position
  int64_t* inverse[4];  // [rows] per curve: position of each row
};

// z codes with scans counted without gaps. Cells must be 0 to 2^16 - 1.
pd::Status encode(Handle& h, const int64_t* coords, const int64_t* scan, int32_t rows,
                  uint64_t* code, int32_t* scans) {
  h.scan = h.arena.take<int64_t>(static_cast<std::size_t>(rows));
  int32_t last = -1;
  for (int32_t i = 0; i < rows; ++i) {
    if (last < 0 || scan[i] != h.scan[last]) {
      if (scan[i] < 0 || (last >= 0 && scan[i] < h.scan[last])) return pd::NOT_SORTED;
      h.scan[++last] = scan[i];
    }
    code[i] = static_cast<uint64_t>(last) << 48;
  }
  if (last >= 1 << 15) return pd::BAD_ARGUMENT;
  *scans = last + 1;
  int64_t outside = 0;
  pd::run(1, [&](int) PD_BODY {
    for (int32_t i = 0; i < rows; ++i) {
      const int64_t x = coords[3 * i], y = coords[3 * i + 1], z = coords[3 * i + 2];
      outside |= (x | y | z) & ~int64_t{0xFFFF};
      code[i] |= pd::interleave(static_cast<uint32_t>(x & 0xFFFF), static_cast<uint32_t>(y & 0xFFFF),
                                static_cast<uint32_t>(z & 0xFFFF));
    }
  });
  return outside ? pd::TOO_FAR : pd::OK;
}

void count_pairs(const pd::Level& level, int64_t* counts) {
  const int64_t rows = level.rows;
  pd::run(1, [&](int) PD_BODY {
    for (int k = 0; k < 27; ++k) {
      const int32_t* neighbours = level.neighbours + k * rows;
      int32_t count = 0;
      for (int64_t i = 0; i < rows; ++i) count += neighbours[i] >= 0;
      counts[k] = k == CENTRE3 ? 0 : count;
    }
  });
}

void count_stem(const pd::Pyramid& pyramid, int64_t* counts) {
  for (int k = 0; k < 125; ++k) counts[k] = 0;
  const int32_t pairs = pyramid.stem_begin[pyramid.level[0].rows];
  for (int32_t i = 0; i < pairs; ++i) ++counts[pyramid.stem_offset[i]];
  counts[CENTRE5] = 0;
}

void copy_pairs(const pd::Level& level, int64_t* output_rows, int64_t* input_rows) {
  const int64_t rows = level.rows;
  for (int k = 0; k < 27; ++k) {
    if (k == CENTRE3) continue;
    const int32_t* neighbours = level.neighbours + k * rows;
    for (int64_t i = 0; i < rows; ++i) {
      if (neighbours[i] < 0) continue;
      *output_rows++ = i;
      *input_rows++ = neighbours[i];
    }
  }
}

void copy_stem(const pd::Pyramid& pyramid, int64_t* output_rows, int64_t* input_rows) {
  int64_t next[125], counts[125], total = 0;
  count_stem(pyramid, counts);
  for (int k = 0; k < 125; ++k) {
    next[k] = total;
    total += counts[k];
  }
  const int32_t* begin = pyramid.stem_begin;
  for (int32_t row = 0; row < pyramid.level[0].rows; ++row)
    for (int32_t i = begin[row]; i < begin[row + 1]; ++i) {
      const int k = pyramid.stem_offset[i];
      if (k == CENTRE5) continue;
      output_rows[next[k]] = row;
      input_rows[next[k]++] = pyramid.stem_row[i];
    }
}

void copy_walk(const int32_t* order, int64_t rows, int64_t* order_out, int64_t* inverse_out) {
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t row = order ? order[i] : i;  // null is z order, that of the rows
    order_out[i] = row;
    inverse_out[row] = i;
  }
}

void copy_cells(const Handle& h, const pd::Level& level, int64_t* coords, int64_t* scan) {
  const int64_t* names = h.scan;
  pd::run(1, [&](int) PD_BODY {
    for (int64_t i = 0; i < level.rows; ++i) {
      const uint64_t code = level.code[i];
      coords[3 * i] = pd::gather(code >> 2);
      coords[3 * i + 1] = pd::gather(code >> 1);
      coords[3 * i + 2] = pd::gather(code);
      scan[i] = names[code >> 48];
    }
  });
}

}  // namespace

PD_API void* pd_training_geometry_create() { return new (std::nothrow) Handle; }

PD_API void pd_training_geometry_destroy(void* handle) { delete static_cast<Handle*>(handle); }

// coords: [rows][3]; scan: [rows] ascending; rows in z order within a scan. shift: [levels - 1].
// curves: [levels], see PyramidShape. counts: [levels][28] rows and pairs per offset of the 3^3
// kernel, then [125] pairs per offset of the stem.
PD_API int32_t pd_training_geometry_build(void* handle, const int64_t* coords, const int64_t* scan,
                                          int64_t rows, int32_t depth, int32_t levels,
                                          const int32_t* shift, const uint32_t* curves,
                                          int32_t threads, int64_t* counts) {
  if (!handle || !coords || !scan || rows < 1 || rows > MOST_ROWS || levels < 1 ||
      levels > pd::MAX_LEVELS || (levels > 1 && !shift) || !curves || threads < 1 || !counts)
    return pd::BAD_ARGUMENT;
  Handle& h = *static_cast<Handle*>(handle);
  pd::PyramidShape shape = {};
  shape.levels = levels;
  shape.depth = depth;
  for (int32_t s = 0; s < levels; ++s) {
    shape.curves[s] = curves[s];
    if (s + 1 < levels) shape.shift[s] = shift[s];
  }
  h.pyramid = {};
  try {
    h.arena.reset();
    const int32_t count = static_cast<int32_t>(rows);
    uint64_t* code = h.arena.take<uint64_t>(static_cast<std::size_t>(rows));
    int32_t scans;
    pd::Status status = encode(h, coords, scan, count, code, &scans);
    if (status != pd::OK) return status;
    status = pd::build_pyramid(h.arena, code, count, scans, shape, threads, &h.pyramid);
    if (status != pd::OK) return status;
  } catch (const std::bad_alloc&) {
    return pd::OUT_OF_MEMORY;
  }
  for (int32_t s = 0; s < levels; ++s, counts += 28) {
    counts[0] = h.pyramid.level[s].rows;
    count_pairs(h.pyramid.level[s], counts + 1);
  }
  count_stem(h.pyramid, counts);
  return pd::OK;
}

// Arrays of the sizes that the build told.
PD_API int32_t pd_training_geometry_stage(const void* handle, int32_t stage,
                                          const StageArrays* out) {
  if (!handle || !out) return pd::BAD_ARGUMENT;
  const Handle& h = *static_cast<const Handle*>(handle);
  if (stage < 0 || stage >= h.pyramid.levels) return pd::BAD_ARGUMENT;
  const pd::Level& level = h.pyramid.level[stage];
  if (out->coords && out->scan) copy_cells(h, level, out->coords, out->scan);
  if (out->parent && level.parent)
    for (int64_t i = 0; i < level.rows; ++i) out->parent[i] = level.parent[i];
  if (out->output_rows && out->input_rows) copy_pairs(level, out->output_rows, out->input_rows);
  for (int curve = 0; curve < 4; ++curve)
    if (out->order[curve] && out->inverse[curve] && (curve == 0 || level.order[curve]))
      copy_walk(level.order[curve], level.rows, out->order[curve], out->inverse[curve]);
  return pd::OK;
}

PD_API int32_t pd_training_geometry_stem(const void* handle, int64_t* output_rows,
                                         int64_t* input_rows) {
  if (!handle || !output_rows || !input_rows) return pd::BAD_ARGUMENT;
  const Handle& h = *static_cast<const Handle*>(handle);
  if (!h.pyramid.levels) return pd::BAD_ARGUMENT;
  copy_stem(h.pyramid, output_rows, input_rows);
  return pd::OK;
}
