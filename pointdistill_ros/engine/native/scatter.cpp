// SPDX-License-Identifier: Apache-2.0
// Values of voxels -> values of points.
#include "geometry.h"
#include "parallel.h"

namespace pd {

Status scatter(const Voxels& voxels, int32_t points, const uint8_t* label, const float* probability,
               const float* entropy, uint8_t* labels_out, float* probability_out,
               float* entropy_out, int threads) {
  bool have_values = voxels.rows == 0 || (label && probability && entropy);
  bool have_room = voxels.inverse && labels_out && probability_out && entropy_out;
  if (points < 0 || threads < 1 || (points > 0 && !(have_values && have_room))) return BAD_ARGUMENT;
  int parts = parts_for(points, threads, 16384);
  run(parts, [&](int part) PD_BODY {
    Range range = part_of(points, parts, part);
    for (int64_t i = range.begin; i < range.end; ++i) {
      int32_t row = voxels.inverse[i];
      bool known = row >= 0;
      labels_out[i] = known ? label[row] : NO_LABEL;
      probability_out[i] = known ? probability[row] : 0.0f;
      entropy_out[i] = known ? entropy[row] : 0.0f;
    }
  });
  return OK;
}

}  // namespace pd
