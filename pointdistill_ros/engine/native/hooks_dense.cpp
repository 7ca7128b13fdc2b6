// SPDX-License-Identifier: Apache-2.0
// The kernels of dense.h one by one, for tests/engine/test_dense_kernels.py. Activations come and go as
// float and are rounded to the kernel's type here; weights are [out][in]. A null output is not asked.
#include <cstdlib>
#include <initializer_list>
#include <new>

#include "api.h"
#include "geometry.h"
#include "kernels.h"
#include "simd.h"

namespace {

constexpr int32_t MOST_ROWS = 1 << 22, MOST_CHANNELS = 1 << 13, MOST_THREADS = 64;

bool widths(std::initializer_list<int32_t> channels) {
  for (int32_t c : channels)
    if (c < 16 || c > MOST_CHANNELS || c % 16) return false;
  return true;
}

// 64-byte aligned and no longer than asked, so that a sanitizer sees what leaves it.
class Buffer {
 public:
  explicit Buffer(std::size_t bytes)
      : data_(static_cast<char*>(std::aligned_alloc(64, (bytes + 127) / 64 * 64))) {
    if (!data_) throw std::bad_alloc();
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { std::free(data_); }
  char* data() const { return data_; }

 private:
  char* data_;
};

// Float values in the type that the kernels store.
class Activations {
 public:
  Activations(const pd::Kernels& kernels, const float* values, std::size_t count)
      : count_(count), narrow_(kernels.element == 2), buffer_(count * kernels.element) {
    for (std::size_t i = 0; values && i < count; ++i) {
      if (narrow_)
        reinterpret_cast<bf16*>(data())[i] = to_bf16(values[i]);
      else
        reinterpret_cast<float*>(data())[i] = values[i];
    }
  }
  char* data() const { return buffer_.data(); }
  void read(float* values) const {
    for (std::size_t i = 0; values && i < count_; ++i)
      values[i] = narrow_ ? from_bf16(reinterpret_cast<bf16*>(data())[i])
                          : reinterpret_cast<float*>(data())[i];
  }

 private:
  std::size_t count_;
  bool narrow_;
  Buffer buffer_;
};

class Weight {
 public:
  Weight(const pd::Kernels& kernels, const float* weight, int32_t in, int32_t out)
      : buffer_(kernels.dense_bytes(in, out)) {
    kernels.pack_dense(weight, in, out, buffer_.data());
  }
  const void* data() const { return buffer_.data(); }

 private:
  Buffer buffer_;
};

class Scratch {
 public:
  Scratch(const pd::Kernels& kernels, int32_t channels, int32_t hidden, int32_t threads)
      : threads_(threads),
        per_thread_((kernels.scratch(channels, hidden, 16) + 63) / 64 * 64),
        buffer_(per_thread_ * threads) {}
  pd::Workers workers() const { return {threads_, buffer_.data(), per_thread_}; }

