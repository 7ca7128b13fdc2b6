// SPDX-License-Identifier: Apache-2.0
// Neighbours at the finest stage: the pairs of the stem and, among them, the 3^3 table.
#include "blocks.h"
#include "geometry.h"
#include "parallel.h"
#include "stages.h"

namespace pd {
namespace {

// Which of the 125 cells around a voxel are occupied, by stem offset.
struct Window {
  uint64_t low, high;  // offsets 0..63, 64..124
};
typedef uint64_t Words __attribute__((vector_size(64)));

// What the voxel sees whose window begins at `first`.
PD_BODY inline Window window_at(const Occupancy& cube, int first) {
  Words seen;
  __builtin_memcpy(&seen, cube.word + (first >> 6), sizeof seen);
  seen >>= first & 63;
  // five rows of five bits, eight apart -> 25 bits
  seen = (seen & 0x1F001F001F) | (seen & 0x001F001F00) >> 3;
  seen = (seen & 0x3FF) | (seen & 0x3FF0000) >> 6 | (seen & 0x1F00000000) >> 12;
  return {seen[0] | seen[1] << 25 | seen[2] << 50, seen[2] >> 14 | seen[3] << 11 | seen[4] << 36};
}

// The pairs of a stem's kernel among the 125 offsets of a window.
struct Kernel {
  Window taken = {};
  uint8_t offset[125] = {};  // within the kernel, where taken
  explicit Kernel(int size) {
    const int margin = (5 - size) / 2;
    for (int k = 0, own = 0; k < 125; ++k) {
      const int x = k / 25, y = k / 5 % 5, z = k % 5, last = 4 - margin;
      const bool inside = x >= margin && x <= last && y >= margin && y <= last && z >= margin &&
                          z <= last;
      if (!inside) continue;
      (k < 64 ? taken.low : taken.high) |= uint64_t{1} << (k & 63);
      offset[k] = static_cast<uint8_t>(own++);
    }
  }
};

// Window of each row, cut to the kernel, and its number of pairs as stem_begin[row + 1].
void find_windows(const Blocks& all, Window taken, int parts, Window* windows,
                  int32_t* stem_begin) {
  run(parts, [&](int part) PD_BODY {
    const Blocks blocks = all;
    Occupancy cube = {};
    auto nothing = [](int64_t, int64_t) PD_BODY {};
    visit_blocks(blocks, part_of(blocks.count, parts, part), nothing, [&](int64_t b) PD_BODY {
      look_around(blocks, b, cube);
      int64_t row = blocks.block[b].first;
      for (uint64_t left = blocks.block[b].mask; left; left &= left - 1, ++row) {
        Window window = window_at(cube, BLOCK_TABLES.window[__builtin_ctzll(left)]);
        window = {window.low & taken.low, window.high & taken.high};
        windows[row] = window;
        stem_begin[row + 1] =
            __builtin_popcountll(window.low) + __builtin_popcountll(window.high);
      }
    });
  });
}

// Where a pair goes in the table of the 3^3 kernel: the plane of its offset. Pairs further away go
// to the plane of the centre, which is written last.
struct Planes {
  int64_t begin[125];
  PD_BODY explicit Planes(int64_t rows) {
    for (int k = 0; k < 125; ++k) {
      int x = k / 25 - 1, y = k / 5 % 5 - 1, z = k % 5 - 1;
      bool near = x >= 0 && x < 3 && y >= 0 && y < 3 && z >= 0 && z < 3;
      begin[k] = rows * (near ? (x * 3 + y) * 3 + z : 13);
    }
  }
};

void write_pairs(const Blocks& all, const Level& level, const Kernel& kernel,
                 const Window* windows, int parts, const Pyramid& pyramid) {
  run(parts, [&](int part) PD_BODY {
    const Blocks blocks = all;
    const Planes planes(level.rows);
    int32_t *neighbours = level.neighbours, *stem_row = pyramid.stem_row;
    uint8_t* stem_offset = pyramid.stem_offset;
    const Kernel own = kernel;
    const Window* seen = windows;
    int64_t rows = level.rows;
    Range range = part_of(blocks.count, parts, part);
    if (range.begin == range.end) return;
    int64_t pair = pyramid.stem_begin[blocks.block[range.begin].first];
    auto clear = [&](int64_t begin, int64_t end) PD_BODY {
      clear_neighbours(blocks, begin, end, rows, neighbours);
    };
    visit_blocks(blocks, range, clear, [&](int64_t b) PD_BODY {
      int64_t row = blocks.block[b].first;
      for (uint64_t cells = blocks.block[b].mask; cells; cells &= cells - 1, ++row) {
        int window = BLOCK_TABLES.window[__builtin_ctzll(cells)];
        auto write = [&](int offset) PD_BODY {
          int32_t other = row_at(blocks, b, window + BLOCK_TABLES.cell5[offset]);
          stem_row[pair] = other;
          stem_offset[pair] = own.offset[offset];
          neighbours[planes.begin[offset] + row] = other;
          ++pair;
        };
        for (uint64_t left = seen[row].low; left; left &= left - 1)
          write(__builtin_ctzll(left));
        for (uint64_t left = seen[row].high; left; left &= left - 1)
          write(64 + __builtin_ctzll(left));
        neighbours[13 * rows + row] = static_cast<int32_t>(row);
      }
    });
  });
}

}  // namespace

bool build_finest(Arena& arena, const Blocks& blocks, int stem_size, int parts, Pyramid* out) {
  const Level& level = out->level[0];
  Window* windows = arena.take<Window>(static_cast<std::size_t>(level.rows));
  const Kernel kernel(stem_size);
  find_windows(blocks, kernel.taken, parts, windows, out->stem_begin);
  int64_t pairs = 0;
  out->stem_begin[0] = 0;
  for (int32_t row = 1; row <= level.rows; ++row) {
    pairs += out->stem_begin[row];
    if (pairs > INT32_MAX) return false;
    out->stem_begin[row] = static_cast<int32_t>(pairs);
  }
  out->stem_row = arena.take<int32_t>(static_cast<std::size_t>(pairs));
  out->stem_offset = arena.take<uint8_t>(static_cast<std::size_t>(pairs));
  write_pairs(blocks, level, kernel, windows, parts, *out);
  return true;
}

}  // namespace pd
