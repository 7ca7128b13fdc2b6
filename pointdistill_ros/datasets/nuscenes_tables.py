# SPDX-License-Identifier: Apache-2.0
"""What the loader needs of nuScenes' JSON tables (schema v1.0): key frames, mounts, raw ids.

- the large tables are read once, row by row; only rows of lidar key frames are kept
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.datasets.json_table import read_rows
from pointdistill_ros.errors import InputError

CATEGORIES = (
    *("noise", "animal", "human.pedestrian.adult", "human.pedestrian.child"),
    *("human.pedestrian.construction_worker", "human.pedestrian.personal_mobility"),
    *("human.pedestrian.police_officer", "human.pedestrian.stroller"),
    *("human.pedestrian.wheelchair", "movable_object.barrier", "movable_object.debris"),
    *("movable_object.pushable_pullable", "movable_object.trafficcone"),
    *("static_object.bicycle_rack", "vehicle.bicycle", "vehicle.bus.bendy", "vehicle.bus.rigid"),
    *("vehicle.car", "vehicle.construction", "vehicle.emergency.ambulance"),
    *("vehicle.emergency.police", "vehicle.motorcycle", "vehicle.trailer", "vehicle.truck"),
    *("flat.driveable_surface", "flat.other", "flat.sidewalk", "flat.terrain", "static.manmade"),
    *("static.other", "static.vegetation", "vehicle.ego"),
)
"""Name of each raw id, as in category.json of nuScenes-lidarseg."""


@dataclass(frozen=True)
class KeyFrame:
    """One labelled sweep of the top lidar."""

    token: str
    """Of its row in sample_data; names the label file."""
    scene: str
    timestamp: int
    """Microseconds."""
    filename: str
    """Points, relative to the root."""
    sensor: str
    """Token of the calibrated sensor."""
    ego_pose: str
    """Token of the car's pose."""


def check_categories(table: Path) -> None:
    """Refuse tables whose raw ids mean something else than ours. Raises InputError."""
    for row in read_rows(table):
        index, name = row.get("index"), row.get("name")
        if index is None:  # before lidarseg is unpacked over it
            continue
        if index not in range(len(CATEGORIES)) or CATEGORIES[index] != name:
            known = CATEGORIES.index(name) if name in CATEGORIES else "no id"
            raise InputError(f"{table}: {name!r} has index {index}; nuScenes-lidarseg has {known}")


def lidar_mounts(tables: Path) -> dict[str, NDArray[np.float64]]:
    """Token of each calibrated top lidar → 4×4 transform to its car. Raises InputError."""
    sensors = {
        field(row, "token", tables / "sensor.json")
        for row in rows_with(tables / "sensor.json", "channel", {"LIDAR_TOP"})
    }
    table = tables / "calibrated_sensor.json"
    rows = rows_with(table, "sensor_token", sensors)
    return {field(row, "token", table): pose_of(row, table) for row in rows}


def key_frames(tables: Path, scenes: list[str], lidars: frozenset[str]) -> list[KeyFrame]:
    """Key frames of some scenes and sensors (tokens), in order of scene and time.

    Raises InputError where a scene or a key frame is missing.
    """
    table = tables / "scene.json"
    names = {field(r, "token", table): r["name"] for r in rows_with(table, "name", set(scenes))}
    if missing := sorted(set(scenes) - set(names.values())):
        shown = ", ".join(missing[:3]) + (" …" if len(missing) > 3 else "")
        raise InputError(f"{table}: {len(missing)} scenes are missing: {shown}")
    table = tables / "sample.json"
    samples = {
        field(row, "token", table): names[row["scene_token"]]
        for row in rows_with(table, "scene_token", set(names))
    }
    table = tables / "sample_data.json"
    frames = [
        KeyFrame(
            token=field(row, "token", table),
            scene=samples[row["sample_token"]],
            timestamp=int(field(row, "timestamp", table)),
            filename=field(row, "filename", table),
            sensor=row["calibrated_sensor_token"],
            ego_pose=field(row, "ego_pose_token", table),
        )
        for row in rows_with(table, "is_key_frame", {True})
        if row.get("calibrated_sensor_token") in lidars and row.get("sample_token") in samples
    ]
    if len(frames) != len(samples):
        raise InputError(f"{table}: {len(frames)} lidar key frames for {len(samples)} samples")
    place = {name: i for i, name in enumerate(scenes)}
    return sorted(frames, key=lambda frame: (place[frame.scene], frame.timestamp))


def rows_with(table: Path, column: str, wanted: Collection[Any]) -> Iterator[dict[str, Any]]:
    """Rows whose ``column`` is one of ``wanted``, while the table passes. Raises InputError."""
    return (row for row in read_rows(table) if field(row, column, table) in wanted)


def field(row: dict[str, Any], column: str, table: Path) -> Any:
    """Value of a column. Raises InputError where the row has none."""
    try:
        return row[column]
    except KeyError as error:
        raise InputError(f"{table}: a row has no field {column!r}") from error


def pose_of(row: dict[str, Any], table: Path) -> NDArray[np.float64]:
    """Translation and unit quaternion (w, x, y, z) of a row → 4×4. Raises InputError."""
    pose = np.eye(4)
    try:
        w, x, y, z = np.array(row["rotation"], float) / np.linalg.norm(row["rotation"])
        pose[:3, 3] = row["translation"]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{table}: row without translation and rotation ({error})") from error
    pose[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return pose
