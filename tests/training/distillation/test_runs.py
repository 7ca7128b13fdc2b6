# SPDX-License-Identifier: Apache-2.0
"""Runs with several sweeps, cameras, kept scores or kept answers, from data to weights."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from pointdistill_ros.checkpoint import load_checkpoint, save_checkpoint
from pointdistill_ros.config import load_config
from pointdistill_ros.errors import ConfigError
from pointdistill_ros.model.ptv3 import PTv3, PTv3Config
from pointdistill_ros.resources import config_path
from training.data_config import SourceConfig
from training.distillation.config import (
    CameraTerms,
    DistillConfig,
    GradientGuidance,
    SoftTargets,
    TeacherSweeps,
    Topology,
)
from training.distillation.task import distillation
from training.losses.topology import TopologySettings
from training.run import Places, train_run

from ...tiny import tiny_meta
from .sources import camera_weights, drive, labelled_by_a_network
from .test_answers import AS_THEY_ARE


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = drive(tmp_path_factory.mktemp("data"))
    labelled_by_a_network(root / "network")
    camera_weights(root / "camera.safetensors")
    small = {"encoder_channels": (16, 16, 32, 32, 32), "encoder_heads": (1, 1, 2, 2, 2)}
    shape = load_config(PTv3Config, config_path("models/student.yaml"))
    torch.manual_seed(0)
    network = PTv3(replace(shape, **small))
    meta = replace(tiny_meta(network.config), grid_size=0.8)
    save_checkpoint(root / "teacher.safetensors", network, meta)
    return root


RUN = DistillConfig(
    grid_size=0.8,
    patch_size=64,
    steps=3,
    norm_batches=1,
    compiled=False,
    device="cpu",
    gradient_guidance=GradientGuidance(weight=0),
    topology=Topology(chance=1.0, settings=TopologySettings(m=32)),
)


def places(folder, run, **changes):
    weights = {"teacher": folder / "teacher.safetensors", "camera": folder / "camera.safetensors"}
    return Places(run, folder, run / "cache", **weights | changes)


def lines(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_run_with_everything_ends_in_the_student_alone(folder, tmp_path):
    sources = (
        SourceConfig("packed", "semantic-kitti"),
        SourceConfig("pseudo", folder="network", min_confidence=0),
    )
    config = replace(
        RUN,
        sources=sources,
        soft_targets=SoftTargets(kept=True),
        sweeps=TeacherSweeps(count=2),
        camera=CameraTerms(),
        weighting="learned",
        steps=5,
    )
    path = train_run(config, places(folder, tmp_path), distillation)
    assert set(load_checkpoint(path)[0].state_dict()) == set(
        PTv3(load_config(PTv3Config, config_path("models/student.yaml"))).state_dict()
    )
    found = [line for line in lines(tmp_path) if "loss" in line]
    assert len(found) == 5 and all(np.isfinite(line["loss"]) for line in found)
    for name in ("soft_targets", "topology", "camera_scores", "camera_features"):
        assert any(line.get(name, 0) > 0 for line in found), name
    start = json.loads((tmp_path / "starts.jsonl").read_text())
    assert start["camera"] == str(folder / "camera.safetensors")


def test_a_teacher_of_still_scans_is_asked_once_about_each(folder, tmp_path, monkeypatch):
    config = replace(RUN, augment=AS_THEY_ARE, cache_answers=True)
    place = places(folder, tmp_path)
    path = train_run(config, place, distillation)
    files = sorted((tmp_path / "cache" / "answers").rglob("*.safetensors"))
    assert 1 <= len(files) <= 3  # scans
    stamps = [file.stat().st_mtime_ns for file in files]
    again = replace(place, run=tmp_path / "again")
    other = train_run(config, again, distillation)
    assert [file.stat().st_mtime_ns for file in files] == stamps
    first, second = (load_checkpoint(p)[0].state_dict() for p in (path, other))
    assert all(first[name].equal(second[name]) for name in first)


def test_a_camera_without_weights_is_refused(folder, tmp_path):
    config = replace(RUN, camera=CameraTerms())
    with pytest.raises(ConfigError, match="--camera"):
        train_run(config, places(folder, tmp_path, camera=None), distillation)
