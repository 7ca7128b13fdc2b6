# SPDX-License-Identifier: Apache-2.0
"""What the benchmark does to the machine and finds out about it: load, processes, memory."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from pointdistill_ros.benchmark import memory, sections, subjects
from pointdistill_ros.benchmark.busy import busy_machine
from pointdistill_ros.benchmark.machine import Load, read_load, used_by_others
from pointdistill_ros.benchmark.run import run_benchmark

from .doubles import TWO_SCANS, FakeSegmenter, FakeTime, cloud, options, segmentation


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # a zombie that nobody waits for is no process that burns a core
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"


def test_a_busy_machine_is_quiet_again_whatever_happens():
    with pytest.raises(KeyboardInterrupt), busy_machine(2) as pids:
        before = read_load()
        while read_load().busy - before.busy < 0.1:  # they do work
            time.sleep(0.02)
        raise KeyboardInterrupt
    assert len(pids) == 2 and not any(alive(pid) for pid in pids)


def test_spinning_processes_do_not_outlive_a_killed_benchmark():
    program = (
        "import time\n"
        "from pointdistill_ros.benchmark.busy import busy_machine\n"
        "with busy_machine(1) as pids:\n"
        "    print(pids[0], flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        pid = int(process.stdout.readline())
        assert alive(pid)
        process.send_signal(signal.SIGKILL)
        process.wait()
    while alive(pid):  # the test's own time limit ends this
        time.sleep(0.02)


def test_interrupted_measurements_leave_nobody_spinning(checkpoints, fakes, monkeypatch):
    monkeypatch.setattr(sections, "usable_threads", lambda: 1)
    spinning = []

    @contextmanager
    def noticed(processes):
        with busy_machine(processes) as pids:
            spinning.extend(pids)
            yield pids

    def interrupted(self, scan):
        if spinning:
            raise KeyboardInterrupt
        return segmentation([1] * len(scan))

    monkeypatch.setattr(sections, "busy_machine", noticed)
    monkeypatch.setattr(FakeSegmenter, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_benchmark(options(checkpoints, "busy"), TWO_SCANS, clock=fakes.clock)
    assert len(spinning) == 1 and not alive(spinning[0])


def test_the_share_of_others_is_what_was_not_ours():
    begin = Load(average=0, busy=10, own=1, passed=100)
    assert used_by_others(begin, Load(0, busy=16, own=3, passed=110)) == pytest.approx(0.4)
    assert used_by_others(begin, begin) == 0


def test_peak_memory_counts_what_a_scan_needs(monkeypatch, tmp_path):
    size = 96 << 20

    class Greedy(FakeSegmenter):
        def __call__(self, scan):
            held = np.ones(size if len(scan) > 100 else 8, np.uint8)
            return segmentation(held[: len(scan)])

    monkeypatch.setattr(subjects, "load_model", lambda *_: None)
    monkeypatch.setattr(subjects, "open_form", lambda *_: Greedy(FakeTime(), "greedy", 0.0))
    scan = cloud(2000)
    np.savez(tmp_path / "scan.npz", xyz=scan.xyz, intensity=scan.intensity)
    job = memory.Job("tiny", "torch", "float32", "cpu", 1, 0, str(tmp_path / "scan.npz"))
    found = memory.measure(job)
    assert found.arena is None and found.first == pytest.approx(found.peak, rel=0.05)
    # the kernel counts resident pages in batches per thread
    assert size - (1 << 20) <= found.peak <= size + (8 << 20)
