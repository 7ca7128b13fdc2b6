# SPDX-License-Identifier: Apache-2.0
"""Waymo Open Dataset 2, 3D semantic segmentation: Parquet files, one per drive and component.

    ROOT/training/lidar_segmentation/SEGMENT.parquet   and beside it lidar, lidar_calibration,
                                                       lidar_pose, vehicle_pose

- one scan per frame with segmentation labels: the top lidar, first returns and then second returns
- points are in the vehicle frame (x forward, y left, z up, the road near z = 0) at frame time, the
  motion of the car undone with the pose of every pixel
- files are read forward: ask for scans in order, or pack them once (``pointdistill pack``)
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.datasets.parquet_rows import ParquetRows
from pointdistill_ros.datasets.waymo_range_image import (
    points_of,
    row_inclinations,
    to_range_images,
)
from pointdistill_ros.errors import InputError, LabelError, ScanError
from pointdistill_ros.labels import UNLABELLED, LabelSet
from pointdistill_ros.scan import LidarScan

_FOLDERS = {"train": "training", "val": "validation", "test": "testing"}
_TEST_FRAMES = "3d_semseg_test_set_frames.txt"
_LAYOUT = "Waymo 2 has training/lidar_segmentation/*.parquet under its root"

_TIME, _LASER = "key.frame_timestamp_micros", "key.laser_name"
_TOP = 1
_IMAGES = ("range_image_return1", "range_image_return2")
_CALIBRATION = "[LiDARCalibrationComponent]"
_VEHICLE = "[VehiclePoseComponent].world_from_vehicle.transform"
_COLUMNS = {
    "lidar": [f"[LiDARComponent].{i}.{p}" for i in _IMAGES for p in ("values", "shape")],
    "lidar_segmentation": [
        f"[LiDARSegmentationLabelComponent].{i}.{p}" for i in _IMAGES for p in ("values", "shape")
    ],
    "lidar_pose": [f"[LiDARPoseComponent].{_IMAGES[0]}.{p}" for p in ("values", "shape")],
    "lidar_calibration": [
        f"{_CALIBRATION}.{c}"
        for c in (
            "extrinsic.transform",
            "beam_inclination.min",
            "beam_inclination.max",
            "beam_inclination.values",
        )
    ],
    "vehicle_pose": [_VEHICLE],
}
_KEYS = {"lidar_calibration": [_LASER], "vehicle_pose": [_TIME]}


class Waymo:
    """The labelled frames of a split, in order of drive and time. For one thread at a time."""

    label_set = LabelSet.named("waymo")

    def __init__(
        self, root: str | Path, split: str, sequences: Sequence[str] | None = None
    ) -> None:
        """``split``: train, val or test; ``sequences`` keeps some drives (context names).

        The frames of the test split, whose labels are not published, are those of the official list
        ``ROOT/3d_semseg_test_set_frames.txt``. Raises InputError.
        """
        if split not in _FOLDERS:
            raise InputError(f"Waymo has no split {split!r}; there are {', '.join(_FOLDERS)}")
        self.folder, self.split = Path(root) / _FOLDERS[split], split
        if not self.folder.is_dir():
            raise InputError(f"{self.folder}: no such folder; {_LAYOUT}")
        self._open: dict[str, ParquetRows] = {}
        frames = self._test_frames(Path(root)) if split == "test" else self._labelled_frames()
        if missing := sorted(set(sequences or ()) - {segment for segment, _ in frames}):
            raise InputError(f"{self.folder}: no labelled frames of {', '.join(missing)}")
        self.frames = [f for f in frames if sequences is None or f[0] in sequences]
        """Context name and timestamp in µs of each scan."""
        if not self.frames:
            raise InputError(f"{self.folder}: no labelled frames; {_LAYOUT}")
        self.sequences = [segment for segment, _ in self.frames]

    def __len__(self) -> int:
        return len(self.frames)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": {}}  # open files stay in their process

    def __getitem__(self, i: int) -> tuple[LidarScan, NDArray[np.uint8]]:
        """Scan i (intensity = tanh of the stored one, ring = row of the image) and its train ids.

        Labels uint8 [N], 255 where undefined. Raises InputError on files that are missing, damaged,
        do not belong together or hold unknown ids.
        """
        segment, timestamp = self.frames[i]
        images = self._images(i, "lidar", 4)
        returned = images[..., 0] > 0
        calibration = self._row(i, "lidar_calibration")
        inclination = row_inclinations(
            calibration[f"{_CALIBRATION}.beam_inclination.values"],
            float(calibration[f"{_CALIBRATION}.beam_inclination.min"]),
            float(calibration[f"{_CALIBRATION}.beam_inclination.max"]),
            images.shape[1],
        )
        pixel_pose = self._images(i, "lidar_pose", 6)[0]
        if len(inclination) != images.shape[1] or pixel_pose.shape[:2] != images.shape[1:3]:
            raise InputError(
                f"{self._path(i, 'lidar')}: {timestamp}: image of {images.shape[1]} rows, "
                f"{len(inclination)} beams, poses {list(pixel_pose.shape)}"
            )
        extrinsic = calibration[f"{_CALIBRATION}.extrinsic.transform"].reshape(4, 4)
        frame_pose = self.pose(i)
        xyz = [points_of(r[..., 0], inclination, extrinsic, pixel_pose, frame_pose) for r in images]
        intensity = np.tanh(np.maximum(images[returned][:, 1], 0))
        scan = LidarScan(
            np.concatenate(xyz),
            intensity,
            ring=np.nonzero(returned)[1].astype(np.uint16),
            stamp_ns=timestamp * 1000,
            frame=f"{segment}/{timestamp}",
        )
        if self.split == "test":
            return scan, np.full(len(scan), UNLABELLED, np.uint8)
        try:
            return scan, self.label_set.from_raw(self._label_images(i, returned)[returned][:, 1])
        except LabelError as error:
            path = self._path(i, "lidar_segmentation")
            raise InputError(f"{path}: {timestamp}: {error}") from error

    def instances(self, i: int) -> NDArray[np.uint16]:
        """Number of the object each point of scan i belongs to, uint16 [N]; 0 = none."""
        returned = self.returned(i)
        return self._label_images(i, returned)[returned][:, 0].astype(np.uint16)

    def pose(self, i: int) -> NDArray[np.float64]:
        """4×4 transform from the vehicle at the time of scan i to the world."""
        pose: NDArray[np.float64] = self._row(i, "vehicle_pose")[_VEHICLE].reshape(4, 4)
        return pose

    def returned(self, i: int) -> NDArray[np.bool_]:
        """[2, H, W] which pixels of the first and second return are points, in their order."""
        returned: NDArray[np.bool_] = self._images(i, "lidar", 4)[..., 0] > 0
        return returned

    def to_range_images(self, i: int, labels: NDArray[np.uint8]) -> NDArray[np.int32]:
        """Train ids of the points of scan i → label images int32 [2, H, W, 2] (instance 0, class).

        The classes are Waymo's own ids, 0 where there is no point. Raises ScanError on another
        number of labels.
        """
        returned = self.returned(i)
        if labels.shape != (returned.sum(),):
            raise ScanError(f"{len(labels)} labels for the {returned.sum()} points of scan {i}")
        return to_range_images(self.label_set.to_raw(labels), returned)

    def _labelled_frames(self) -> list[tuple[str, int]]:
        paths = sorted((self.folder / "lidar_segmentation").glob("*.parquet"))
        return [(path.stem, time) for path in paths for time in _top_times(path)]

    def _test_frames(self, root: Path) -> list[tuple[str, int]]:
        path = root / _TEST_FRAMES
        try:
            lines = [line.split(",") for line in path.read_text().split()]
            return sorted((segment, int(time)) for segment, time in lines)
        except (OSError, ValueError) as error:
            raise InputError(
                f"{path}: expected the official list of frames, lines of CONTEXT,MICROSECONDS; it "
                f"comes with the waymo-open-dataset sources ({error})"
            ) from error

    def _path(self, i: int, component: str) -> Path:
        return self.folder / component / f"{self.frames[i][0]}.parquet"

    def _row(self, i: int, component: str) -> dict[str, Any]:
        path, keys = self._path(i, component), _KEYS.get(component, [_TIME, _LASER])
        if component not in self._open or self._open[component].path != path:
            self._open[component] = ParquetRows(path, keys, _COLUMNS[component])
        wanted = {_TIME: self.frames[i][1], _LASER: _TOP}
        row = self._open[component].find({key: wanted[key] for key in keys})
        optional = ("beam_inclination.values", *(f"{_IMAGES[1]}.{p}" for p in ("values", "shape")))
        for column, value in row.items():
            if value is None and not column.endswith(optional):
                raise InputError(f"{path}: {self.frames[i][1]}: {column} is empty")
        return row

    def _images(self, i: int, component: str, channels: int) -> NDArray[Any]:
        """[R, H, W, channels]; a second image that is missing is all zeros."""
        row, columns = self._row(i, component), _COLUMNS[component]
        images: list[NDArray[Any]] = []
        for values, shape in zip(columns[::2], columns[1::2], strict=True):
            if row[values] is None:
                images.append(np.zeros_like(images[0]))
                continue
            dims = [int(n) for n in row[shape]]
            if len(dims) != 3 or dims[2] != channels or prod(dims) != len(row[values]):
                raise InputError(
                    f"{self._path(i, component)}: {self.frames[i][1]}: {len(row[values])} values "
                    f"of shape {dims}; expected H × W × {channels}"
                )
            images.append(row[values].reshape(dims))
        if any(image.shape != images[0].shape for image in images):
            raise InputError(f"{self._path(i, component)}: the two returns differ in shape")
        return np.stack(images)

    def _label_images(self, i: int, returned: NDArray[np.bool_]) -> NDArray[np.int32]:
        images = self._images(i, "lidar_segmentation", 2)
        if images.shape[:3] != returned.shape:
            path = self._path(i, "lidar_segmentation")
            raise InputError(f"{path}: labels {images.shape[:3]} of range images {returned.shape}")
        return images


def _top_times(path: Path) -> list[int]:
    keys = ParquetRows(path, [_TIME, _LASER], []).all_keys()
    return sorted(int(time) for time, laser in keys if laser == _TOP)
