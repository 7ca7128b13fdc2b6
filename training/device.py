# SPDX-License-Identifier: Apache-2.0
"""Where and how a run computes: Lightning Fabric with the device, processes and precision wanted.

- one process, several started by ourselves (``devices``), or those of torchrun
- float16 scales its gradients; on a CPU it is there for tests, slow as it is
"""

from __future__ import annotations

import inspect
import logging
import os
from contextlib import AbstractContextManager
from functools import cache
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from lightning_fabric.strategies.ddp import DDPStrategy
from torch.nn.parallel import DistributedDataParallel

from pointdistill_ros.errors import ConfigError
from training.config import Precision, TrainConfig


def open_device(config: TrainConfig) -> Fabric:
    """Fabric for a configuration, launched. Raises ConfigError where devices are missing."""
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    device = config.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    devices, nodes = config.devices, 1
    if "TORCHELASTIC_RUN_ID" in os.environ:  # torchrun decides
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
    if device == "cuda" and torch.cuda.device_count() < devices:
        found = torch.cuda.device_count()
        raise ConfigError(f"{devices} GPUs asked for, {found} found; use --devices or device: cpu")
    fabric = Fabric(
        accelerator=device,
        devices=devices,
        num_nodes=nodes,
        strategy=_strategy(config) if devices * nodes > 1 else "auto",
        plugins=_precision(config, device),
    )
    fabric.launch()
    return fabric


def is_first_process() -> bool:
    """Whether this process writes files and speaks; known before any other is started."""
    if "RANK" in os.environ:
        return os.environ["RANK"] == "0"
    return all(os.environ.get(name, "0") == "0" for name in ("NODE_RANK", "LOCAL_RANK"))


def compiled_precision(config: TrainConfig, device: torch.device) -> tuple[Precision | None, str]:
    """Precision of the compiled CPU kernels, and what to tell the user if it is not as wished.

    None: plain torch computes, because the run is on a GPU, wants that, or the kernels are missing.
    """
    if not config.compiled or device.type != "cpu" or config.precision == "float16":
        return None, ""
    return _usable(config.precision)


def full_precision(device: torch.device) -> AbstractContextManager[Any]:
    """Where losses are computed: no autocast, whatever the precision of the network."""
    return torch.autocast(device.type, enabled=False)


@cache
def _usable(wished: Precision) -> tuple[Precision | None, str]:
    from training.compiled.library import check_precision

    def problem(precision: Any) -> str:
        try:
            check_precision(precision)
        except ConfigError as error:
            return str(error)
        return ""

    if not (said := problem(wished)):
        return wished, ""
    if not problem("float32"):
        return "float32", f"{said}; computing in float32"
    return None, f"{said}; without it plain torch computes, several times slower"


def _strategy(config: TrainConfig) -> DDPStrategy:
    # Batch-norm statistics stay each process's own; what is scored or saved holds their mean.
    unused = config.head == "per-dataset"  # a batch leaves the other heads without gradient
    names = inspect.signature(DistributedDataParallel).parameters
    keep = "forward_sync_buffers" if "forward_sync_buffers" in names else "broadcast_buffers"
    options: dict[str, Any] = {keep: False, "find_unused_parameters": unused}
    return DDPStrategy(**options)


def _precision(config: TrainConfig, device: str) -> list[Any]:
    if config.precision == "float32" or compiled_precision(config, torch.device(device))[0]:
        return []  # compiled kernels see to the precision of their products themselves
    if config.precision == "bfloat16":
        return [MixedPrecision("bf16-mixed", device)]
    return [MixedPrecision("16-mixed", device, torch.amp.GradScaler(device))]
