# SPDX-License-Identifier: Apache-2.0
"""pointdistill export: a network as a file for other runtimes, compared with its torch form."""

from __future__ import annotations

from enum import Enum
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pointdistill_ros.engine.onnx.export import Parity
    from pointdistill_ros.scan import LidarScan


class Format(str, Enum):
    """What is written."""

    onnx = "onnx"


class Precision(str, Enum):
    """What the exported network computes in."""

    float32 = "float32"
    float16 = "float16"


class Target(str, Enum):
    """What the exported network runs on."""

    cpu = "cpu"
    gpu = "gpu"


def export(
    model: Annotated[
        str, typer.Argument(help="Shipped network (student) or a .safetensors file.")
    ] = "student",
    to: Annotated[Format, typer.Option(help="File format.")] = Format.onnx,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="File to write; default MODEL.onnx.", show_default=False),
    ] = None,
    precision: Annotated[
        Precision,
        typer.Option(help="float16 halves the file; for gpu it is also what is computed in."),
    ] = Precision.float32,
    target: Annotated[
        Target,
        typer.Option(
            help="cpu: fewest operations, least memory. gpu: fewest nodes, no scatter, no loop "
            "(TensorRT)."
        ),
    ] = Target.cpu,
) -> None:
    """Write a network as an ONNX file and compare it with the torch form on a simulated scan.

    A file that computes something else is not kept: exit code 1.
    """
    from pointdistill_ros import Segmenter
    from pointdistill_ros.engine.onnx.export import check_parity, export_onnx
    from pointdistill_ros.io.atomic import atomic_path

    segmenter = Segmenter.load(model, device="cpu", engine="torch")
    network, meta = segmenter.network, segmenter.meta
    path = Path(f"{meta.model_id}.{to.value}") if output is None else output
    with atomic_path(path) as temporary:
        sha256 = segmenter.weights_sha256
        export_onnx(temporary, network, meta, sha256, target.value, precision.value)
        typer.echo(f"{path}: {precision.value} for {target.value}, {_megabytes(temporary)}")
        if find_spec("onnxruntime") is None:
            typer.echo("not compared with the torch form: onnxruntime is not installed", err=True)
            return
        reports = check_parity(temporary, network, meta, target.value, _scans())
        for report in reports:
            _print(report, precision.value)
        if not all(report.accepts(precision.value) for report in reports):
            typer.echo(f"{path}: not the same function, not kept", err=True)
            raise typer.Exit(1)


def _megabytes(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.1f} MB"


def _scans() -> list[LidarScan]:
    """A simulated scan, its nearest 200 points (less than a patch), and one point."""
    import numpy as np

    from pointdistill_ros.scan import LidarScan
    from pointdistill_ros.simulation import Drive

    whole, _, _ = Drive(seed=0, frames=1, lidar="vlp32c")[0]
    assert whole.intensity is not None
    near = np.argsort(np.linalg.norm(whole.xyz, axis=1), kind="stable")
    return [LidarScan(whole.xyz[near[:n]], whole.intensity[near[:n]]) for n in (len(whole), 200, 1)]


def _print(report: Parity, precision: str) -> None:
    typer.echo(
        f"  {'✓' if report.accepts(precision) else '✗'} {report.voxels} voxels: "
        f"{100 * report.agreement:.2f} % of the labels equal, |Δlogit| ≤ {report.difference:.1e}"
    )
