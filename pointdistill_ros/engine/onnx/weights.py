# SPDX-License-Identifier: Apache-2.0
"""Weights of a network as an exported graph wants them: norms and linears folded, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.model.ptv3 import PTv3

Array = NDArray[Any]


class FoldedWeights:
    """Pairs that a layer consists of; names are those of the network's modules."""

    def __init__(self, network: PTv3) -> None:
        self._entries: dict[str, Array] = {
            name: tensor.detach().cpu().double().numpy()
            for name, tensor in network.state_dict().items()
        }

    def linear(self, name: str) -> tuple[Array, Array]:
        """Weight [out, in] and bias [out] of a linear; scale and shift of a LayerNorm."""
        return self._entries[f"{name}.weight"], self._entries[f"{name}.bias"]

    def batch_norm(self, name: str) -> tuple[Array, Array]:
        """Scale and shift [C] of a BatchNorm with its running statistics."""
        weight, bias = self.linear(name)
        scale = weight / np.sqrt(self._entries[f"{name}.running_var"] + 1e-3)
        return scale, bias - self._entries[f"{name}.running_mean"] * scale

    def normed_linear(self, linear: str, norm: str) -> tuple[Array, Array]:
        """A linear and the BatchNorm after it as one linear."""
        weight, bias = self.linear(linear)
        scale, shift = self.batch_norm(norm)
        return weight * scale[:, None], bias * scale + shift

    def stem(self) -> tuple[Array, Array]:
        """The stem's convolution and its BatchNorm: kernel [k³, in, out], bias [out]."""
        scale, shift = self.batch_norm("stem.norm")
        return self._kernel("stem.conv") * scale, shift

    def convolution(self, block: str) -> tuple[Array, Array]:
        """The 3³ convolution of a block and the linear after it: [27, in, out] and [out]."""
        weight, shift = self.linear(f"{block}.conv_linear")
        bias = self._entries[f"{block}.conv.bias"] @ weight.T + shift
        return self._kernel(f"{block}.conv") @ weight.T, bias

    def _kernel(self, name: str) -> Array:
        """[out, k, k, k, in] → [k³, in, out]."""
        weight = self._entries[f"{name}.weight"]
        return weight.transpose(1, 2, 3, 4, 0).reshape(-1, weight.shape[-1], weight.shape[0])
