// SPDX-License-Identifier: Apache-2.0
// Neighbours at the finest stage: those of the 3^3 kernel and the pairs of the 5^3 stem.
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

// The cells of a block, one word per x: bit 8*y + z.
typedef uint32_t Slabs __attribute__((vector_size(16)));
typedef uint64_t WideSlabs __attribute__((vector_size(32)));
typedef uint64_t Words __attribute__((vector_size(64)));

// Exchange positions whose number has bit j but not bit i with those that have i but not j; i > j.
template <int I, int J>
PD_BODY inline uint64_t exchange_positions(uint64_t bits) {
  constexpr uint64_t without[6] = {0x5555555555555555, 0x3333333333333333, 0x0F0F0F0F0F0F0F0F,
                                   0x00FF00FF00FF00FF, 0x0000FFFF0000FFFF, 0x00000000FFFFFFFF};
  constexpr int distance = (1 << I) - (1 << J);
  uint64_t moved = (bits ^ bits >> distance) & (without[I] & ~without[J]);
  return bits ^ moved ^ moved << distance;
}

PD_BODY inline Slabs slabs_of(uint64_t mask) {
  // positions x1 y1 z1 x0 y0 z0 -> x1 x0 y1 y0 z1 z0
  mask = exchange_positions<4, 2>(mask);
  mask = exchange_positions<3, 2>(mask);
  mask = exchange_positions<2, 1>(mask);
  Slabs slabs = {static_cast<uint32_t>(mask), static_cast<uint32_t>(mask >> 16),
                 static_cast<uint32_t>(mask >> 32), static_cast<uint32_t>(mask >> 48)};
  slabs &= 0xFFFF;
  slabs = (slabs | slabs << 8) & 0x00FF00FF;
  return (slabs | slabs << 4) & 0x0F0F0F0F;
}

// How the slabs of a neighbour move into the words of a cube, by (dy + 1) * 3 + dz + 1.
struct MoveTables {
  uint32_t keep[9] = {};  // what lies at most 2 cells from the block
  uint8_t left[9] = {}, right[9] = {};
  constexpr MoveTables() {
    for (int k = 0; k < 9; ++k) {
      int dy = k / 3 - 1, dz = k % 3 - 1;
      int shift = 8 * (2 + 4 * dy) + 2 + 4 * dz;
      uint32_t rows = dy < 0 ? 0xFFFF0000u : dy > 0 ? 0x0000FFFFu : 0xFFFFFFFFu;
      uint32_t cells = dz < 0 ? 0x0C0C0C0Cu : dz > 0 ? 0x03030303u : 0x0F0F0F0Fu;
      keep[k] = rows & cells;
      left[k] = static_cast<uint8_t>(shift > 0 ? shift : 0);
      right[k] = static_cast<uint8_t>(shift < 0 ? -shift : 0);
    }
  }
};
constexpr MoveTables MOVES;

// The occupied cells of a block's cube, one word per x: bit 8*y + z.
PD_BODY inline void mark_cube(const Blocks& blocks, const Slabs* slabs, int64_t b,
                              uint32_t touching, uint64_t words[8]) {
  WideSlabs side[3];
  for (int x = 0; x < 3; ++x) {
    WideSlabs found = {};
    for (uint32_t left = touching >> (9 * x) & 0x1FF; left; left &= left - 1) {
      int k = __builtin_ctz(left);
      Slabs cells = slabs[neighbour_of(blocks, b, 9 * x + k)] & MOVES.keep[k];
      found |= __builtin_convertvector(cells, WideSlabs) << MOVES.left[k] >> MOVES.right[k];
    }
    side[x] = found;
  }
  words[0] = side[0][2];
  words[1] = side[0][3];
  for (int x = 0; x < 4; ++x) words[2 + x] = side[1][x];
  words[6] = side[2][0];
  words[7] = side[2][1];
}

// What the voxel sees whose window begins at cube cell `first`.
PD_BODY inline Window window_at(const uint64_t words[16], int first) {
  Words seen;
  __builtin_memcpy(&seen, words + (first >> 6), sizeof seen);
  seen >>= first & 63;
  // five rows of five bits, eight apart -> 25 bits
  seen = (seen & 0x1F001F001F) | (seen & 0x001F001F00) >> 3;
  seen = (seen & 0x3FF) | (seen & 0x3FF0000) >> 6 | (seen & 0x1F00000000) >> 12;
  return {seen[0] | seen[1] << 25 | seen[2] << 50, seen[2] >> 14 | seen[3] << 11 | seen[4] << 36};
}

