# SPDX-License-Identifier: Apache-2.0
"""Small trees in exactly the layout in which SemanticKITTI and nuScenes are published."""

import hashlib
import json

import numpy as np

from pointdistill_ros.datasets.nuscenes_tables import CATEGORIES

NUSCENES_VERSIONS = {
    "v1.0-trainval": ("scene-0001", "scene-0003", "scene-0002"),  # the tables keep no order
    "v1.0-test": ("scene-0077", "scene-0078"),
}


def write_semantic_kitti(root, sequences=("00", "08", "11", "12"), frames=2, points=5):
    """Scans of ``points + frame`` points; labels except in the test split (11 and on)."""
    rng = np.random.default_rng(0)
    for sequence in sequences:
        folder = root / "sequences" / sequence
        (folder / "velodyne").mkdir(parents=True)
        if int(sequence) < 11:
            (folder / "labels").mkdir()
        for frame in range(frames):
            n = points + frame
            rng.uniform(0, 1, (n, 4)).astype("<f4").tofile(folder / f"velodyne/{frame:06d}.bin")
            if int(sequence) < 11:
                raw = rng.choice([0, 10, 40, 252], n).astype("<u4") | (7 << 16)
                raw.tofile(folder / f"labels/{frame:06d}.label")
    return root


def token(*names):
    """A nuScenes token: 32 hexadecimal digits."""
    return hashlib.md5("/".join(map(str, names)).encode()).hexdigest()


def write_nuscenes(root, versions=NUSCENES_VERSIONS, samples=2, points=4, categories=CATEGORIES):
    """Tables, points and, except in v1.0-test, labels; two cars, a camera, sweeps in between."""
    rng = np.random.default_rng(0)
    for version, scenes in versions.items():
        tables = {name: [] for name in ("scene", "sample", "sample_data", "ego_pose", "lidarseg")}
        tables["category"] = [
            {"token": token(name), "name": name, "description": "", "index": i}
            for i, name in enumerate(categories)
        ]
        tables["sensor"] = [
            {"token": token(channel), "channel": channel, "modality": modality}
            for channel, modality in (("CAM_FRONT", "camera"), ("LIDAR_TOP", "lidar"))
        ]
        half = float(np.sqrt(0.5))
        tables["calibrated_sensor"] = [
            {
                "token": token(channel, car),
                "sensor_token": token(channel),
                "translation": [0.9 + car, 0.0, 1.8],
                "rotation": [half, 0.0, 0.0, -half],  # the sensor's x points right
                "camera_intrinsic": [],
            }
            for channel in ("CAM_FRONT", "LIDAR_TOP")
            for car in range(2)
        ]
        for number, scene in enumerate(scenes):
            _write_scene(root, version, scene, number, tables, samples, points, rng)
        for name, rows in tables.items():
            path = root / version / f"{name}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(rows, indent=0))
    return root


def _write_scene(root, version, scene, number, tables, samples, points, rng):
    tables["scene"].append(
        {"token": token(scene), "name": scene, "log_token": token("log"), "nbr_samples": samples}
    )
    for step in reversed(range(2 * samples)):  # every other sweep is a key frame; latest first
        key, stamp = step % 2 == 0, 1_532_402_927_000_000 + 10_000_000 * number + 250_000 * step
        if key:
            tables["sample"].append(
                {"token": token(scene, step), "timestamp": stamp, "scene_token": token(scene)}
            )
        for channel, suffix in (("CAM_FRONT", "jpg"), ("LIDAR_TOP", "pcd.bin")):
            data = token(scene, step, channel)
            folder = "samples" if key else "sweeps"
            filename = f"{folder}/{channel}/n015__{channel}__{stamp}.{suffix}"
            tables["ego_pose"].append(
                {
                    "token": data,
                    "timestamp": stamp,
                    "translation": [100.0 * number, float(step), 0.0],
                    "rotation": [1.0, 0.0, 0.0, 0.0],
                }
            )
            tables["sample_data"].append(
                {
                    "token": data,
                    "sample_token": token(scene, step - step % 2),
                    "ego_pose_token": data,
                    "calibrated_sensor_token": token(channel, number % 2),
                    "timestamp": stamp,
                    "fileformat": suffix.split(".")[0],
                    "is_key_frame": key,
                    "height": 0,
                    "width": 0,
                    "filename": filename,
                    "prev": "",
                    "next": "",
                }
            )
            if channel == "LIDAR_TOP" and key:
                _write_key_frame(root, version, filename, data, tables, points + step, rng)


def _write_key_frame(root, version, filename, data, tables, n, rng):
    cloud = rng.uniform(-50, 50, (n, 5)).astype("<f4")
    cloud[:, 3], cloud[:, 4] = rng.integers(0, 256, n), rng.integers(0, 32, n)
    (root / filename).parent.mkdir(parents=True, exist_ok=True)
    cloud.tofile(root / filename)
    if version != "v1.0-test":
        label = f"lidarseg/{version}/{data}_lidarseg.bin"
        tables["lidarseg"].append({"token": data, "sample_data_token": data, "filename": label})
        (root / label).parent.mkdir(parents=True, exist_ok=True)
        rng.choice([0, 17, 24, 31], n).astype(np.uint8).tofile(root / label)
