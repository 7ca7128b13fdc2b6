// SPDX-License-Identifier: Apache-2.0
// What Python calls (cpu.py, by ctypes). Every count is checked here; no exception passes.
#include <cmath>
#include <ctime>
#include <mutex>
#include <new>

#include "api.h"
#include "network.h"
#include "thinning.h"

namespace {

constexpr int64_t MOST_POINTS = int64_t{1} << 28;  // 27 neighbours of each still fit in size_t
constexpr int MOST_THREADS = 256;

struct Engine {
  Engine(const pd::NetworkShape& shape, const float* weights, int64_t count,
         const pd::Kernels* kernels)
      : network(shape, weights, count, kernels) {}
  pd::Network network;
  pd::Arena arena;
  std::mutex busy;  // one arena: one scan at a time
};

// Twin of Report in cpu.py.
struct Report {
  int64_t voxels, arena_bytes, pairs;
  int32_t rows[pd::MAX_LEVELS];
  pd::Times times;
};

class Stopwatch {
 public:
  explicit Stopwatch(pd::Times* times) : times_(times) { clock_gettime(CLOCK_MONOTONIC, &last_); }
  void charge(pd::Part part) {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    times_->seconds[part] +=
        double(now.tv_sec - last_.tv_sec) + 1e-9 * double(now.tv_nsec - last_.tv_nsec);
    last_ = now;
  }

 private:
  pd::Times* times_;
  timespec last_;
};

template <class Work>
int32_t guarded(Work work) {
  try {
    return work();
  } catch (const std::bad_alloc&) {
    return pd::OUT_OF_MEMORY;
  } catch (...) {
    return pd::BAD_ARGUMENT;
  }
}

// Asked once per scan, when its voxels are known: writes what is to be taken away, answers 0 to end.
typedef int32_t (*Choose)(const pd::VoxelCounts*, pd::Degradation*);

// The cell that begins at the sensor, counted as the voxels' cells are.
void sensor_cell(const pd::Voxels& voxels, const float* xyz, double grid_size, int32_t out[2]) {
  int32_t first[3];
  pd::cell_of(voxels.code[0], first);
  const float* point = xyz + 3 * int64_t{voxels.point[0]};
  for (int axis = 0; axis < 2; ++axis)
    out[axis] = first[axis] - static_cast<int32_t>(std::floor(double{point[axis]} / grid_size));
}

// Thins voxels and pyramid as `choose` says.
pd::Status shed(pd::Arena& arena, const pd::PyramidShape& shape, const float* xyz, double grid_size,
                int64_t near_limit, Choose choose, int32_t points, int threads, pd::Voxels* voxels,
                pd::Pyramid* pyramid) {
  int32_t sensor[2];
  sensor_cell(*voxels, xyz, grid_size, sensor);
  pd::VoxelCounts counts{};
  pd::Status status = pd::count_voxels(voxels->code, voxels->rows, sensor, near_limit, shape.levels,
                                       shape.shift, &counts);
  if (status != pd::OK) return status;
  pd::Degradation degradation{-1, 0, 0};
  if (!choose(&counts, &degradation)) return pd::BAD_ARGUMENT;
  if (degradation.near_limit < 0 && !degradation.coarse && !degradation.max_voxels) return pd::OK;
  pd::Thinning thinning{};
  status = pd::thin(arena, voxels->code, voxels->rows, sensor, degradation, &thinning);
  if (status != pd::OK) return status;
  pd::Pyramid full = *pyramid;
  status = pd::thin_pyramid(arena, full, thinning, threads, pyramid);
  if (status != pd::OK) return status;
  return pd::thin_voxels(arena, thinning, points, voxels);
}

bool bad_threads(int32_t threads) { return threads < 1 || threads > MOST_THREADS; }

void finish(const Engine& engine, const pd::Pyramid& pyramid, Report* report) {
  report->voxels = pyramid.level[0].rows;
  report->pairs = pyramid.stem_begin[pyramid.level[0].rows];
  for (int i = 0; i < pyramid.levels; ++i) report->rows[i] = pyramid.level[i].rows;
  report->arena_bytes = static_cast<int64_t>(engine.arena.bytes());
}

}  // namespace

PD_API const char* pd_sources() { return PD_SOURCES; }

PD_API int32_t pd_best_tier() { return pd::best_tier(); }

// Name of a tier that this CPU runs in this precision, else null.
PD_API const char* pd_tier_name(int32_t tier, int32_t precision) {
  if (tier < pd::PORTABLE || tier > pd::AVX512_BF16) return nullptr;
  const pd::Kernels* kernels =
      pd::find_kernels(static_cast<pd::Tier>(tier), static_cast<pd::Precision>(precision));
  return kernels ? kernels->name : nullptr;
}

