// SPDX-License-Identifier: Apache-2.0
#include "network.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <utility>

namespace pd {
namespace {

int32_t padded(int32_t classes) { return (classes + 15) / 16 * 16; }

class Clock {
 public:
  explicit Clock(Times* times) : times_(times), last_(now()) {}
  void charge(Part part) {
    auto time = now();
    times_->seconds[part] += std::chrono::duration<double>(time - last_).count();
    last_ = time;
  }

 private:
  static std::chrono::steady_clock::time_point now() { return std::chrono::steady_clock::now(); }
  Times* times_;
  std::chrono::steady_clock::time_point last_;
};

}  // namespace

// Walks the floats of plan.py; after the end everything reads as failed.
struct Network::Reader {
  const float* next;
  int64_t left;
  bool failed = false;

  const float* take(int64_t count) {
    if (failed || count > left) {
      failed = true;
      return nullptr;
    }
    const float* here = next;
    next += count;
    left -= count;
    return here;
  }
};

bool Network::sane(const NetworkShape& s) {
  auto width = [](int32_t channels, int32_t heads) {
    if (channels < 16 || channels > 4096 || channels % 16 || heads < 0) return false;
    return heads == 0 || (channels % heads == 0 && channels / heads % 16 == 0);
  };
  if (s.stages < 1 || s.stages > MAX_LEVELS || s.in_channels < 1 || s.in_channels > 1024 ||
      s.num_classes < 1 || s.num_classes > 255 || s.mlp_ratio < 1 || s.mlp_ratio > 64 ||
      s.xcpe < STALE_OFF || s.xcpe > LEGACY || (s.stem_size != 3 && s.stem_size != 5))
    return false;
  int32_t depth = 0;
  for (int i = 0; i < s.stages; ++i) {
    if (s.encoder_depths[i] < 1 || s.encoder_depths[i] > 1024 || s.patch_sizes[i] < 1 ||
        s.slots[i] < 0 || s.slots[i] > 4 || !width(s.encoder_channels[i], s.encoder_heads[i]))
      return false;
    bool attends = s.encoder_heads[i] || (i + 1 < s.stages && s.decoder_heads[i] && s.decoder_depths[i]);
    if (attends != (s.slots[i] > 0)) return false;
    for (int c = 0; c < s.slots[i]; ++c)
      if (s.curves[i][c] < 0 || s.curves[i][c] > 3) return false;
    if (i + 1 == s.stages) break;
    if (s.shifts[i] < 1 || s.shifts[i] > DEPTH || (depth += s.shifts[i]) > DEPTH) return false;
    if (s.decoder_depths[i] < 0 || s.decoder_depths[i] > 1024 ||
        !width(s.decoder_channels[i], s.decoder_heads[i]))
      return false;
  }
  return true;
}

Network::Network(const NetworkShape& shape, const float* weights, int64_t count,
                 const Kernels* kernels)
    : shape_(shape), kernels_(kernels) {
  if (!kernels || !weights || count < 0 || !sane(shape)) return;
  Reader reader{weights, count};
  auto keep = [&](int64_t floats) -> const float* {
    const float* from = reader.take(floats);
    if (!from) return nullptr;
    float* to = weights_.take<float>(floats);
    std::memcpy(to, from, floats * sizeof(float));
    return to;
  };
  int64_t first = shape.encoder_channels[0];
  int64_t offsets = shape.stem_size * shape.stem_size * shape.stem_size;
  stem_weight_ = keep(offsets * shape.in_channels * first);
  stem_bias_ = keep(first);
  for (int s = 0; s < shape.stages && !reader.failed; ++s) {
    Encoder stage{};
    int32_t channels = shape.encoder_channels[s];
    if (s) {
      stage.pool = read_dense(reader, shape.encoder_channels[s - 1], channels);
      stage.scale = keep(channels);
      stage.shift = keep(channels);
    }
    for (int i = 0; i < shape.encoder_depths[s]; ++i)
      stage.blocks.push_back(read_block(reader, channels, shape.encoder_heads[s], i));
    encoder_.push_back(std::move(stage));
  }
  decoder_.resize(shape.stages - 1);
  int32_t width = shape.encoder_channels[shape.stages - 1];
  for (int s = shape.stages - 2; s >= 0 && !reader.failed; --s) {
    int32_t channels = shape.decoder_channels[s];
    decoder_[s].up = read_dense(reader, width, channels);
    decoder_[s].skip = read_dense(reader, shape.encoder_channels[s], channels);
    for (int i = 0; i < shape.decoder_depths[s]; ++i)
      decoder_[s].blocks.push_back(read_block(reader, channels, shape.decoder_heads[s], i));
    width = channels;
  }
  head_ = read_dense(reader, width, padded(shape.num_classes));
  ok_ = !reader.failed && reader.left == 0;
}

Network::Dense Network::read_dense(Reader& reader, int32_t in, int32_t out) {
  const float* weight = reader.take(int64_t{in} * out);
  const float* bias = reader.take(out);
  if (!weight || !bias) return {};
  void* packed = weights_.take<char>(kernels_->dense_bytes(in, out));
  kernels_->pack_dense(weight, in, out, packed);
  float* kept = weights_.take<float>(out);
  std::memcpy(kept, bias, out * sizeof(float));
  return {packed, kept};
}

Network::Block Network::read_block(Reader& reader, int32_t channels, int32_t heads, int index) {
  Block block{};
  block.channels = channels;
  block.heads = heads;
  block.hidden = shape_.mlp_ratio * channels;
  if (shape_.deep_xcpe || !heads || index == 0) {
    const float* conv = reader.take(27 * int64_t{channels} * channels);
    const float* columns = reader.take(3 * int64_t{channels});
    if (!conv || !columns) return block;
    void* packed = weights_.take<char>(kernels_->conv_bytes(channels));
    kernels_->pack_conv(conv, channels, packed);
    block.conv_weight = packed;
    const float** fields[] = {&block.conv_bias, &block.norm_scale, &block.norm_shift};
    for (int i = 0; i < 3; ++i) {
      float* kept = weights_.take<float>(channels);
      std::memcpy(kept, columns + int64_t{i} * channels, channels * sizeof(float));
      *fields[i] = kept;
    }
  }
  if (heads) {
    block.qkv = read_dense(reader, channels, 3 * channels);
    block.proj = read_dense(reader, channels, channels);
  }
  block.fc1 = read_dense(reader, channels, block.hidden);
  block.fc2 = read_dense(reader, block.hidden, channels);
  return block;
}

PyramidShape Network::pyramid_shape() const {
  PyramidShape out{};
  out.levels = shape_.stages;
  out.stem_size = shape_.stem_size;
  for (int s = 0; s < shape_.stages; ++s) {
    if (s + 1 < shape_.stages) out.shift[s] = shape_.shifts[s];
    for (int i = 0; i < shape_.slots[s]; ++i) out.curves[s] |= 1u << shape_.curves[s][i];
  }
  return out;
}

// Rows of a stage that go through a block together, so that their q, k, v stay in a cache.
constexpr int32_t PIECE_ROWS = 16384;

// One scan on its way through the network. `x` is the residual stream of the current stage, `t` what
// others read of it: the same memory in FLOAT32, a rounded copy in BFLOAT16. A block moves t to
// `spare`, as convolutions read t of their neighbours while it changes.
struct Network::Pass {
  const Network& net;
  const Pyramid& pyramid;
  Arena& arena;
  Workers workers;
  Clock clock;
  bool exact = net.kernels_->element == sizeof(float);
  float* x = nullptr;
  void* t = nullptr;
  void* spare = nullptr;
  void* branch = nullptr;   // T: last MLP branch or skip branch, for the stale modes

