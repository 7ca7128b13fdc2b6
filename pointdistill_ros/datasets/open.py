# SPDX-License-Identifier: Apache-2.0
"""Any labelled data set from its name and its root folder, official layout or packed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from pointdistill_ros.datasets.convention import InConvention, SensorConvention
from pointdistill_ros.datasets.labelled import LabelledScans
from pointdistill_ros.errors import ConfigError, InputError
from pointdistill_ros.resources import config_path


def dataset_names() -> list[str]:
    """Names that ``open_dataset`` knows: the files of config/datasets/."""
    return sorted(path.stem for path in config_path("datasets").glob("*.yaml"))


def open_dataset(
    name: str, root: str | Path, split: str, sequences: Sequence[str] | None = None
) -> LabelledScans:
    """The scans of a split as their data set gives them; ``sequences`` keeps some drives.

    ``root`` is a folder as the makers publish it, packed scans or a packed cache (both have a
    manifest.json). Packed scans are in the reference convention already; ``open_in_convention``
    makes no difference between the three. Raises ConfigError for an unknown name, InputError where
    ``root`` holds something else.
    """
    root = Path(root)
    if name not in dataset_names():
        raise ConfigError(f"no data set {name!r}; known: {', '.join(dataset_names())}")
    if (root / "manifest.json").is_file():
        return _open_packed(name, root, split, sequences)
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; expected the root of {name}")
    match name:
        case "semantic-kitti":
            from pointdistill_ros.datasets.semantic_kitti import SemanticKitti

            return SemanticKitti(root, split, sequences)
        case "nuscenes":
            from pointdistill_ros.datasets.nuscenes import NuScenesLidarseg

            return NuScenesLidarseg(root, split, sequences)
        case "waymo":
            from pointdistill_ros.datasets.waymo import Waymo

            return Waymo(root, split, sequences)
        case "pandaset":
            from pointdistill_ros.datasets.pandaset import PandaSet

            return PandaSet(root, split, sequences)
    raise InputError(f"{root}: {name} is known as packed scans only; expected a manifest.json here")


def open_in_convention(
    name: str, root: str | Path, split: str, sequences: Sequence[str] | None = None
) -> LabelledScans:
    """The same in the reference convention, as networks see it. Raises as ``open_dataset``."""
    from pointdistill_ros.datasets.packed import PackedScans

    scans = open_dataset(name, root, split, sequences)
    if isinstance(scans, PackedScans):
        return scans
    return InConvention(scans, SensorConvention.named(name))


def _open_packed(
    name: str, root: Path, split: str, sequences: Sequence[str] | None
) -> LabelledScans:
    from pointdistill_ros.datasets.cache import PackedCache
    from pointdistill_ros.datasets.packed import PackedScans

    try:
        manifest = json.loads((root / "manifest.json").read_text())
        is_cache = "format" in manifest
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{root}/manifest.json: not a manifest ({error})") from error
    if not is_cache:
        return PackedScans(root, SensorConvention.named(name), split, sequences)
    cache = PackedCache(root, sequences)
    if (cache.dataset, cache.split) != (name, split):
        raise InputError(
            f"{root}: packed {cache.split} split of {cache.dataset}, not {split} of {name}"
        )
    return cache