PD_API int32_t pd_create(const pd::NetworkShape* shape, const float* weights, int64_t count,
                         int32_t tier, int32_t precision, Engine** out) {
  return guarded([&]() -> int32_t {
    if (!shape || !weights || !out || !pd_tier_name(tier, precision)) return pd::BAD_ARGUMENT;
    *out = nullptr;
    const pd::Kernels* kernels =
        pd::find_kernels(static_cast<pd::Tier>(tier), static_cast<pd::Precision>(precision));
    Engine* engine = new Engine(*shape, weights, count, kernels);
    if (!engine->network.ok()) {
      delete engine;
      return pd::BAD_ARGUMENT;
    }
    *out = engine;
    return pd::OK;
  });
}

PD_API void pd_destroy(Engine* engine) { delete engine; }

PD_API int64_t pd_weight_bytes(const Engine* engine) {
  return engine ? static_cast<int64_t>(engine->network.weight_bytes()) : 0;
}

// Points to labels. xyz [points][3], intensity [points] finite; label, probability, entropy [points].
// choose: null, or what sheds load; near_limit: see VoxelCounts.
PD_API int32_t pd_segment(Engine* engine, const float* xyz, const float* intensity, int64_t points,
                          double grid_size, float max_range, int32_t threads, Choose choose,
                          int64_t near_limit, uint8_t* label, float* probability, float* entropy,
                          Report* report) {
  return guarded([&]() -> int32_t {
    if (!engine || !report || bad_threads(threads) || points < 0 || points > MOST_POINTS ||
        !(grid_size > 0) || !std::isfinite(grid_size) || engine->network.shape().in_channels != 4 ||
        (points && (!xyz || !intensity || !label || !probability || !entropy)))
      return pd::BAD_ARGUMENT;
    std::lock_guard<std::mutex> lock(engine->busy);
    *report = Report{};
    pd::Arena& arena = engine->arena;
    arena.reset();
    Stopwatch watch(&report->times);
    pd::Voxels voxels{};
    pd::Status status = pd::voxelise(arena, xyz, intensity, static_cast<int32_t>(points), grid_size,
                                     max_range, threads, &voxels);
    if (status != pd::OK) return status;
    watch.charge(pd::VOXELS);
    pd::Pyramid pyramid{};
    pd::PyramidShape shape = engine->network.pyramid_shape();
    if (voxels.rows) {
      status = pd::build_pyramid(arena, voxels.code, voxels.rows, 1, shape, threads, &pyramid);
      if (status == pd::OK && choose)
        status = shed(arena, shape, xyz, grid_size, near_limit, choose,
                      static_cast<int32_t>(points), threads, &voxels, &pyramid);
      if (status != pd::OK) return status;
      watch.charge(pd::GEOMETRY);
    }
    int32_t rows = voxels.rows;
    uint8_t* row_label = arena.take<uint8_t>(rows);
    float* row_probability = arena.take<float>(rows);
    float* row_entropy = arena.take<float>(rows);
    if (rows) {
      float* features = arena.take<float>(std::size_t{4} * rows);
      for (int32_t i = 0; i < rows; ++i) {
        int64_t p = voxels.point[i];
        for (int c = 0; c < 3; ++c) features[4 * int64_t{i} + c] = xyz[3 * p + c];
        features[4 * int64_t{i} + 3] = intensity[p];
      }
      engine->network.run(pyramid, features, {row_label, row_probability, row_entropy, nullptr},
                          arena, threads, &report->times);
      finish(*engine, pyramid, report);
    }
    Stopwatch last(&report->times);
    pd::scatter(voxels, static_cast<int32_t>(points), row_label, row_probability, row_entropy, label,
                probability, entropy, threads);
    last.charge(pd::POINTS);
    return pd::OK;
  });
}

// Voxels to logits, for batches, tests and benchmarks. code [rows] strictly ascending z codes with the
// scan index above bit 48, features [rows][in_channels], logits [rows][num_classes].
PD_API int32_t pd_logits(Engine* engine, const uint64_t* code, int64_t rows, int32_t scans,
                         const float* features, int32_t threads, float* logits, Report* report) {
  return guarded([&]() -> int32_t {
    if (!engine || !code || !features || !logits || !report || bad_threads(threads) || rows < 1 ||
        rows > MOST_POINTS || scans < 1 || scans > rows)
      return pd::BAD_ARGUMENT;
    std::lock_guard<std::mutex> lock(engine->busy);
    *report = Report{};
    engine->arena.reset();
    Stopwatch watch(&report->times);
    pd::Pyramid pyramid{};
    pd::Status status =
        pd::build_pyramid(engine->arena, code, static_cast<int32_t>(rows), scans,
                          engine->network.pyramid_shape(), threads, &pyramid);
    if (status != pd::OK) return status;
    watch.charge(pd::GEOMETRY);
    engine->network.run(pyramid, features, {nullptr, nullptr, nullptr, logits}, engine->arena,
                        threads, &report->times);
    finish(*engine, pyramid, report);
    return pd::OK;
  });
}
