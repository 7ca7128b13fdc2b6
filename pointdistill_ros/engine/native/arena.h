// SPDX-License-Identifier: Apache-2.0
// Arena: the working memory of one engine. Grows during the first scans, then never allocates.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <vector>
#ifdef __linux__
#include <sys/mman.h>
#endif

namespace pd {

class Arena {
 public:
  Arena() = default;
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  ~Arena() { release(); }

  // Uninitialised room for `count` objects, 64-byte aligned. Throws std::bad_alloc.
  template <class T>
  T* take(std::size_t count) {
    if (count > (SIZE_MAX / 2) / sizeof(T)) throw std::bad_alloc();
    std::size_t bytes = (count * sizeof(T) + 63) & ~std::size_t{63};
    if (bytes == 0) bytes = 64;
    if (chunks_.empty() || chunks_[current_].size - used_ < bytes) open_chunk(bytes);
    char* room = chunks_[current_].data + used_;
    used_ += bytes;
    taken_ += bytes;
    if (taken_ > peak_) peak_ = taken_;
    return reinterpret_cast<T*>(room);
  }

  // What was taken since `mark()` may be taken again.
  struct Mark {
    std::size_t chunk, used, taken;
  };
  Mark mark() const { return {current_, used_, taken_}; }
  void rewind(Mark mark) {
    current_ = mark.chunk;
    used_ = mark.used;
    taken_ = mark.taken;
  }

  // Forget everything. Several chunks, which waste their ends, become one of twice the most that was
  // ever in use at a time, so that the next scans of about this size fit at once.
  void reset() {
    if (chunks_.size() > 1) {
      release();
      add_chunk(2 * peak_);
    }
    current_ = used_ = taken_ = 0;
  }

  // The most that was ever in use at a time.
  std::size_t bytes() const { return peak_; }

 private:
  // Only what is touched takes memory, so chunks may be large: most scans fit into the first.
  static constexpr std::size_t LEAST_CHUNK = std::size_t{1} << 28;

  struct Chunk {
    char* data;
    std::size_t size;
  };

  void open_chunk(std::size_t bytes) {
    while (current_ + 1 < chunks_.size()) {
      ++current_;
      used_ = 0;
      if (chunks_[current_].size >= bytes) return;
    }
    try {
      add_chunk(bytes > LEAST_CHUNK ? bytes : LEAST_CHUNK);
    } catch (const std::bad_alloc&) {  // a system that grants only what it has
      add_chunk(bytes);
    }
    current_ = chunks_.size() - 1;
    used_ = 0;
  }

  void add_chunk(std::size_t bytes) {
    constexpr std::size_t page = std::size_t{1} << 21;
    bytes = (bytes + page - 1) & ~(page - 1);
    char* data = static_cast<char*>(std::aligned_alloc(page, bytes));
    if (!data) throw std::bad_alloc();
#ifdef __linux__
    madvise(data, bytes, MADV_HUGEPAGE);  // advice: where it is refused nothing changes
#endif
    chunks_.push_back({data, bytes});
  }

  void release() {
    for (Chunk& chunk : chunks_) std::free(chunk.data);
    chunks_.clear();
    current_ = used_ = taken_ = 0;
  }

  std::vector<Chunk> chunks_;
  std::size_t current_ = 0, used_ = 0, taken_ = 0, peak_ = 0;
};

}  // namespace pd
