# SPDX-License-Identifier: Apache-2.0
"""What will run, before it runs: data, network, length, time and memory from a rehearsal.

The rehearsal is two forward and backward passes on the first batches. It changes nothing that the
run depends on, and what does not fit or is no number shows at once.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from lightning_fabric import Fabric
from rich.table import Table
from torch import nn

from pointdistill_ros.errors import ConfigError
from training.batch import Batch
from training.config import TrainConfig
from training.device import compiled_precision
from training.schedule import Budget
from training.state import Sealed, TrainState

SMALLER = "lower max_voxels, or scans_per_step and raise accumulate"
REHEARSED = 2
"""Batches; the last is timed."""


@dataclass(frozen=True)
class Rehearsal:
    """What one batch costs one process."""

    prepare_seconds: float
    """CPU work before the step, ahead of it in a thread or worker."""
    step_seconds: float
    """Forward and backward."""
    voxels: int
    """Of the timed batch."""
    peak_bytes: int
    """Memory of the whole process (CPU) or of its tensors (GPU), optimiser included."""


def rehearse(state: TrainState, make_batch: Callable[[int], Batch]) -> Rehearsal:
    """Two passes without consequences. Raises ConfigError where the GPU's memory is too small."""
    network, device = state.network.train(), state.fabric.device
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    seen = 0
    try:
        for number in range(REHEARSED):
            begin = time.perf_counter()
            batch = make_batch(number)
            prepared = time.perf_counter()
            seen = len(batch.features)
            with state.fabric.autocast():
                loss = state.unwrapped(Sealed(batch.to(device)))[0]
            torch.autograd.backward(loss)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            ended = time.perf_counter()
    except torch.OutOfMemoryError as error:
        raise out_of_memory(seen) from error
    network.zero_grad(set_to_none=True)
    with torch.no_grad():
        for name, buffer in network.named_buffers():
            buffer.copy_(buffers[name])
    moments = 8 * sum(p.numel() for p in network.parameters())
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device)
    else:
        peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Rehearsal(prepared - begin, ended - prepared, seen, peak + moments)


def out_of_memory(voxels: int) -> ConfigError:
    """What to do about it."""
    return ConfigError(f"a batch of {voxels} voxels does not fit the GPU's memory; {SMALLER}")


def summary(
    config: TrainConfig,
    budget: Budget,
    network: nn.Module,
    data: list[str],
    cache_bytes: int,
    rehearsal: Rehearsal,
    fabric: Fabric,
) -> Table:
    """A table for people; ``data``: a line per source; ``cache_bytes``: of decoded scans."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for i, line in enumerate(data):
        table.add_row("" if i else "data", line)
    parameters = sum(p.numel() for p in network.parameters())
    heads = "one head per data set" if config.head == "per-dataset" else config.label_set
    table.add_row("network", f"{config.model}, {parameters:,} parameters, classes: {heads}")
    processes = fabric.world_size
    per_step = config.scans_per_step * config.accumulate * processes
    many = f", {processes} processes" if processes > 1 else ""
    table.add_row("step", f"{per_step} samples of at most {config.max_voxels} voxels{many}")
    precision, note = compiled_precision(config, fabric.device)
    device = f"{fabric.device}, {precision or config.precision}"
    table.add_row("device", device + (", compiled kernels" if precision else ""))
    if note:
        table.add_row("", note)
    seconds = config.accumulate * max(
        rehearsal.step_seconds, rehearsal.prepare_seconds / max(config.workers, 1)
    )
    timing = f"{seconds:.2f} s a step ({rehearsal.voxels} voxels, {rehearsal.step_seconds:.2f} s; "
    timing += f"prepared in {rehearsal.prepare_seconds:.2f} s)"
    if budget.steps is not None:
        timing = f"about {seconds * budget.steps / 60:.1f} minutes, {timing}"
    else:
        timing = f"about {60 * (budget.minutes or 0) / seconds:.0f} steps, {timing}"
    table.add_row("length", f"{budget}, {timing}")
    memory = f"about {rehearsal.peak_bytes / 2**30:.1f} GB per process"
    if fabric.device.type == "cpu":
        memory += f", up to {cache_bytes / 2**30:.1f} GB more as scans are kept decoded"
    table.add_row("memory", memory)
    return table
