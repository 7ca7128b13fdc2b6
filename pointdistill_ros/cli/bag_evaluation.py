# SPDX-License-Identifier: Apache-2.0
"""One bag, evaluated from its file to its report, in whatever process this is."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pointdistill_ros.errors import InputError
from pointdistill_ros.io.pointcloud2 import DecodeOptions

if TYPE_CHECKING:
    from pointdistill_ros.evaluation.bags.frames import FrameIndex
    from pointdistill_ros.evaluation.bags.result import BagEvaluation, Network
    from pointdistill_ros.evaluation.bags.truth import Truth
    from pointdistill_ros.evaluation.progress import Bar
    from pointdistill_ros.labels import LabelSet
    from pointdistill_ros.segmenter import Segmenter

LoadNetwork = Callable[[str, str, str, "int | None", str], "Segmenter"]
"""(weights, device, engine, threads, precision) → a network that is warm."""


@dataclass(frozen=True)
class EvaluationOptions:
    """What ``evaluate-bag`` was asked for, beside the bag and the place of the report. Picklable.

    Fields are the options of the same names.
    """

    weights: str = "student"
    teacher: str | None = None
    labels: str | None = None
    label_set: str | None = None
    topic: str | None = None
    poses: str = "auto"
    workers: int = 1
    min_points: int = 100
    rerun: bool = False
    keep_going: bool = False
    decode: DecodeOptions = field(default_factory=DecodeOptions)
    z_offset: float = 0.0
    target_frame: str = ""
    classes: str = "model"
    device: str = "auto"
    engine: str = "auto"
    precision: str = "float32"
    threads: int | None = None
    command: str = ""
    """As it was typed; for the report."""

    @property
    def share(self) -> int | None:
        """Threads of a process."""
        if self.threads or self.workers == 1:
            return self.threads
        return max(1, len(os.sched_getaffinity(0)) // self.workers)

    def check(self, output: Path) -> LabelSet | None:
        """Refuse what can be refused without the bag; the label set of the true labels.

        Raises InputError and LabelError.
        """
        from pointdistill_ros.evaluation.rerun_scene import require_rerun
        from pointdistill_ros.labels import LabelSet

        if output.exists() and not output.is_dir():
            raise InputError(f"{output}: is a file; --out names a folder")
        if self.rerun:
            require_rerun("--rerun")
        if self.classes != "model":
            LabelSet.named(self.classes)
        return LabelSet.named(self.label_set) if self.label_set else None


def evaluate_one(
    bag: Path, output: Path, options: EvaluationOptions, load: LoadNetwork, bar: Bar
) -> BagEvaluation:
    """Evaluate a bag and write its report below ``output``. Raises InputError and others of ours.

    ``load`` must be picklable where there are several workers.
    """
    from pointdistill_ros import __version__
    from pointdistill_ros.cli.check_bag import reference_of
    from pointdistill_ros.evaluation.bags.frames import FrameIndex
    from pointdistill_ros.evaluation.bags.gallery import drive_map, exhibits
    from pointdistill_ros.evaluation.bags.mounting import open_mounting
    from pointdistill_ros.evaluation.bags.report import write_bag_report
    from pointdistill_ros.evaluation.bags.rerun_recording import write_recording
    from pointdistill_ros.evaluation.bags.run import BagRun

    wanted = options.check(output)  # whatever can be refused is, before anything is measured
    index = FrameIndex.of(bag, options.topic, options.keep_going)
    frame = options.target_frame
    named = {"student": options.weights}
    if options.teacher:
        named["teacher"] = options.teacher
    mounting = open_mounting(index, frame, options.keep_going) if frame else None
    how = (options.device, options.engine, options.share, options.precision)
    loaded = {name: load(weights, *how) for name, weights in named.items()}
    run = BagRun(
        index=index,
        folder=output / "frames",
        networks={name: _network(network, options.classes) for name, network in loaded.items()},
        loaders={
            name: _loader(network, named[name], options, load) for name, network in loaded.items()
        },
        reference=reference_of(loaded["student"].meta),
        options=options.decode,
        z_offset=options.z_offset,
        mounting=mounting,
        classes=options.classes,
        truth=_truth(options.labels, index, wanted or loaded["student"].label_set),
        poses=options.poses,
        workers=options.workers,
        keep_going=options.keep_going,
        min_points=options.min_points,
        command=options.command,
        version=__version__,
    )
    evaluation = run.evaluate(bar)
    pictures = exhibits(run, evaluation, bar)
    seen = drive_map(run, evaluation, bar)
    write_bag_report(evaluation, pictures, seen, output / "report.html")
    evaluation.save(output / "report.json")
    if options.rerun:
        write_recording(run, evaluation, output / "recording.rrd", bar)
    return evaluation


def missing(evaluation: BagEvaluation) -> list[str]:
    """One line for every frame that could not be read, and for damage of the bag."""
    failed = [record.error for record in evaluation.failed]
    return failed + [note for note in evaluation.notes if ": damaged" in note]


def _loader(
    network: Segmenter, weights: str, options: EvaluationOptions, load: LoadNetwork
) -> Callable[[], Segmenter]:
    """How a process gets its network: one that labels here takes the one that is here."""
    if options.workers == 1:
        return lambda: network
    how = (options.device, network.engine, options.share, options.precision)
    return partial(load, weights, *how)


def _network(network: Segmenter, classes: str) -> Network:
    from pointdistill_ros.evaluation.bags.result import Network
    from pointdistill_ros.sent_classes import SentClasses

    detail = re.sub(r", \d+ threads", "", network.engine_detail)  # labels do not depend on them
    return Network(
        network.model_id,
        network.weights_sha256,
        network.num_parameters,
        network.meta.grid_size,
        f"{network.engine}: {detail}",
        SentClasses(network.label_set, classes).label_set,
    )


def _truth(labels: str | None, index: FrameIndex, label_set: LabelSet) -> Truth | None:
    from pointdistill_ros.evaluation.bags.truth import open_truth, own_truth

    if labels is not None:
        return open_truth(labels, index, label_set)
    truth, why_not = own_truth(index, label_set)
    if why_not:
        print(f"evaluate-bag: {why_not}", file=sys.stderr)
    return truth
