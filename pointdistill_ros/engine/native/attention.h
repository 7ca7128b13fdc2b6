// SPDX-License-Identifier: Apache-2.0
// Patch attention: every scan is cut into patches along a curve, whose rows attend to each other.
//
// A task is one patch and head, or a part of its queries where there are few of those. Keys and
// values are gathered once per task. A task writes over the queries that it alone reads.
#pragma once
#include <omp.h>

#include "attention_block.h"
#include "attention_pack.h"
#include "kernels.h"

namespace {
namespace attend {

// Which queries attend to which keys: positions along the curve.
struct Patch {
  int32_t first_query, queries, first_key, keys;
};

// Walks the patches of all scans in ascending order.
class Patches {
 public:
  explicit Patches(const pd::Attention& a) : a_(a) {}

  int total() const {
    int count = 0;
    for (int scan = 0; scan < a_.scans; ++scan) count += of_scan(scan);
    return count;
  }

  Patch at(int index) {
    if (index < before_) scan_ = before_ = 0;
    while (index >= before_ + of_scan(scan_)) before_ += of_scan(scan_++);
    const int32_t begin = a_.offsets[scan_], end = a_.offsets[scan_ + 1], keys = size(scan_);
    const int32_t query = begin + (index - before_) * keys;
    if (end - query >= keys) return {query, keys, query, keys};
    return {query, end - query, end - keys, keys};
  }

 private:
  int32_t rows(int scan) const { return a_.offsets[scan + 1] - a_.offsets[scan]; }
  int32_t size(int scan) const { return rows(scan) < a_.patch ? rows(scan) : a_.patch; }
  int of_scan(int scan) const { return rows(scan) ? (rows(scan) - 1) / size(scan) + 1 : 0; }

  const pd::Attention& a_;
  int scan_ = 0, before_ = 0;
};

// Hands out 64-byte aligned parts of the scratch memory; from null it only counts.
class Room {
 public:
  explicit Room(char* scratch) : scratch_(scratch) {}
  template <class T>
  T* take(std::size_t count) {
    char* part = scratch_ ? scratch_ + used_ : nullptr;
    used_ += (count * sizeof(T) + 63) / 64 * 64;
    return reinterpret_cast<T*>(part);
  }
  std::size_t used() const { return used_; }

 private:
  char* scratch_;
  std::size_t used_ = 0;
};

struct Memory {
  word *key, *value, *query, *weight;
  float *out, *sum, *maximum;
  std::size_t bytes;

  template <class P>
  static Memory in(char* scratch, P, int d, int keys) {
    constexpr std::size_t per_word = Rows<P>::per_word;
    const std::size_t words = (static_cast<std::size_t>(keys) + W - 1) / W * W * d / per_word;
    Room room(scratch);
    Memory m;
    m.key = room.take<word>(words);
    m.value = room.take<word>(words);
    m.query = room.take<word>(d / per_word * LANES);
    m.weight = room.take<word>(KEYS / per_word * LANES);
    m.out = room.take<float>(static_cast<std::size_t>(d) * LANES);
    m.sum = room.take<float>(LANES);
    m.maximum = room.take<float>(LANES);
    m.bytes = room.used();
    return m;
  }
};

}  // namespace attend

// Grows with the patch: a caller whose patches may exceed its scans passes the smaller of patch and
// rows. As if all channels were one head.
template <class P>
std::size_t attention_scratch(int largest_channels, int largest_patch) {
  return attend::Memory::in(nullptr, P(), largest_channels, largest_patch).bytes;
}

template <class P>
void attention(const pd::Attention& a, const pd::Workers& workers) {
  using namespace attend;
  typedef typename P::T T;
  const int d = a.channels / a.heads;
  const std::int64_t units = static_cast<std::int64_t>(Patches(a).total()) * a.heads;
  if (units == 0) return;
  // A block of queries is computed as a whole, whatever the number of parts: so results do not
  // depend on the number of threads.
  const int enough = 4 * workers.threads;
  const int parts = workers.threads == 1 || units >= enough ? 1 : (enough + units - 1) / units;
  const std::int64_t tasks = units * parts;
#pragma omp parallel num_threads(workers.threads)
  {
    char* scratch = workers.scratch + omp_get_thread_num() * workers.per_thread;
    Patches patches(a);
#pragma omp for schedule(monotonic : dynamic, 1)
    for (std::int64_t task = 0; task < tasks; ++task) {
      const std::int64_t unit = task / parts;
      const int part = task % parts, head = unit % a.heads;
      const Patch patch = patches.at(unit / a.heads);
      const int blocks = (patch.queries + LANES - 1) / LANES;
      const int begin = static_cast<std::int64_t>(blocks) * part / parts;
      const int end = static_cast<std::int64_t>(blocks) * (part + 1) / parts;
      if (begin == end) continue;

      const std::size_t stride = std::size_t{3} * a.channels;
      T* base = static_cast<T*>(a.qkv) + static_cast<std::size_t>(head) * d;
      const Memory m = Memory::in(scratch, P(), d, patch.keys);
      pack_keys<P>({base + a.channels, stride, a.order, patch.first_key, patch.keys, d}, m.key);
      pack_values({base + 2 * a.channels, stride, a.order, patch.first_key, patch.keys, d},
                  m.value);
      for (int block = begin; block < end; ++block) {
        const int skip = block * LANES;
        const Rows<P> queries{base, stride, a.order, patch.first_query + skip, patch.queries - skip,
                              d};
        pack_queries(queries, m.query);
        if (block + 1 < end)
          for (int i = LANES; i < 2 * LANES; ++i) queries.prefetch(i);
        attend_block<P>({d, d / Rows<P>::per_word, patch.keys, m.key, m.value, m.query, m.weight,
                         m.out, m.sum, m.maximum});
        unpack_results(m.out, m.sum, queries);
      }
    }
  }
}

}  // namespace
