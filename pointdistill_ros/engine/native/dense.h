// SPDX-License-Identifier: Apache-2.0
// The kernels made of linears: MLP, pooling, unpooling, head.
#pragma once
#include "gemm.h"
#include "head.h"
#include "mlp.h"
#include "pooling.h"

namespace {

// Bytes per thread that any of them may use; channels and hidden: the largest of the network.
template <class P>
std::size_t dense_scratch(int channels, int hidden) {
  std::size_t most = mlp_scratch<P>(channels, hidden);
  if (pooling_scratch(channels) > most) most = pooling_scratch(channels);
  return head_scratch() > most ? head_scratch() : most;
}

}  // namespace
