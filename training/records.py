# SPDX-License-Identifier: Apache-2.0
"""What the steps measured, left on the device until someone looks: looking makes a GPU wait."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor

from training.batch import Batch

_ALWAYS = ("loss", "norm")


@dataclass(frozen=True)
class Row:
    """One step."""

    first_number: int
    """Number of the first of this process's batches."""
    host: dict[str, Any]
    """What the host knew at once."""
    losses: tuple[float, ...]
    """This process's losses, one per batch."""
    mean: dict[str, float]
    """Loss, its parts and gradient norm, averaged over the batches of all processes.

    A part is averaged over the batches that computed it, and left out where none did.
    """

    def finite_loss(self) -> bool:
        """Whether all losses, of all processes, are numbers."""
        return math.isfinite(self.mean["loss"]) and all(map(math.isfinite, self.losses))

    def finite(self) -> bool:
        """Whether the gradient is, too."""
        return self.finite_loss() and math.isfinite(self.mean["norm"])


class Records:
    """Steps not looked at yet."""

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._rows: list[tuple[int, dict[str, Any], Tensor, Tensor]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(
        self, number: int, host: dict[str, Any], parts: list[dict[str, Tensor]], norm: Tensor
    ) -> None:
        """A step: losses of its batches under ``loss`` and its parts, all detached scalars.

        Parts have the same names in all batches, steps and processes; NaN = not computed there.
        Raises ValueError for other names: processes that disagree would wait for each other.
        """
        names = self._names = self._names or tuple(parts[0])
        for part in parts:
            if part.keys() != set(names):
                raise ValueError(f"parts of a loss: {', '.join(names)} before, {', '.join(part)}")
        values = [torch.stack([part[name].float() for name in names]) for part in parts]
        self._rows.append((number, host, torch.stack(values), norm.float()))

    def fetch(self, fabric: Fabric, shared: list[float]) -> tuple[list[Row], list[float]]:
        """All steps since the last look, and ``shared`` summed over the processes."""
        values = torch.stack([row[2] for row in self._rows]).double()  # [steps, batches, names]
        norms = torch.stack([row[3] for row in self._rows]).double()[:, None]
        optional = torch.tensor([name not in _ALWAYS for name in self._names], device=norms.device)
        absent = values.isnan() & optional
        sums = torch.cat([values.masked_fill(absent, 0).sum(1), norms], 1)  # [steps, names + 1]
        counts = torch.cat([(~absent).sum(1), torch.ones_like(norms)], 1)
        total = shared
        if fabric.world_size > 1:
            control = torch.tensor(shared, dtype=torch.float64, device=norms.device)
            flat = torch.cat([sums.flatten(), counts.flatten(), control])
            flat = cast(Tensor, fabric.all_reduce(flat, reduce_op="sum"))
            size = sums.numel()
            sums, counts = flat[: 2 * size].view(2, *sums.shape)
            total = flat[2 * size :].tolist()
        means = (sums / counts).tolist()  # 0 / 0: computed nowhere
        losses = values[:, :, self._names.index("loss")].tolist()
        names, rows = (*self._names, "norm"), []
        for (number, host, _, _), own, mean in zip(self._rows, losses, means, strict=True):
            named = zip(names, mean, strict=True)
            kept = {n: value for n, value in named if n in _ALWAYS or not math.isnan(value)}
            rows.append(Row(number, host, tuple(own), kept))
        self._rows = []
        return rows, total


def voxels(batches: list[Batch]) -> int:
    """Voxels of some batches."""
    return sum(len(batch.features) for batch in batches)
