# SPDX-License-Identifier: Apache-2.0
"""What teachers say of a recipe's scans before training: the command, and a run that reads it."""

import json
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from pointdistill_ros.checkpoint import load_checkpoint, save_checkpoint
from pointdistill_ros.errors import ConfigError, InputError
from pointdistill_ros.labels import LabelSet
from pointdistill_ros.segmenter import Segmenter
from training import score_scans
from training.distillation.config import DistillConfig, SoftTargets
from training.distillation.task import distillation
from training.opening import open_source
from training.pseudo_files import PseudoFolder, cloud_digest
from training.pseudo_scores import scored
from training.run import Places, train_run
from training.self_training import SoftLabeller, dense

from ..tiny import tiny_meta, tiny_network
from .toy_run import two_places

KITTI = LabelSet.named("semantic-kitti")
RECIPE = """\
grid_size: 0.8
patch_size: 64
sources:
  - {kind: packed, name: semantic-kitti, cache_megabytes: 0}
  - {kind: simulated, drives: 1}
"""


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Two teachers and a data folder; ``call(*options)`` gives what the program prints."""
    for seed in (0, 1):
        torch.manual_seed(seed)
        meta = replace(tiny_meta(), grid_size=0.8)
        save_checkpoint(tmp_path / f"{seed}.safetensors", tiny_network(), meta)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    data = two_places(tmp_path)

    def call(*options, teachers=(0, 1)):
        weights = [tmp_path / f"{seed}.safetensors" for seed in teachers]
        argv = ["score_scans", "--recipe", tmp_path / "recipe.yaml", "--data", data]
        argv += ["--out", tmp_path / "out", "--weights", *weights, "--engine", "torch", *options]
        monkeypatch.setattr(sys, "argv", [str(a) for a in argv])
        score_scans.main()
        return capsys.readouterr().out

    call.data = data
    return call


SOURCE = replace(DistillConfig().sources[0], cache_megabytes=0)


def opened(command):
    return open_source(SOURCE, command.data, command.data)


def test_two_networks_are_averaged_over_views(command, tmp_path):
    text = command("--soft", "19", "--views", "1")
    scans = opened(command)
    assert f"{len(scans)} scans, 0 of them scored before" in text
    (found,) = scored([scans], KITTI, tmp_path / "out")
    segmenters = [Segmenter.load(tmp_path / f"{i}.safetensors", engine="torch") for i in (0, 1)]
    for i in range(len(scans)):
        scan = scans[i][0]
        columns = found.columns(i, len(scan))
        whole = dense(columns["soft_class"], columns["soft_value"], 19)
        alone = [SoftLabeller([s], SoftLabeller([s]).views[:1])(scan) for s in segmenters]
        known = alone[0].row >= 0
        mean = sum(one.probability[one.row] for one in alone) / 2
        np.testing.assert_allclose(whole[known], mean[known], atol=2e-3)


def test_networks_that_cannot_be_averaged_are_named(command, tmp_path):
    network = tiny_network()
    save_checkpoint(tmp_path / "1.safetensors", network, replace(tiny_meta(), grid_size=0.4))
    with pytest.raises(ConfigError, match=r"cannot be averaged.*voxels \(0\.8 m, 0\.4 m\)"):
        command()


def test_it_goes_on_where_it_stopped_and_refuses_others(command, tmp_path):
    command()
    paths = sorted((tmp_path / "out/scores").iterdir())
    paths[0].unlink()
    text = command()
    assert f"{len(paths)} scans, {len(paths) - 1} of them scored before" in text
    with pytest.raises(InputError, match="holds scores of other weights or views"):
        command(teachers=(0,))
    with pytest.raises(InputError, match="holds scores of other weights or views"):
        command("--views", "1")


def test_a_source_is_scored_whole_or_not_at_all(command, tmp_path):
    command()
    scans = opened(command)
    PseudoFolder(tmp_path / "out").scores_path(cloud_digest(scans[1][0])).unlink()
    (found,) = scored([scans], KITTI, tmp_path / "out")
    assert found.columns(0, len(scans[0][0]))
    with pytest.raises(InputError, match=r"not of scan 1, .*run training\.score_scans again"):
        found.columns(1, len(scans[1][0]))
    shutil.rmtree(tmp_path / "out/scores")
    with pytest.raises(InputError, match="no source has scores"):
        scored([scans], KITTI, tmp_path / "out")


def test_folders_of_something_else_are_refused(command, tmp_path):
    command()
    with pytest.raises(InputError, match=r"not a manifest of training\.score_scans"):
        scored([opened(command)], KITTI, command.data)
    with pytest.raises(InputError, match="scores of semantic-kitti; the run trains other classes"):
        scored([opened(command)], LabelSet.named("common7"), tmp_path / "out")
    with pytest.raises(ConfigError, match="used with kept: true only"):
        DistillConfig(soft_targets=SoftTargets(folder="out"))


def test_a_run_learns_from_scores_alone_and_says_whose_they_are(command, tmp_path):
    command()
    some = DistillConfig()
    config = DistillConfig(
        teacher="none",
        soft_targets=SoftTargets(kept=True, folder=str(tmp_path / "out")),
        gradient_guidance=replace(some.gradient_guidance, weight=0.0),
        topology=replace(some.topology, weight=0.0),
        sources=(SOURCE,),
        grid_size=0.8,
        patch_size=64,
        steps=2,
        norm_batches=0,
    )
    run = tmp_path / "run"
    path = train_run(config, Places(run, command.data), distillation)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert all(line["soft_targets"] > 0 for line in lines if "soft_targets" in line)
    assert sum("soft_targets" in line for line in lines) == 2
    entries = load_checkpoint(path)[1].training["learned_from"]
    assert [(e["role"], e["model"]) for e in entries] == [("scores", "tiny")] * 2
