// SPDX-License-Identifier: Apache-2.0
// Runs of equal keys in sorted arrays, split into parts that never cut a run.
#pragma once
#include <cstdint>

#include "parallel.h"

namespace pd {

struct RunParts {
  int64_t begin[MAX_PARTS + 1];  // where each part begins, always at the head of a run
  int32_t run[MAX_PARTS + 1];    // number of the first run of each part; only run[0] if one part
};

// head(i): whether a run begins at i; true for 0.
template <class Head>
RunParts split_runs(int64_t count, int parts, const Head& head) {
  RunParts out;
  out.begin[0] = 0;
  out.run[0] = 0;
  for (int part = 1; part <= parts; ++part) {
    int64_t i = part_of(count, parts, part).begin;
    while (i < count && !head(i)) ++i;
    out.begin[part] = i;
  }
  if (parts == 1) return out;
  run(parts, [&](int part) PD_BODY {
    int32_t heads = 0;
    for (int64_t i = out.begin[part]; i < out.begin[part + 1]; ++i) heads += head(i);
    out.run[part + 1] = heads;
  });
  for (int part = 0; part < parts; ++part) out.run[part + 1] += out.run[part];
  return out;
}

}  // namespace pd
