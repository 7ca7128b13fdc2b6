// SPDX-License-Identifier: Apache-2.0
// A network compiled for one tier and precision: packed weights, and one pass over a pyramid.
#pragma once
#include <cstdint>
#include <vector>

#include "arena.h"
#include "geometry.h"
#include "kernels.h"

namespace pd {

enum Xcpe : int32_t { STALE_OFF = 0, STALE_ON = 1, LEGACY = 2 };  // see model/ptv3.py

// The fields of PTv3Config that the engine needs; the twin of Shape in plan.py.
struct NetworkShape {
  int32_t stages, in_channels, num_classes, mlp_ratio, xcpe;
  int32_t stem_size;                // 3 or 5, edge of the stem's kernel
  int32_t deep_xcpe;                // 0: with attention, only the first block of a stage convolves
  // heads 0: blocks without attention
  int32_t encoder_depths[MAX_LEVELS], encoder_channels[MAX_LEVELS], encoder_heads[MAX_LEVELS];
  int32_t decoder_depths[MAX_LEVELS], decoder_channels[MAX_LEVELS], decoder_heads[MAX_LEVELS];
  int32_t shifts[MAX_LEVELS];       // [stages - 1] log2 of the stride
  int32_t patch_sizes[MAX_LEVELS];  // [stages]
  int32_t slots[MAX_LEVELS];        // [stages] curves in use, 0..4 (0: no block has attention);
                                    // block i walks curves[i % slots]
  int32_t curves[MAX_LEVELS][4];    // 0 z, 1 z-trans, 2 hilbert, 3 hilbert-trans
};

enum Part { VOXELS, GEOMETRY, STEM, CONVOLUTION, ATTENTION, MLP, POOLING, HEAD, POINTS, PARTS };

struct Times {
  double seconds[PARTS];  // of the last call, added up per part
};

// Where results of the finest stage go; null = not asked for. See Head in kernels.h.
struct Output {
  uint8_t* label;
  float* probability;
  float* entropy;
  float* logits;
};

class Network {
 public:
  // weights: the floats of plan.py, in its order. Check ok() before use.
  Network(const NetworkShape&, const float* weights, int64_t count, const Kernels*);
  bool ok() const { return ok_; }

  const NetworkShape& shape() const { return shape_; }
  PyramidShape pyramid_shape() const;
  std::size_t weight_bytes() const { return weights_.bytes(); }
  void run(const Pyramid&, const float* features, const Output&, Arena&, int threads, Times*) const;

 private:
  struct Dense {
    const void* weight;
    const float* bias;
  };
  struct Block {
    int32_t channels, heads, hidden;
    const void* conv_weight;
    const float *conv_bias, *norm_scale, *norm_shift;
    Dense qkv, proj, fc1, fc2;  // qkv and proj: null where heads == 0; conv and norm: see deep_xcpe
  };
  struct Encoder {
    Dense pool;
    const float *scale, *shift;
    std::vector<Block> blocks;
  };
  struct Decoder {
    Dense up, skip;
    std::vector<Block> blocks;
  };
  struct Reader;
  struct Pass;

  static bool sane(const NetworkShape&);
  Block read_block(Reader&, int32_t channels, int32_t heads, int index);
  Dense read_dense(Reader&, int32_t in, int32_t out);

  NetworkShape shape_;
  const Kernels* kernels_;
  Arena weights_;
  bool ok_ = false;
  const float *stem_weight_ = nullptr, *stem_bias_ = nullptr;
  std::vector<Encoder> encoder_;
  std::vector<Decoder> decoder_;  // fine to coarse
  Dense head_{};
};

}  // namespace pd
