# SPDX-License-Identifier: Apache-2.0
"""pointdistill pack: a labelled data set as a folder of small files that are quick to read."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer


class Extra(str, Enum):
    """What may be kept beside points and labels."""

    pose = "pose"
    instances = "instances"


def pack(
    dataset: Annotated[
        str, typer.Argument(help="semantic-kitti, nuscenes, waymo, pandaset: config/datasets/.")
    ],
    root: Annotated[Path, typer.Argument(help="The data set as its makers publish it.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="New folder, or one to go on with.")],
    split: Annotated[str, typer.Option(help="train, val …, as the data set defines it.")] = "train",
    sequences: Annotated[
        list[str] | None,
        typer.Option("--sequence", "-s", help="Only this drive; may be repeated."),
    ] = None,
    keep: Annotated[
        list[Extra] | None, typer.Option(help="Keep this too; may be repeated.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
) -> None:
    """Pack a labelled data set: about a third of a megabyte per scan, same points, same order.

    Coordinates are rounded to 1/256 m, labels are exact. Interrupt at will: the same command goes
    on where it stopped; on a finished folder it checks every file and mends what is damaged.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from pointdistill_ros.datasets import cache
    from pointdistill_ros.datasets.open import open_dataset

    console = Console(stderr=True)
    with console.status(f"looking through {root}"):
        scans = open_dataset(dataset, root, split, sequences)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(f"{dataset} {split}", total=len(scans))
        packed = cache.pack(
            scans,
            out,
            dataset,
            split,
            [extra.value for extra in keep or ()],
            workers,
            lambda done: bar.update(task, completed=done),
        )
    megabytes = sum(entry["bytes"] for entry in packed.entries) / 1e6
    drives = len(set(packed.sequences))
    typer.echo(
        f"{out}: {len(packed)} scans of {drives} drive{'s' * (drives != 1)}, {megabytes:.1f} MB, "
        f"{1000 * megabytes / len(packed):.0f} kB a scan"
    )
