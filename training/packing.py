# SPDX-License-Identifier: Apache-2.0
"""A batch as one block of memory, to pass between processes and to page-lock in one piece.

A batch holds some seventy tensors; sent one by one each costs a file descriptor and system calls.
Unpacked tensors are views of the block: nothing is copied.
"""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_ALIGN = 64


@dataclass(frozen=True, eq=False)
class Packed:
    """Any picklable object; its CPU tensors lie in ``block``."""

    header: bytes
    """Pickle of everything but the tensors' content."""
    sizes: tuple[int, ...]
    """Bytes per tensor."""
    block: Tensor
    """uint8 [bytes], each tensor at the next multiple of 64."""

    def pin_memory(self) -> Packed:
        """The same in page-locked memory (what torch's loaders call)."""
        return Packed(self.header, self.sizes, self.block.pin_memory())

    def unpack(self) -> Any:
        """The object; its tensors share the block's memory."""
        memory, starts = self.block.numpy(), _starts(self.sizes)
        parts = [memory[a : a + n] for a, n in zip(starts, self.sizes, strict=False)]
        return pickle.loads(self.header, buffers=parts)


def pack(value: Any) -> Packed:
    """One block with everything in ``value``."""
    buffers: list[pickle.PickleBuffer] = []
    file = io.BytesIO()
    _TensorPickler(file, protocol=5, buffer_callback=buffers.append).dump(value)
    views = [np.frombuffer(b.raw(), np.uint8) for b in buffers]
    sizes = tuple(len(view) for view in views)
    starts = _starts(sizes)
    block = np.empty(starts[-1], np.uint8)
    for start, view in zip(starts, views, strict=False):
        block[start : start + len(view)] = view
    return Packed(file.getvalue(), sizes, torch.from_numpy(block))


class _TensorPickler(pickle.Pickler):
    """Pickles tensors as numpy arrays, whose content goes out of band."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return _tensor, (value.contiguous().numpy(),)
        return NotImplemented


def _tensor(array: NDArray[Any]) -> Tensor:
    return torch.from_numpy(array)


def _starts(sizes: tuple[int, ...]) -> list[int]:
    """First byte of each part, and the end of the last."""
    padded = (-(-size // _ALIGN) * _ALIGN for size in sizes)
    return list(accumulate(padded, initial=0))
