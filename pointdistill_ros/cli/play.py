# SPDX-License-Identifier: Apache-2.0
"""pointdistill play."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

from pointdistill_ros.errors import InputError, PointDistillError

RESULT_TOPIC = "/segmentation_node/labeled_points"


def play(
    bag: Annotated[Path, typer.Argument(help="Bag folder, .mcap, .db3 or ROS 1 .bag.")],
    topic: Annotated[
        Optional[list[str]],  # noqa: UP045 - typer reads it at run time, on Python 3.10 too
        typer.Option(help="Topic to play; may be repeated. Default: every PointCloud2 topic."),
    ] = None,
    to: Annotated[
        str, typer.Option(help="Publish the one chosen topic under this name, e.g. /points.")
    ] = "",
    rate: Annotated[float, typer.Option(help="Speed, 1 = as recorded.", min=0.001)] = 1.0,
    loop: Annotated[bool, typer.Option("--loop", help="Begin again at the end.")] = False,
    clock: Annotated[
        bool, typer.Option("--clock", help="Publish /clock (for nodes with use_sim_time).")
    ] = False,
    start: Annotated[float, typer.Option(help="Seconds to skip at the beginning.", min=0)] = 0.0,
    duration: Annotated[
        float, typer.Option(help="Seconds of the bag to play; 0 = to the end.", min=0)
    ] = 0.0,
    wait: Annotated[
        float, typer.Option(help="Seconds to wait for a subscriber before the first cloud.", min=0)
    ] = 10.0,
    step_on_result: Annotated[
        bool,
        typer.Option(
            "--step-on-result",
            help="Publish the next cloud when the node's result for the last has arrived.",
        ),
    ] = False,
    result_topic: Annotated[str, typer.Option(help="Where results arrive.")] = RESULT_TOPIC,
    result_timeout: Annotated[
        float, typer.Option(help="Seconds after which a result counts as missing.", min=0)
    ] = 30.0,
) -> None:
    """Publish a bag's clouds over DDS, as recorded.

    Exit code 1 where results are missing with --step-on-result.
    """
    from pointdistill_ros.io.bag import POINTCLOUD2, BagReader

    with BagReader(bag) as reader:
        clouds = [name for name, kind in reader.topics.items() if kind == POINTCLOUD2]
        chosen = ["/" + name.lstrip("/") for name in topic or []] or clouds
        if not chosen:
            reader.cloud_topic()  # raises, saying what the bag holds instead
        unknown = [name for name in chosen if name not in reader.topics]
        if unknown:
            known = ", ".join(reader.topics) or "none"
            raise InputError(f"{bag}: no topic {unknown[0]}; topics: {known}")
    if to and len(chosen) != 1:
        raise InputError(f"--to needs one topic, not {len(chosen)}: choose it with --topic")
    try:
        from pointdistill_ros.nodes.player import PlaySettings, play_bag
    except ModuleNotFoundError as error:
        raise PointDistillError(
            f"{error.name} is not installed for {sys.executable}: "
            "source a ROS installation or use the environment of `make install`"
        ) from error
    from rich.console import Console
    from rich.progress import Progress

    settings = PlaySettings(
        rate=rate,
        loop=loop,
        clock=clock,
        start=start,
        duration=duration or None,
        wait=wait,
        result_topic=result_topic if step_on_result else None,
        result_timeout=result_timeout,
    )
    console = Console(stderr=True)
    with Progress(console=console) as progress:
        task = progress.add_task(f"playing {bag.name}", total=None)
        try:
            report = play_bag(
                bag,
                {name: to or name for name in chosen},
                settings,
                lambda done, total: progress.update(task, completed=done, total=total),
            )
        except KeyboardInterrupt:
            progress.stop()
            console.print("stopped")
            return
    for name, count in report.published.items():
        heard = ", nobody listened at the start" if name in report.unheard else ""
        console.print(f"{name}: {count} messages in {report.seconds:.1f} s{heard}")
    if report.missing_results:
        console.print(f"{report.missing_results} clouds without a result on {result_topic}")
        raise typer.Exit(1)