 private:
  int32_t threads_;
  std::size_t per_thread_;
  Buffer buffer_;
};

// work(kernels) where the tier can run here and the counts are sane
template <class Work>
int32_t guarded(int32_t tier, int32_t precision, int32_t threads, int32_t rows, bool sane, Work work) {
  if (tier < 0 || tier > pd::AVX512_BF16 || !sane || threads < 1 || threads > MOST_THREADS ||
      rows < 0 || rows > MOST_ROWS)
    return pd::BAD_ARGUMENT;
  const pd::Kernels* kernels =
      pd::find_kernels(static_cast<pd::Tier>(tier), static_cast<pd::Precision>(precision));
  if (!kernels) return pd::BAD_ARGUMENT;
  try {
    work(*kernels);
  } catch (const std::bad_alloc&) {
    return pd::OUT_OF_MEMORY;
  }
  return pd::OK;
}

int32_t larger(int32_t a, int32_t b) { return a > b ? a : b; }

std::size_t size(int32_t rows, int32_t columns) {
  return static_cast<std::size_t>(rows) * columns;
}

}  // namespace

// attended [rows][stride], x [rows][channels] in and out; copy, branch [rows][channels] or null
PD_API int32_t pd_hook_proj_mlp(int32_t tier, int32_t precision, int32_t threads, int32_t rows,
                                int32_t channels, int32_t hidden, int32_t stride,
                                const float* attended, float* x, const float* proj,
                                const float* proj_bias, const float* fc1, const float* fc1_bias,
                                const float* fc2, const float* fc2_bias, float* copy,
                                float* branch) {
  const bool sane = widths({channels, hidden, stride}) && stride >= channels;
  return guarded(tier, precision, threads, rows, sane, [&](const pd::Kernels& kernels) {
    const Activations input(kernels, attended, size(rows, stride));
    const Activations narrow(kernels, nullptr, size(rows, channels));
    const Activations alone(kernels, nullptr, size(rows, channels));
    const Weight a(kernels, proj, channels, channels), b(kernels, fc1, channels, hidden),
        c(kernels, fc2, hidden, channels);
    const Scratch scratch(kernels, channels, hidden, threads);
    kernels.proj_mlp({rows, channels, hidden, input.data(), stride, x, a.data(), b.data(), c.data(),
                      proj_bias, fc1_bias, fc2_bias, copy ? narrow.data() : nullptr,
                      branch ? alone.data() : nullptr},
                     scratch.workers());
    narrow.read(copy);
    alone.read(branch);
  });
}

// input [rows][in], child_begin [parents + 1]; x, copy [parents][channels], copy or null
PD_API int32_t pd_hook_pool(int32_t tier, int32_t precision, int32_t threads, int32_t rows,
                            int32_t parents, int32_t in, int32_t channels, const float* input,
                            const int32_t* child_begin, const float* weight, const float* bias,
                            const float* scale, const float* shift, float* x, float* copy) {
  bool sane = widths({in, channels}) && parents >= 0 && parents <= MOST_ROWS &&
              child_begin[0] == 0 && child_begin[parents] == rows;
  for (int32_t i = 0; sane && i < parents; ++i) sane = child_begin[i] <= child_begin[i + 1];
  return guarded(tier, precision, threads, rows, sane, [&](const pd::Kernels& kernels) {
    const Activations values(kernels, input, size(rows, in));
    const Activations narrow(kernels, nullptr, size(parents, channels));
    const Weight packed(kernels, weight, in, channels);
    const Scratch scratch(kernels, larger(in, channels), 16, threads);
    kernels.pool({rows, parents, in, channels, values.data(), child_begin, packed.data(), bias,
                  scale, shift, x, copy ? narrow.data() : nullptr},
                 scratch.workers());
    narrow.read(copy);
  });
}

// coarse [coarse_rows][in], skip [rows][skip_channels], parent [rows]; x, copy, branch
// [rows][channels], the last two or null
PD_API int32_t pd_hook_unpool(int32_t tier, int32_t precision, int32_t threads, int32_t rows,
                              int32_t coarse_rows, int32_t in, int32_t skip_channels,
                              int32_t channels, const float* coarse, const float* skip,
                              const int32_t* parent, const float* weight, const float* bias,
                              const float* skip_weight, const float* skip_bias, float* x,
                              float* copy, float* branch) {
  bool sane =
      widths({in, skip_channels, channels}) && coarse_rows >= 0 && coarse_rows <= MOST_ROWS;
  for (int32_t i = 0; sane && i < rows; ++i) sane = parent[i] >= 0 && parent[i] < coarse_rows;
  return guarded(tier, precision, threads, rows, sane, [&](const pd::Kernels& kernels) {
    const Activations low(kernels, coarse, size(coarse_rows, in));
    const Activations high(kernels, skip, size(rows, skip_channels));
    const Activations narrow(kernels, nullptr, size(rows, channels));
    const Activations alone(kernels, nullptr, size(rows, channels));
    const Weight packed(kernels, weight, in, channels),
        skip_packed(kernels, skip_weight, skip_channels, channels);
    const Buffer up(sizeof(float) * size(coarse_rows, channels));
    const Scratch scratch(kernels, larger(larger(in, skip_channels), channels), 16, threads);
    kernels.unpool({rows, coarse_rows, in, skip_channels, channels, low.data(), high.data(), parent,
                    packed.data(), skip_packed.data(), bias, skip_bias,
                    reinterpret_cast<float*>(up.data()), x, copy ? narrow.data() : nullptr,
                    branch ? alone.data() : nullptr},
                   scratch.workers());
    narrow.read(copy);
    alone.read(branch);
  });
}

// input [rows][in], weight [padded][in], bias [padded]; label, probability, entropy [rows], logits
// [rows][classes], each or null
PD_API int32_t pd_hook_head(int32_t tier, int32_t precision, int32_t threads, int32_t rows,
                            int32_t in, int32_t classes, int32_t padded, const float* input,
                            const float* weight, const float* bias, uint8_t* label,
                            float* probability, float* entropy, float* logits) {
  const bool sane =
      widths({in, padded}) && classes >= 1 && classes <= 256 && padded == (classes + 15) / 16 * 16;
  return guarded(tier, precision, threads, rows, sane, [&](const pd::Kernels& kernels) {
    const Activations values(kernels, input, size(rows, in));
    const Weight packed(kernels, weight, in, padded);
    const Scratch scratch(kernels, in, 16, threads);
    kernels.head({rows, in, classes, padded, values.data(), packed.data(), bias, label, probability,
                  entropy, logits},
                 scratch.workers());
  });
}
