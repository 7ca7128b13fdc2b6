# SPDX-License-Identifier: Apache-2.0
"""The network that every node loads: the same weights, device, engine and precision everywhere."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pointdistill_ros.cli.network import load_segmenter
from pointdistill_ros.cluster.ray_cluster import Room
from pointdistill_ros.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from pointdistill_ros.segmenter import Segmenter


@dataclass(frozen=True)
class SettledNetwork:
    """What was chosen once, by the node of the command. Picklable."""

    weights: str
    """Shipped name, or absolute path."""
    sha256: str
    device: str
    engine: str
    precision: str
    threads: int

    @property
    def key(self) -> tuple[str, ...]:
        """What decides labels."""
        return self.sha256, self.device, self.engine, self.precision

    def load(self) -> Segmenter:
        """Raises CheckpointError where this node has no such weights or others, ConfigError."""
        network = load_segmenter(
            self.weights, self.device, self.engine, self.precision, self.threads
        )
        if network.weights_sha256 != self.sha256:
            raise CheckpointError(
                f"{self.weights}: other weights here than where the command runs (SHA-256 "
                f"{network.weights_sha256[:12]}… and {self.sha256[:12]}…)"
            )
        network.warm_up()
        return network


def settle(
    weights: str,
    device: str,
    engine: str,
    precision: str,
    threads: int | None,
    rooms: Sequence[Room],
) -> SettledNetwork:
    """Choose what is left open: GPUs where the cluster has some, the engine that is fastest here.

    A process has one thread unless told otherwise. Raises CheckpointError, ConfigError.
    """
    from pointdistill_ros.checkpoint import file_sha256, find_weights, load_checkpoint

    if device == "auto":
        device = "cuda" if any(room.gpus for room in rooms) else "cpu"
    if device not in ("cpu", "cuda"):
        raise ConfigError(
            f"device {device!r}: expected auto, cpu or cuda with --ray; Ray says which GPU a "
            "process has"
        )
    path = find_weights(weights)
    load_checkpoint(path)  # damaged weights are refused here and now
    if engine == "auto":
        engine = (
            "cuda"
            if device == "cuda"
            else load_segmenter(weights, device, engine, precision, threads or 1).engine
        )
    plain = Path(weights).suffix == "" and Path(weights).parent == Path()
    name = weights if plain else str(path.absolute())
    return SettledNetwork(name, file_sha256(path), device, engine, precision, threads or 1)


def detail_of(network: Segmenter) -> str:
    """What may make last bits differ between nodes: labels do not depend on threads."""
    return f"{network.engine}: {re.sub(r', [0-9]+ threads', '', network.engine_detail)}"
