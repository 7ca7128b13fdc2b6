# SPDX-License-Identifier: Apache-2.0
"""A real, tiny network: the same results for any number of processes, and after kill -9."""

import importlib
import json
import os
import signal
import subprocess
import sys

import pytest

from pointdistill_ros.checkpoint import save_checkpoint
from pointdistill_ros.cli import main
from tests.evaluation.bags.drive import write_drive
from tests.tiny import tiny_meta, tiny_network

command = importlib.import_module("pointdistill_ros.cli.evaluate_bag")
pytestmark = pytest.mark.timeout(600)  # processes that load torch, on machines that are busy
OPTIONS = ("--device", "cpu", "--engine", "torch", "--threads", "1")
# Dies as by kill -9 in the middle of writing the sixth frame.
DIES = """
import os, signal, sys
import numpy as np
from pointdistill_ros.cli import main

whole, written = np.savez_compressed, []

def save(file, **arrays):
    written.append(1)
    if len(written) == 6:
        file.write(b"PK half a frame")
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    whole(file, **arrays)

np.savez_compressed = save
main()
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    for name, seed in (("student", 0), ("teacher", 1)):
        network = tiny_network(seed)
        save_checkpoint(folder / f"{name}.safetensors", network, tiny_meta(network.config))
    write_drive(folder / "drive.mcap", frames=9, points=300, labels="field")
    weights = ("--weights", folder / "student.safetensors")
    return folder, [folder / "drive.mcap", *weights, "--teacher", folder / "teacher.safetensors"]


def run(monkeypatch, *arguments):
    for size in ("SIZE", "MAP_SIZE"):
        monkeypatch.setattr(f"pointdistill_ros.evaluation.bags.gallery.{size}", 60)
    monkeypatch.setattr(sys, "argv", ["pointdistill", "evaluate-bag", *map(str, arguments)])
    main_code = 0
    try:
        main()
    except SystemExit as stop:
        main_code = stop.code or 0
    assert main_code == 0


def results(folder):
    return json.loads((folder / "report.json").read_text())["results"]


@pytest.fixture(scope="module")
def expected(files):
    with pytest.MonkeyPatch.context() as patch:
        run(patch, *files[1], "-o", files[0] / "one", *OPTIONS)
    return results(files[0] / "one")


def test_two_workers_give_what_one_gives(files, expected, tmp_path, monkeypatch):
    assert expected["labelled"] == 9 and expected["stability"]["student"]["frames"] == 4
    assert 0 < expected["agreement"]["agreement"] < 1
    run(monkeypatch, *files[1], "-o", tmp_path, *OPTIONS, "--workers", "2")
    assert results(tmp_path) == expected


def test_a_killed_run_goes_on_to_the_same(files, expected, tmp_path, monkeypatch):
    arguments = [str(a) for a in (*files[1], "-o", tmp_path, *OPTIONS)]
    script = [sys.executable, "-c", DIES, "evaluate-bag", *arguments]
    killed = subprocess.run(script, env=os.environ, timeout=400, check=False)
    assert killed.returncode == -signal.SIGKILL
    frames = tmp_path / "frames"
    assert len(list(frames.glob("labels-*.npz"))) == 5
    assert not (tmp_path / "report.html").exists()
    before = {path.name: path.stat().st_mtime_ns for path in frames.glob("labels-*.npz")}
    run(monkeypatch, *arguments)
    assert results(tmp_path) == expected
    after = {path.name: path.stat().st_mtime_ns for path in frames.glob("labels-*.npz")}
    assert len(after) == 9 and before.items() <= after.items()
    assert not list(frames.glob(".*")), "half a frame is left"


def test_errors_of_a_worker_are_those_of_the_command(files, tmp_path, monkeypatch, capsys):
    from pointdistill_ros.io.bag import BagWriter
    from pointdistill_ros.io.cloud_parts import encode_scan
    from tests.evaluation.bags.drive import scan

    with BagWriter(tmp_path / "a.mcap") as bag:
        for i in range(30):
            parts = encode_scan(scan(i, 90)[0])
            if i == 11:  # not among those that are looked at first
                parts.data.pop()
            bag.write_cloud("/points", i, parts, stamp_ns=i, frame="f")
    arguments = [tmp_path / "a.mcap", *files[1][1:3], "-o", tmp_path / "out", "--workers", "2"]
    with pytest.raises(AssertionError):
        run(monkeypatch, *arguments, *OPTIONS)
    error = capsys.readouterr().err
    assert "cloud 11 on /points" in error and error.count("\n") == 1
