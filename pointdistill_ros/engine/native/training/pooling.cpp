// SPDX-License-Identifier: Apache-2.0
// Maximum over the children of a voxel, and its gradient to the first child that has it.
#include <limits>
#include <new>
#include <vector>

#include "api.h"
#include "geometry.h"
#include "parallel.h"

namespace {

// Children grouped by parent, each group ascending: begin [parents + 1], child [rows].
struct Children {
  std::vector<int32_t> begin, child;
};

bool group(const int64_t* parent, int32_t rows, int32_t parents, Children& children) {
  children.begin.assign(std::size_t(parents) + 1, 0);
  children.child.resize(rows);
  for (int32_t i = 0; i < rows; ++i) {
    if (parent[i] < 0 || parent[i] >= parents) return false;
    ++children.begin[parent[i] + 1];
  }
  for (int32_t p = 0; p < parents; ++p) children.begin[p + 1] += children.begin[p];
  std::vector<int32_t> next(children.begin.begin(), children.begin.end() - 1);
  for (int32_t i = 0; i < rows; ++i) children.child[next[parent[i]]++] = i;
  return true;
}

PD_BODY inline void pool_parent(const float* x, const int32_t* child, int32_t count,
                                int32_t channels, float* most, int32_t* from) {
  for (int32_t c = 0; c < channels; ++c) {
    most[c] = -std::numeric_limits<float>::infinity();
    from[c] = count ? child[0] : -1;
  }
  for (int32_t i = 0; i < count; ++i) {
    const float* row = x + std::size_t(child[i]) * channels;
    const int32_t name = child[i];
    for (int32_t c = 0; c < channels; ++c) {
      const float value = row[c], best = most[c];
      // the first NaN wins over every number, as in torch
      const bool more = (value > best) | ((value != value) & (best == best));
      most[c] = more ? value : best;
      from[c] = more ? name : from[c];
    }
  }
}

}  // namespace

// y[p][c] = maximum of x[r][c] over the rows with parent[r] = p, -inf without rows; from[p][c]: the
// first such row, or -1. x: [rows][channels]; y, from: [parents][channels]. Returns a Status.
PD_API int32_t pd_train_pool(int32_t rows, int32_t parents, int32_t channels, const int64_t* parent,
                             const float* x, float* y, int32_t* from, int32_t threads) {
  if (rows < 0 || parents < 0 || channels < 1 || threads < 1) return pd::BAD_ARGUMENT;
  try {
    Children children;
    if (!group(parent, rows, parents, children)) return pd::BAD_ARGUMENT;
    const int parts = pd::parts_for(int64_t{rows} * channels / 16, threads);
    const int32_t *begin = children.begin.data(), *child = children.child.data();
    pd::run(parts, [&](int part) PD_BODY {
      const pd::Range range = pd::part_of(parents, parts, part);
      for (int64_t p = range.begin; p < range.end; ++p)
        pool_parent(x, child + begin[p], begin[p + 1] - begin[p], channels, y + p * channels,
                    from + p * channels);
    });
  } catch (const std::bad_alloc&) {
    return pd::OUT_OF_MEMORY;
  }
  return pd::OK;
}

// x_grad[r][c] = y_grad[parent[r]][c] where `from` names r, else 0. Returns a Status.
PD_API int32_t pd_train_pool_gradient(int32_t rows, int32_t parents, int32_t channels,
                                      const int64_t* parent, const float* y_grad,
                                      const int32_t* from, float* x_grad, int32_t threads) {
  if (rows < 0 || parents < 0 || channels < 1 || threads < 1) return pd::BAD_ARGUMENT;
  for (int32_t i = 0; i < rows; ++i) {
    if (parent[i] < 0 || parent[i] >= parents) return pd::BAD_ARGUMENT;
  }
  const int parts = pd::parts_for(int64_t{rows} * channels / 16, threads);
  pd::run(parts, [&](int part) PD_BODY {
    const pd::Range range = pd::part_of(rows, parts, part);
    for (int64_t r = range.begin; r < range.end; ++r) {
      const int32_t* name = from + parent[r] * channels;
      const float* grad = y_grad + parent[r] * channels;
      float* to = x_grad + r * channels;
      const int32_t row = static_cast<int32_t>(r);
      for (int32_t c = 0; c < channels; ++c) to[c] = name[c] == row ? grad[c] : 0.0f;
    }
  });
  return pd::OK;
}
