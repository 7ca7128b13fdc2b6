# SPDX-License-Identifier: Apache-2.0
"""The recipe of an adaptation: one of config/training/adapted/ for given weights and scans."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pointdistill_ros.checkpoint import CheckpointMeta
from pointdistill_ros.config import load_config
from pointdistill_ros.errors import ConfigError
from pointdistill_ros.model.config import PTv3Config
from pointdistill_ros.resources import config_path
from training.data_config import SourceConfig
from training.distillation.config import DistillConfig
from training.networks import shape_of

INPUT = "input"
"""Folder of the source that stands for the scans of the run."""
_RECORDED = ("packed", "official", "cache", "pseudo")


def adapted_recipe(
    base: DistillConfig,
    meta: CheckpointMeta,
    labels: Path,
    data: Path | None = None,
    lidar: str | None = None,
) -> DistillConfig:
    """``base`` for the weights with this header and the scans that were labelled into ``labels``.

    Sources that need ``data`` are left out without it; ``lidar`` joins those of the streets. Raises
    ConfigError where the recipe has no place for the scans, or weights or lidar are not known.
    """
    if meta.label_set.name != base.label_set:
        raise ConfigError(
            f"{meta.model_id}: classes of {meta.label_set.name}; the recipe adapts weights for "
            f"{base.label_set}"
        )
    if not any(_is_input(source) for source in base.sources):
        raise ConfigError(
            f"the recipe has no source {{kind: pseudo, folder: {INPUT}}}, which is where the scans "
            "of the run go"
        )
    patches = set(meta.config.patch_sizes)
    augment = base.augment
    if not meta.intensity.used:  # weights that never saw any
        augment = replace(augment, intensity_drop=1.0)
    return replace(
        base,
        model=model_of(meta.config),
        grid_size=meta.grid_size,
        patch_size=patches.pop() if len(patches) == 1 else None,
        sources=tuple(_sources(base, labels.resolve(), data, lidar)),
        augment=augment,
    )


def model_of(config: PTv3Config) -> str:
    """Name of the file of config/models/ with this shape. Raises ConfigError where none has."""
    paths = sorted(config_path("models").glob("*.yaml"))
    for path in paths:
        model = replace(load_config(PTv3Config, path), num_classes=config.num_classes)
        if shape_of(model) == shape_of(config):
            return path.stem
    raise ConfigError(
        f"no model of {', '.join(path.stem for path in paths)} has the shape of the weights; add a "
        "file to config/models/"
    )


def left_out(base: DistillConfig, data: Path | None) -> list[str]:
    """Sources that are left out without ``data``, for people."""
    return [s.name or s.folder for s in base.sources if data is None and _needs_data(s)]


def _sources(
    base: DistillConfig, labels: Path, data: Path | None, lidar: str | None
) -> list[SourceConfig]:
    if lidar is not None:
        known = sorted(path.stem for path in config_path("lidars").glob("*.yaml"))
        if lidar not in known:
            raise ConfigError(f"--lidar {lidar}: no such lidar; there are {', '.join(known)}")
    found = []
    for source in base.sources:
        if _is_input(source):
            found.append(replace(source, folder=str(labels)))
        elif source.kind == "simulated" and lidar is not None and lidar not in source.lidars:
            found.append(replace(source, lidars=(*source.lidars, lidar)))
        elif data is not None or not _needs_data(source):
            found.append(source)
    return found


def _is_input(source: SourceConfig) -> bool:
    return source.kind == "pseudo" and source.folder == INPUT


def _needs_data(source: SourceConfig) -> bool:
    return source.kind in _RECORDED and not _is_input(source)
