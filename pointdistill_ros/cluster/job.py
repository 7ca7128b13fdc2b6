# SPDX-License-Identifier: Apache-2.0
"""Jobs, what does them, and what came of them. Plain data: all of it travels between nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class Job:
    """One input with a place of its own for what comes out."""

    name: str
    """Unique; path of the input below the folder that was named, without suffix."""
    source: Path
    """Absolute, as every node sees it."""
    output: Path
    """File or folder, absolute; nobody else writes there."""
    size: int = 0
    """Bytes of the input, to tell how long the rest will take."""


@dataclass(frozen=True)
class Outcome:
    """What came of a job."""

    job: Job
    result: Mapping[str, Any] = field(default_factory=dict)
    """Plain data from the worker; ``skipped`` lists parts of the input that could not be read."""
    error: str = ""
    """One line, why the job could not be done; then there is no result."""
    trace: str = ""
    """Where the error is none of ours but a bug."""
    node: str = ""
    """Where it was done."""
    kept: bool = False
    """Whether an earlier run had done it."""

    @property
    def complaints(self) -> list[str]:
        """One line for everything that is missing in the output."""
        return [self.error] if self.error else list(self.result.get("skipped", ()))


class Worker(Protocol):
    """Does jobs, one after the other, in a process of its own, and holds what they share."""

    @property
    def detail(self) -> str:
        """What in this process may make results differ in their last bits, for people."""

    def __call__(self, job: Job) -> Mapping[str, Any]:
        """Do it; what a killed attempt left is replaced. Answers plain data.

        Raises PointDistillError or OSError where the input or the place does not allow it.
        """


class MakeWorker(Protocol):
    """Makes a worker in its process. Picklable."""

    def __call__(self) -> Worker:
        """Raises PointDistillError where this node lacks something."""
