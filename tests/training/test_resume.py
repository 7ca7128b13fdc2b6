# SPDX-License-Identifier: Apache-2.0
"""Killed, interrupted, damaged: a run that is resumed ends in the same bits as one left alone."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from training.checkpoints import Checkpoints

STEPS = 24
CHANGES = {"steps": STEPS, "checkpoint_minutes": 0.0, "accumulate": 2}
DISTIL = CHANGES | {"distil": True, "steps": 7}


class Children:
    """Processes forked from one that has imported everything: a start costs milliseconds."""

    def __init__(self):
        code = "from tests.training.test_resume import serve; serve()"
        self.server = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )

    def start(self, folder, changes):
        self.server.stdin.write(json.dumps([str(folder), changes]) + "\n")
        self.server.stdin.flush()
        self.child = self._read("pid")

    def send(self, number):
        """A signal to the process started last, which may have ended; its parent waits for it."""
        assert self.child > 1
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.child, number)

    def exit_code(self):
        """Of the process started last; negative for a signal that killed it."""
        self.server.stdin.write("\n")
        self.server.stdin.flush()
        return self._read("code")

    def _read(self, kind):
        word, number = self.server.stdout.readline().split()
        assert word == kind
        return int(number)

    def run(self, folder, changes=CHANGES):
        self.start(folder, changes)
        return self.exit_code()


def serve():
    from tests.training.toy_run import main

    for line in sys.stdin:
        folder, changes = json.loads(line)
        child = os.fork()
        if child == 0:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            code = 1
            try:
                main(folder, changes)
                code = 0
            except SystemExit as end:
                code = end.code
            finally:
                os._exit(code)
        print("pid", child, flush=True)
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)  # its number stays taken
        sys.stdin.readline()  # nobody signals it from here on
        print("code", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


@pytest.fixture(scope="module")
def children():
    children = Children()
    yield children
    children.server.stdin.close()
    assert children.server.wait(20) == 0
    children.server.stdout.close()


@pytest.fixture(scope="module")
def undisturbed(children, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    begin = time.monotonic()
    assert children.run(folder) == 0
    return torch.load(folder / "final.pt"), lines(folder), time.monotonic() - begin


def lines(folder, keys=("step", "loss", "norm", "rate")):
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [[repr(line.get(k)) for k in keys] for line in found]


def assert_same(folder, undisturbed):
    final, expected = torch.load(folder / "final.pt")["average"], undisturbed[0]["average"]
    assert all(final[name].equal(expected[name]) for name in expected)
    assert lines(folder) == undisturbed[1]


def await_step(folder, step):
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        # names alone: the run removes files meanwhile
        found = [int(path.name[5:13]) for path in (folder / "checkpoints").glob("step_*.pt")]
        if found and max(found) >= step:
            return
        time.sleep(0.002)
    pytest.fail(f"no checkpoint of step {step}")


def test_killed_at_random_moments_it_ends_in_the_same_bits(children, undisturbed, tmp_path):
    rng, kills, reached = random.Random(os.environ.get("PYTEST_SEED")), 0, 0
    for _ in range(4):
        children.start(tmp_path, CHANGES)
        await_step(tmp_path, min(reached + rng.randint(1, 6), STEPS - 1))
        time.sleep(rng.uniform(0, undisturbed[2] / STEPS))  # anywhere inside a step
        children.send(signal.SIGKILL)
        kills += children.exit_code() == -signal.SIGKILL
        reached = int(Checkpoints(tmp_path / "checkpoints").paths()[-1].name[5:13])
    assert kills >= 2
    assert children.run(tmp_path) == 0
    assert_same(tmp_path, undisturbed)


def test_a_killed_distillation_ends_in_the_same_bits_and_leaves_its_teacher_alone(
    children, tmp_path
):
    from .distillation.toy import toy_distillation

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert children.run(whole, DISTIL) == 0
    for step in (2, 4):
        children.start(cut, DISTIL)
        await_step(cut, step)
        children.send(signal.SIGKILL)
        assert children.exit_code() == -signal.SIGKILL
    assert children.run(cut, DISTIL) == 0
    first, second = (torch.load(folder / "final.pt") for folder in (whole, cut))
    assert all(first["average"][name].equal(second["average"][name]) for name in first["average"])
    keys = ("loss", "norm", "soft_targets", "topology", "gradient_guidance", "features")
    assert lines(whole, keys) == lines(cut, keys)
    given = toy_distillation(tmp_path / "new", steps=1).state.unwrapped.loss.teacher.network
    assert set(first["teacher"]) == set(given.state_dict())
    assert all(first["teacher"][name].equal(value) for name, value in given.state_dict().items())
    log_variance = first["average"]["extras.weighting.log_variance"]
    assert log_variance.isfinite().all() and log_variance.std() > 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_after_the_step_with_a_checkpoint(children, undisturbed, tmp_path, number):
    seldom = CHANGES | {"checkpoint_minutes": 60.0}
    children.start(tmp_path, seldom)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        path = tmp_path / "metrics.jsonl"
        if path.exists() and path.read_text().count("\n") >= 3:
            break
        time.sleep(0.002)
    children.send(number)
    assert children.exit_code() == 128 + number
    done = int(lines(tmp_path)[-1][0])
    assert 3 <= done < STEPS
    assert f"{done:08d}" in Checkpoints(tmp_path / "checkpoints").paths()[-1].name
    assert children.run(tmp_path, seldom) == 0
    assert_same(tmp_path, undisturbed)


def test_with_the_last_checkpoint_cut_short_the_one_before_serves(children, undisturbed, tmp_path):
    children.start(tmp_path, CHANGES)
    await_step(tmp_path, 6)
    children.send(signal.SIGKILL)
    children.exit_code()
    newest = Checkpoints(tmp_path / "checkpoints").paths()[-1]
    newest.write_bytes(newest.read_bytes()[:-1000])
    assert children.run(tmp_path) == 0
    assert_same(tmp_path, undisturbed)
