// SPDX-License-Identifier: Apache-2.0
// The convolution kernels on their own, for tests and timing. Plain float arrays in and out;
// packing and narrowing happen here. Nothing is run unless every count and index is valid.
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <new>

#include "api.h"
#include "geometry.h"
#include "kernels.h"

namespace {

constexpr int64_t MOST_ROWS = 1 << 24;
constexpr int32_t MOST_CHANNELS = 2048;
constexpr int32_t MOST_THREADS = 256;

class Buffer {
 public:
  explicit Buffer(std::size_t bytes) : data_(std::aligned_alloc(64, (bytes + 64) / 64 * 64)) {
    if (!data_) throw std::bad_alloc();
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { std::free(data_); }
  void* get() const { return data_; }

 private:
  void* data_;
};

void narrow(const float* from, std::size_t count, std::size_t element, void* to) {
  if (element == sizeof(float)) {
    std::memcpy(to, from, count * sizeof(float));
    return;
  }
  for (std::size_t i = 0; i < count; ++i) {
    uint32_t bits;
    std::memcpy(&bits, from + i, 4);
    const bool nan = (bits & 0x7FFFFFFF) > 0x7F800000;
    bits = nan ? bits >> 16 | 0x40 : (bits + 0x7FFF + (bits >> 16 & 1)) >> 16;
    static_cast<uint16_t*>(to)[i] = static_cast<uint16_t>(bits);
  }
}

void widen(const void* from, std::size_t count, std::size_t element, float* to) {
  if (element == sizeof(float)) {
    std::memcpy(to, from, count * sizeof(float));
    return;
  }
  for (std::size_t i = 0; i < count; ++i) {
    const uint32_t bits = static_cast<uint32_t>(static_cast<const uint16_t*>(from)[i]) << 16;
    std::memcpy(to + i, &bits, 4);
  }
}

double cpu_seconds() {
  timespec now;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

bool valid_shape(int32_t rows, int32_t channels, int32_t threads) {
  return rows >= 0 && rows <= MOST_ROWS && channels >= 16 && channels % 16 == 0 &&
         channels <= MOST_CHANNELS && threads >= 1 && threads <= MOST_THREADS;
}

bool valid_neighbours(const int32_t* neighbours, int32_t rows) {
  for (int k = 0; k < 27; ++k) {
    for (int32_t i = 0; i < rows; ++i) {
      const int32_t row = neighbours[static_cast<std::size_t>(k) * rows + i];
      if (row < -1 || row >= rows || (k == 13 && row != i)) return false;
    }
  }
  return true;
}

bool valid_pairs(const int32_t* begin, const int32_t* row, const uint8_t* offset, int32_t rows,
                 int32_t pairs) {
  if (begin[0] != 0 || begin[rows] != pairs) return false;
  for (int32_t i = 0; i < rows; ++i) {
    if (begin[i + 1] < begin[i]) return false;
  }
  for (int32_t i = 0; i < pairs; ++i) {
    if (row[i] < 0 || row[i] >= rows || offset[i] >= 125) return false;
  }
  return true;
}

const pd::Kernels* find(int32_t tier, int32_t precision) {
  if (tier < pd::PORTABLE || tier > pd::AVX512_BF16) return nullptr;
  return pd::find_kernels(static_cast<pd::Tier>(tier), static_cast<pd::Precision>(precision));
}

}  // namespace

// See ConvQkv. input and qkv are float here; conv_weight [27][in][out], qkv_weight [3 channels]
// [channels]. seconds: CPU time of the kernel alone. Returns a Status.
PD_API int32_t pd_test_conv_qkv(int32_t tier, int32_t precision, int32_t threads, int32_t rows,
                                int32_t channels, const int32_t* neighbours, const float* input,
                                const float* x, float* x_out, const float* conv_weight,
                                const float* conv_bias, const float* norm_scale,
                                const float* norm_shift, const float* qkv_weight,
                                const float* qkv_bias, float* qkv, double* seconds) {
  const pd::Kernels* kernels = find(tier, precision);
  if (!kernels || !valid_shape(rows, channels, threads) || !valid_neighbours(neighbours, rows))
    return pd::BAD_ARGUMENT;
  try {
    const std::size_t count = static_cast<std::size_t>(rows) * channels;
    const Buffer packed(kernels->conv_bytes(channels));
    const Buffer qkv_packed(kernels->dense_bytes(channels, 3 * channels));
    const Buffer input_narrow(count * kernels->element), out(3 * count * kernels->element);
    const std::size_t per_thread = (kernels->scratch(channels, channels, 1) + 63) / 64 * 64;
    const Buffer scratch(per_thread * threads);
    kernels->pack_conv(conv_weight, channels, packed.get());
    kernels->pack_dense(qkv_weight, channels, 3 * channels, qkv_packed.get());
    narrow(input, count, kernels->element, input_narrow.get());
    const pd::ConvQkv work = {
        0, rows, rows, channels, neighbours, input_narrow.get(), x, x_out, packed.get(),
        conv_bias, norm_scale, norm_shift, qkv_packed.get(), qkv_bias, out.get(),
    };
    std::memset(out.get(), 0, 3 * count * kernels->element);  // page faults are not the kernel's
    const double start = cpu_seconds();
    kernels->conv_qkv(work, {threads, static_cast<char*>(scratch.get()), per_thread});
    *seconds = cpu_seconds() - start;
    widen(out.get(), 3 * count, kernels->element, qkv);
  } catch (const std::bad_alloc&) {
    return pd::OUT_OF_MEMORY;
  }
  return pd::OK;
}

// See Stem. copy is float here. Returns a Status.
PD_API int32_t pd_test_stem(int32_t tier, int32_t precision, int32_t threads, int32_t rows,
                            int32_t in, int32_t channels, int32_t pairs, const float* features,
                            const int32_t* begin, const int32_t* row, const uint8_t* offset,
                            const float* weight, const float* bias, float* x, float* copy,
                            double* seconds) {
  const pd::Kernels* kernels = find(tier, precision);
  if (!kernels || !valid_shape(rows, channels, threads) || in < 1 || in > MOST_CHANNELS ||
      pairs < 0 || !valid_pairs(begin, row, offset, rows, pairs))
    return pd::BAD_ARGUMENT;
  try {
    const std::size_t count = static_cast<std::size_t>(rows) * channels;
    const Buffer narrow_copy(count * kernels->element);
    const std::size_t per_thread = (kernels->scratch(channels, channels, 1) + 63) / 64 * 64;
    const Buffer scratch(per_thread * threads);
    const pd::Stem work = {
        rows, in, channels, features, begin, row, offset, weight, bias, x,
        copy ? narrow_copy.get() : nullptr,
    };
    std::memset(narrow_copy.get(), 0, count * kernels->element);
    const double start = cpu_seconds();
    kernels->stem(work, {threads, static_cast<char*>(scratch.get()), per_thread});
    *seconds = cpu_seconds() - start;
    if (copy) widen(narrow_copy.get(), count, kernels->element, copy);
  } catch (const std::bad_alloc&) {
    return pd::OUT_OF_MEMORY;
  }
  return pd::OK;
}
