// SPDX-License-Identifier: Apache-2.0
// Patch attention forward, with what backward needs to compute the weights again.
#pragma once
#include <math.h>
#include <omp.h>

#include "attention_rows.h"

namespace {
namespace attend {

constexpr float LOG2_E = 1.44269504f;

// The patches of a batch, as the engine's kernel walks them.
inline pd::Attention patches_of(const pd::TrainingAttention& a) {
  return {a.rows, a.channels, a.heads, a.patch, a.scans, a.offsets, nullptr, nullptr};
}

template <class P>
struct ForwardMemory {
  Memory block;
  typename P::T* rows;  // [keys or LANES][d]
  std::size_t bytes;

  static ForwardMemory in(char* scratch, int d, int keys) {
    ForwardMemory m;
    m.block = Memory::in(scratch, P(), d, keys);
    Room room(scratch ? scratch + m.block.bytes : nullptr);
    m.rows = room.take<typename P::T>(static_cast<std::size_t>(keys > LANES ? keys : LANES) * d);
    m.bytes = m.block.bytes + room.used();
    return m;
  }
};

template <class P>
void forward_patch(const pd::TrainingAttention& a, int head, const Patch& patch, char* scratch) {
  const int d = a.channels / a.heads;
  const std::size_t stride = std::size_t{3} * a.channels;
  const float* base = a.qkv + static_cast<std::size_t>(head) * d;
  const ForwardMemory<P> memory = ForwardMemory<P>::in(scratch, d, patch.keys);
  const Memory& m = memory.block;
  gather_rows({base + a.channels, stride, a.order, patch.first_key, patch.keys}, d, 1.0f,
              memory.rows);
  pack_keys(together<P>(memory.rows, patch.keys, d), m.key);
  gather_rows({base + 2 * a.channels, stride, a.order, patch.first_key, patch.keys}, d, 1.0f,
              memory.rows);
  pack_values(together<P>(memory.rows, patch.keys, d), m.value);
  const float scale = LOG2_E / sqrtf(static_cast<float>(d)) * EXP2_SCALE;
  for (int done = 0; done < patch.queries; done += LANES) {
    const int first = patch.first_query + done;
    const int count = patch.queries - done < LANES ? patch.queries - done : LANES;
    gather_rows({base, stride, a.order, first, count}, d, scale, memory.rows, LANES);
    pack_lanes(together<P>(memory.rows, LANES, d), m.query);
    attend_block<P>({d, d / Rows<P>::per_word, patch.keys, m.key, m.value, m.query, m.weight, m.out,
                     m.sum, m.maximum});
    float* log_sum = a.log_sum + static_cast<std::size_t>(head) * a.rows + first;
    for (int i = 0; i < count; ++i) log_sum[i] = log2f(m.sum[i]) - m.maximum[i] / EXP2_SCALE;
    for (int q = 0; q < LANES; q += W) store(m.sum + q, 1.0f / load(m.sum + q));
    scatter_lanes(m.out, m.sum,
                  {a.out + static_cast<std::size_t>(head) * d, static_cast<std::size_t>(a.channels),
                   a.order, first, count},
                  d);
  }
}

template <class P>
void forward(const pd::TrainingAttention& a, int threads, char* scratch, std::size_t per_thread) {
  const pd::Attention shape = patches_of(a);
  const std::int64_t tasks = static_cast<std::int64_t>(Patches(shape).total()) * a.heads;
#pragma omp parallel num_threads(threads)
  {
    char* mine = scratch + omp_get_thread_num() * per_thread;
    Patches patches(shape);
#pragma omp for schedule(monotonic : dynamic, 1)
    for (std::int64_t task = 0; task < tasks; ++task)
      forward_patch<P>(a, static_cast<int>(task % a.heads),
                       patches.at(static_cast<int>(task / a.heads)), mine);
  }
}

}  // namespace attend
}  // namespace
