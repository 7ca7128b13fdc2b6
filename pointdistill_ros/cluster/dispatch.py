# SPDX-License-Identifier: Apache-2.0
"""Which process does which job when: a job at a time to a process, and again where one is lost.

- nothing waits in a process: jobs in flight are never more than processes
- a process that dies, with its node or alone, loses its job to another; a job that kills every
  process which tries it is given up after ``ATTEMPTS``
- a process that cannot work on its node is left out; the others go on
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pointdistill_ros.cluster.actor import JobActor, Setup, Start
from pointdistill_ros.cluster.job import Job, Outcome
from pointdistill_ros.errors import ConfigError

ATTEMPTS = 3
"""Of a job that its process does not survive, and of a process that does not survive its start."""
_TICK = 1.0
_THREAD_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Share:
    """What a process gets of its node."""

    cpus: int = 1
    """Threads, too."""
    gpus: int = 0
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(eq=False)
class _Slot:
    """A place for a process; which one it is changes when one dies."""

    actor: Any = None
    start: Start | None = None
    failed_starts: int = 0


class Dispatch:
    """One walk over the jobs. Everything is kept up to date for those who watch."""

    def __init__(
        self,
        ray: Any,
        setup: Setup,
        jobs: Sequence[Job],
        processes: int,
        share: Share,
        note: Callable[[str], None],
    ) -> None:
        """``note`` hears at once, in one line, what somebody should know."""
        self._ray, self._setup, self._share, self._note = ray, setup, share, note
        # the longest first, so that none of them is alone at the end
        self._open = deque(sorted(jobs, key=lambda job: -job.size))
        self._attempts: Counter[Job] = Counter()
        self._waiting: dict[Any, tuple[_Slot, Job | None]] = {}
        self._slots = [_Slot() for _ in range(min(processes, len(jobs)))]
        self._idle: list[_Slot] = []
        self._refused: dict[tuple[str, str], None] = {}
        self._details: dict[str, str] = {}
        self.outcomes: list[Outcome] = []
        """Of what is done, in the order of its end."""

    @property
    def working(self) -> list[Start]:
        """Processes that have begun, and where."""
        return [slot.start for slot in self._slots if slot.start]

    def run(self, on_tick: Callable[[Dispatch], None]) -> list[Outcome]:
        """Do all jobs; ``on_tick`` is called about once a second.

        Raises ConfigError where no process can work; what is done by then is kept.
        """
        count = len(self._open)
        try:
            for slot in self._slots:
                self._begin(slot)
            while len(self.outcomes) < count:
                self._assign()
                if not self._waiting:
                    raise ConfigError("; ".join(f"{n}: {why}" for n, why in self._refused))
                ready, _ = self._ray.wait(list(self._waiting), timeout=_TICK)
                for reference in ready:
                    self._hear(reference)
                on_tick(self)
        finally:
            for slot in self._slots:
                self._end(slot)
        if len(set(self._details.values())) > 1:
            told = ", ".join(f"{detail} on {node}" for node, detail in self._details.items())
            self._note(f"nodes compute differently, last bits may differ: {told}")
        return self.outcomes

    def _begin(self, slot: _Slot) -> None:
        share = self._share
        environment = dict.fromkeys(_THREAD_LIMITS, str(share.cpus)) | dict(share.environment)
        actor = self._ray.remote(JobActor).options(
            num_cpus=share.cpus,
            num_gpus=share.gpus,
            scheduling_strategy="SPREAD",
            max_restarts=0,  # deaths are seen here, where the job is given to another
            max_task_retries=0,
            runtime_env={"env_vars": environment},
        )
        slot.start = None
        slot.actor = actor.remote(self._setup)
        self._waiting[slot.actor.start.remote()] = slot, None

    def _assign(self) -> None:
        while self._open and self._idle:
            slot, job = self._idle.pop(), self._open.popleft()
            self._attempts[job] += 1
            self._waiting[slot.actor.do.remote(job)] = slot, job

    def _hear(self, reference: Any) -> None:
        slot, job = self._waiting.pop(reference)
        try:
            said: Start | Outcome = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            self._lost(slot, job, error)
            return
        if isinstance(said, Outcome):
            self.outcomes.append(said)
            self._idle.append(slot)
        elif said.error:
            self._refuse(slot, said.node, said.error)
        else:
            slot.start, slot.failed_starts = said, 0
            self._details[said.node] = said.detail
            self._idle.append(slot)

    def _lost(self, slot: _Slot, job: Job | None, error: Exception) -> None:
        """A process is gone, with the job it had; another one takes its place."""
        node = slot.start.node if slot.start else "a node"
        self._end(slot)
        if job is None:
            slot.failed_starts += 1
            if slot.failed_starts == ATTEMPTS:
                why = f"no process could start, {ATTEMPTS} times: {_reason(error)}"
                self._refuse(slot, "the cluster", why)
                return
        elif self._attempts[job] < ATTEMPTS:
            self._note(f"a process on {node} died; {job.name} is done again")
            self._open.appendleft(job)
        else:
            why = f"{job.source}: its process died {ATTEMPTS} times, perhaps for want of memory"
            self.outcomes.append(Outcome(job, error=why, node=node))
        if self._open:
            self._begin(slot)

    def _refuse(self, slot: _Slot, node: str, why: str) -> None:
        """Leave a process out; told once for a node and reason."""
        self._end(slot)
        if (node, why) not in self._refused:
            self._refused[node, why] = None
            self._note(f"{node} is left out: {why}")

    def _end(self, slot: _Slot) -> None:
        if slot.actor is not None:
            self._ray.kill(slot.actor)
        slot.actor = slot.start = None


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
