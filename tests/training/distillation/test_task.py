# SPDX-License-Identifier: Apache-2.0
"""Distillation from end to end: a teacher's weights in, a student's out."""

import json
from dataclasses import replace

import pytest
import torch

from pointdistill_ros.checkpoint import file_sha256, load_checkpoint, save_checkpoint
from pointdistill_ros.config import load_config
from pointdistill_ros.errors import ConfigError
from pointdistill_ros.model.ptv3 import PTv3, PTv3Config
from pointdistill_ros.resources import config_path
from training.data_config import SourceConfig
from training.device import open_device
from training.distillation.config import (
    DistillConfig,
    Features,
    GradientGuidance,
    Relations,
    SoftTargets,
    Topology,
)
from training.distillation.task import distillation
from training.distillation.teacher import shared_geometry
from training.losses.hard_points import HardPointConfig
from training.losses.topology import TopologySettings
from training.recipes import load_recipe, recipe_names, recipe_path
from training.run import Places, train_run
from training.state import Sealed, TrainState

from ...tiny import tiny_meta
from ..toy_run import halves, two_places
from .toy import task, toy_parts

EVERYTHING = DistillConfig(
    grid_size=0.8,
    patch_size=64,
    sources=(SourceConfig("packed", "semantic-kitti"),),
    steps=3,
    norm_batches=0,
    compiled=False,
    device="cpu",
    gradient_guidance=GradientGuidance(chance=1.0),
    topology=Topology(chance=1.0, settings=TopologySettings(m=32)),
    features=Features(weight=0.5, stages=(1,)),
    relations=Relations(affinity=0.5, structure=0.5, stages=(0,)),
    hard_points=HardPointConfig(),
)
TERMS = ("soft_targets", "gradient_guidance", "topology", "features", "affinity", "structure")
OFF = {
    "soft_targets": SoftTargets(weight=0),
    "gradient_guidance": GradientGuidance(weight=0),
    "topology": Topology(weight=0),
    "features": Features(weight=0),
    "relations": Relations(),
}


def test_every_term_is_reported_and_reaches_the_student():
    network, loss = toy_parts(EVERYTHING)
    torch.manual_seed(5)
    total, parts = loss(network, halves())
    total.backward()
    for name in TERMS:
        assert parts[name] > 0, name
    assert parts["topology_norm"] > 0 and parts["guidance_norm"] > 0 and parts["task_norm"] > 0
    assert parts["student_h0"] > 0 and parts["teacher_h1"] >= 0
    used = [n for n, p in network.named_parameters() if p.grad is not None and p.grad.any()]
    assert any(n.startswith("extras.features") for n in used)
    assert sum(n.startswith("student") for n in used) > 40


@pytest.mark.parametrize("field", ["soft_targets", "gradient_guidance", "topology", "features"])
def test_a_term_of_weight_0_is_not_computed(field):
    network, loss = toy_parts(replace(EVERYTHING, **{field: OFF[field]}))
    _, parts = loss(network, halves())
    assert field not in parts
    assert set(TERMS) - set(parts) == {field}


def test_without_terms_it_is_the_task_alone():
    network, loss = toy_parts(replace(EVERYTHING, **OFF))
    plain, _ = toy_parts(replace(EVERYTHING, **OFF))
    torch.manual_seed(5)
    total, _ = loss(network, halves())
    total.backward()
    torch.manual_seed(5)
    batch = halves()
    alone = task(plain.student(batch.features, batch.pyramid), batch)[0]
    alone.backward()
    assert total.item() == alone.item()
    for one, other in zip(network.parameters(), plain.parameters(), strict=True):
        assert one.grad.equal(other.grad)


def test_costly_terms_come_by_chance_and_the_draw_is_the_batch_s_own():
    config = replace(EVERYTHING, topology=Topology(chance=0.5, settings=TopologySettings(m=32)))
    network, loss = toy_parts(config)
    seen = []
    for seed in [*range(12), *range(12)]:
        torch.manual_seed(seed)
        seen.append(bool(loss(network, halves())[1]["topology"].isnan()))
    assert seen[:12] == seen[12:]
    assert 0 < sum(seen[:12]) < 12


