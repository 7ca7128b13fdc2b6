# SPDX-License-Identifier: Apache-2.0
"""One process of the cluster: checks its node, makes a worker, does one job after the other."""

from __future__ import annotations

import os
import socket
import traceback
from dataclasses import dataclass
from pathlib import Path

import pointdistill_ros
from pointdistill_ros.cluster.job import Job, MakeWorker, Outcome, Worker
from pointdistill_ros.cluster.ledger import Ledger
from pointdistill_ros.cluster.outputs import remove_halves
from pointdistill_ros.cluster.shared_folder import SharedFolder
from pointdistill_ros.errors import ConfigError, PointDistillError


@dataclass(frozen=True)
class Start:
    """How the start of a process went."""

    node: str
    pid: int
    detail: str = ""
    """See ``Worker``."""
    error: str = ""
    """One line, why it cannot work there."""


@dataclass(frozen=True)
class Setup:
    """What every process gets. Picklable."""

    make_worker: MakeWorker
    ledger: Ledger
    shared: SharedFolder
    version: str = pointdistill_ros.__version__


class JobActor:
    """Turned into a Ray actor by ``dispatch``; a plain object otherwise."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._worker: Worker | None = None
        self._node = socket.gethostname()

    def start(self) -> Start:
        """Check the node and make the worker; what this node lacks is told, not raised."""
        try:
            self._setup.shared.check(self._node)
            if pointdistill_ros.__version__ != self._setup.version:
                raise ConfigError(
                    f"pointdistill_ros {pointdistill_ros.__version__} is installed; expected "
                    f"{self._setup.version}, the version of the command"
                )
            self._worker = self._setup.make_worker()
        except (PointDistillError, OSError) as error:
            return Start(self._node, os.getpid(), error=_one_line(error))
        return Start(self._node, os.getpid(), self._worker.detail)

    def do(self, job: Job) -> Outcome:
        """Do a job from beginning to end. Never raises: one job is no end of the others."""
        assert self._worker is not None
        try:
            mark = self._setup.ledger.begin(job)
            remove_halves(job.output)
            result = self._worker(job)
            self._setup.ledger.finish(job, mark, result)
        except (PointDistillError, OSError) as error:
            return Outcome(job, error=_named(job.source, _one_line(error)), node=self._node)
        except Exception as error:
            line = f"{type(error).__name__}: {_one_line(error)}"
            trace = traceback.format_exc()
            return Outcome(job, error=_named(job.source, line), trace=trace, node=self._node)
        return Outcome(job, result, node=self._node)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _named(source: Path, line: str) -> str:
    return line if str(source) in line else f"{source}: {line}"
