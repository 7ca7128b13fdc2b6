# SPDX-License-Identifier: Apache-2.0
"""Distillation as the task of a training run: student, teacher, extras and their loss."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import nn

from pointdistill_ros.config import load_config
from pointdistill_ros.errors import ConfigError
from pointdistill_ros.model.config import PTv3Config
from pointdistill_ros.model.ptv3 import PTv3
from pointdistill_ros.resources import config_path
from training.distillation.config import DistillConfig
from training.distillation.objective import DistillationLoss
from training.distillation.student import DistilledStudent
from training.distillation.teacher import Teacher, shared_geometry
from training.losses.feature import FeatureDistillation
from training.losses.topology import TopologyLoss
from training.losses.weighting import FixedWeights, LearnedWeights
from training.networks import build_network, compile_for, model_config
from training.run import Places, Task
from training.sources import SourceMix
from training.supervised import task_loss


def distillation(config: DistillConfig, places: Places, mix: SourceMix, fabric: Fabric) -> Task:
    """A new student that learns from the weights in ``places``, or together with a new teacher.

    Raises CheckpointError, ConfigError.
    """
    model = model_config(config)
    student = build_network(config, model, mix, fabric)
    assert isinstance(student, PTv3)
    extras: dict[str, nn.Module] = {}
    teacher = None
    if config.teacher == "together":
        shape = teacher_config(config, student.config.num_classes)
        extras["teacher"] = PTv3(shape)
        compile_for(extras["teacher"], config, fabric)
    else:
        teacher = _frozen(places.teacher, config, mix, fabric)
        shape = teacher.config
    extras |= extra_modules(config, student.config, shape)
    counts = torch.from_numpy(mix.class_counts())
    loss = DistillationLoss(
        config,
        task_loss(config, mix, fabric.device),
        (counts / counts.sum()).float().to(fabric.device),
        mix.sets["common"].members.to(fabric.device),
        teacher,
    )
    return Task(DistilledStudent(student, extras), loss, shared_geometry(model, shape))


def extra_modules(
    config: DistillConfig, student: PTv3Config, teacher: PTv3Config
) -> dict[str, nn.Module]:
    """What the terms that are switched on need beside the networks."""
    weights = {"task": 1.0} | {n: w for n, w in config.term_weights().items() if w}
    extras: dict[str, nn.Module] = {
        "weighting": (FixedWeights if config.weighting == "fixed" else LearnedWeights)(weights)
    }
    if config.topology.weight:
        extras["topology"] = TopologyLoss(config.topology.settings)
    if config.features.weight:
        extras["features"] = FeatureDistillation(
            student.encoder_channels,
            teacher.encoder_channels,
            config.features.stages,
            config.features.distance,
        )
    return extras


def teacher_config(config: DistillConfig, classes: int) -> PTv3Config:
    """Shape of a teacher that learns in the same run."""
    shape = load_config(PTv3Config, config_path(f"models/{config.teacher_model}.yaml"))
    return replace(shape, num_classes=classes)


def _frozen(weights: Path | None, config: DistillConfig, mix: SourceMix, fabric: Fabric) -> Teacher:
    if weights is None:
        raise ConfigError(
            "distillation needs a teacher: --teacher WEIGHTS, or teacher: together in the recipe"
        )
    teacher = Teacher.load(weights, mix.sets["common"].label_set, config.grid_size)
    compile_for(teacher.network, config, fabric)
    teacher.network.to(fabric.device)
    return teacher
