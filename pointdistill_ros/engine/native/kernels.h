// SPDX-License-Identifier: Apache-2.0
// The kernels of a network, one table per CPU tier and precision (tier.cpp is compiled once per tier).
//
// T is the type of stored activations: float in FLOAT32, bfloat16 in BFLOAT16. The residual stream,
// every accumulator, norm and softmax are float in both. All arrays are row-major and start at a
// 64-byte boundary; all channel counts are multiples of 16 unless said otherwise.
#pragma once
#include <cstddef>
#include <cstdint>

namespace pd {

enum Precision : int32_t { FLOAT32 = 0, BFLOAT16 = 1 };
enum Tier : int32_t { PORTABLE = 0, AVX2 = 1, AVX512 = 2, AVX512_BF16 = 3 };

// Threads to use (OpenMP) and scratch memory: thread i owns scratch + i * per_thread.
struct Workers {
  int threads;
  char* scratch;            // 64-byte aligned
  std::size_t per_thread;   // multiple of 64, at least what Kernels::scratch answered
};

// 5^3 (or 3^3) convolution, norm folded in, GELU. float in both precisions. in: any count.
struct Stem {
  int32_t rows, in, channels;
  const float* features;    // [rows][in]
  const int32_t* begin;     // [rows + 1]
  const int32_t* row;       // pairs, see geometry.h
  const uint8_t* offset;
  const float* weight;      // [offsets][in][channels], not packed
  const float* bias;        // [channels]
  float* x;                 // [rows][channels]
  void* copy;               // T [rows][channels], or null
};

// x_out = x + norm(conv(input)); qkv = unit_norm(x_out) W + b. unit_norm has no scale and shift
// (folded into W, b). The linear after the convolution is folded into its weights. For the rows
// [first, first + rows) of `total`. qkv == null: a block without attention, x_out alone.
// conv_weight == null: a block without convolution, x_out = x.
struct ConvQkv {
  int32_t first, rows, total, channels;
  const int32_t* neighbours;  // [27][total], row 13 = identity
  const void* input;          // T [total][channels]; never the same memory as x_out
  const float* x;             // [total][channels]; may be the same memory as x_out
  float* x_out;               // [total][channels]
  const void* conv_weight;    // packed by pack_conv
  const float *conv_bias, *norm_scale, *norm_shift;  // [channels]
  const void* qkv_weight;     // packed by pack_dense: channels -> 3 channels; the query part is
  const float* qkv_bias;      // scaled by log2(e) / sqrt(channels / heads)
  void* qkv;                  // T [rows][3 channels] from row `first` on: q, k, v, head by head
};

// Softmax (base 2) of q.k over patches along the curve; see model/attention.py for the patches.
// The result of a row replaces its query: qkv[row][head * d .. head * d + d].
struct Attention {
  int32_t rows, channels, heads, patch;  // d = channels / heads: a multiple of 16
  int32_t scans;
  const int32_t* offsets;     // [scans + 1]
  const int32_t* order;       // [rows] row at each position, or null: position = row
  void* qkv;                  // T [rows][3 channels]
};

// x += proj(attended); branch = fc2(gelu(fc1(unit_norm(x)))); x += branch. attended == null: a block
// without attention, no first step.
struct ProjMlp {
  int32_t rows, channels, hidden;
  const void* attended;       // T, row i at attended + i * stride
  int32_t stride;             // in elements
  float* x;                   // [rows][channels]
  const void *proj_weight, *fc1_weight, *fc2_weight;  // packed: C -> C, C -> hidden, hidden -> C
  const float *proj_bias, *fc1_bias, *fc2_bias;
  void* copy;                 // T [rows][channels] of the new x, or null
  void* branch;               // T [rows][channels] of branch alone, or null
};

// x = gelu(scale * max over children of linear(input) + shift)
struct Pool {
  int32_t rows, parents, in, channels;
  const void* input;          // T [rows][in]
  const int32_t* child_begin; // [parents + 1]
  const void* weight;         // packed: in -> channels
  const float *bias, *scale, *shift;  // [channels]; scale may be negative: the affine follows the max
  float* x;                   // [parents][channels]
  void* copy;                 // T [parents][channels], or null
};

// x = gelu(skip_linear(skip)) + gelu(linear(coarse))[parent]; norms folded into both linears.
struct Unpool {
  int32_t rows, coarse_rows, in, skip_channels, channels;
  const void* coarse;         // T [coarse_rows][in]
  const void* skip;           // T [rows][skip_channels]
  const int32_t* parent;      // [rows], non-decreasing
  const void *weight, *skip_weight;  // packed: in -> channels, skip_channels -> channels
  const float *bias, *skip_bias;
  float* up;                  // [coarse_rows][channels] working memory
  float* x;                   // [rows][channels]
  void* copy;                 // T [rows][channels] of x, or null
  void* branch;               // T [rows][channels] of gelu(skip_linear(skip)) alone, or null
};

// Logits and what follows from them. classes: any count >= 1; the packed weight has `padded` columns,
// the next multiple of 16.
struct Head {
  int32_t rows, in, classes, padded;
  const void* input;          // T [rows][in]
  const void* weight;         // packed: in -> padded
  const float* bias;          // [padded]
  uint8_t* label;             // [rows] first largest logit, or null
  float* probability;         // [rows] its softmax value, or null
  float* entropy;             // [rows] entropy / ln(max(2, classes)), clipped to 0..1, or null
  float* logits;              // [rows][classes], or null
};

struct Kernels {
  const char* name;           // "portable", "avx2", "avx512", "avx512-bf16"
  std::size_t element;        // sizeof(T)
  std::size_t (*dense_bytes)(int in, int out);
  void (*pack_dense)(const float* weight /* [out][in] */, int in, int out, void* packed);
  std::size_t (*conv_bytes)(int channels);
  void (*pack_conv)(const float* weight /* [27][in][out] */, int channels, void* packed);
  // Scratch bytes per thread that any kernel may use in a network of these widths.
  std::size_t (*scratch)(int largest_channels, int largest_hidden, int largest_patch);
  void (*stem)(const Stem&, const Workers&);
  void (*conv_qkv)(const ConvQkv&, const Workers&);
  void (*attention)(const Attention&, const Workers&);
  void (*proj_mlp)(const ProjMlp&, const Workers&);
  void (*pool)(const Pool&, const Workers&);
  void (*unpool)(const Unpool&, const Workers&);
  void (*head)(const Head&, const Workers&);
};

// Null where this build or this CPU lacks the tier, or the tier lacks the precision
// (BFLOAT16 needs AVX512_BF16).
const Kernels* find_kernels(Tier, Precision);
Tier best_tier();

}  // namespace pd
