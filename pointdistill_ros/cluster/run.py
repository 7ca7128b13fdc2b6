# SPDX-License-Identifier: Apache-2.0
"""All jobs from beginning to end: what an earlier run has done is kept, the rest goes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pointdistill_ros.cluster.actor import Setup
from pointdistill_ros.cluster.dispatch import Dispatch, Share
from pointdistill_ros.cluster.job import Job, MakeWorker, Outcome
from pointdistill_ros.cluster.ledger import Ledger
from pointdistill_ros.cluster.progress import State, cluster_progress
from pointdistill_ros.cluster.ray_cluster import places, rooms
from pointdistill_ros.cluster.shared_folder import shared_folder


def run_jobs(
    ray: Any,
    jobs: Sequence[Job],
    make_worker: MakeWorker,
    root: Path,
    settings: Mapping[str, Any],
    share: Share,
    processes: int | None = None,
    title: str = "jobs",
) -> list[Outcome]:
    """Outcomes in the order of the jobs.

    ``root``: the folder that holds all outputs. ``settings``: see ``Ledger``. ``processes``: at
    once; None: as many as the cluster has room for. Raises ConfigError where it has no room or no
    node can work, InputError where nothing can be written.
    """
    ledger = Ledger(root, settings)
    known = {job: result for job in jobs if (result := ledger.done(job)) is not None}
    found = {job: Outcome(job, result, kept=True) for job, result in known.items()}
    missing = [job for job in jobs if job not in found]
    if missing:
        room = places(rooms(ray), share.cpus, share.gpus)
        with (
            shared_folder(root, [job.source for job in missing]) as shared,
            cluster_progress(title, missing) as (on_tick, note),
        ):
            dispatch = Dispatch(
                ray,
                Setup(make_worker, ledger, shared),
                missing,
                min(processes or room, room),
                share,
                note,
            )
            done = dispatch.run(
                lambda d: on_tick(State(d.outcomes, [start.node for start in d.working]))
            )
        found |= {outcome.job: outcome for outcome in done}
    return [found[job] for job in jobs]
