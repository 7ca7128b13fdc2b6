# SPDX-License-Identifier: Apache-2.0
r"""The batch at which a run stopped because its loss or gradient was no number: save, load, look.

python -m training.bad_batch runs/mine/bad_batch.pt

prints what is in it. In Python, ``load_bad_batch(path)`` gives the batches and the weights from
just before the step, which reproduce it.
"""

from __future__ import annotations

import argparse
import importlib
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pointdistill_ros.errors import CheckpointError, PointDistillError, one_line_errors
from pointdistill_ros.io.atomic import atomic_path
from training.batch import Batch
from training.heads import logits_of


class NonFiniteError(PointDistillError):
    """A loss or gradient became NaN or infinite."""


@dataclass(frozen=True)
class BadBatch:
    """What one process trained on in the step that failed."""

    step: int
    """Optimiser steps before it."""
    numbers: tuple[int, ...]
    """Numbers of the batches: the stream's seed and these give them again."""
    batches: tuple[Batch, ...]
    """The batches."""
    network: dict[str, Tensor]
    """Weights before the step."""


def save_bad_batch(path: Path, bad: BadBatch) -> None:
    """Write it atomically, on the CPU."""
    content = {
        "step": bad.step,
        "numbers": bad.numbers,
        "batches": tuple(batch.to("cpu") for batch in bad.batches),
        "network": {name: value.cpu() for name, value in bad.network.items()},
    }
    with atomic_path(path) as temporary:
        torch.save(content, temporary)


def load_bad_batch(path: Path) -> BadBatch:
    """Read it; besides tensors only our own dataclasses are built. Raises CheckpointError."""
    try:
        needed = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        with torch.serialization.safe_globals([_own_dataclass(name) for name in needed]):
            return BadBatch(**torch.load(path, weights_only=True))
    except (OSError, RuntimeError, TypeError, ValueError, AttributeError, ImportError) as error:
        first = str(error).splitlines()[0]
        raise CheckpointError(f"{path}: not a saved batch ({first})") from error


def first_non_finite(network: nn.Module, batch: Batch) -> str | None:
    """Name of the first module whose output is not finite, and what; None where all are."""
    found: list[str] = []

    def look(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and not found and not bool(output.isfinite().all()):
                found.append(name)

        return hook

    hooks = [m.register_forward_hook(look(n)) for n, m in network.named_modules() if n]
    try:
        with torch.no_grad():
            logits_of(network, batch)
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found else None


def describe(bad: BadBatch) -> str:
    """A few lines for people."""
    lines = [f"after {bad.step} steps, {len(bad.batches)} batches"]
    odd = [
        name
        for name, value in bad.network.items()
        if "running_" not in name and not bool(value.isfinite().all())
    ]  # running statistics are those of after the bad forward pass
    lines.append(f"weights: {'not finite: ' + ', '.join(odd) if odd else 'all finite'}")
    for number, batch in zip(bad.numbers, bad.batches, strict=True):
        features, finite = batch.features, batch.features.isfinite()
        low, high = (
            [round(float(v), 3) for v in edge(torch.where(finite, features, 0.0), 0)]
            for edge in (torch.amin, torch.amax)
        )
        lines.append(
            f"batch {number}: {len(features)} voxels, {int((~finite).sum())} features not finite, "
            f"x y z intensity from {low} to {high}, labels {torch.unique(batch.targets).tolist()}"
        )
    return "\n".join(lines)


def _own_dataclass(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    if module.split(".")[0] not in ("training", "pointdistill_ros"):
        raise TypeError(f"it names {name}")
    kind = getattr(importlib.import_module(module), attribute)
    if not (isinstance(kind, type) and is_dataclass(kind)):
        raise TypeError(f"it names {name}")
    return kind


def main() -> None:
    """Print what a saved batch holds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", type=Path, help="bad_batch.pt in the folder of the run")
    print(describe(load_bad_batch(parser.parse_args().path)))


if __name__ == "__main__":
    with one_line_errors("bad_batch"):
        main()
