# SPDX-License-Identifier: Apache-2.0
"""Peak memory of one form on one scan, above the loaded process, in a process of its own.

The process loads network and engine and labels a small part of the scan; its resident memory then
is the floor. The kernel's high-water mark minus the floor is the figure: once for the first whole
scan, while buffers grow, and once for the scans after it. On a GPU it is the allocator's peak minus
what was allocated before. Linux only; this file is also the program of that process
(``python -m pointdistill_ros.benchmark.memory``).
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from pointdistill_ros.engine.interface import EngineName, Precision
from pointdistill_ros.errors import PointDistillError
from pointdistill_ros.scan import LidarScan

_SELF = Path("/proc/self")
_SCANS = 3
"""After the first one."""


@dataclass(frozen=True)
class Job:
    """What the process measures."""

    model: str
    """As ``load_model`` takes it."""
    engine: EngineName
    precision: Precision
    device: str
    threads: int
    seed: int
    scan: str
    """.npz file of xyz and intensity."""


@dataclass(frozen=True)
class Memory:
    """Bytes."""

    peak: int
    """Above the loaded process, once warm."""
    first: int
    """The same during the first scan of this size."""
    arena: int | None
    """Of that, working memory the CPU engine keeps; None for others."""


def peak_memory(
    model: str,
    form: tuple[EngineName, Precision],
    device: str,
    threads: int,
    seed: int,
    scan: LidarScan,
) -> Memory | str:
    """Measure in a new process; one sentence where that cannot be done."""
    engine, precision = form
    with tempfile.TemporaryDirectory(prefix="pointdistill-memory-") as folder:
        file = Path(folder) / "scan.npz"
        intensity = np.zeros(len(scan), np.float32) if scan.intensity is None else scan.intensity
        np.savez(file, xyz=scan.xyz, intensity=intensity)
        job = Job(model, engine, precision, device, threads, seed, str(file))
        command = [sys.executable, "-m", __name__, json.dumps(asdict(job))]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,  # a Ctrl-C is for us; we end it
        )
        try:
            out, err = process.communicate()
        finally:
            process.kill()
            process.wait()
    if process.returncode:
        return (err.strip().splitlines() or [f"ended with {process.returncode}"])[-1]
    answer = json.loads(out.splitlines()[-1])
    return answer if isinstance(answer, str) else Memory(**answer)


def measure(job: Job) -> Memory | str:
    """In the process itself."""
    import torch

    from pointdistill_ros.benchmark.subjects import (
        Form,
        compiled_engine,
        load_model,
        open_form,
    )

    torch.set_num_threads(job.threads)
    model = load_model(job.model, job.seed)
    segmenter = open_form(model, Form(job.engine, job.precision), job.device, job.threads)
    if isinstance(segmenter, str):
        return segmenter
    with np.load(job.scan) as arrays:
        scan = LidarScan(arrays["xyz"], arrays["intensity"])
    segmenter(scan.select(np.arange(0, len(scan), 50)))  # thread pools, code, small tables
    if job.device != "cpu":
        torch.cuda.synchronize()
        floor = torch.cuda.memory_allocated()
        peaks = []
        for scans in (1, _SCANS):
            torch.cuda.reset_peak_memory_stats()
            for _ in range(scans):
                segmenter(scan)
            peaks.append(torch.cuda.max_memory_allocated() - floor)
        return Memory(peak=peaks[1], first=peaks[0], arena=None)
    try:
        ctypes.CDLL(None).malloc_trim(0)  # what is free already does not hide what is needed
        floor = _status("VmRSS")
        peaks = []
        for scans in (1, _SCANS):
            (_SELF / "clear_refs").write_text("5")  # the high-water mark begins anew
            for _ in range(scans):
                segmenter(scan)
            peaks.append(max(0, _status("VmHWM") - floor))
    except (OSError, AttributeError) as error:
        return f"this system does not tell the high-water mark of memory ({error})"
    engine = compiled_engine(segmenter)
    arena = engine.network.arena_bytes if engine else None
    return Memory(peak=peaks[1], first=peaks[0], arena=arena)


def _status(field: str) -> int:
    for line in (_SELF / "status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return 1024 * int(line.split()[1])
    raise OSError(f"/proc/self/status has no {field}")


def main() -> None:
    """Measure the job of the command line, print JSON."""
    try:
        answer = measure(Job(**json.loads(sys.argv[1])))
    except PointDistillError as error:
        answer = str(error)
    print(json.dumps(answer if isinstance(answer, str) else asdict(answer)))


if __name__ == "__main__":
    main()
