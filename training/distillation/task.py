# SPDX-License-Identifier: Apache-2.0
"""Distillation as the task of a training run: student, teacher, extras and their loss."""

from __future__ import annotations

from dataclasses import replace

import torch
from lightning_fabric import Fabric
from torch import nn

from pointdistill_ros.config import load_config
from pointdistill_ros.errors import ConfigError
from pointdistill_ros.model.config import PTv3Config
from pointdistill_ros.model.ptv3 import PTv3
from pointdistill_ros.resources import config_path
from training.camera.atlas import CameraAtlas
from training.distillation.answers import KeptTeacher
from training.distillation.camera import camera_side
from training.distillation.config import DistillConfig
from training.distillation.data import DistillStream, distill_mix
from training.distillation.objective import DistillationLoss
from training.distillation.student import DistilledStudent
from training.distillation.teacher import Teacher, shared_geometry
from training.losses.cross_modal import CrossModalDistillation
from training.losses.feature import FeatureDistillation
from training.losses.topology import TopologyLoss
from training.losses.weighting import FixedWeights, LearnedWeights
from training.networks import build_network, compile_for, model_config
from training.run import Places, Task
from training.sources import SourceMix
from training.supervised import task_loss


def distillation(config: DistillConfig, places: Places, mix: SourceMix, fabric: Fabric) -> Task:
    """A student that learns from the weights in ``places``, or together with a new teacher.

    Raises CheckpointError, ConfigError, InputError.
    """
    model = model_config(config, places.initial)
    side = camera_side(config.camera, places, mix, fabric) if config.camera else None
    student = build_network(config, model, mix, fabric, places.initial)
    assert isinstance(student, PTv3)
    extras: dict[str, nn.Module] = {}
    teacher, shape = None, model
    if config.teacher == "together":
        shape = teacher_config(config, student.config.num_classes)
        extras["teacher"] = PTv3(shape)
        compile_for(extras["teacher"], config, fabric)
    elif config.teacher == "frozen":
        teacher = _frozen(places, config, mix, fabric)
        shape = teacher.config
    extras |= extra_modules(config, student.config, shape, side.atlas if side else None)
    counts = torch.from_numpy(mix.class_counts())
    loss = DistillationLoss(
        config,
        task_loss(config, mix, fabric.device),
        (counts / counts.sum()).float().to(fabric.device),
        mix.sets["common"].members.to(fabric.device),
        teacher,
        side.atlas if side else None,
    )
    geometry = shared_geometry(model, shape)
    data = distill_mix(config, mix, side.pairing if side else None)

    def stream(whole_from: int | None) -> DistillStream:
        return DistillStream(data, geometry, config, whole_from)

    return Task(DistilledStudent(student, extras), loss, geometry, stream)


def extra_modules(
    config: DistillConfig,
    student: PTv3Config,
    teacher: PTv3Config,
    atlas: CameraAtlas | None = None,
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
    if config.camera and atlas:
        width = (*student.decoder_channels, student.encoder_channels[-1])[0]
        extras["camera"] = CrossModalDistillation(config.camera, width, atlas.feature_channels)
    return extras


def stages_asked(config: DistillConfig, last: int) -> set[int]:
    """Encoder stages of the teacher that the terms look at, 0 = finest; ``last``: the coarsest."""
    stages = {last} if config.topology.weight else set()
    stages |= set(config.features.stages) if config.features.weight else set()
    relations = config.relations
    return stages | (set(relations.stages) if relations.affinity or relations.structure else set())


def teacher_config(config: DistillConfig, classes: int) -> PTv3Config:
    """Shape of a teacher that learns in the same run."""
    shape = load_config(PTv3Config, config_path(f"models/{config.teacher_model}.yaml"))
    return replace(shape, num_classes=classes)


def _frozen(places: Places, config: DistillConfig, mix: SourceMix, fabric: Fabric) -> Teacher:
    if places.teacher is None:
        raise ConfigError(
            "distillation needs a teacher: --teacher WEIGHTS, or teacher: together in the recipe"
        )
    teacher = Teacher.load(places.teacher, mix.sets["common"].label_set, config.grid_size)
    compile_for(teacher.network, config, fabric)
    teacher.network.to(fabric.device)
    if config.cache_answers:
        stages = stages_asked(config, len(teacher.config.strides))
        return KeptTeacher(teacher, places.cache, stages, config)
    return teacher
