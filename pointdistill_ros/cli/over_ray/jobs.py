# SPDX-License-Identifier: Apache-2.0
"""What the commands have in common: from jobs to outcomes, and how a run ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from pointdistill_ros import __version__
from pointdistill_ros.cli.over_ray.network import SettledNetwork
from pointdistill_ros.cluster.dispatch import Share
from pointdistill_ros.cluster.inputs import NAME, output_root
from pointdistill_ros.cluster.job import Job, MakeWorker, Outcome
from pointdistill_ros.cluster.run import run_jobs
from pointdistill_ros.errors import InputError

_WAYS_TO_WAIT = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def do_jobs(
    ray: Any,
    jobs: Sequence[Job],
    make_worker: MakeWorker,
    output: Path,
    networks: Sequence[SettledNetwork],
    settings: dict[str, Any],
    processes: int | None,
    title: str,
) -> list[Outcome]:
    """Outcomes in the order of the jobs; those of bugs are told with their traceback.

    ``settings``: what decides the outputs beside inputs and networks. Raises InputError where
    nothing could be done at all, and what ``run_jobs`` raises.
    """
    share = Share(
        networks[0].threads,
        int(networks[0].device == "cuda"),
        {"MPLBACKEND": "Agg"} | {n: os.environ[n] for n in _WAYS_TO_WAIT if n in os.environ},
    )
    keys = [network.key for network in networks]
    decisive = {"networks": keys, "version": __version__, **settings}
    root = output_root(str(output))
    outcomes = run_jobs(ray, jobs, make_worker, root, decisive, share, processes, title)
    for outcome in outcomes:
        if outcome.trace:
            print(f"{outcome.job.source} on {outcome.node}:\n{outcome.trace}", file=sys.stderr)
    if all(outcome.error for outcome in outcomes):
        more = f" (and {len(outcomes) - 1} more)" if len(outcomes) > 1 else ""
        raise InputError(outcomes[0].error + more)
    return outcomes


def per_input(value: str, option: str, jobs: Sequence[Job]) -> str:
    """A value that may be a path, absolute; for several inputs it needs ``{name}`` in it."""
    if NAME in value:
        return str(Path(value).absolute())
    if not Path(value).exists():
        return value
    if len(jobs) > 1:
        raise InputError(f"{option} {value}: one for {len(jobs)} bags; put {NAME} into the path")
    return str(Path(value).absolute())


def conclude(outcomes: Sequence[Outcome]) -> None:
    """Say how many inputs were done, list what is missing; exits with 1 where something is."""
    failed = [outcome for outcome in outcomes if outcome.error]
    kept = sum(outcome.kept for outcome in outcomes)
    done = f"{len(outcomes) - len(failed)} of {len(outcomes)} inputs done"
    print(done + (f", {kept} of them before" if kept else ""))
    complaints = [line for outcome in outcomes for line in outcome.complaints]
    for line in complaints:
        print(f"skipped: {line}", file=sys.stderr)
    if complaints:
        raise typer.Exit(1)
