# SPDX-License-Identifier: Apache-2.0
"""Jobs of milliseconds: the bytes of a file, backwards. What a file says may be taken literally."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from pointdistill_ros.errors import CheckpointError, InputError
from pointdistill_ros.io.atomic import atomic_path


@dataclass
class Backwards:
    """A Worker. ``folder``: where it notes what it did."""

    folder: Path
    detail: str = "toy"

    def __call__(self, job):
        text = job.source.read_text()
        with (self.folder / "log").open("a") as log:
            log.write(f"{job.name} {os.getpid()}\n")
        if text == "bad":
            raise InputError(f"{job.source}: is bad")
        if text == "bug":
            raise KeyError("nobody thought of this")
        if text == "kills":
            os.kill(os.getpid(), signal.SIGKILL)
        if text.startswith("slow"):  # dies half-way the first time, writing
            half = job.output.parent / f".{job.output.name}.{os.getpid()}.tmp"
            half.parent.mkdir(parents=True, exist_ok=True)
            half.write_text("ha")
            gate = self.folder / "go"
            while not gate.exists():
                time.sleep(0.05)
            half.unlink()
        with atomic_path(job.output) as temporary:
            temporary.write_text(text[::-1])
        return {"length": len(text)}


@dataclass(frozen=True)
class MakeBackwards:
    """``refuses``: name of an environment variable with which a node lacks the weights."""

    folder: Path
    refuses: str = ""

    def __call__(self):
        if self.refuses in os.environ:
            raise CheckpointError("w.safetensors: no such checkpoint")
        return Backwards(self.folder)


def write_inputs(folder, texts):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / f"{name}.mcap").write_text(text)
    return folder