  template <class T>
  T* take(int64_t rows, int64_t channels) {
    return arena.take<T>(static_cast<std::size_t>(rows * channels));
  }
  void* take_t(int64_t rows, int64_t channels) {
    return arena.take<char>(static_cast<std::size_t>(rows * channels) * net.kernels_->element);
  }
  void* copy() const { return exact ? nullptr : t; }

  // The buffers of a stage: the next block moves t from `from` to `to`. stream: x in BFLOAT16.
  void place(void* from, void* to, float* stream) {
    t = from;
    spare = to;
    x = exact ? static_cast<float*>(from) : stream;
  }

  static void* at(const void* rows, std::size_t bytes) {
    return rows ? const_cast<char*>(static_cast<const char*>(rows) + bytes) : nullptr;
  }

  void run_blocks(const std::vector<Block>& blocks, int s, const void* conv_input) {
    const Level& level = pyramid.level[s];
    bool legacy = net.shape_.xcpe == LEGACY;
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      const int32_t* order = nullptr;  // rows in z order, all that convolutions need
      if (blocks[i].heads) order = level.order[net.shape_.curves[s][i % net.shape_.slots[s]]];
      bool stale = legacy && i + 1 < blocks.size();
      Arena::Mark mark = arena.mark();
      // pieces need rows in the order of the curve, and an input that nobody writes to
      bool whole = order || legacy;
      run_block(blocks[i], s, conv_input ? conv_input : t, order, whole, stale ? branch : nullptr);
      std::swap(t, spare);
      if (exact) x = static_cast<float*>(t);
      conv_input = stale ? branch : nullptr;
      arena.rewind(mark);
    }
  }

