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
from .toy_run import halves, toy_run

STEPS = 5


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Folders of two processes (torchrun, two passes each) and of one (four passes)."""
    folder = tmp_path_factory.mktemp("runs")
    changes = {"steps": STEPS, "accumulate": 2, "devices": 2}
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
    run = toy_run(folder / "one", steps=STEPS, accumulate=4)
    torch.save({"average": run.fit(halves)}, folder / "one" / "final.pt")
    return folder / "one", folder / "two"


def rows(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_loss_curve_and_gradient_norms_are_equal(both):
    one, two = map(rows, both)
    assert [row["step"] for row in two] == list(range(1, STEPS + 1))
    for key in ("loss", "cross_entropy", "lovasz", "norm", "rate"):
        assert [r[key] for r in two] == pytest.approx([r[key] for r in one], rel=2e-4), key


def test_weights_are_equal_up_to_rounding(both):
    one, two = (torch.load(folder / "final.pt")["average"] for folder in both)
    begin = {n: p.detach() for n, p in tiny_network().named_parameters()}
    # over all weights: Adam makes full steps of gradients that are nothing but rounding
    moved = sum(float((one[name] - begin[name]).square().sum()) for name in begin)
    apart = sum(float((one[name] - two[name]).square().sum()) for name in begin)
    assert moved > 0
    assert apart < 1e-3 * moved


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
