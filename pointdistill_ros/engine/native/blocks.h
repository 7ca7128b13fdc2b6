// SPDX-License-Identifier: Apache-2.0
// Blocks of 4^3 cells with 64 occupancy bits each.
//
// Rows in z order are grouped by block already, a block is a voxel two stages up, and the row of a
// cell is a popcount away: whoever knows which blocks touch finds neighbours without any search.
// Around a block lies its cube of 8^3 cells, the block's own being 2..5 of each axis.
#pragma once
#include <cstdint>

#include "arena.h"
#include "parallel.h"

namespace pd {

struct Block {
  uint64_t mask;  // occupied cells; bit = z code inside the block
  int64_t first;  // row of the first
};

// The same cells, a word per x with bits 8*y + z.
typedef uint32_t Slabs __attribute__((vector_size(16)));
typedef uint64_t WideSlabs __attribute__((vector_size(32)));

struct Blocks {
  int32_t count;
  const Block* block;           // [count + 1], the last begins after the last row
  const Slabs* slabs;           // [-1 .. count - 1], number -1 is empty
  const int32_t* neighbour[27];  // [count] each, as Level::neighbours
};

// neighbours: those of the resolution two above; null where one block holds a whole scan.
Blocks make_blocks(Arena&, const uint64_t* code, int32_t rows, int32_t count,
                   const int32_t* neighbours, int parts);

// The occupied cells of a block's cube: word x, bit 8*y + z. The rest is zero.
struct Occupancy {
  uint64_t word[16];
};

constexpr int place_in_block(int x, int y, int z) {
  return (x >> 1) << 5 | (y >> 1) << 4 | (z >> 1) << 3 | (x & 1) << 2 | (y & 1) << 1 | (z & 1);
}

struct BlockTables {
  uint16_t window[64] = {};  // z code in a block -> first cell (x*8 + y)*8 + z of its 5^3 window
  uint16_t place[512] = {};  // cell of the cube -> neighbour k and z code in it: k << 6 | code
  uint16_t cell5[125] = {};  // cells of a 5^3 window from its first, by offset
  uint16_t cell3[27] = {};   // the same for the 3^3 cells in its middle
  // How the slabs of a neighbour move into the cube, by neighbour: keep, left shift, right shift
  uint32_t keep[27] = {};
  uint8_t left[27] = {}, right[27] = {};
  constexpr BlockTables() {
    for (int x = 0; x < 4; ++x)
      for (int y = 0; y < 4; ++y)
        for (int z = 0; z < 4; ++z)
          window[place_in_block(x, y, z)] = static_cast<uint16_t>(x * 64 + y * 8 + z);
    for (int cell = 0; cell < 512; ++cell) {
      int x = (cell >> 6) + 2, y = (cell >> 3 & 7) + 2, z = (cell & 7) + 2;  // 4..7: the block
      place[cell] = static_cast<uint16_t>(((x >> 2) * 9 + (y >> 2) * 3 + (z >> 2)) << 6 |
                                          place_in_block(x & 3, y & 3, z & 3));
    }
    for (int k = 0; k < 125; ++k)
      cell5[k] = static_cast<uint16_t>(k / 25 * 64 + k / 5 % 5 * 8 + k % 5);
    for (int k = 0; k < 27; ++k) {
      int dy = k / 3 % 3 - 1, dz = k % 3 - 1;
      cell3[k] = static_cast<uint16_t>((k / 9 + 1) * 64 + (dy + 2) * 8 + dz + 2);
      uint32_t rows = dy < 0 ? 0xFFFF0000u : dy > 0 ? 0x0000FFFFu : 0xFFFFFFFFu;
      uint32_t cells = dz < 0 ? 0x0C0C0C0Cu : dz > 0 ? 0x03030303u : 0x0F0F0F0Fu;
      int shift = 8 * (2 + 4 * dy) + 2 + 4 * dz;
      keep[k] = rows & cells;
      left[k] = static_cast<uint8_t>(shift > 0 ? shift : 0);
      right[k] = static_cast<uint8_t>(shift < 0 ? -shift : 0);
    }
  }
};
inline constexpr BlockTables BLOCK_TABLES;

// Without branches: absent neighbours are the empty block -1.
PD_BODY inline void look_around(const Blocks& blocks, int64_t b, Occupancy& cube) {
  WideSlabs side[3];
#pragma GCC unroll 3
  for (int x = 0; x < 3; ++x) {
    side[x] = WideSlabs{};
#pragma GCC unroll 9
    for (int k = 9 * x; k < 9 * x + 9; ++k) {
      Slabs cells = blocks.slabs[blocks.neighbour[k][b]] & BLOCK_TABLES.keep[k];
      side[x] |= __builtin_convertvector(cells, WideSlabs) << BLOCK_TABLES.left[k]
                 >> BLOCK_TABLES.right[k];
    }
  }
  for (int x = 0; x < 2; ++x) cube.word[x] = side[0][2 + x];
  for (int x = 0; x < 4; ++x) cube.word[2 + x] = side[1][x];
  for (int x = 0; x < 2; ++x) cube.word[6 + x] = side[2][x];
}

// The row of an occupied cell of block b's cube.
PD_BODY inline int32_t row_at(const Blocks& blocks, int64_t b, int cell) {
  int place = BLOCK_TABLES.place[cell];
  const Block& block = blocks.block[blocks.neighbour[place >> 6][b]];
  uint64_t below = block.mask & ((uint64_t{1} << (place & 63)) - 1);
  return static_cast<int32_t>(block.first) + __builtin_popcountll(below);
}

// Blocks go in batches, whose part of a neighbour table fits into the second cache. Their own
// neighbours lie in 27 streams, more than a processor foresees: the next batch is fetched.
constexpr int BATCH = 64;

PD_BODY inline void fetch_batch(const Blocks& blocks, int64_t begin) {
  for (int k = 0; k < 27; ++k)
    for (int64_t b = begin; b < begin + BATCH && b < blocks.count; b += 16)
      __builtin_prefetch(blocks.neighbour[k] + b);
}

// The rows of blocks begin .. end have no neighbours yet.
PD_BODY inline void clear_neighbours(const Blocks& blocks, int64_t begin, int64_t end, int64_t rows,
                                     int32_t* neighbours) {
  int64_t first = blocks.block[begin].first, last = blocks.block[end].first;
  for (int k = 0; k < 27; ++k)
    for (int64_t row = first; row < last; ++row) neighbours[k * rows + row] = -1;
}

// visit(b) for the blocks of one part; before(begin, end) for each of its batches.
template <class Before, class Visit>
PD_BODY inline void visit_blocks(const Blocks& blocks, Range range, const Before& before,
                                 const Visit& visit) {
  fetch_batch(blocks, range.begin);
  for (int64_t begin = range.begin; begin < range.end; begin += BATCH) {
    int64_t end = begin + BATCH < range.end ? begin + BATCH : range.end;
    fetch_batch(blocks, begin + BATCH);
    before(begin, end);
    for (int64_t b = begin; b < end; ++b) visit(b);
  }
}

}  // namespace pd
