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
    """Loss, its parts and gradient norm, averaged over batches and processes."""

    def finite_loss(self) -> bool:
        """Whether all losses, of all processes, are numbers."""
        return math.isfinite(self.mean["loss"]) and all(map(math.isfinite, self.losses))

    def finite(self) -> bool:
        """Whether the gradient is, too."""
        return self.finite_loss() and math.isfinite(self.mean["norm"])


class Records:
    """Steps not looked at yet."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, dict[str, Any], int, list[str], Tensor]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(
        self, number: int, host: dict[str, Any], parts: list[dict[str, Tensor]], norm: Tensor
    ) -> None:
        """A step: losses of its batches under ``loss`` and its parts, all detached scalars.

        Parts have the same names in all batches and processes; NaN = not computed there.
        """
        names = list(parts[0])
        each = {name: torch.stack([p[name].float() for p in parts]) for name in names}
        means = [v.mean() if name == "loss" else v.nanmean() for name, v in each.items()]
        losses = [p["loss"].float() for p in parts]
        values = torch.stack([*losses, *means, norm.float()])
        self._rows.append((number, host, len(parts), names, values))

    def fetch(self, fabric: Fabric, shared: list[float]) -> tuple[list[Row], list[float]]:
        """All steps since the last look, and ``shared`` summed over the processes."""
        local = torch.stack([values for *_, values in self._rows]).double()  # [steps, n]
        control = torch.tensor(shared, dtype=torch.float64, device=local.device)
        own = local.tolist()
        mean, total = own, shared
        if fabric.world_size > 1:
            absent = local.isnan() & self._optional(local)
            numbers = [local.masked_fill(absent, 0), (~absent).double()]
            flat = torch.cat([*(t.flatten() for t in numbers), control])
            flat = cast(Tensor, fabric.all_reduce(flat, reduce_op="sum"))
            size = local.numel()
            mean = (flat[:size] / flat[size : 2 * size]).view_as(local).tolist()  # 0 / 0: nobody
            total = flat[2 * size :].tolist()
        rows = [
            Row(
                number,
                host,
                tuple(own[i][:count]),
                {
                    name: value
                    for name, value in zip([*names, "norm"], mean[i][count:], strict=True)
                    if name in _ALWAYS or not math.isnan(value)
                },
            )
            for i, (number, host, count, names, _) in enumerate(self._rows)
        ]
        self._rows = []
        return rows, total

    def _optional(self, local: Tensor) -> Tensor:
        """bool [1, n]: columns of parts that a step may lack."""
        _, _, count, names, _ = self._rows[0]
        flags = [False] * count + [name not in _ALWAYS for name in [*names, "norm"]]
        return torch.tensor([flags], device=local.device)


def voxels(batches: list[Batch]) -> int:
    """Voxels of some batches."""
    return sum(len(batch.features) for batch in batches)
