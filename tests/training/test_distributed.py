# SPDX-License-Identifier: Apache-2.0
"""Two processes are one process with twice the accumulation: real ones, over gloo."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ..tiny import tiny_network
from .distillation.toy import toy_distillation
from .toy_run import halves, make_run

STEPS = 5
LABELS = ("loss", "cross_entropy", "lovasz", "norm", "rate")


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    return train_both(tmp_path_factory.mktemp("runs"), {})


def train_both(folder, changes):
    """Folders of two processes (torchrun, two passes each) and of one (four passes)."""
    one = {"steps": STEPS, "accumulate": 4} | changes
    changes = one | {"accumulate": 2, "devices": 2}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", "-m", "tests.training.toy_run"]
    result = subprocess.run(
        [*command, str(folder / "two"), json.dumps(changes)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert result.returncode == 0, result.stderr
    run = make_run(folder / "one", one)
    torch.save({"average": run.fit(halves)}, folder / "one" / "final.pt")
    return folder / "one", folder / "two"


def rows(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def assert_same_curves(both, keys):
    one, two = map(rows, both)
    assert [row["step"] for row in two] == list(range(1, STEPS + 1))
    for key in keys:
        expected = pytest.approx([r[key] for r in one], rel=2e-4, nan_ok=True)
        assert [r[key] for r in two] == expected, key


def assert_same_weights(both, network):
    one, two = (torch.load(folder / "final.pt")["average"] for folder in both)
    begin = {n: p.detach() for n, p in network.named_parameters()}
    # over all weights: Adam makes full steps of gradients that are nothing but rounding
    moved = sum(float((one[name] - begin[name]).square().sum()) for name in begin)
    apart = sum(float((one[name] - two[name]).square().sum()) for name in begin)
    assert moved > 0
    assert apart < 1e-3 * moved


def test_loss_curve_and_gradient_norms_are_equal(both):
    assert_same_curves(both, LABELS)


def test_weights_are_equal_up_to_rounding(both):
    assert_same_weights(both, tiny_network())


def test_distillation_in_two_processes_is_the_same_distillation(tmp_path):
    both = train_both(tmp_path, {"distil": True})
    assert_same_curves(both, (*LABELS, "soft_targets", "features", "affinity", "structure"))
    begin = toy_distillation(tmp_path / "begin", steps=1).state.network
    assert_same_weights(both, begin)


def test_norm_statistics_stay_each_ones_own_and_their_mean_is_saved(both):
    folder = both[1]
    saved = torch.load(folder / "final.pt")
    first, second = saved["own_buffers"], torch.load(folder / "second.pt")["own_buffers"]
    checkpoint = max((folder / "checkpoints").glob("*.pt"))
    state = torch.load(checkpoint, weights_only=True)["network"]
    means = [name for name in first if name.endswith("running_mean")]
    assert means
    for name in means:
        assert not first[name].equal(second[name]), name
        torch.testing.assert_close(state[name], (first[name] + second[name]) / 2, msg=name)
