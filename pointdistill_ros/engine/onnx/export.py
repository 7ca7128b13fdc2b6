# SPDX-License-Identifier: Apache-2.0
"""A checkpoint as an ONNX file: the graph, everything an integrator needs as metadata, a check.

The file says what it reads (``input_specs``), and its metadata what its classes mean, how to
voxelise, what intensities it knows, where the weights come from and under which licence.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from pointdistill_ros import __version__
from pointdistill_ros.checkpoint import CheckpointMeta
from pointdistill_ros.engine.onnx.inputs import Target, input_specs
from pointdistill_ros.engine.onnx.runtimes import OnnxRuntimeNetwork, require
from pointdistill_ros.engine.voxelwise import VoxelwiseEngine
from pointdistill_ros.model.config import PTv3Config
from pointdistill_ros.model.curves import MAX_DEPTH
from pointdistill_ros.model.ptv3 import PTv3
from pointdistill_ros.model.pyramid import VoxelPyramid
from pointdistill_ros.scan import LidarScan

TOLERANCE = {"float32": 1e-4, "float16": 0.05}
"""Largest difference of a logit that a file may show, as a share of their spread where above 1."""
AGREEMENT = {"float32": 0.9999, "float16": 0.99}
"""Smallest share of equal labels; in float32 only ties may fall differently."""


@dataclass(frozen=True)
class Parity:
    """An exported file against the torch form, on one scan."""

    voxels: int
    agreement: float
    """Share of voxels with equal labels."""
    difference: float
    """Largest absolute difference of a logit."""
    spread: float
    """Standard deviation of the torch form's logits."""

    def accepts(self, precision: str) -> bool:
        """Whether the file is the same function, as far as the precision allows."""
        return (
            self.difference <= TOLERANCE[precision] * max(1.0, self.spread)
            and self.agreement >= AGREEMENT[precision]
        )


def export_onnx(
    path: Path,
    network: PTv3,
    meta: CheckpointMeta,
    weights_sha256: str = "",
    target: Target = "cpu",
    precision: str = "float32",
) -> None:
    """Write the file, checked by onnx itself; the caller cares for its atomic appearance.

    Raises ConfigError where onnx is missing or weights do not fit into the precision.
    """
    onnx = require("onnx")
    from pointdistill_ros.engine.onnx.network import build_model

    model = build_model(network, target, "float16" if precision == "float16" else "float32")
    model.producer_version = __version__
    model.doc_string = f"{meta.model_id}: Point Transformer V3, a class per voxel of a lidar scan"
    facts = onnx_metadata(meta, weights_sha256, target, precision)
    onnx.helper.set_model_props(model, facts)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())


def onnx_metadata(
    meta: CheckpointMeta, weights_sha256: str, target: Target, precision: str
) -> dict[str, str]:
    """What the file says about itself; values that are not plain text are JSON."""
    facts: dict[str, object] = {
        "model_id": meta.model_id,
        "label_set": meta.label_set.name,
        "classes": meta.label_set.names,
        "grid_size": meta.grid_size,
        "curve_depth": MAX_DEPTH,
        "intensity": asdict(meta.intensity),
        "xcpe": meta.config.xcpe,
        "config": asdict(meta.config),
        "licence": str(meta.training.get("licence", "")),
        "training": dict(meta.training),
        "weights_sha256": weights_sha256,
        "target": target,
        "precision": precision,
        "pointdistill": __version__,
    }
    return {
        key: value if isinstance(value, str) else json.dumps(value) for key, value in facts.items()
    }


def check_parity(
    path: Path, network: PTv3, meta: CheckpointMeta, target: Target, scans: list[LidarScan]
) -> list[Parity]:
    """Compare the file in ONNX Runtime with the torch form. Raises ConfigError without it."""
    exported = OnnxRuntimeNetwork(network, target=target, model=path.read_bytes())
    return [compare(exported, network, meta, scan) for scan in scans]


def compare(
    exported: Callable[[Tensor, VoxelPyramid], Tensor],
    network: PTv3,
    meta: CheckpointMeta,
    scan: LidarScan,
) -> Parity:
    """One form of a network against the torch form, on the voxels of a scan with intensities."""
    found: list[Parity] = []

    def both(features: Tensor, pyramid: VoxelPyramid) -> Tensor:
        expected: Tensor = network(features, pyramid)
        got = exported(features, pyramid)
        agreement = (expected.argmax(1) == got.argmax(1)).double().mean()
        difference = (expected - got).abs().max()  # NaN stays NaN and is accepted nowhere
        spread = expected.std(correction=0)
        found.append(Parity(len(features), float(agreement), float(difference), float(spread)))
        return expected

    assert scan.intensity is not None
    engine = VoxelwiseEngine("torch", "parity", both, meta.config, meta.grid_size, torch.inf)
    engine(scan.xyz, scan.intensity)
    return found[0]


def contract_table(config: PTv3Config, target: Target) -> str:
    """The inputs of an exported network as a table in Markdown."""
    lines = ["| input | type | shape | meaning |", "|---|---|---|---|"]
    for spec in input_specs(config, target):
        shape = ", ".join(map(str, spec.shape))
        lines.append(f"| `{spec.name}` | {spec.dtype} | [{shape}] | {spec.meaning} |")
    return "\n".join(lines) + "\n"
