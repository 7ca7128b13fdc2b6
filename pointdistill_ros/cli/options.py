# SPDX-License-Identifier: Apache-2.0
"""Options that several commands have; each means the same, and is explained once."""

from __future__ import annotations

import math
from enum import Enum
from typing import Annotated

import typer

WEIGHTS_HELP = "Shipped network (student) or a .safetensors file."
MAX_OFFSET = 100.0
"""Metres, as of the node's ``input.z_offset``."""


class IntensityScaleName(str, Enum):
    """How intensities come to 0..1."""

    auto = "auto"
    none = "none"
    unit = "unit"
    div255 = "div255"
    div_max = "div_max"
    log = "log"
    tanh = "tanh"
    percentile = "percentile"


def _finite(value: float) -> float:
    if math.isnan(value):  # which is on neither side of a limit
        raise typer.BadParameter(f"expected metres, got {value}")
    return value


Weights = Annotated[str, typer.Option(help=WEIGHTS_HELP)]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 …")]
Engine = Annotated[
    str, typer.Option(help="auto (the fastest here), native, cuda, torch, onnxruntime, openvino.")
]
Precision = Annotated[
    str, typer.Option(help="float32; bfloat16 or float16 are faster where the engine has them.")
]
Threads = Annotated[
    int | None,
    typer.Option(min=1, help="CPU threads a process; default: all cores.", show_default=False),
]
Topic = Annotated[
    str | None,
    typer.Option(
        help="Which PointCloud2 topic of a bag; needed if it has several.", show_default=False
    ),
]
MinPoints = Annotated[
    int, typer.Option(min=1, help="Classes with fewer true points enter no mean.")
]
IntensityField = Annotated[
    str, typer.Option(help="Field to read as intensity; auto takes the first known name.")
]
IntensityScale = Annotated[
    IntensityScaleName,
    typer.Option(help="How intensities come to 0..1; auto guesses from each cloud's largest."),
]
ZeroIsNoReturn = Annotated[
    bool,
    typer.Option(
        "--zero-is-no-return",
        help="Points at exactly (0, 0, 0) are missing returns, as some drivers write them.",
    ),
]
TargetFrame = Annotated[
    str,
    typer.Option(
        metavar="FRAME",
        help="Frame of the vehicle, x forward, z up, in which the network sees the clouds (before "
        "--z-offset), as with the node's input.target_frame; the bag's /tf_static says where it "
        "is. Default: the clouds' own.",
        show_default=False,
    ),
]
Classes = Annotated[
    str,
    typer.Option(
        metavar="LABEL_SET",
        help="Classes that go out, as with the node's output.classes: model (the network's), or a "
        "label set to which the network's has a remap, e.g. autoware.",
    ),
]
ZOffset = Annotated[
    float,
    typer.Option(
        min=-MAX_OFFSET,
        max=MAX_OFFSET,
        callback=_finite,
        metavar="METRES",
        help="How much higher your sensor is above the road than the training's 1.73 m (lower: "
        "negative; clouds with the road at z = 0: -1.73). Only the network sees the shifted "
        "cloud, as with the node's input.z_offset; pointdistill info --check-bag BAG tells the "
        "value.",
    ),
]
Ray = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        help="Share the inputs among the nodes of a Ray cluster (an extra): local, auto or "
        "HOST:PORT. Every input gets an output of its own below --out; folders are searched.",
        show_default=False,
    ),
]
