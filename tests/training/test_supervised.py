# SPDX-License-Identifier: Apache-2.0
"""The whole way from packed scans to a checkpoint that segments."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from pointdistill_ros.scan import LidarScan
from pointdistill_ros.segmenter import Segmenter
from training.config import TrainConfig
from training.data_config import SourceConfig
from training.loop import Budget
from training.sources import SourceMix, open_source
from training.supervised import renew_norms, train_supervised

from ..tiny import tiny_network

SOURCE = SourceConfig("packed", "semantic-kitti")


@pytest.fixture
def data(tmp_path):
    entries = []
    for i in range(2):
        rng = np.random.default_rng(i)
        xyz = rng.uniform([-15, -15, -2], [15, 15, 1], (1500, 3))
        np.savez(
            tmp_path / f"{i}.npz",
            xyz=np.round(xyz * 256).astype(np.int16),
            q=256,
            inten=rng.integers(0, 100, 1500).astype(np.uint8),
            label19=np.where(xyz[:, 2] < -1, 8, 14).astype(np.uint8),
            label7=np.zeros(1500, np.uint8),
        )
        entries.append(
            {"path": f"{i}.npz", "dataset": "SemanticKITTI", "sequence": str(i), "split": "train"}
        )
    (tmp_path / "manifest.json").write_text(json.dumps({"files": entries}))
    return tmp_path


def test_a_run_ends_in_a_checkpoint_that_segments(data, tmp_path):
    config = TrainConfig(grid_size=0.8, patch_size=64, sources=(SOURCE,))
    path = train_supervised(config, data, tmp_path, tmp_path / "run", Budget(steps=2))
    segmenter = Segmenter.load(path)
    assert segmenter.num_parameters == 2_777_539
    assert segmenter.meta.grid_size == 0.8
    assert set(segmenter.meta.config.patch_sizes) == {64}
    assert segmenter.meta.training["steps"] == 2
    assert 0.4 < segmenter.meta.intensity.median < 0.6
    assert segmenter.meta.intensity.missing == 0  # drop-out has trained on it
    xyz = np.random.default_rng(9).uniform(-5, 5, (100, 3)).astype(np.float32)
    labels = segmenter(LidarScan(xyz, np.full(100, 0.5, np.float32))).labels
    assert len(labels) == 100
    assert (labels < 19).all()
    assert path.stat().st_size <= 6_000_000


def test_renewed_statistics_are_those_of_the_data(data):
    config = TrainConfig(grid_size=0.8, patch_size=64, sources=(SOURCE,))
    mix = SourceMix([(open_source(SOURCE, data, data), 1.0)])
    network = tiny_network()
    norm = next(m for m in network.modules() if isinstance(m, nn.BatchNorm1d))
    before = norm.running_mean.clone()
    seen = []
    hook = norm.register_forward_hook(lambda _m, inputs, _out: seen.append(inputs[0].mean(0)))
    renew_norms(network, mix, config, network.config, batches=3)
    hook.remove()
    assert len(seen) == 3
    torch.testing.assert_close(norm.running_mean, torch.stack(seen).mean(0))
    assert not torch.allclose(norm.running_mean, before)
    assert not norm.training
