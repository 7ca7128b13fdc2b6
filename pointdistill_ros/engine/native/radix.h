// SPDX-License-Identifier: Apache-2.0
// Stable LSD radix sort of keys that carry a row, over the bits that are used.
#pragma once
#include <cstdint>

#include "arena.h"
#include "parallel.h"

namespace pd {

// Key above, row below; for keys and rows that fit into 64 bits together.
struct PackedItem {
  uint64_t bits;
};
// Otherwise.
struct WideItem {
  uint64_t key;
  uint32_t row;
};

inline int bit_length(uint64_t value) { return value ? 64 - __builtin_clzll(value) : 0; }

// How items hold their parts: PackedItem keeps `row_bits` for the row, WideItem none.
struct Packing {
  int key_bits, row_bits;
  bool fits() const { return key_bits + row_bits <= 64; }
};
inline Packing packing(int key_bits, int64_t rows) {
  return {key_bits, bit_length(static_cast<uint64_t>(rows > 0 ? rows - 1 : 0))};
}

PD_BODY inline void set_item(PackedItem& item, uint64_t key, uint32_t row, const Packing& packing) {
  item.bits = key << packing.row_bits | row;
}
PD_BODY inline void set_item(WideItem& item, uint64_t key, uint32_t row, const Packing&) {
  item = {key, row};
}
PD_BODY inline uint64_t key_of(const PackedItem& item, const Packing& packing) {
  return item.bits >> packing.row_bits;
}
PD_BODY inline uint64_t key_of(const WideItem& item, const Packing&) { return item.key; }
PD_BODY inline uint32_t row_of(const PackedItem& item, const Packing& packing) {
  return static_cast<uint32_t>(item.bits & ((uint64_t{1} << packing.row_bits) - 1));
}
PD_BODY inline uint32_t row_of(const WideItem& item, const Packing&) { return item.row; }

constexpr int DIGIT_BITS = 12;  // 36 bits in three passes beat four narrower ones

// Ascending by key, equal keys in the order they came. The result lies in items or spare.
template <class Item>
Item* radix_sort(Arena& arena, Item* items, Item* spare, int64_t count, const Packing& packing,
                 int parts) {
  if (packing.key_bits == 0 || count < 2) return items;
  int passes = (packing.key_bits + DIGIT_BITS - 1) / DIGIT_BITS;
  int digit_bits = (packing.key_bits + passes - 1) / passes;
  int64_t digits = int64_t{1} << digit_bits;
  uint64_t digit_mask = static_cast<uint64_t>(digits) - 1;
  Arena::Mark before = arena.mark();
  // One part: all digits are counted in one sweep. Several: what a part holds changes every pass.
  int together = parts == 1 ? passes : 1;
  uint32_t* counts = arena.take<uint32_t>(static_cast<std::size_t>(together * parts * digits));
  for (int pass = 0; pass < passes; ++pass) {
    int shift = pass * digit_bits;
    if (pass % together == 0) {
      run(parts, [&](int part) PD_BODY {
        uint32_t* mine = counts + part * digits;
        for (int64_t d = 0; d < together * digits; ++d) mine[d] = 0;
        Range range = part_of(count, parts, part);
        for (int64_t i = range.begin; i < range.end; ++i) {
          uint64_t key = key_of(items[i], packing) >> shift;
          for (int later = 0; later < together; ++later, key >>= digit_bits)
            ++mine[later * digits + (key & digit_mask)];
        }
      });
    }
    uint32_t* first = counts + (pass % together) * parts * digits;  // where a digit goes next
    uint32_t total = 0;
    for (int64_t d = 0; d < digits; ++d) {
      for (int part = 0; part < parts; ++part) {
        uint32_t here = first[part * digits + d];
        first[part * digits + d] = total;
        total += here;
      }
    }
    run(parts, [&](int part) PD_BODY {
      uint32_t* next = first + part * digits;
      Range range = part_of(count, parts, part);
      for (int64_t i = range.begin; i < range.end; ++i)
        spare[next[key_of(items[i], packing) >> shift & digit_mask]++] = items[i];
    });
    Item* sorted = spare;
    spare = items;
    items = sorted;
  }
  arena.rewind(before);
  return items;
}

}  // namespace pd