  void run_block(const Block& block, int s, const void* conv_input, const int32_t* order,
                 bool whole, void* branch_out) {
    const Level& level = pyramid.level[s];
    int32_t patch = net.shape_.patch_sizes[s];
    int32_t piece = whole ? level.rows : std::max(patch, PIECE_ROWS / patch * patch);
    // a scan's last patch looks back over `patch` rows: the rest of a scan joins the piece before
    int64_t longest = std::min(int64_t{level.rows}, int64_t{piece} + patch);
    void* qkv = block.heads ? take_t(longest, 3 * int64_t{block.channels}) : nullptr;
    if (whole) {
      run_piece(block, s, conv_input, order, 0, level.rows, level.offsets, pyramid.scans, qkv,
                branch_out);
      return;
    }
    for (int scan = 0; scan < pyramid.scans; ++scan) {
      int32_t first = level.offsets[scan], end = level.offsets[scan + 1];
      while (first < end) {
        int32_t rows = end - first - piece < patch ? end - first : piece;
        int32_t offsets[2] = {0, rows};
        run_piece(block, s, conv_input, nullptr, first, rows, offsets, 1, qkv, branch_out);
        first += rows;
      }
    }
  }

  // Rows [first, first + rows) through a block: whole patches of `scans` scans.
  void run_piece(const Block& block, int s, const void* conv_input, const int32_t* order,
                 int32_t first, int32_t rows, const int32_t* offsets, int32_t scans, void* qkv,
                 void* branch_out) {
    const Level& level = pyramid.level[s];
    float* x_out = exact ? static_cast<float*>(spare) : x;
    net.kernels_->conv_qkv({first, rows, level.rows, block.channels, level.neighbours, conv_input,
                            x, x_out, block.conv_weight, block.conv_bias, block.norm_scale,
                            block.norm_shift, block.qkv.weight, block.qkv.bias, qkv},
                           workers);
    clock.charge(CONVOLUTION);
    if (block.heads) {
      net.kernels_->attention({rows, block.channels, block.heads, net.shape_.patch_sizes[s], scans,
                               offsets, order, qkv},
                              workers);
      clock.charge(ATTENTION);
    }
    std::size_t skipped = static_cast<std::size_t>(first) * block.channels;
    std::size_t bytes = skipped * net.kernels_->element;
    net.kernels_->proj_mlp({rows, block.channels, block.hidden, qkv, 3 * block.channels,
                            x_out + skipped, block.proj.weight, block.fc1.weight, block.fc2.weight,
                            block.proj.bias, block.fc1.bias, block.fc2.bias,
                            exact ? nullptr : at(spare, bytes), at(branch_out, bytes)},
                           workers);
    clock.charge(MLP);
  }
};

