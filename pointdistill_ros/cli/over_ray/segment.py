# SPDX-License-Identifier: Apache-2.0
"""``pointdistill segment --ray``: every input is labelled as the command labels one alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pointdistill_ros.cli.over_ray.jobs import do_jobs
from pointdistill_ros.cli.over_ray.network import SettledNetwork, detail_of, settle
from pointdistill_ros.cli.scan_labelling import LabellingOptions, Summary, label_inputs
from pointdistill_ros.cluster.inputs import NAME, find_jobs
from pointdistill_ros.cluster.job import Job, Outcome
from pointdistill_ros.cluster.ray_cluster import connected, rooms
from pointdistill_ros.errors import InputError


@dataclass(frozen=True)
class MakeLabeller:
    """A MakeWorker."""

    network: SettledNetwork
    options: LabellingOptions

    def __call__(self) -> Labeller:
        """Load the network. Raises CheckpointError, ConfigError."""
        return Labeller(self)


class Labeller:
    """A Worker: holds the network, labels one input after the other."""

    def __init__(self, maker: MakeLabeller) -> None:
        self._options = maker.options
        self._network = maker.network.load()
        self.detail = detail_of(self._network)

    def __call__(self, job: Job) -> Mapping[str, Any]:
        """The summary as plain data. Raises InputError and others of ours."""
        options = self._options
        if options.pictures is not None:
            options = replace(options, pictures=options.pictures / job.name)
        summary = label_inputs([job.source], job.output, options, lambda: self._network, _silent)
        return {**vars(summary), "classes": dict(summary.classes)}


def segment_over_ray(
    address: str,
    inputs: Sequence[Path],
    output: Path,
    options: LabellingOptions,
    network: Mapping[str, Any],
    processes: int | None,
) -> tuple[Summary, list[Outcome]]:
    """Label every input into an output of its own. ``network``: the arguments of ``settle``."""
    if output.suffix == ".mcap" and NAME not in str(output):
        raise InputError(
            f"{output}: with --ray every input gets an output of its own; expected a folder, or "
            f"{output.with_name(NAME + '.mcap')}"
        )
    if options.pictures is not None:
        options = replace(options, pictures=options.pictures.absolute())
    jobs = find_jobs(inputs, str(output), scans=True)
    with connected(address) as ray:
        settled = settle(**network, rooms=rooms(ray))
        told = {"kind": "segment", **asdict(options), "pictures": str(options.pictures)}
        maker = MakeLabeller(settled, options)
        outcomes = do_jobs(ray, jobs, maker, output, [settled], told, processes, "segment")
    return _sum(outcomes), outcomes


def _sum(outcomes: Sequence[Outcome]) -> Summary:
    total = Summary()
    for outcome in outcomes:
        if not outcome.error:
            total.scans += outcome.result["scans"]
            total.points += outcome.result["points"]
            total.milliseconds += outcome.result["milliseconds"]
            total.classes.update(Counter(outcome.result["classes"]))
    return total


def _silent(title: str, scans: int) -> Callable[[int], None]:
    """A Bar that nobody sees."""
    return lambda done: None
