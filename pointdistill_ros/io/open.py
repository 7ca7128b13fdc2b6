# SPDX-License-Identifier: Apache-2.0
"""One door for every input: guess the format of a path, iterate its scans.

Files .bin .pcd.bin .pcd .npy .npz, folders of them, KITTI sequence folders, bags.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pointdistill_ros.errors import InputError
from pointdistill_ros.io.arrays import read_npy, read_npz
from pointdistill_ros.io.binfile import read_kitti, read_nuscenes
from pointdistill_ros.io.pcd import read_pcd
from pointdistill_ros.io.pointcloud2 import DecodeOptions
from pointdistill_ros.io.source import PERIOD_NS, ScanEntry, ScanSource
from pointdistill_ros.scan import LidarScan

__all__ = ["READERS", "ScanEntry", "ScanFiles", "ScanSource", "open_scans", "read_scan"]

READERS: dict[str, Callable[[Path], LidarScan]] = {
    ".pcd.bin": read_nuscenes,  # before .bin, which it also ends with
    ".bin": read_kitti,
    ".pcd": read_pcd,
    ".npy": read_npy,
    ".npz": read_npz,
}
_BAG_SUFFIXES = (".mcap", ".db3", ".bag")
_KNOWN = ", ".join([*READERS, *_BAG_SUFFIXES])


def read_scan(path: Path) -> LidarScan:
    """Read the one scan of a file. Raises InputError naming the file and what was expected."""
    if not os.path.exists(path):  # noqa: PTH110  # pathlib's raises where a name is too long
        raise InputError(f"{path}: no such file")
    if path.is_dir():
        raise InputError(f"{path}: a folder; expected one scan file ({', '.join(READERS)})")
    suffix = _suffix(path)
    if suffix is None:
        raise InputError(f"{path}: unknown kind of scan file; known: {', '.join(READERS)}")
    return READERS[suffix](path)


def open_scans(
    path: Path, topic: str | None = None, options: DecodeOptions | None = None
) -> ScanSource:
    """Open a scan file, a folder of them, a KITTI sequence folder or a bag.

    ``topic`` chooses the cloud of a bag that has several, ``options`` say how a bag's clouds are
    read; scan files are what their format says. Raises InputError.
    """
    if not os.path.exists(path):  # noqa: PTH110
        raise InputError(f"{path}: no such file or folder")
    if path.is_dir():
        return _open_folder(path, topic, options)
    if path.suffix in _BAG_SUFFIXES:
        return _open_bag(path, topic, options)
    if _suffix(path) is None:
        raise InputError(f"{path}: unknown kind of file; known: {_KNOWN}")
    return ScanFiles(path, [path])


def _open_folder(path: Path, topic: str | None, options: DecodeOptions | None) -> ScanSource:
    if (path / "metadata.yaml").exists():
        return _open_bag(path, topic, options)
    if (path / "velodyne").is_dir():  # KITTI sequence: scans beside times.txt and labels/
        files = _scan_files(path / "velodyne")
        return ScanFiles(path, files, _read_times(path / "times.txt", len(files)))
    if files := _scan_files(path):
        return ScanFiles(path, files)
    bags = sorted(file for file in path.iterdir() if file.suffix in _BAG_SUFFIXES)
    if len(bags) == 1:
        return _open_bag(bags[0], topic, options)
    if bags:
        raise InputError(f"{path}: {len(bags)} bags; name one of {', '.join(b.name for b in bags)}")
    raise InputError(f"{path}: no scans in this folder; known: {_KNOWN}")


def _open_bag(path: Path, topic: str | None, options: DecodeOptions | None) -> ScanSource:
    from pointdistill_ros.io.bag import BagScans

    return BagScans(path, topic, options)


@dataclass(frozen=True)
class ScanFiles:
    """Scan files in natural order (2 before 10)."""

    path: Path
    files: list[Path]
    times_ns: list[int] | None = None

    @property
    def names(self) -> list[str]:
        """File names without suffix."""
        return [_stem(file) for file in self.files]

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[tuple[str, LidarScan]]:
        return ((entry.name, entry.load()) for entry in self.entries())

    def entries(self) -> Iterator[ScanEntry]:
        """Iterate without reading."""
        times = self.times_ns or [i * PERIOD_NS for i in range(len(self.files))]
        for file, time_ns in zip(self.files, times, strict=True):
            yield ScanEntry(_stem(file), time_ns, _stamped(file, time_ns))


def _stamped(file: Path, time_ns: int) -> Callable[[], LidarScan]:
    return lambda: replace(read_scan(file), stamp_ns=time_ns)


def _scan_files(folder: Path) -> list[Path]:
    """Scan files of a folder in natural order. Raises InputError where two would share a name."""
    files = [file for file in folder.iterdir() if file.is_file() and _suffix(file)]
    files = sorted((f for f in files if not f.name.startswith(".")), key=_natural)
    names: dict[str, Path] = {}
    for file in files:
        twin = names.setdefault(_stem(file), file)
        if twin is not file:
            raise InputError(f"{folder}: {twin.name} and {file.name} would share a name")
    return files


def _read_times(path: Path, count: int) -> list[int] | None:
    """Seconds per line → nanoseconds; None where there is no usable file for ``count`` scans."""
    if not path.is_file():
        return None
    try:
        times = [round(float(line) * 1e9) for line in path.read_text().split()]
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {error}; expected one time in seconds a line") from error
    return times[:count] if len(times) >= count else None


def _suffix(path: Path) -> str | None:
    return next((suffix for suffix in READERS if path.name.endswith(suffix)), None)


def _stem(path: Path) -> str:
    return path.name.removesuffix(_suffix(path) or "")


def _natural(path: Path) -> tuple[Any, ...]:
    """Sort key: runs of digits compare as numbers, the name itself breaks ties."""
    parts = re.split(r"([0-9]+)", path.name)  # text, digits, text, digits, …, text
    return tuple(int(p) if i % 2 else p for i, p in enumerate(parts)), path.name
