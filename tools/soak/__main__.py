# SPDX-License-Identifier: Apache-2.0
"""python -m tools.soak: whether the node stays as it is, for minutes to days.

A node as shipped runs in its own process and gets clouds of a simulated street at a steady rate
over DDS. Told are its latency and the age of its labels (p50, p95, p99), its counters, memory,
threads and open files; what must hold is in verdict.py. With --times-capacity 5 the rate is five
times what the node can do here. Exit code 1 where a criterion is missed, 2 where it cannot run.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from pointdistill_ros.errors import ConfigError, PointDistillError, one_line_errors
from pointdistill_ros.io.atomic import atomic_path
from tools.soak.clouds import LIDAR, POINTS, street_clouds
from tools.soak.verdict import failures, figures

FIRST = 7
"""Clouds, one after the other, from which the node's capacity is taken."""
PATIENCE = 600.0
"""Seconds that the node gets to start, to answer a cloud, and to end."""


def main() -> int:
    """Run, print a table, write JSON."""
    options = _options()
    os.environ.setdefault("ROS_DOMAIN_ID", str(random.SystemRandom().randint(1, 101)))
    from pointdistill_ros.nodes import messages

    if messages.SegmentationStats is None:
        raise PointDistillError("pointdistill_ros.msg is not built: `make msgs`")
    seconds = 60 * options.minutes
    warm_up = seconds * options.warm_up
    clouds = street_clouds(options.lidar, options.points, options.frames, options.turns)
    print(
        f"{len(clouds)} clouds of {options.points} points in turns, {options.model}, "
        f"{seconds / 60:g} minutes of which {warm_up:.0f} s warm up",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as folder, _node(options, Path(folder)) as (node, log):
        load = os.getloadavg()[0]
        record = _drive(clouds, node, options, seconds)
        found = figures(record, warm_up)
        found["load average"] = [round(load, 2), round(os.getloadavg()[0], 2)]
        found["cores"] = len(os.sched_getaffinity(0))
        code = node.end(PATIENCE)
        record.log = log.read_text(errors="replace")
    if code and not record.ending:
        record.ending = f"the node ended with exit code {code}"
    missed = failures(record, warm_up, options.max_growth / 100)
    _print(found)
    if options.json is not None:
        report = {"options": vars(options) | {"json": str(options.json)}, "figures": found}
        with atomic_path(options.json) as temporary:
            temporary.write_text(json.dumps(report | {"missed": missed}, indent=2) + "\n")
        print(f"figures in {options.json}")
    for sentence in missed:
        print(f"missed: {sentence}", file=sys.stderr)
    return 1 if missed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tools.soak", description=__doc__.split("\n\n", 1)[1].replace("\n", " ")
    )
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--hz", type=float, default=10.0, help="clouds a second")
    parser.add_argument(
        "--times-capacity",
        type=float,
        default=0.0,
        help="instead of --hz: so many times the clouds a second that the node can do",
    )
    parser.add_argument("--points", type=int, default=POINTS)
    parser.add_argument("--model", default="student", help="shipped name or .safetensors")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--lidar", default=LIDAR, help="of the simulated street")
    parser.add_argument("--frames", type=int, default=4, help="of the street")
    parser.add_argument("--turns", type=int, default=8, help="angles by which each frame is turned")
    parser.add_argument("--warm-up", type=float, default=0.1, help="share of the time")
    parser.add_argument("--max-growth", type=float, default=1.0, help="of the memory, per cent")
    parser.add_argument("--reliable", action="store_true", help="input QoS; default best effort")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    if not options.minutes > 0 or not 0 <= options.warm_up < 1 or options.hz <= 0:
        raise ConfigError("--minutes and --hz must be above 0, --warm-up in 0..1")
    return options


@contextmanager
def _node(options: argparse.Namespace, folder: Path) -> Iterator[tuple[Any, Path]]:
    from pointdistill_ros.nodes.process import NodeProcess

    log = folder / "node.log"
    parameters = {"model.path": f"'{options.model}'", "model.precision": options.precision}
    if options.reliable:
        parameters |= {"input.reliability": "reliable", "input.depth": "20"}
    with NodeProcess("segmentation_node", log, parameters, timeout=PATIENCE) as node:
        yield node, log


def _drive(clouds: list[Any], node: Any, options: argparse.Namespace, seconds: float) -> Any:
    import rclpy

    from pointdistill_ros.nodes.transport import prepare_transport
    from tools.soak.sender import Sender

    prepare_transport()
    rclpy.init()
    try:
        sender = Sender(clouds, node.pid)
        sender.connect(PATIENCE)
        period = 1 / options.hz
        if options.times_capacity:
            work = float(np.median([sender.one_by_one(PATIENCE) for _ in range(FIRST)]))
            period = work / options.times_capacity
            print(f"a cloud takes {1e3 * work:.1f} ms here: {1 / period:.2f} Hz", flush=True)
        record = sender.run(period, seconds)
        sender.close()
    finally:
        rclpy.try_shutdown()
    return record


def _print(found: dict[str, Any]) -> None:
    for name, value in found.items():
        if isinstance(value, dict):
            text = "  ".join(f"{key} {number}" for key, number in value.items())
        elif isinstance(value, list):
            text = " … ".join(map(str, value))
        else:
            text = str(value)
        print(f"{name:26s}{text}")


if __name__ == "__main__":
    with one_line_errors("soak"):
        sys.exit(main())
