// SPDX-License-Identifier: Apache-2.0
// Rows in z order -> blocks.
#include "blocks.h"

#include "runs.h"

namespace pd {

Blocks make_blocks(Arena& arena, const uint64_t* code, int32_t rows, int32_t count, int shift,
                   const int32_t* neighbours, int parts) {
  Blocks blocks = {count, nullptr, nullptr, neighbours};
  blocks.begin = arena.take<int32_t>(static_cast<std::size_t>(count) + 1);
  blocks.mask = arena.take<uint64_t>(static_cast<std::size_t>(count));
  auto head = [&](int64_t i) PD_BODY {
    return i == 0 || ((code[i] ^ code[i - 1]) >> (3 * shift)) != 0;
  };
  RunParts runs = split_runs(rows, parts, head);
  blocks.begin[0] = 0;
  run(parts, [&](int part) PD_BODY {
    int32_t block = runs.run[part] - 1;
    uint64_t mask = 0;
    for (int64_t i = runs.begin[part]; i < runs.begin[part + 1]; ++i) {
      bool first = head(i);
      block += first;
      mask = (first ? 0 : mask) | uint64_t{1} << (code[i] & 63);
      blocks.mask[block] = mask;  // the last one of a run stays
      blocks.begin[block + 1] = static_cast<int32_t>(i + 1);
    }
  });
  return blocks;
}

}  // namespace pd
