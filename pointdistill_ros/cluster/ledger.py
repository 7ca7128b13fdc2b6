# SPDX-License-Identifier: Apache-2.0
"""Which jobs are done, on disk: a file a job, written by the worker when everything else is there.

Any node may write any of them and be killed at any time. What was done with other settings, or
from an input that has changed since, or whose output is gone, counts as not done.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pointdistill_ros.cluster.inputs import files_of
from pointdistill_ros.cluster.job import Job
from pointdistill_ros.io.atomic import atomic_path

FOLDER = ".done"


class Ledger:
    """The folder ``.done`` beside the outputs. Small, and can be sent to other processes."""

    def __init__(self, root: Path, settings: Mapping[str, Any]) -> None:
        """``settings``: plain data that says all that decides the outputs, beside the inputs."""
        self.folder = root / FOLDER
        self._settings = json.dumps(settings, sort_keys=True)

    def done(self, job: Job) -> Mapping[str, Any] | None:
        """The result of a job that is done, else None."""
        try:
            note = json.loads(self._path(job).read_text())
            result, outputs = note["result"], note["outputs"]
            fresh = note["mark"] == self._mark(job) and outputs == _outputs(job.output)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return result if fresh and isinstance(result, dict) else None

    def begin(self, job: Job) -> str:
        """Forget that it is done; the mark to finish it with."""
        self._path(job).unlink(missing_ok=True)
        return self._mark(job)

    def finish(self, job: Job, mark: str, result: Mapping[str, Any]) -> None:
        """Keep that it is done; ``mark`` is from before, so that a changing input shows."""
        note = {"mark": mark, "outputs": _outputs(job.output), "result": result}
        with atomic_path(self._path(job)) as temporary:
            temporary.write_text(json.dumps(note, sort_keys=True) + "\n")

    def _path(self, job: Job) -> Path:
        return self.folder / f"{job.name}.json"

    def _mark(self, job: Job) -> str:
        files = [
            (str(path.relative_to(job.source)), stat.st_size, stat.st_mtime_ns)
            for path in files_of(job.source)
            for stat in [path.stat()]
        ]
        text = json.dumps([self._settings, str(job.source), str(job.output), files])
        return hashlib.sha256(text.encode()).hexdigest()


def _outputs(place: Path) -> list[int]:
    """Number and bytes of the files that a job wrote, in the folder itself and not below."""
    if not place.is_dir():
        return [1, place.stat().st_size]
    with os.scandir(place) as entries:
        sizes = [e.stat().st_size for e in entries if e.is_file() and not e.name.startswith(".")]
    return [len(sizes), sum(sizes)]
