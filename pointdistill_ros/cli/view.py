# SPDX-License-Identifier: Apache-2.0
"""pointdistill view: scans and bags with their classes, turned and played in the Rerun viewer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pointdistill_ros.cli.network import load_segmenter
from pointdistill_ros.cli.options import (
    Device,
    Engine,
    IntensityField,
    IntensityScale,
    IntensityScaleName,
    Precision,
    TargetFrame,
    Threads,
    Topic,
    ZeroIsNoReturn,
    ZOffset,
)
from pointdistill_ros.errors import ConfigError

if TYPE_CHECKING:
    from pointdistill_ros.cli.view_input import ViewInput


def view(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT",
            help="Scan (.bin .pcd.bin .pcd .npy .npz), folder of them, KITTI sequence folder, or "
            "bag (.mcap .db3 .bag or folder).",
            show_default=False,
        ),
    ],
    weights: Annotated[
        str | None,
        typer.Option(
            help="Network that labels: shipped name, .safetensors file, or none. Default: student, "
            "without one where --labels are given.",
            show_default=False,
        ),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(help="Weights of a second network to compare with.", show_default=False),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            help="Labels to show: folder of .label files named as the scans; with bags also a "
            "topic of labelled clouds, or field:NAME of the clouds; none. Default: those that the "
            "input carries, as simulated bags and KITTI sequences do.",
            show_default=False,
        ),
    ] = None,
    label_set: Annotated[
        str | None,
        typer.Option(
            help="What these labels mean, a name of config/labels; default: as the network's, else "
            "semantic-kitti.",
            show_default=False,
        ),
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.rrd",
            help="Write a recording instead of opening a window; `rerun FILE.rrd` shows it.",
            show_default=False,
        ),
    ] = None,
    web: Annotated[
        bool, typer.Option("--web", help="Show it in a browser; ends with Ctrl-C.")
    ] = False,
    frames: Annotated[
        int | None,
        typer.Option(min=1, help="Only so many scans, the first.", show_default=False),
    ] = None,
    topic: Topic = None,
    intensity_field: IntensityField = "auto",
    intensity_scale: IntensityScale = IntensityScaleName.auto,
    zero_is_no_return: ZeroIsNoReturn = False,
    z_offset: ZOffset = 0.0,
    target_frame: TargetFrame = "",
    device: Device = "auto",
    engine: Engine = "auto",
    precision: Precision = "float32",
    threads: Threads = None,
) -> None:
    """Look at scans and bags: points coloured by class, played and turned (extra: viewer).

    A view for every labelling and for where they differ, a legend, latency and agreement as curves.

    pointdistill view drive.mcap

    pointdistill view scans/ --labels labels/

    pointdistill view drive.mcap --teacher teacher --save drive.rrd
    """
    from pointdistill_ros.cli.scan_labelling import open_source
    from pointdistill_ros.cli.view_input import ViewOptions, open_view
    from pointdistill_ros.cli.view_show import Viewed
    from pointdistill_ros.evaluation.progress import progress
    from pointdistill_ros.evaluation.rerun_scene import require_rerun
    from pointdistill_ros.io.pointcloud2 import DecodeOptions
    from pointdistill_ros.labels import LabelSet

    require_rerun("pointdistill view")
    if save is not None and web:
        raise ConfigError("--save and --web: choose one")
    if save is not None and save.suffix != ".rrd":
        raise ConfigError(f"--save {save}: expected NAME.rrd")
    wanted = LabelSet.named(label_set) if label_set else None
    options = ViewOptions(
        topic=topic,
        labels=labels,
        decode=DecodeOptions(intensity_field, intensity_scale.value, zero_is_no_return),
        z_offset=z_offset,
        target_frame=target_frame,
    )
    chosen = weights or ("none" if labels not in (None, "none") else "student")
    if teacher and chosen == "none":
        raise ConfigError("--teacher is compared with a network; give --weights, too")
    source = open_source(path, topic, options.decode)  # refuse before the network is loaded
    asked = {"student": chosen, "teacher": teacher} if teacher else {"student": chosen}
    networks = {
        name: load_segmenter(one, device, engine, precision, threads)
        for name, one in asked.items()
        if one != "none"
    }
    own = networks["student"].label_set if networks else LabelSet.named("semantic-kitti")
    found = open_view(source, options, wanted or own)
    if not networks and found.label_set is None:
        raise ConfigError(f"{path}: nothing to colour by; give --labels or --weights")
    viewed = Viewed(path.name, found, networks)
    with progress() as bar:
        viewed.show(save, web, frames, bar)
    print(_said(found, frames, save))


def _said(found: ViewInput, frames: int | None, save: Path | None) -> str:
    scans = min(len(found), frames or len(found))
    count = "1 scan" if scans == 1 else f"{scans} scans"
    return count if save is None else f"{count} → {save}; show them with: rerun {save}"
