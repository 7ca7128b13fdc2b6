// SPDX-License-Identifier: Apache-2.0
// Blocks of 4^3 cells: 64 occupancy bits each, and a cube of cells around one block.
//
// Rows in z order are grouped by block already, a block is a voxel two stages up, and its row of a
// cell is a popcount away: whoever knows which blocks touch finds neighbours without any search.
#pragma once
#include <cstdint>

#include "arena.h"
#include "parallel.h"

namespace pd {

struct Blocks {
  int32_t count;
  int32_t* begin;             // [count + 1] first row of each block
  uint64_t* mask;             // [count] occupied cells; bit = z code inside the block
  const int32_t* neighbours;  // [27][count] as Level::neighbours; null = no block touches another
};

// shift: 2, or DEPTH where one block holds a whole scan. count must be right.
Blocks make_blocks(Arena&, const uint64_t* code, int32_t rows, int32_t count, int shift,
                   const int32_t* neighbours, int parts);

// 8^3 cells: a block (cells 2..5 of each axis) and two cells around it.
struct alignas(64) Cube {
  int32_t row[512];  // (x*8 + y)*8 + z
};

constexpr int INSIDE = 2 * 64 + 2 * 8 + 2;  // cell 0, 0, 0 of the block

struct CubeTables {
  uint16_t position[64] = {};    // z code inside a block -> cube cell, from the block's first
  int16_t step[27] = {};         // cube cells between a block and its neighbour
  uint64_t margin[3][27] = {};   // cells of the neighbour at most 1 or 2 from the block, as z codes
  constexpr CubeTables() {
    for (int bit = 0; bit < 64; ++bit) {
      int x = (bit >> 5 & 1) << 1 | (bit >> 2 & 1), y = (bit >> 4 & 1) << 1 | (bit >> 1 & 1),
          z = (bit >> 3 & 1) << 1 | (bit & 1);
      position[bit] = static_cast<uint16_t>(x * 64 + y * 8 + z);
      for (int k = 0; k < 27; ++k) {
        int dx = k / 9 - 1, dy = k / 3 % 3 - 1, dz = k % 3 - 1;
        step[k] = static_cast<int16_t>(dx * 256 + dy * 32 + dz * 4);
        for (int width = 1; width <= 2; ++width)
          if (near(x, dx, width) && near(y, dy, width) && near(z, dz, width))
            margin[width][k] |= uint64_t{1} << bit;
      }
    }
  }
  static constexpr bool near(int cell, int direction, int width) {
    return direction == 0 || (direction < 0 ? cell >= 4 - width : cell < width);
  }
};
inline constexpr CubeTables CUBE_TABLES;

constexpr int BATCH = 64;  // blocks whose neighbours are looked up together

// Which neighbours of blocks begin .. begin + count exist, itself among them: one bit each.
PD_BODY inline void find_touching(const Blocks& blocks, int64_t begin, int count, uint32_t* touching) {
  for (int j = 0; j < count; ++j) touching[j] = 1u << 13;
  if (!blocks.neighbours) return;
  for (int k = 0; k < 27; ++k) {
    const int32_t* other = blocks.neighbours + int64_t{k} * blocks.count + begin;
    for (int j = 0; j < count; ++j) touching[j] |= (~static_cast<uint32_t>(other[j]) >> 31) << k;
  }
}

// Neighbour k of block b, which exists.
PD_BODY inline int64_t neighbour_of(const Blocks& blocks, int64_t b, int k) {
  return k == 13 ? b : blocks.neighbours[int64_t{k} * blocks.count + b];
}

// Rows of all cells at most `width` from block b. Empty cells are -1 where at most 1 from it, and
// undefined beyond.
PD_BODY inline void fill_cube(const Blocks& blocks, int64_t b, uint32_t touching, int width,
                              Cube& cube) {
  typedef int32_t Line __attribute__((vector_size(32), may_alias));
  for (int x = 1; x < 7; ++x) {
    Line* lines = reinterpret_cast<Line*>(cube.row + 64 * x);
    for (int y = 1; y < 7; ++y) lines[y] = Line{} - 1;
  }
  for (; touching; touching &= touching - 1) {
    int k = __builtin_ctz(touching);
    int64_t other = neighbour_of(blocks, b, k);
    uint64_t all = blocks.mask[other];
    int32_t first = blocks.begin[other];
    int32_t* room = cube.row + INSIDE + CUBE_TABLES.step[k];
    for (uint64_t left = all & CUBE_TABLES.margin[width][k]; left; left &= left - 1) {
      uint64_t below = (left & (0 - left)) - 1;
      room[CUBE_TABLES.position[__builtin_ctzll(left)]] = first + __builtin_popcountll(all & below);
    }
  }
}

// neighbours[k][row] of one row of the cube's block
PD_BODY inline void write_neighbours(const Cube& cube, uint64_t code, int64_t row, int64_t rows,
                                     int32_t* neighbours) {
  const int32_t* around = cube.row + INSIDE - 64 - 8 - 1 + CUBE_TABLES.position[code & 63];
  for (int k = 0; k < 27; ++k)
    neighbours[k * rows + row] = around[k / 9 * 64 + k / 3 % 3 * 8 + k % 3];
}

}  // namespace pd
