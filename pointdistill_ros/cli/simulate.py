# SPDX-License-Identifier: Apache-2.0
"""pointdistill simulate: a labelled drive along a procedural street, as bag or folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def simulate(
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="NAME.mcap for a bag, else a new SemanticKITTI folder."),
    ],
    frames: Annotated[int, typer.Option(min=1, help="Scans, ten a second.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same drive.")] = 0,
    lidar: Annotated[str, typer.Option(help="Sensor: a name in config/lidars/.")] = "hdl64e",
    style: Annotated[
        str | None,
        typer.Option(help="suburban, urban, country or highway; default: drawn from the seed."),
    ] = None,
) -> None:
    """Simulate a drive whose every point has its true class."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from pointdistill_ros.errors import InputError
    from pointdistill_ros.simulation.drive import Drive
    from pointdistill_ros.simulation.export import write_bag, write_folder
    from pointdistill_ros.simulation.styles import named_style

    if out.suffix not in (".mcap", ""):
        raise InputError(f"{out}: expected NAME.mcap or a folder name without suffix")
    console = Console(stderr=True)
    with console.status("building the street"):
        drive = Drive(seed, frames, lidar, None if style is None else named_style(style))
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(f"{drive.style}, seed {seed}", total=frames)
        write = write_bag if out.suffix else write_folder
        write(drive, out, lambda done: bar.update(task, completed=done))
    typer.echo(f"{out}: {frames} scans of {lidar}, {drive.style} street, seed {seed}")
