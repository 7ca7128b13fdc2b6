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

void fill_table(const Blocks& all, const Resolution& fine, int parts) {
  run(parts, [&](int part) PD_BODY {
    const Blocks blocks = all;
    const uint64_t* code = fine.code;
    int32_t* neighbours = fine.neighbours;
    int64_t rows = fine.rows;
    uint32_t touching[BATCH];
    Cube cube;
    Range range = part_of(blocks.count, parts, part);
    for (int64_t begin = range.begin; begin < range.end; begin += BATCH) {
      int count = static_cast<int>(begin + BATCH < range.end ? BATCH : range.end - begin);
      find_touching(blocks, begin, count, touching);
      for (int j = 0; j < count; ++j) {
        fill_cube(blocks, begin + j, touching[j], 1, cube);
        for (int32_t row = blocks.begin[begin + j]; row < blocks.begin[begin + j + 1]; ++row)
          write_neighbours(cube, code[row], row, rows, neighbours);
      }
    }
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
                                alone ? DEPTH : 2, alone ? nullptr : coarse.neighbours, parts);
    if (shift == 0) return build_finest(arena, blocks, parts, out);
    fill_table(blocks, fine, parts);
    arena.rewind(before);
  }
  return false;  // not reached: shift 0 is the finest stage
}

}  // namespace pd
