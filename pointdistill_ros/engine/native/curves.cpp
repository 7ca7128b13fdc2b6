// SPDX-License-Identifier: Apache-2.0
// Walks through the voxels of a stage along space-filling curves. Twin of model/curves.py.
#include "geometry.h"
#include "morton.h"
#include "parallel.h"
#include "radix.h"
#include "stages.h"

namespace pd {
namespace {

enum Curve { Z = 0, Z_TRANS = 1, HILBERT = 2, HILBERT_TRANS = 3 };
constexpr int BLOCK = 64;  // rows handled together

// Where `other` has the bit: invert the low bits of x; elsewhere swap the low bits.
PD_BODY inline void exchange(uint32_t& x, uint32_t& other, int bit, uint32_t low) {
  uint32_t has_bit = 0u - (other >> bit & 1);
  uint32_t swap = (x ^ other) & low & ~has_bit;
  x ^= swap ^ (has_bit & low);
  other ^= swap;
}

// Codes of up to BLOCK cells of `bits` bits along the Hilbert curve of `depth` >= bits bits.
PD_BODY inline void hilbert_codes(uint32_t* x, uint32_t* y, uint32_t* z, int count, int bits,
                                  int depth, uint64_t* out) {
  // A level without any bit set only turns the axes: x, y, z -> z, x, y.
  for (int level = depth % 3; level != bits % 3; level = (level + 2) % 3) {
    for (int i = 0; i < count; ++i) {
      uint32_t last = z[i];
      z[i] = y[i];
      y[i] = x[i];
      x[i] = last;
    }
  }
  for (int bit = bits - 1; bit >= 0; --bit) {
    uint32_t low = (1u << bit) - 1;
    for (int i = 0; i < count; ++i) {
      x[i] ^= (0u - (x[i] >> bit & 1)) & low;
      exchange(x[i], y[i], bit, low);
      exchange(x[i], z[i], bit, low);
    }
  }
  for (int i = 0; i < count; ++i) {
    uint64_t code = interleave(x[i], y[i], z[i]);  // Gray code -> binary
    for (int shift = 1; shift < 64; shift *= 2) code ^= code >> shift;
    out[i] = code;
  }
}

// Curve codes of the rows of one stage, without the scan.
PD_BODY inline void curve_codes(const uint64_t* code, int count, int curve, int bits, int depth,
                                uint64_t* out) {
  uint32_t x[BLOCK], y[BLOCK], z[BLOCK];
  for (int i = 0; i < count; ++i) {
    x[i] = gather(code[i] >> 2);
    y[i] = gather(code[i] >> 1);
    z[i] = gather(code[i]);
  }
  if (curve == HILBERT) {
    hilbert_codes(x, y, z, count, bits, depth, out);
  } else if (curve == HILBERT_TRANS) {
    hilbert_codes(y, x, z, count, bits, depth, out);
  } else {
    for (int i = 0; i < count; ++i) out[i] = interleave(y[i], x[i], z[i]);
  }
}

template <class Item>
void sort_order(Arena& arena, const Level& level, int curve, int bits, int depth,
                const Packing& packing, int parts) {
  Arena::Mark before = arena.mark();
  Item* items = arena.take<Item>(static_cast<std::size_t>(level.rows));
  Item* spare = arena.take<Item>(static_cast<std::size_t>(level.rows));
  run(parts, [&](int part) PD_BODY {
    uint64_t keys[BLOCK];
    Range range = part_of(level.rows, parts, part);
    for (int64_t begin = range.begin; begin < range.end; begin += BLOCK) {
      int count = static_cast<int>(begin + BLOCK < range.end ? BLOCK : range.end - begin);
      curve_codes(level.code + begin, count, curve, bits, depth, keys);
      for (int i = 0; i < count; ++i) {
        uint64_t scan = level.code[begin + i] >> 48;
        set_item(items[begin + i], scan << (3 * bits) | keys[i],
                 static_cast<uint32_t>(begin + i), packing);
      }
    }
  });
  items = radix_sort(arena, items, spare, level.rows, packing, parts);
  int32_t* order = level.order[curve];
  run(parts, [&](int part) PD_BODY {
    Range range = part_of(level.rows, parts, part);
    for (int64_t i = range.begin; i < range.end; ++i)
      order[i] = static_cast<int32_t>(row_of(items[i], packing));
  });
  arena.rewind(before);
}

// A parent's children lie together on the finer walk, so its order is that walk without repeats.
void compress_order(const Level& fine, const Level& coarse, int curve) {
  const int32_t* walk = fine.order[curve];
  int32_t* order = coarse.order[curve];
  int32_t last = -1;
  for (int32_t i = 0; i < fine.rows; ++i) {
    int32_t parent = fine.parent[walk[i]];
    if (parent != last) *order++ = parent;
    last = parent;
  }
}

}  // namespace

void build_orders(Arena& arena, const Batch& batch, const PyramidShape& shape, int threads,
                  Pyramid* pyramid) {
  int scan_bits = bit_length(static_cast<uint64_t>(batch.scans - 1));
  for (int s = 0; s < shape.levels; ++s) {
    const Level& level = pyramid->level[s];
    int bits = batch.cell_bits > batch.shift[s] ? batch.cell_bits - batch.shift[s] : 0;
    int parts = parts_for(level.rows, threads);
    Packing packed = packing(3 * bits + scan_bits, level.rows);
    for (int curve = 1; curve < 4; ++curve) {
      if (!level.order[curve]) continue;
      int depth = shape.depth - batch.shift[s];
      if (s > 0 && pyramid->level[s - 1].order[curve]) {
        compress_order(pyramid->level[s - 1], level, curve);
      } else if (packed.fits()) {
        sort_order<PackedItem>(arena, level, curve, bits, depth, packed, parts);
      } else {
        sort_order<WideItem>(arena, level, curve, bits, depth, packed, parts);
      }
    }
  }
}

}  // namespace pd
