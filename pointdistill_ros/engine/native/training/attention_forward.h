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
  typename P::T* rows;  // [keys][3 channels]
  std::size_t bytes;

  static ForwardMemory in(char* scratch, int channels, int d, int keys) {
    ForwardMemory m;
    m.block = Memory::in(scratch, P(), d, keys);
    Room room(scratch ? scratch + m.block.bytes : nullptr);
    m.rows = room.take<typename P::T>(static_cast<std::size_t>(keys) * 3 * channels);
    m.bytes = m.block.bytes + room.used();
    return m;
  }
};

// What queries are multiplied with: scores are powers of two.
inline float query_scale(int d) { return LOG2_E / sqrtf(static_cast<float>(d)) * EXP2_SCALE; }

template <class P>
void forward_patch(const pd::TrainingAttention& a, const Heads& heads, const Patch& patch,
                   char* scratch) {
  const int d = heads.d, w = heads.channels(), keys = patch.keys;
  const ForwardMemory<P> memory = ForwardMemory<P>::in(scratch, w, d, keys);
  const Memory& m = memory.block;
  gather_rows(a, heads, patch.first_key, keys, query_scale(d), memory.rows);
  for (int head = heads.first; head < heads.last; ++head) {
    auto* const rows = memory.rows + (head - heads.first) * d;
    pack_keys(near_rows<P>(rows + w, 3 * w, 0, keys, d), m.key);
    pack_values(near_rows<P>(rows + 2 * w, 3 * w, 0, keys, d), m.value);
    for (int done = 0; done < patch.queries; done += LANES) {
      const int first = patch.first_query + done;
      const int count = patch.queries - done < LANES ? patch.queries - done : LANES;
      pack_lanes(near_rows<P>(rows, 3 * w, first - patch.first_key, count, d), m.query);
      attend_block<P>({d, d / Rows<P>::per_word, keys, m.key, m.value, m.query, m.weight, m.out,
                       m.sum, m.maximum});
      float* log_sum = a.log_sum + static_cast<std::size_t>(head) * a.rows + first;
      for (int i = 0; i < count; ++i) log_sum[i] = log2f(m.sum[i]) - m.maximum[i] / EXP2_SCALE;
      for (int q = 0; q < LANES; q += W) store(m.sum + q, 1.0f / load(m.sum + q));
      scatter_lanes(m.out, m.sum,
                    {a.out + static_cast<std::size_t>(head) * d,
                     static_cast<std::size_t>(a.channels), a.order, first, count},
                    d);
    }
  }
}

template <class P>
void forward(const pd::TrainingAttention& a, int threads, char* scratch, std::size_t per_thread) {
  const pd::Attention shape = patches_of(a);
  const std::int64_t patch_count = Patches(shape).total();
  if (patch_count == 0) return;
  const int groups = head_groups(patch_count, a.heads, threads);
#pragma omp parallel num_threads(threads)
  {
    char* mine = scratch + omp_get_thread_num() * per_thread;
    Patches patches(shape);
#pragma omp for schedule(monotonic : dynamic, 1)
    for (std::int64_t task = 0; task < patch_count * groups; ++task)
      forward_patch<P>(a, heads_of(a, static_cast<int>(task % groups), groups),
                       patches.at(static_cast<int>(task / groups)), mine);
  }
}

}  // namespace attend
}  // namespace
