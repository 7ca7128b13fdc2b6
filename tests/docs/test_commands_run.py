# SPDX-License-Identifier: Apache-2.0
"""The commands of the pages, run as they stand, on a reader's folder made small.

Every `pointdistill` and `python -m training` command of a block runs, page by page, in the order of
the page, in one folder, in this process. What cannot run here is in UNRUN, with the reason; that
the command line is right is checked for those, too (test_commands.py).
"""

import importlib
import shutil
import sys

import numpy as np
import pytest

from pointdistill_ros.errors import PointDistillError
from pointdistill_ros.io.binfile import write_kitti
from pointdistill_ros.resources import weights_path
from tests.docs.blocks import PAGES, Command, block_commands
from tests.evaluation.bags.drive import scan, write_drive
from tests.official_trees import write_semantic_kitti

UNRUN = {
    ("pointdistill", "demo"): "plays over DDS at the sensor's pace: tests/cli/test_demo.py",
    ("pointdistill", "play"): "the same, without end: tests/cli/test_play.py",
    ("pointdistill", "view"): "opens a window, an extra: tests/cli/test_view.py",
    ("pointdistill", "export"): "half a minute each, an extra: tests/engine/test_onnx.py",
    ("pointdistill", "benchmark"): "many minutes: tests/benchmark",
    ("pointdistill", "evaluate", "simulated"): "renders streets: tests/cli/test_evaluate.py",
    ("python", "-m", "training.train_teacher"): "hours: tests/training/test_commands.py",
    ("python", "-m", "training.train_student"): "hours: tests/training/test_commands.py",
    ("python", "-m", "training.distill_student"): "hours: tests/training/distillation",
    ("python", "-m", "training.adapt"): "a quarter of an hour: tests/training/test_adapt.py",
    ("python", "-m", "training.ablation"): "days: tests/training/test_ablation_queue.py",
    ("python", "-m", "training.search"): "days: tests/training/architecture",
    ("python", "-m", "training.evaluate"): "data under licence: tests/training/test_evaluate.py",
    ("python", "-m", "training.calibrate_drift"): "data under licence: tests/robustness",
    ("python", "-m", "training.corruption_table"): "data under licence: tests/robustness",
    ("--ray",): "needs a cluster: tests/cluster",
    ("python", "-m", "training.bad_batch"): "needs a run that failed: tests/training/test_loop.py",
}
"""First words, or an option → why such commands are not run, and where what they do is tested."""
SMALLER = {"--frames": "3"}
"""Option → value that makes a command quick and changes nothing else."""
OWN = {"W": "student"}
"""Word in capitals → what a reader may put there."""
FINDINGS = "--check-bag"
"""Option with which exit code 1 says that something of the data is bad."""


def unrun(command):
    return any(begins(command, words) for words in UNRUN)


def begins(command, words):
    return command.words[: len(words)] == words or words[0] in command.words[2:]


def ours(page):
    """Commands of the page that run here."""
    found = block_commands(page.name, page.read_text())
    return [
        command
        for command in found
        if (command.words[0] == "pointdistill" or is_training(command)) and not unrun(command)
    ]


def is_training(command):
    return command.words[:2] == ("python", "-m") and command.words[2].startswith("training.")


RUNNING = [page for page in PAGES if ours(page)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """What the pages name, small: scans, a bag, a data set, weights."""
    scans = [scan(i, points=600)[0] for i in range(2)]
    for path in ("scans", "SCANS"):
        for i, one in enumerate(scans):
            write_kitti(one, tmp_path / path / f"{i:06d}.bin")
    write_drive(tmp_path / "drive.mcap", frames=6, labels="field")
    write_drive(tmp_path / "drive", frames=6, labels="/labels")
    every = [f"{sequence:02d}" for sequence in range(22)]
    write_semantic_kitti(tmp_path / "KITTI", every, frames=1, points=400)
    own = tmp_path / "runs/quick/teacher-cpu.safetensors"
    own.parent.mkdir(parents=True)
    shutil.copy(weights_path("student"), own)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(command, monkeypatch):
    """Exit code of a command, in this process."""
    words = [OWN.get(word, word) for word in command.words]
    for option, value in SMALLER.items():
        if option in words:
            words[words.index(option) + 1] = value
    if words[0] == "pointdistill":
        from pointdistill_ros.cli import main
    else:
        main = importlib.import_module(words[2]).main
        words = words[2:]
    monkeypatch.setattr(sys, "argv", words)
    try:
        main()
    except SystemExit as end:
        return end.code or 0
    except PointDistillError as error:  # a training program's __main__ turns it into one line
        print(error, file=sys.stderr)
        return 2
    return 0


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", RUNNING, ids=lambda page: page.stem)
def test_every_command_of_a_page_runs(page, folder, monkeypatch, capsys):
    for command in ours(page):
        code = run(command, monkeypatch)
        shown = capsys.readouterr()
        allowed = (0, 1) if FINDINGS in command.words else (0,)
        assert code in allowed, f"{command}\nexit code {code}\n{shown.out}\n{shown.err}"


def test_a_command_that_fails_is_noticed(folder, monkeypatch):
    wrong = Command("page.md", 1, ("pointdistill", "segment", "nowhere/", "-o", "labels/"))
    assert run(wrong, monkeypatch) == 2


def test_reasons_are_needed():
    """Each of them speaks of a command that a page has."""
    found = [c for page in PAGES for c in block_commands(page.name, page.read_text())]
    for words in UNRUN:
        inline_only = words[1:] == ("benchmark",)
        assert inline_only or any(begins(c, words) for c in found), words
    assert len(RUNNING) >= 6
    assert np.sum([len(ours(page)) for page in PAGES]) >= 25
