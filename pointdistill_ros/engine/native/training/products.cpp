// SPDX-License-Identifier: Apache-2.0
// The C face of the products: checks, working memory, the copy of the tier.
#include <new>

#include "api.h"
#include "arena.h"
#include "feed_forward_work.h"
#include "geometry.h"
#include "products.h"

namespace {

constexpr int32_t MOST_CHANNELS = 1 << 20;

bool valid(int32_t tier, int32_t precision, int32_t threads, int32_t rows, int32_t in, int32_t out,
           int32_t offsets, const int32_t* table) {
  return tier >= pd::PORTABLE && tier <= pd::best_tier() &&
         (precision == pd::FLOAT32 || (precision == pd::BFLOAT16 && tier == pd::AVX512_BF16)) &&
         threads >= 1 && rows >= 0 && in >= 1 && out >= 1 && in <= MOST_CHANNELS &&
         out <= MOST_CHANNELS && offsets >= 1 && offsets % 2 == 1 &&
         (table || offsets == 1 || rows == 0);
}

// Working memory that stays with the thread that calls: steps repeat.
char* take(const pd::ProductScratch& size, int threads) {
  static thread_local pd::Arena arena;
  arena.reset();
  return arena.take<char>(size.shared + size.per_thread * threads);
}

}  // namespace

// See Convolution. weight: [out][offsets][in]. transposed: the data gradient instead, x [rows][out]
// being the gradient of y and y [rows][in] that of x; needs a table from pd_train_table and no bias.
PD_API int32_t pd_train_convolution(int32_t tier, int32_t precision, int32_t threads, int32_t rows,
                                    int32_t in, int32_t out, int32_t offsets, const int32_t* table,
                                    const float* x, const float* weight, const float* bias,
                                    int32_t transposed, float* y) {
  if (!valid(tier, precision, threads, rows, in, out, offsets, table) || (transposed && bias))
    return pd::BAD_ARGUMENT;
  if (rows == 0) return pd::OK;
  const int64_t per_offset = in, per_out = int64_t{in} * offsets;
  pd::Convolution a = {rows, in, out, offsets, table, x, weight, per_out, per_offset, 1, bias, y};
  if (transposed) {
    a.in = out;
    a.out = in;
    a.weight = weight + (offsets - 1) * per_offset;
    a.out_stride = 1;
    a.offset_stride = -per_offset;
    a.in_stride = per_out;
  }
  if (offsets == 1) a.table = nullptr;
  const bool bfloat16 = precision == pd::BFLOAT16;
  try {
    const pd::ProductScratch size = PD_PICK(pd_convolution_scratch, tier)(a, bfloat16);
    PD_PICK(pd_convolution, tier)(a, bfloat16, {threads, take(size, threads), size});
  } catch (const std::bad_alloc&) {
    return pd::OUT_OF_MEMORY;
  }
  return pd::OK;
}

// See WeightGradient. Returns a Status.
PD_API int32_t pd_train_weight_gradient(int32_t tier, int32_t precision, int32_t threads,
                                        int32_t rows, int32_t in, int32_t out, int32_t offsets,
                                        const int32_t* table, const float* x, const float* grad,
                                        float* weight_grad, float* bias_grad) {
  if (!valid(tier, precision, threads, rows, in, out, offsets, table)) return pd::BAD_ARGUMENT;
  const pd::WeightGradient a = {rows, in,   out,         offsets, offsets == 1 ? nullptr : table,
                                x,    grad, weight_grad, bias_grad};
  const bool bfloat16 = precision == pd::BFLOAT16;
  try {
    const pd::ProductScratch size = PD_PICK(pd_weight_gradient_scratch, tier)(a, bfloat16);
    PD_PICK(pd_weight_gradient, tier)(a, bfloat16, {threads, take(size, threads), size});
  } catch (const std::bad_alloc&) {
    return pd::OUT_OF_MEMORY;
  }
  return pd::OK;
}

// See FeedForward. Returns a Status.
PD_API int32_t pd_train_feed_forward(int32_t tier, int32_t precision, int32_t threads, int32_t rows,
                                     int32_t in, int32_t hidden, int32_t out, const float* x,
                                     const float* up_weight, const float* up_bias,
                                     const float* down_weight, const float* down_bias, float* y) {
  if (!valid(tier, precision, threads, rows, in, out, 1, nullptr) || hidden < 1 ||
      hidden > MOST_CHANNELS)
    return pd::BAD_ARGUMENT;
  if (rows == 0) return pd::OK;
  const pd::FeedForward a = {rows,    in,          hidden,    out, x, up_weight,
                             up_bias, down_weight, down_bias, y};
  const bool bfloat16 = precision == pd::BFLOAT16;
  try {
    const pd::ProductScratch size = PD_PICK(pd_feed_forward_scratch, tier)(a, bfloat16, false);
    PD_PICK(pd_feed_forward, tier)(a, bfloat16, {threads, take(size, threads), size});
  } catch (const std::bad_alloc&) {
    return pd::OUT_OF_MEMORY;
  }
  return pd::OK;
}

// See FeedForwardGradient; x_grad may be null. Returns a Status.
PD_API int32_t pd_train_feed_forward_gradient(
    int32_t tier, int32_t precision, int32_t threads, int32_t rows, int32_t in, int32_t hidden,
    int32_t out, const float* x, const float* up_weight, const float* up_bias,
    const float* down_weight, const float* y_grad, float* x_grad, float* up_weight_grad,
    float* up_bias_grad, float* down_weight_grad, float* down_bias_grad) {
  if (!valid(tier, precision, threads, rows, in, out, 1, nullptr) || hidden < 1 ||
      hidden > MOST_CHANNELS)
    return pd::BAD_ARGUMENT;
  const pd::FeedForward a = {rows,    in,          hidden,  out,    x, up_weight,
                             up_bias, down_weight, nullptr, nullptr};
  const pd::FeedForwardGradient gradient = {y_grad,       x_grad,           up_weight_grad,
                                            up_bias_grad, down_weight_grad, down_bias_grad};
  const bool bfloat16 = precision == pd::BFLOAT16;
  try {
    const pd::ProductScratch size = PD_PICK(pd_feed_forward_scratch, tier)(a, bfloat16, true);
    PD_PICK(pd_feed_forward_gradient, tier)(a, gradient, bfloat16,
                                            {threads, take(size, threads), size});
  } catch (const std::bad_alloc&) {
    return pd::OUT_OF_MEMORY;
  }
  return pd::OK;
}