def test_the_teacher_stays_as_it_is(tmp_path):
    network, loss = toy_parts(EVERYTHING)
    before = {n: t.clone() for n, t in loss.teacher.network.state_dict().items()}
    config = replace(EVERYTHING, learning_rate=0.1)
    state = TrainState(network, loss, config, open_device(config))
    for k in range(3):
        state.network.train()
        state.objective(Sealed(halves(k)))[0].backward()
        state.optimizer.step()
    after = loss.teacher.network.state_dict()
    assert all(after[name].equal(value) for name, value in before.items())
    assert all(p.grad is None for p in loss.teacher.network.parameters())
    assert not loss.teacher.network.training


def test_both_networks_walk_one_pyramid_that_serves_the_deeper_one():
    network, loss = toy_parts(EVERYTHING)
    shape = shared_geometry(network.config, loss.teacher.config)
    assert shape.encoder_depths == (2, 3)
    with pytest.raises(ConfigError, match="strides"):
        shared_geometry(network.config, replace(loss.teacher.config, strides=(4,)))


def _teacher_file(folder, **changes):
    path = folder / "teacher.safetensors"
    shape = load_config(PTv3Config, config_path("models/student.yaml"))
    network = PTv3(replace(shape, **changes))
    save_checkpoint(path, network, replace(tiny_meta(network.config), grid_size=0.8))
    return path


SMALL = {"encoder_channels": (16, 16, 32, 32, 32), "encoder_heads": (1, 1, 2, 2, 2)}


def test_a_run_ends_in_the_student_alone(tmp_path):
    data, teacher = two_places(tmp_path), _teacher_file(tmp_path, **SMALL)
    config = replace(EVERYTHING, relations=Relations(), features=Features())
    run = tmp_path / "run"
    path = train_run(config, Places(run, data, teacher=teacher), distillation)
    assert path.name == "student.safetensors"
    assert sum(p.numel() for p in load_checkpoint(path)[0].parameters()) == 2_777_539
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "topology" in line]
    assert len(steps) == 3 and all(line["topology_factor"] <= 1 for line in steps)
    assert json.loads((run / "starts.jsonl").read_text())["teacher"] == str(teacher)
    (entry,) = load_checkpoint(path)[1].training["learned_from"]
    assert (entry["role"], entry["sha256"]) == ("teacher", file_sha256(teacher))


def test_teacher_and_student_can_learn_together(tmp_path):
    data = two_places(tmp_path)
    config = replace(EVERYTHING, teacher="together", features=Features(), weighting="learned")
    config = replace(config, relations=Relations(), steps=2)
    run = tmp_path / "run"
    path = train_run(config, Places(run, data), distillation)
    network, meta = load_checkpoint(path)
    assert network.config.encoder_channels == (16, 16, 32, 64, 128)
    assert "learned_from" not in meta.training
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert lines[0]["teacher_task"] > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [({"grid_size": 0.4}, r"voxels of 0.8 m, the run uses 0.4 m"), ({}, "needs a teacher")],
)
def test_a_teacher_that_does_not_fit_is_refused(tmp_path, change, message):
    data = two_places(tmp_path)
    teacher = _teacher_file(tmp_path, **SMALL) if change else None
    places = Places(tmp_path / "run", data, teacher=teacher)
    with pytest.raises(ConfigError, match=message):
        train_run(replace(EVERYTHING, **change), places, distillation)


@pytest.mark.parametrize("name", recipe_names("distilled"))
def test_shipped_recipes_parse(name):
    config = load_recipe(recipe_path("distilled", name), {}, DistillConfig)
    assert config.soft_targets.weight and config.topology.weight
    assert config.model == "student" and config.steps
