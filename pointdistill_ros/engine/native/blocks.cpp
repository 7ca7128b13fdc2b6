// SPDX-License-Identifier: Apache-2.0
// Rows in z order -> blocks.
#include "blocks.h"

#include "geometry.h"
#include "runs.h"

namespace pd {
namespace {

// Exchange positions whose number has bit J but not bit I with those that have I but not J; I > J.
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

// Blocks that touch only themselves.
const int32_t* lonely(Arena& arena, int32_t count) {
  int32_t* neighbours = arena.take<int32_t>(27 * static_cast<std::size_t>(count));
  for (int64_t k = 0; k < 27; ++k)
    for (int32_t b = 0; b < count; ++b) neighbours[k * count + b] = k == 13 ? b : -1;
  return neighbours;
}

}  // namespace

Blocks make_blocks(Arena& arena, const uint64_t* code, int32_t rows, int32_t count,
                   const int32_t* neighbours, int parts) {
  std::size_t room = static_cast<std::size_t>(count) + 1;
  Block* block = arena.take<Block>(room);
  Slabs* slabs = arena.take<Slabs>(room) + 1;
  int shift = 3 * (neighbours ? 2 : DEPTH);  // to the number of the block, or of the scan
  if (!neighbours) neighbours = lonely(arena, count);
  auto head = [&](int64_t i) PD_BODY {
    return i == 0 || ((code[i] ^ code[i - 1]) >> shift) != 0;
  };
  RunParts runs = split_runs(rows, parts, head);
  block[0].first = 0;
  slabs[-1] = Slabs{};
  run(parts, [&](int part) PD_BODY {
    int64_t b = runs.run[part] - 1;
    uint64_t mask = 0;
    for (int64_t i = runs.begin[part]; i < runs.begin[part + 1]; ++i) {
      bool first = head(i);
      b += first;
      mask = (first ? 0 : mask) | uint64_t{1} << (code[i] & 63);
      block[b].mask = mask;  // the last one of a run stays
      block[b + 1].first = i + 1;
    }
  });
  run(parts, [&](int part) PD_BODY {
    Range range = part_of(count, parts, part);
    for (int64_t b = range.begin; b < range.end; ++b) slabs[b] = slabs_of(block[b].mask);
  });
  Blocks blocks = {count, block, slabs, {}};
  for (int64_t k = 0; k < 27; ++k) blocks.neighbour[k] = neighbours + k * count;
  return blocks;
}

}  // namespace pd
