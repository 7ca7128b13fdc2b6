# SPDX-License-Identifier: Apache-2.0
"""``pointdistill evaluate-bag --ray``: every bag gets the report that it gets alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pointdistill_ros.cli.bag_evaluation import EvaluationOptions, evaluate_one, missing
from pointdistill_ros.cli.over_ray.jobs import do_jobs, per_input
from pointdistill_ros.cli.over_ray.network import SettledNetwork, detail_of, settle
from pointdistill_ros.cluster.inputs import NAME, find_jobs, output_root
from pointdistill_ros.cluster.job import Job, Outcome
from pointdistill_ros.cluster.ray_cluster import connected, rooms

if TYPE_CHECKING:
    from rich.table import Table

    from pointdistill_ros.evaluation.bags.result import BagEvaluation
    from pointdistill_ros.segmenter import Segmenter

_MACHINE = ("workers", "threads", "command", "device", "engine", "precision", "weights", "teacher")
"""Options that decide no result, or whose choice is told with the networks."""


@dataclass(frozen=True)
class MakeEvaluator:
    """A MakeWorker."""

    networks: Mapping[str, SettledNetwork]
    """By the words of ``--weights`` and ``--teacher``."""
    options: EvaluationOptions

    def __call__(self) -> Evaluator:
        """Load the networks. Raises CheckpointError, ConfigError."""
        return Evaluator(self)


class Evaluator:
    """A Worker: holds student and teacher, evaluates one bag after the other."""

    def __init__(self, maker: MakeEvaluator) -> None:
        self._options = maker.options
        self._networks = {named: network.load() for named, network in maker.networks.items()}
        self.detail = "; ".join(detail_of(network) for network in self._networks.values())

    def __call__(self, job: Job) -> Mapping[str, Any]:
        """The figures of the bag in one line. Raises InputError and others of ours."""
        options = replace(
            self._options,
            labels=self._options.labels and self._options.labels.replace(NAME, job.name),
            poses=self._options.poses.replace(NAME, job.name),
        )
        evaluation = evaluate_one(job.source, job.output, options, self._held, _silent)
        return _figures(evaluation)

    def _held(self, weights: str, *_: object) -> Segmenter:
        """The LoadNetwork of a process that has loaded already."""
        return self._networks[weights]


def evaluate_over_ray(
    address: str,
    bags: Sequence[Path],
    output: Path,
    options: EvaluationOptions,
    processes: int | None,
) -> list[Outcome]:
    """Evaluate every bag into a folder of its own. Raises InputError and others of ours."""
    options.check(output_root(str(output)))
    jobs = find_jobs(bags, str(output), scans=False)
    options = replace(
        options,
        labels=options.labels and per_input(options.labels, "--labels", jobs),
        poses=per_input(options.poses, "--poses", jobs),
    )
    words = [options.weights, *([options.teacher] if options.teacher else [])]
    how = (options.device, options.engine, options.precision, options.threads)
    with connected(address) as ray:
        room = rooms(ray)
        networks = {weights: settle(weights, *how, room) for weights in words}
        told = {k: v for k, v in asdict(options).items() if k not in _MACHINE}
        return do_jobs(
            ray,
            jobs,
            MakeEvaluator(networks, options),
            output,
            [networks[weights] for weights in words],
            {"kind": "evaluate-bag", **told},
            processes,
            "evaluate-bag",
        )


def bags_table(outcomes: Sequence[Outcome]) -> Table:
    """A line a bag."""
    from rich.table import Table

    columns = ("clouds", "points", "agreement", "flips", "mIoU")
    table = Table("bag", title="Bags", title_justify="left")
    for column in columns:
        table.add_column(column, justify="right")
    for outcome in outcomes:
        found = outcome.result
        values = [found.get(column) for column in columns]
        table.add_row(
            outcome.job.name, *("" if value is None else f"{value:,}" for value in values)
        )
    return table


def _figures(evaluation: BagEvaluation) -> dict[str, Any]:
    from pointdistill_ros.evaluation.bags.labelling import STUDENT
    from pointdistill_ros.evaluation.bags.result import short

    agreement, scores = evaluation.agreement, evaluation.scores.get(STUDENT)
    stable = evaluation.stability.get(STUDENT)
    return {
        "clouds": len(evaluation.labelled),
        "points": sum(record.points for record in evaluation.labelled),
        "agreement": short(agreement.agreement) if agreement else None,
        "flips": short(1 - stable.agreement) if stable else None,
        "mIoU": short(scores.miou) if scores else None,
        "sha256": evaluation.digest,
        "skipped": missing(evaluation),
    }


def _silent(title: str, scans: int) -> Callable[[int], None]:
    """A Bar that nobody sees."""
    return lambda done: None
