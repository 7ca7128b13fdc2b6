# SPDX-License-Identifier: Apache-2.0
"""A distillation of seconds: a tiny student learns from a teacher of random weights."""

from pathlib import Path

import torch

from pointdistill_ros.model.ptv3 import PTv3
from training.device import open_device
from training.distillation.config import (
    DistillConfig,
    Features,
    GradientGuidance,
    Relations,
    Topology,
)
from training.distillation.objective import DistillationLoss
from training.distillation.student import DistilledStudent
from training.distillation.task import extra_modules
from training.distillation.teacher import Teacher
from training.loop import Run
from training.losses.hard_points import HardPointConfig
from training.losses.segmentation import segmentation_loss
from training.losses.topology import TopologySettings
from training.run_folder import RunFolder
from training.schedule import Budget

from ...tiny import tiny_config, tiny_network

SHARED = {
    "features": Features(weight=0.5, stages=(1,)),
    "relations": Relations(affinity=0.5, structure=0.5, stages=(0,)),
    "hard_points": HardPointConfig(),
    "weighting": "learned",
    "gradient_guidance": GradientGuidance(chance=0.5),
    # half of the batches give its scale no gradient
    "topology": Topology(chance=0.5, settings=TopologySettings(m=24, scale="learned")),
}


def task(logits, batch):
    return segmentation_loss(logits, batch.targets)


def toy_parts(config, seed=1, teacher=None, atlas=None):
    """A tiny student in training, and its loss with a deeper teacher."""
    torch.manual_seed(seed)
    shape = tiny_config(encoder_depths=(2, 3), drop_path=0.3)
    network = PTv3(shape)
    student = tiny_network(seed + 1, drop_path=0.2)
    extras = extra_modules(config, student.config, shape, atlas)
    if config.teacher == "together":
        extras["teacher"] = network
    if config.teacher == "frozen":
        teacher = teacher or Teacher(network)
    shares, members = torch.full((19,), 1 / 19), torch.eye(19, dtype=torch.bool)
    loss = DistillationLoss(config, task, shares, members, teacher, atlas)
    return DistilledStudent(student, extras).train(), loss


def toy_distillation(folder, **changes):
    base = {"ema_decay": 0.5, "compiled": False, "device": "cpu"}
    config = DistillConfig(**(base | SHARED | changes))
    folder = RunFolder(Path(folder))
    folder.path.mkdir(parents=True, exist_ok=True)
    network, loss = toy_parts(config)
    return Run(folder, network, loss, config, Budget(config.steps), open_device(config))
