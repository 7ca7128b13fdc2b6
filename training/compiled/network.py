# SPDX-License-Identifier: Apache-2.0
"""Compiled forwards for the modules of a network, parameters and names unchanged.

A module keeps its object and gets a subclass as its class, so ``state_dict``, optimisers, copies
and pickles see what they always saw.
"""

from __future__ import annotations

from torch import Tensor, nn

from pointdistill_ros.model.attention import PatchAttention
from pointdistill_ros.model.neighbours import NeighbourTable
from pointdistill_ros.model.ptv3 import Block, Pooling, PTv3, Stem, Unpooling
from pointdistill_ros.model.pyramid import Stage
from pointdistill_ros.model.sparse_conv import SubmanifoldConv
from training.compiled.attention import CompiledAttention
from training.compiled.block import CompiledBlock, CompiledStem, CompiledUnpooling
from training.compiled.convolution import sparse_convolution
from training.compiled.elementwise import batch_norm_gelu
from training.compiled.library import Precision, check_precision
from training.compiled.linear import linear
from training.compiled.memory import keep_freed_memory
from training.compiled.pooling import pool_max


class CompiledConv(SubmanifoldConv):
    """Submanifold convolution, see convolution.py."""

    precision: Precision

    def forward(self, x: Tensor, stage: Stage, table: NeighbourTable) -> Tensor:
        """x: [n, in] → [n, out]."""
        return sparse_convolution(x, self.weight, self.bias, table, self.precision)


class CompiledLinear(nn.Linear):
    """Linear layer, see linear.py."""

    precision: Precision

    def forward(self, x: Tensor) -> Tensor:
        """x: [..., in] → [..., out]."""
        return linear(x, self.weight, self.bias, self.precision)


class CompiledPooling(Pooling):
    """Pooling, see pooling.py."""

    precision: Precision

    def forward(self, x: Tensor, stage: Stage, parents: int) -> Tensor:
        """x: [n, in] of ``stage`` → [parents, channels] of the next."""
        assert stage.parent is not None
        return batch_norm_gelu(pool_max(self.proj(x), stage.parent, parents), self.norm)


_COMPILED: dict[type[nn.Module], type[nn.Module]] = {
    SubmanifoldConv: CompiledConv,
    nn.Linear: CompiledLinear,
    Pooling: CompiledPooling,
    Block: CompiledBlock,
    Stem: CompiledStem,
    Unpooling: CompiledUnpooling,
    PatchAttention: CompiledAttention,
}


def compile_network(network: PTv3, precision: Precision = "float32") -> None:
    """Give the modules of a network on the CPU their compiled forms, in place.

    precision: of the factors in products; bfloat16 replaces autocast, which must be off. A network
    that is compiled already changes its precision. Attention with heads, and norms with channels,
    of a width that is no multiple of 16 stay plain. From here on freed memory stays with the
    process (memory.py). Raises ConfigError where the library is not built or this CPU lacks the
    precision.
    """
    check_precision(precision)
    keep_freed_memory()
    for module in network.modules():
        if isinstance(module, PatchAttention) and not CompiledAttention.fits(module):
            continue
        kind = _COMPILED.get(type(module), type(module))
        if kind in _COMPILED.values():
            module.__class__ = kind
            module.precision = precision  # type: ignore[assignment]
