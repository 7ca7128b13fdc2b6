# SPDX-License-Identifier: Apache-2.0
"""The real thing: two Ray nodes, a process and a node killed in the middle, the same bytes."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from pointdistill_ros.checkpoint import save_checkpoint
from pointdistill_ros.cli.network import load_segmenter
from pointdistill_ros.cli.scan_labelling import LabellingOptions, label_inputs
from tests.cluster.ray_nodes import QUIET
from tests.evaluation.bags.drive import write_drive
from tests.tiny import tiny_meta, tiny_network

pytest.importorskip("ray")
pytestmark = pytest.mark.timeout(1200)  # a dozen processes, on machines that are busy
ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | QUIET | {"PYTHONPATH": str(ROOT), "RAY_ADDRESS": ""}
BAGS, FRAMES = 5, 12


@pytest.fixture(scope="module")
def nodes():
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.cluster.ray_nodes"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=ENVIRONMENT,
    )
    lines = iter(process.stdout.readline, "")
    told = next(json.loads(line) for line in lines if line.startswith("{"))

    def kill_second():
        process.stdin.write("kill\n")
        process.stdin.flush()
        assert any(line == "killed\n" for line in lines)

    yield SimpleNamespace(**told, kill_second=kill_second)
    process.communicate(timeout=300)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    """Bags, one that is none, weights, and what the command makes of each bag alone."""
    folder = tmp_path_factory.mktemp("fleet")
    network = tiny_network()
    weights = folder / "student.safetensors"
    save_checkpoint(weights, network, tiny_meta(network.config))
    for i in range(BAGS):
        write_drive(folder / f"in/car{i % 2}/{i}.mcap", frames=FRAMES + i, points=300)
    (folder / "in/car0/broken.mcap").write_text("no bag")
    segmenter = load_segmenter(str(weights), "cpu", "torch", "float32", 1)
    for bag in sorted((folder / "in").rglob("[0-9].mcap")):
        place = folder / "alone" / bag.parent.name / bag.stem
        options = LabellingOptions(format="npz")
        label_inputs([bag], place, options, lambda: segmenter, lambda *_: lambda done: None)
    return folder, weights


def start(address, fleet, output, workers):
    folder, weights = fleet
    command = [sys.executable, "-m", "pointdistill_ros.cli", "segment", folder / "in", "-o", output]
    command += ["--ray", address, "--workers", str(workers), "--model", weights]
    command += ["--device", "cpu", "--engine", "torch", "--format", "npz"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([str(word) for word in command], cwd=ROOT, env=ENVIRONMENT, **pipes)


def files(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".done" not in path.parts
    }


def working(raylet):
    """Processes of a node that do a job at this moment."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal() and (entry / "cmdline").read_bytes().startswith(
                b"ray::JobActor.do"
            ):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                if parent == raylet:
                    found.append(int(entry.name))
    return found


def stop_in_the_middle(raylets, command):
    """Stop every process that does a job, until there is one on every node."""
    stopped = {raylet: set() for raylet in raylets}
    while not all(stopped.values()):
        assert command.poll() is None, command.communicate()
        for raylet in raylets:
            for pid in set(working(raylet)) - stopped[raylet]:
                os.kill(pid, signal.SIGSTOP)
                stopped[raylet].add(pid)
        time.sleep(0.002)
    return [sorted(pids) for pids in stopped.values()]


def test_a_process_and_a_node_are_killed_and_nothing_shows(nodes, fleet, tmp_path):
    command = start(nodes.address, fleet, tmp_path / "out", 4)
    first, second = stop_in_the_middle(nodes.raylets, command)
    os.kill(first[0], signal.SIGKILL)
    nodes.kill_second()
    for pid in first[1:] + second:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    out, err = command.communicate(timeout=900)
    assert command.returncode == 1, err  # for the broken bag alone
    assert f"{BAGS} of {BAGS + 1} inputs done" in out
    assert err.count("died") == err.count("is done again") >= 2, err
    (listed,) = [line for line in err.splitlines() if line.startswith("skipped: ")]
    assert "broken.mcap: not a readable bag" in listed
    assert "Traceback" not in err
    assert files(tmp_path / "out") == files(fleet[0] / "alone")
    assert len(files(tmp_path / "out")) == sum(range(FRAMES, FRAMES + BAGS))


@pytest.mark.parametrize("workers", [1, 2])
def test_fewer_workers_give_the_same(nodes, fleet, tmp_path, workers):
    command = start(nodes.address, fleet, tmp_path / "out", workers)
    _, err = command.communicate(timeout=900)
    assert command.returncode == 1, err
    assert "died" not in err
    assert files(tmp_path / "out") == files(fleet[0] / "alone")
