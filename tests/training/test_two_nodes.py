# SPDX-License-Identifier: Apache-2.0
"""Two agents that find each other by a rendezvous, as on two machines, are one run."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import torch

from ..tiny import tiny_network
from .test_distributed import LABELS, STEPS, assert_same_curves, assert_same_weights
from .toy_run import halves, make_run


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_node(number, port, folder, changes):
    """An agent with one process, as `torchrun` on a machine of its own."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2"]
    command += ["--nproc-per-node", "1", "--rdzv-backend", "c10d", "--rdzv-id", "toy"]
    command += ["--rdzv-endpoint", f"127.0.0.1:{port}", "--local-addr", "127.0.0.1"]
    command += ["--rdzv-conf", f"is_host={number == 0}", "-m", "tests.training.toy_run"]
    return subprocess.Popen(
        [*command, str(folder), json.dumps(changes)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=Path(__file__).parents[2],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def test_two_nodes_are_one_process_with_twice_the_accumulation(tmp_path):
    one, two = {"steps": STEPS, "accumulate": 2}, {"steps": STEPS, "accumulate": 1, "devices": 2}
    port = free_port()
    nodes = [start_node(number, port, tmp_path / "two", two) for number in (0, 1)]
    told = [node.communicate(timeout=600)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], told
    run = make_run(tmp_path / "one", one)
    torch.save({"average": run.fit(halves)}, tmp_path / "one" / "final.pt")
    both = tmp_path / "one", tmp_path / "two"
    assert_same_curves(both, LABELS)
    assert_same_weights(both, tiny_network())
    assert (tmp_path / "two/second.pt").exists(), "the second node had the second rank"
