// SPDX-License-Identifier: Apache-2.0
// Which voxels touch which, from coarse to fine: blocks.h. Twin of model/neighbours.py.
#include "blocks.h"
#include "geometry.h"
#include "morton.h"
#include "parallel.h"
#include "stages.h"

namespace pd {
namespace {

// Voxels at one shift against the finest stage: a stage, or one in between that gives the blocks.
struct Resolution {
  bool needed;
  int32_t rows;
  const uint64_t* code;
  int32_t* neighbours;  // [27][rows]
};

// A resolution that no stage has: the rows of a finer one, without repeats.
Resolution derive(Arena& arena, const Resolution& fine, int shift) {
  int32_t rows = 1;
  for (int32_t i = 1; i < fine.rows; ++i)
    rows += ((fine.code[i] ^ fine.code[i - 1]) >> (3 * shift)) != 0;
  uint64_t* code = arena.take<uint64_t>(static_cast<std::size_t>(rows));
  int32_t row = -1;
  for (int32_t i = 0; i < fine.rows; ++i) {
    row += i == 0 || ((fine.code[i] ^ fine.code[i - 1]) >> (3 * shift)) != 0;
    code[row] = coarser(fine.code[i], shift);
  }
  return {true, rows, code, arena.take<int32_t>(27 * static_cast<std::size_t>(rows))};
}

// Which of the 27 cells around a voxel are occupied, by offset; its 5^3 window begins at `first`.
PD_BODY inline uint32_t near_window(const Occupancy& cube, int first) {
  uint32_t window = 0;
  for (int x = 0; x < 3; ++x) {
    uint64_t seen = cube.word[(first >> 6) + 1 + x] >> ((first & 63) + 9);
    uint64_t cells = (seen & 7) | (seen >> 5 & 0x38) | (seen >> 10 & 0x1C0);
    window |= static_cast<uint32_t>(cells) << (9 * x);
  }
  return window;
}

void fill_table(const Blocks& all, const Resolution& fine, int parts) {
  run(parts, [&](int part) PD_BODY {
    const Blocks blocks = all;
    int32_t* neighbours = fine.neighbours;
    int64_t rows = fine.rows;
    Occupancy cube = {};
    auto clear = [&](int64_t begin, int64_t end) PD_BODY {
      clear_neighbours(blocks, begin, end, rows, neighbours);
    };
    visit_blocks(blocks, part_of(blocks.count, parts, part), clear, [&](int64_t b) PD_BODY {
      look_around(blocks, b, cube);
      int64_t row = blocks.block[b].first;
      for (uint64_t cells = blocks.block[b].mask; cells; cells &= cells - 1, ++row) {
        int first = BLOCK_TABLES.window[__builtin_ctzll(cells)];
        for (uint32_t left = near_window(cube, first); left; left &= left - 1) {
          int k = __builtin_ctz(left);
          neighbours[k * rows + row] = row_at(blocks, b, first + BLOCK_TABLES.cell3[k]);
        }
      }
    });
  });
}

}  // namespace

bool build_neighbours(Arena& arena, const Batch& batch, int threads, Pyramid* out) {
  out->stem_begin = arena.take<int32_t>(static_cast<std::size_t>(batch.rows) + 1);
  Resolution at[DEPTH + 3] = {};
  for (int s = 0; s < out->levels; ++s) {
    const Level& level = out->level[s];
    at[batch.shift[s]] = {true, level.rows, level.code, level.neighbours};
  }
  for (int shift = 0, last = 0; shift <= DEPTH; ++shift) {
    if (!at[shift].needed) continue;
    if (!at[shift].code) at[shift] = derive(arena, at[last], shift - last);
    if (shift + 2 < batch.cell_bits) at[shift + 2].needed = true;
    last = shift;
  }
  for (int shift = DEPTH; shift >= 0; --shift) {
    const Resolution& fine = at[shift];
    if (!fine.needed) continue;
    Arena::Mark before = arena.mark();
    int parts = parts_for(fine.rows, threads, 2048);
    const Resolution& coarse = at[shift + 2];
    bool alone = shift + 2 >= batch.cell_bits;  // one block holds a whole scan
    Blocks blocks = make_blocks(arena, fine.code, fine.rows, alone ? batch.scans : coarse.rows,
                                alone ? nullptr : coarse.neighbours, parts);
    if (shift == 0) return build_finest(arena, blocks, batch.stem_size, parts, out);
    fill_table(blocks, fine, parts);
    arena.rewind(before);
  }
  return false;  // not reached: shift 0 is the finest stage
}

}  // namespace pd