// Cube cells of the 5^3 window, counted from its first, by offset.
struct StemTable {
  uint16_t cell[125] = {};
  constexpr StemTable() {
    for (int k = 0; k < 125; ++k)
      cell[k] = static_cast<uint16_t>(k / 25 * 64 + k / 5 % 5 * 8 + k % 5);
  }
};
constexpr StemTable STEM_TABLE;

// Window of each row, and its number of pairs as stem_begin[row + 1].
void look_around(const Blocks& all, const Slabs* slabs, const uint64_t* code, int parts,
                 Window* windows, int32_t* stem_begin) {
  run(parts, [&](int part) PD_BODY {
    const Blocks blocks = all;
    uint32_t touching[BATCH];
    uint64_t words[16] = {};
    Range range = part_of(blocks.count, parts, part);
    for (int64_t begin = range.begin; begin < range.end; begin += BATCH) {
      int count = static_cast<int>(begin + BATCH < range.end ? BATCH : range.end - begin);
      find_touching(blocks, begin, count, touching);
      for (int j = 0; j < count; ++j) {
        mark_cube(blocks, slabs, begin + j, touching[j], words);
        for (int32_t row = blocks.begin[begin + j]; row < blocks.begin[begin + j + 1]; ++row) {
          Window window = window_at(words, CUBE_TABLES.position[code[row] & 63]);
          windows[row] = window;
          stem_begin[row + 1] =
              __builtin_popcountll(window.low) + __builtin_popcountll(window.high);
        }
      }
    }
  });
}

void fill_both(const Blocks& all, const Level& level, const Window* windows, int parts,
               const Pyramid& pyramid) {
  run(parts, [&](int part) PD_BODY {
    const Blocks blocks = all;
    const uint64_t* code = level.code;
    int32_t *neighbours = level.neighbours, *stem_row = pyramid.stem_row;
    uint8_t* stem_offset = pyramid.stem_offset;
    const int32_t* stem_begin = pyramid.stem_begin;
    int64_t rows = level.rows;
    uint32_t touching[BATCH];
    Cube cube;
    Range range = part_of(blocks.count, parts, part);
    for (int64_t begin = range.begin; begin < range.end; begin += BATCH) {
      int count = static_cast<int>(begin + BATCH < range.end ? BATCH : range.end - begin);
      find_touching(blocks, begin, count, touching);
      for (int j = 0; j < count; ++j) {
        fill_cube(blocks, begin + j, touching[j], 2, cube);
        for (int32_t row = blocks.begin[begin + j]; row < blocks.begin[begin + j + 1]; ++row) {
          write_neighbours(cube, code[row], row, rows, neighbours);
          const int32_t* around = cube.row + CUBE_TABLES.position[code[row] & 63];
          int32_t* row_out = stem_row + stem_begin[row];
          uint8_t* offset_out = stem_offset + stem_begin[row];
          for (uint64_t left = windows[row].low; left; left &= left - 1) {
            int offset = __builtin_ctzll(left);
            *row_out++ = around[STEM_TABLE.cell[offset]];
            *offset_out++ = static_cast<uint8_t>(offset);
          }
          for (uint64_t left = windows[row].high; left; left &= left - 1) {
            int offset = 64 + __builtin_ctzll(left);
            *row_out++ = around[STEM_TABLE.cell[offset]];
            *offset_out++ = static_cast<uint8_t>(offset);
          }
        }
      }
    }
  });
}

}  // namespace

bool build_finest(Arena& arena, const Blocks& blocks, int parts, Pyramid* out) {
  const Level& level = out->level[0];
  Slabs* slabs = arena.take<Slabs>(static_cast<std::size_t>(blocks.count));
  Window* windows = arena.take<Window>(static_cast<std::size_t>(level.rows));
  run(parts, [&](int part) PD_BODY {
    Range range = part_of(blocks.count, parts, part);
    for (int64_t b = range.begin; b < range.end; ++b) slabs[b] = slabs_of(blocks.mask[b]);
  });
  look_around(blocks, slabs, level.code, parts, windows, out->stem_begin);
  int64_t pairs = 0;
  out->stem_begin[0] = 0;
  for (int32_t row = 1; row <= level.rows; ++row) {
    pairs += out->stem_begin[row];
    if (pairs > INT32_MAX) return false;
    out->stem_begin[row] = static_cast<int32_t>(pairs);
  }
  out->stem_row = arena.take<int32_t>(static_cast<std::size_t>(pairs));
  out->stem_offset = arena.take<uint8_t>(static_cast<std::size_t>(pairs));
  fill_both(blocks, level, windows, parts, *out);
  return true;
}

}  // namespace pd
