// SPDX-License-Identifier: Apache-2.0
// Pairs of a convolution (model/neighbours.py) -> one row of input rows per kernel offset.
#include <cstring>

#include "api.h"
#include "geometry.h"
#include "parallel.h"

namespace {

// Whether every pair has its mirror image: the data gradient walks the table backwards.
bool symmetric(const int32_t* table, int32_t offsets, int32_t rows, int threads) {
  const int half = offsets / 2, parts = threads < half ? (threads < 1 ? 1 : threads) : half;
  std::atomic<bool> all{true};
  pd::run(parts < 1 ? 1 : parts, [&](int part) PD_BODY {
    const pd::Range range = pd::part_of(half, parts < 1 ? 1 : parts, part);
    bool fine = true;
    for (int64_t k = range.begin; k < range.end; ++k) {
      const int32_t* row = table + k * rows;
      const int32_t* mirror = table + (offsets - 1 - k) * rows;
      for (int32_t i = 0; i < rows; ++i)
        fine &= (row[i] < 0 || mirror[row[i]] == i) & (mirror[i] < 0 || row[mirror[i]] == i);
    }
    if (!fine) all = false;
  });
  return all;
}

}  // namespace

// offsets: size^3; count: [offsets] pairs of each, 0 at the centre; outputs, inputs: [sum of count],
// grouped by offset. table: [offsets][rows]; -1 = no neighbour, the centre names every row itself.
// BAD_ARGUMENT where a row is out of range, named twice in an offset, or a pair has no mirror image.
PD_API int32_t pd_train_table(int32_t rows, int32_t offsets, const int64_t* count, int64_t pairs,
                              const int64_t* outputs, const int64_t* inputs, int32_t* table,
                              int32_t threads) {
  if (rows < 0 || offsets < 1 || offsets % 2 == 0 || threads < 1 || pairs < 0) return pd::BAD_ARGUMENT;
  int64_t sum = 0;
  for (int32_t k = 0; k < offsets; ++k) {
    if (count[k] < 0 || count[k] > rows) return pd::BAD_ARGUMENT;
    sum += count[k];
  }
  if (sum != pairs || count[offsets / 2] != 0) return pd::BAD_ARGUMENT;
  if (rows == 0) return pd::OK;  // arrays may be null
  std::memset(table, 0xFF, sizeof(int32_t) * offsets * std::size_t(rows));
  for (int32_t k = 0; k < offsets; ++k) {
    int32_t* row = table + std::size_t(k) * rows;
    for (int64_t i = 0; i < count[k]; ++i) {
      const int64_t to = outputs[i], from = inputs[i];
      if (to < 0 || to >= rows || from < 0 || from >= rows || row[to] != -1) return pd::BAD_ARGUMENT;
      row[to] = static_cast<int32_t>(from);
    }
    outputs += count[k];
    inputs += count[k];
  }
  int32_t* centre = table + std::size_t(offsets / 2) * rows;
  for (int32_t i = 0; i < rows; ++i) centre[i] = i;
  return symmetric(table, offsets, rows, threads) ? pd::OK : pd::BAD_ARGUMENT;
}
