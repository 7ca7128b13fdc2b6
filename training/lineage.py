# SPDX-License-Identifier: Apache-2.0
"""The networks a run learns from, and so whose data: kept in the header of its weights.

What a teacher was trained on, its student has learned, too: the licence of both follows from it
(licences.py). One entry per network, plain data::

    {"role": "teacher", "model": …, "sha256": …, "sources": [recipe sources …], "learned_from": […]}

``folder`` is added where the network spoke through labels that it left in a folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import safe_open

from pointdistill_ros.checkpoint import file_sha256, load_checkpoint
from pointdistill_ros.errors import InputError
from training.config import TrainConfig

if TYPE_CHECKING:
    from training.run import Places

MANIFEST = "manifest.json"
INITIAL = "initial weights"
"""Role of the network that a run started from."""


def learned_from(config: TrainConfig, places: Places) -> list[dict[str, Any]]:
    """Entries of all networks that a run of ``config`` learns from; empty without any.

    Raises CheckpointError, InputError.
    """
    entries = [
        entry
        for source in config.sources
        if source.kind == "pseudo" and source.weight > 0 and places.data is not None
        for entry in labellers_of(places.data / source.folder, nameable(source.folder))
    ]
    soft = getattr(config, "soft_targets", None)
    if soft is not None and soft.weight and soft.folder:
        entries += labellers_of(Path(soft.folder), nameable(soft.folder))
    if places.teacher is not None and getattr(config, "teacher", "") == "frozen":
        entries.append(network_entry(places.teacher, "teacher"))
    if places.camera is not None and getattr(config, "camera", None):
        entries.append(camera_entry(places.camera))
    if places.initial is not None:
        entries.append(network_entry(places.initial, INITIAL))
    return entries


def nameable(folder: str) -> str:
    """A folder as headers name it: of an absolute path the last part, the rest means nothing."""
    return Path(folder).name if Path(folder).is_absolute() else folder


def network_entry(path: Path, role: str) -> dict[str, Any]:
    """Entry of a checkpoint. Raises CheckpointError."""
    meta = load_checkpoint(path)[1]
    return {
        "role": role,
        "model": meta.model_id,
        "sha256": file_sha256(path),
        "sources": list(meta.training.get("config", {}).get("sources", ())),
        "learned_from": list(meta.training.get("learned_from", ())),
    }


def camera_entry(path: Path) -> dict[str, Any]:
    """Entry of a camera teacher's file, which the run has read already."""
    with safe_open(path, "pt") as file:
        training = json.loads((file.metadata() or {}).get("training", "{}"))
    real = {"kind": "packed", "name": "semantic-kitti", "weight": 1.0}
    return {
        "role": "camera teacher",
        "model": path.stem,
        "sha256": file_sha256(path),
        "sources": [real if training.get("real_images") else {"kind": "simulated", "weight": 1.0}],
        "learned_from": [],
    }


def labellers_of(root: Path, folder: str) -> list[dict[str, Any]]:
    """Entries of the networks that labelled a folder; empty where the folder does not say.

    Raises InputError where its manifest cannot be read.
    """
    path = root / MANIFEST
    try:
        manifest = json.loads(path.read_text())
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a readable manifest ({error})") from error
    entries = manifest.get("labelled_by", []) if isinstance(manifest, Mapping) else []
    return [entry | {"folder": folder} for entry in entries]
