# SPDX-License-Identifier: Apache-2.0
"""Camera teachers on disk: safetensors with shape, classes and training data in the header."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from pointdistill_ros.config import parse_config
from pointdistill_ros.errors import CheckpointError, ConfigError, LabelError
from pointdistill_ros.io.atomic import atomic_path
from pointdistill_ros.labels import LabelSet
from training.camera.network import CameraNet, CameraNetConfig

_FORMAT = "pointdistill camera teacher 1"


def save_camera_teacher(
    path: Path, network: CameraNet, label_set: LabelSet, training: Mapping[str, Any]
) -> None:
    """Write a network; ``training`` (plain data) says what it was trained on."""
    header = {
        "format": _FORMAT,
        "config": json.dumps(network.config.to_dict()),
        "label_set": json.dumps(label_set.to_dict()),
        "training": json.dumps(dict(training), sort_keys=True),
    }
    state = {
        name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()
    }
    with atomic_path(path) as temporary:
        save_file(state, temporary, header)


def load_camera_teacher(path: Path, label_set: LabelSet) -> CameraNet:
    """A network for the classes of ``label_set``, in evaluation mode, without gradients.

    Raises CheckpointError where the file is damaged or something else, ConfigError where the
    network knows other classes.
    """
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            if header.get("format") != _FORMAT:
                raise CheckpointError(
                    f"{path}: not a camera teacher; train_camera_teacher makes one"
                )
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        config = parse_config(CameraNetConfig, json.loads(header["config"]), str(path))
        known = LabelSet.from_dict(json.loads(header["label_set"]))
        network = CameraNet(config)
        network.load_state_dict(state)
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError, LabelError) as error:
        raise CheckpointError(f"{path}: not a readable camera teacher ({error})") from error
    if known.names != label_set.names:
        raise ConfigError(
            f"{path}: the camera teacher knows the classes of {known.name}, the run trains those "
            f"of {label_set.name}"
        )
    return network.eval().requires_grad_(False)
