# SPDX-License-Identifier: Apache-2.0
"""A network of a few thousand random weights, for tests of everything around it."""

import torch

from pointdistill_ros.checkpoint import CheckpointMeta, IntensityStatistics
from pointdistill_ros.labels import LabelSet
from pointdistill_ros.model.ptv3 import PTv3, PTv3Config


def tiny_config(**changes) -> PTv3Config:
    values = {
        "num_classes": 19,
        "encoder_depths": (1, 2),
        "encoder_channels": (16, 32),
        "encoder_heads": (1, 2),
        "decoder_depths": (1,),
        "decoder_channels": (16,),
        "decoder_heads": (1,),
        "strides": (2,),
        "patch_sizes": (64, 64),
    }
    return PTv3Config(**(values | changes))


def tiny_network(seed: int = 0, **changes) -> PTv3:
    torch.manual_seed(seed)
    return PTv3(tiny_config(**changes)).eval()


def tiny_meta(
    config: PTv3Config | None = None, missing: float | None = 0.0, used: bool = True
) -> CheckpointMeta:
    return CheckpointMeta(
        model_id="tiny",
        config=config or tiny_config(),
        label_set=LabelSet.named("semantic-kitti"),
        grid_size=0.2,
        intensity=IntensityStatistics(low=0.01, median=0.3, high=0.6, missing=missing, used=used),
        training={"data": "none"},
    )
