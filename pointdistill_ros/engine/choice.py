# SPDX-License-Identifier: Apache-2.0
"""Which engine runs: the one that was asked for, or the fastest one, measured once per machine.

``auto`` times every engine that works here on one synthetic scan and remembers the winner in
``$XDG_CACHE_HOME/pointdistill_ros/engines.json``; the key holds everything that may change the
answer. A cache that cannot be read or written costs the measurement again, nothing else.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from pointdistill_ros.engine import build
from pointdistill_ros.engine.cpu import CpuEngine, CpuNetwork, available_tiers, usable_threads
from pointdistill_ros.engine.cuda.network import CudaEngine
from pointdistill_ros.engine.cuda.weights import check_shape as check_gpu_shape
from pointdistill_ros.engine.interface import ENGINES, PRECISIONS, Engine, EngineName, Precision
from pointdistill_ros.engine.library import EngineMissingError
from pointdistill_ros.engine.onnx.runtimes import OnnxRuntimeNetwork, OpenVinoNetwork
from pointdistill_ros.engine.plan import check_shape
from pointdistill_ros.engine.voxelwise import VoxelwiseEngine, torch_engine
from pointdistill_ros.errors import ConfigError
from pointdistill_ros.io.atomic import atomic_path
from pointdistill_ros.model.ptv3 import PTv3

_LOG = logging.getLogger(__name__)
_POINTS = 20_000


def make_engine(
    choice: EngineName | Literal["auto"],
    network: PTv3,
    grid_size: float,
    max_range: float,
    device: str = "cpu",
    precision: Precision = "float32",
    threads: int | None = None,
) -> Engine:
    """The engine ``choice``, or for ``auto`` the fastest on this device at this precision.

    Raises ConfigError, saying what is missing, where the choice cannot run here.
    """
    if choice not in ("auto", *ENGINES):
        raise ConfigError(f"unknown engine {choice!r}; known: auto, {', '.join(ENGINES)}")
    if precision not in PRECISIONS:
        raise ConfigError(f"unknown precision {precision!r}; known: {', '.join(PRECISIONS)}")
    if threads is not None and threads < 1:
        raise ConfigError(f"threads must be ≥ 1, got {threads}")
    makers = _makers(network, grid_size, max_range, device, precision, threads)
    if choice != "auto":
        return makers[choice]()
    names = _candidates(network, device, precision)
    if len(names) == 1:
        return makers[names[0]]()
    key = _key(network, grid_size, device, precision, threads, names)
    known = _read_cache().get(key)
    if known in names:
        return makers[known]()
    return _fastest({name: makers[name]() for name in names}, key)


def _makers(
    network: PTv3,
    grid_size: float,
    max_range: float,
    device: str,
    precision: Precision,
    threads: int | None,
) -> dict[EngineName, Callable[[], Engine]]:
    def native() -> Engine:
        if device != "cpu":
            raise ConfigError(f"engine 'native' runs on the CPU, not on {device}")
        try:
            compiled = CpuNetwork(network, precision, threads)
        except EngineMissingError as error:
            raise ConfigError(f"engine 'native': {error}") from error
        return CpuEngine(compiled, grid_size, max_range)

    def plain() -> Engine:
        if precision != "float32":
            raise ConfigError(f"engine 'torch' computes in float32, not {precision}")
        if threads is not None:
            torch.set_num_threads(threads)
        return torch_engine(network, grid_size, max_range, device)

    def exported(name: Literal["onnxruntime", "openvino"]) -> Engine:
        if device != "cpu" or precision != "float32":
            raise ConfigError(
                f"engine {name!r} runs on the CPU in float32, not on {device} in {precision}"
            )
        runtime = OnnxRuntimeNetwork if name == "onnxruntime" else OpenVinoNetwork
        logits = runtime(network, threads)
        detail = f"float32, {threads or usable_threads()} threads"
        return VoxelwiseEngine(name, detail, logits, network.config, grid_size, max_range)

    def cuda() -> Engine:
        if not device.startswith("cuda"):
            raise ConfigError(f"engine 'cuda' runs on a GPU, not on {device}")
        return CudaEngine(network, grid_size, max_range, device, precision)

    return {
        "native": native,
        "cuda": cuda,
        "torch": plain,
        "onnxruntime": lambda: exported("onnxruntime"),
        "openvino": lambda: exported("openvino"),
    }


def _candidates(network: PTv3, device: str, precision: Precision) -> list[EngineName]:
    """Engines that can run here, without making one. Raises ConfigError where none can."""
    names: list[EngineName] = []
    if device == "cpu":
        try:
            check_shape(network.config)
            if available_tiers(precision):
                names.append("native")
        except EngineMissingError as error:
            _warn_once(f"CPU engine missing, the others do the same slower: {error}")
        except ConfigError as error:
            _warn_once(str(error))
    if device.startswith("cuda"):
        try:
            check_gpu_shape(network.config)
            names.append("cuda")
        except ConfigError as error:
            _warn_once(str(error))
    if precision == "float32":
        names.append("torch")
        if device == "cpu" and find_spec("onnx"):
            optional: tuple[EngineName, ...] = ("onnxruntime", "openvino")
            names += [name for name in optional if find_spec(name)]
    if not names:
        raise ConfigError(f"no engine computes in {precision} on {device} here; use float32")
    return names


@cache
def _warn_once(message: str) -> None:
    _LOG.warning("%s", message)


def _fastest(engines: dict[EngineName, Engine], key: str) -> Engine:
    rng = np.random.default_rng(0)
    # a ground plane and clutter: voxel counts shrink over the stages as those of a street do
    xyz = rng.normal(0, (15, 15, 0.3), (_POINTS, 3)).astype(np.float32)
    intensity = rng.random(_POINTS).astype(np.float32)
    seconds: dict[EngineName, float] = {}
    for name, engine in engines.items():
        engine(xyz, intensity)
        begin = time.perf_counter()
        engine(xyz, intensity)
        seconds[name] = time.perf_counter() - begin
    best = min(seconds, key=seconds.__getitem__)
    report = ", ".join(f"{name} {1e3 * s:.0f} ms" for name, s in seconds.items())
    _LOG.info("engine %s is the fastest here (%s)", best, report)
    _write_cache(_read_cache() | {key: best})
    return engines[best]


def _key(
    network: PTv3,
    grid_size: float,
    device: str,
    precision: Precision,
    threads: int | None,
    names: list[EngineName],
) -> str:
    parts = {
        "config": asdict(network.config),
        "grid": grid_size,
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
        "precision": precision,
        "threads": threads or usable_threads(),
        "cpu": _cpu(),
        "torch": importlib.metadata.version("torch"),
        "native": build.sources_hash(),
        "candidates": names,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _cpu() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    told = {line for line in lines if line.startswith(("model name", "flags", "Features"))}
    return platform.machine() + "".join(sorted(told))


def _cache_file() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "pointdistill_ros" / "engines.json"


def _read_cache() -> dict[str, EngineName]:
    try:
        content = json.loads(_cache_file().read_text())
    except (OSError, ValueError):
        return {}
    if not isinstance(content, dict):
        return {}
    return {str(k): v for k, v in content.items() if v in ENGINES}


def _write_cache(content: dict[str, EngineName]) -> None:
    try:
        with atomic_path(_cache_file()) as temporary:
            temporary.write_text(json.dumps(content, indent=1))
    except OSError as error:
        _LOG.info("the choice of the engine could not be remembered: %s", error)
