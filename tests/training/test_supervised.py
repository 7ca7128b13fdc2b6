# SPDX-License-Identifier: Apache-2.0
"""The whole way from packed scans to a checkpoint that segments."""

import json
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from pointdistill_ros.config import load_config
from pointdistill_ros.errors import ConfigError, InputError
from pointdistill_ros.scan import LidarScan
from pointdistill_ros.segmenter import Segmenter
from training.config import TrainConfig
from training.data_config import SourceConfig
from training.monitor import renew_norms
from training.opening import open_source
from training.run import Places, train_run
from training.run_folder import Metrics, RunFolder
from training.sources import SourceMix
from training.supervised import supervised

from ..tiny import tiny_network
from .toy_run import two_places

SOURCE = SourceConfig("packed", "semantic-kitti")
RECIPE = TrainConfig(
    grid_size=0.8, patch_size=64, sources=(SOURCE,), steps=2, norm_batches=2, class_balance=0.5
)


@pytest.fixture
def data(tmp_path):
    return two_places(tmp_path)


def test_a_run_ends_in_a_checkpoint_that_segments(data, tmp_path, capsys):
    run = tmp_path / "run"
    path = train_run(RECIPE, Places(run, data), supervised)
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
    assert load_config(TrainConfig, run / "config.yaml") == RECIPE
    start = json.loads((run / "starts.jsonl").read_text())
    assert start["packages"]["torch"] == torch.__version__
    assert start["data"] == str(data)
    shown = capsys.readouterr().out
    assert "2 scans of 2 sequences" in shown and "2,777,539 parameters" in shown
    assert list((run / "tensorboard").iterdir())


def test_heads_per_data_set_end_in_a_file_each(data, tmp_path):
    other = json.loads((data / "manifest.json").read_text())["files"]
    other = [entry | {"dataset": "PandaSet", "sequence": "9"} for entry in other]
    (data / "panda").mkdir()
    for entry in other:
        shutil.copy(data / entry["path"], data / "panda")
    (data / "panda/manifest.json").write_text(json.dumps({"files": other}))
    panda = SourceConfig("packed", "pandaset", folder="panda", label_set="common7")
    recipe = replace(RECIPE, sources=(SOURCE, panda), head="per-dataset", steps=3)
    train_run(recipe, Places(tmp_path / "run", data), supervised)
    files = sorted((tmp_path / "run").glob("*.safetensors"))
    assert [f.stem for f in files] == ["student-common7", "student-semantic-kitti"]
    classes = [len(Segmenter.load(f).label_set) for f in files]
    assert classes == [7, 19]


def test_a_folder_serves_one_process_and_one_recipe(data, tmp_path):
    folder = RunFolder(tmp_path / "run")
    with (
        folder.locked(),
        pytest.raises(InputError, match="another process"),
        RunFolder(folder.path).locked(),
    ):
        pass
    with folder.locked():
        folder.begin(RECIPE, {"data": "here"})
        folder.begin(RECIPE, {"data": "there"})
        assert folder.last_start() == {"data": "there"}
        with pytest.raises(ConfigError, match="differs in accumulate, seed;"):
            folder.begin(replace(RECIPE, accumulate=3, seed=4), {})


def test_metrics_after_the_checkpoint_are_dropped(tmp_path):
    folder = RunFolder(tmp_path)
    metrics = Metrics(folder, 0)
    for step in (1, 2, 3):
        metrics.write(step, {"loss": 1.0})
    metrics.close()
    with folder.metrics_path.open("a") as file:
        file.write('{"step": 2, "lo')  # the kill
    Metrics(folder, 2).close()
    assert [json.loads(x)["step"] for x in folder.metrics_path.read_text().splitlines()] == [1, 2]


def test_without_tensorboard_metrics_are_lines_alone(tmp_path, monkeypatch):
    for name in ("torch.utils.tensorboard.writer", "tensorboardX"):
        monkeypatch.setitem(sys.modules, name, None)
    metrics = Metrics(RunFolder(tmp_path), 0)
    metrics.write(1, {"loss": 1.0})
    metrics.close()
    assert not metrics.has_board
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 1, "loss": 1.0}


def test_renewed_statistics_are_those_of_the_data(data):
    config = replace(RECIPE, norm_batches=3)
    mix = SourceMix([(open_source(SOURCE, data, data), 1.0)])
    network = tiny_network()
    norm = next(m for m in network.modules() if isinstance(m, nn.BatchNorm1d))
    before = norm.running_mean.clone()
    seen = []
    hook = norm.register_forward_hook(lambda _m, inputs, _out: seen.append(inputs[0].mean(0)))
    renew_norms(network, mix, config, network.config)
    hook.remove()
    assert len(seen) == 3
    torch.testing.assert_close(norm.running_mean, torch.stack(seen).mean(0))
    assert not torch.allclose(norm.running_mean, before)
    assert not norm.training