void Network::run(const Pyramid& pyramid, const float* features, const Output& output, Arena& arena,
                  int threads, Times* times) const {
  const NetworkShape& s = shape_;
  int32_t widest = 0, longest = 1;
  for (int i = 0; i < s.stages; ++i) {
    widest = std::max(widest, s.encoder_channels[i]);
    if (i + 1 < s.stages) widest = std::max(widest, s.decoder_channels[i]);
    longest = std::max(longest, std::min(s.patch_sizes[i], pyramid.level[i].rows));
  }
  std::size_t per_thread =
      (kernels_->scratch(widest, s.mlp_ratio * widest, longest) + 63) & ~std::size_t{63};
  Workers workers{threads, arena.take<char>(per_thread * threads), per_thread};
  Pass pass{*this, pyramid, arena, workers, Clock(times)};

  // 1. encoder; what the next stage and the decoder read of a stage stays in outputs[]
  const void* outputs[MAX_LEVELS] = {};
  for (int i = 0; i < s.stages; ++i) {
    const Level& level = pyramid.level[i];
    int32_t channels = s.encoder_channels[i];
    void* kept = pass.take_t(level.rows, channels);
    Arena::Mark mark = arena.mark();
    void* other = pass.take_t(level.rows, channels);
    bool odd = s.encoder_depths[i] % 2;  // after that many moves t must lie in `kept`
    pass.place(odd ? other : kept, odd ? kept : other,
               pass.exact ? nullptr : pass.take<float>(level.rows, channels));
    if (s.xcpe == LEGACY) pass.branch = pass.take_t(level.rows, channels);
    if (i == 0) {
      kernels_->stem({level.rows, s.in_channels, channels, features, pyramid.stem_begin,
                      pyramid.stem_row, pyramid.stem_offset, stem_weight_, stem_bias_, pass.x,
                      pass.copy()},
                     workers);
      pass.clock.charge(STEM);
    } else {
      const Level& fine = pyramid.level[i - 1];
      kernels_->pool({fine.rows, level.rows, s.encoder_channels[i - 1], channels, outputs[i - 1],
                      fine.child_begin, encoder_[i].pool.weight, encoder_[i].pool.bias,
                      encoder_[i].scale, encoder_[i].shift, pass.x, pass.copy()},
                     workers);
      pass.clock.charge(POOLING);
    }
    pass.run_blocks(encoder_[i].blocks, i, nullptr);
    outputs[i] = pass.t;
    arena.rewind(mark);
  }

  // 2. decoder; two areas take turns: a coarser stage's output is dead once it is unpooled
  const void* coarse = outputs[s.stages - 1];
  int32_t width = s.encoder_channels[s.stages - 1];
  int64_t largest = 0;
  for (int i = 0; i + 1 < s.stages; ++i)
    largest = std::max(largest, int64_t{pyramid.level[i].rows} * s.decoder_channels[i]);
  void* area[2] = {pass.take_t(largest, 1), pass.take_t(largest, 1)};
  float* stream = pass.exact ? nullptr : pass.take<float>(largest, 1);
  for (int i = s.stages - 2; i >= 0; --i) {
    const Level& level = pyramid.level[i];
    const Level& below = pyramid.level[i + 1];
    int32_t channels = s.decoder_channels[i];
    int free = coarse == area[0] ? 1 : 0;
    pass.place(area[free], area[1 - free], stream);
    Arena::Mark mark = arena.mark();
    bool stale = s.xcpe != STALE_OFF && !decoder_[i].blocks.empty();
    if (s.xcpe != STALE_OFF) pass.branch = pass.take_t(level.rows, channels);
    Arena::Mark working = arena.mark();
    kernels_->unpool({level.rows, below.rows, width, s.encoder_channels[i], channels, coarse,
                      outputs[i], level.parent, decoder_[i].up.weight, decoder_[i].skip.weight,
                      decoder_[i].up.bias, decoder_[i].skip.bias,
                      pass.take<float>(below.rows, channels), pass.x, pass.copy(),
                      stale ? pass.branch : nullptr},
                     workers);
    arena.rewind(working);
    pass.clock.charge(POOLING);
    pass.run_blocks(decoder_[i].blocks, i, stale ? pass.branch : nullptr);
    arena.rewind(mark);
    coarse = pass.t;
    width = channels;
  }

  // 3. head
  kernels_->head({pyramid.level[0].rows, width, s.num_classes, padded(s.num_classes), coarse,
                  head_.weight, head_.bias, output.label, output.probability, output.entropy,
                  output.logits},
                 workers);
  pass.clock.charge(HEAD);
}

}  // namespace pd
