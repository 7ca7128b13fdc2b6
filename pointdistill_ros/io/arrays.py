# SPDX-License-Identifier: Apache-2.0
"""Scans in numpy's .npy and .npz.

Nothing is ever unpickled. Sizes in headers are compared with the file before memory is taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.errors import InputError
from pointdistill_ros.io.columns import (
    INTENSITY_NAMES,
    RING_NAMES,
    TIME_NAMES,
    scan_of_columns,
)
from pointdistill_ros.scan import LidarScan

_MEMBER_LIMIT = 1 << 31  # bytes one array of an .npz may unpack to


def read_npy(path: Path) -> LidarScan:
    """Read a ``.npy`` [N, 3 or more]: x y z and, as fourth column, intensity of any scale.

    Raises InputError.
    """
    with _numpy_errors(path):
        # mapped, because numpy takes the memory a header promises before it looks at the file
        table = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(table, np.ndarray) or table.ndim != 2 or not 3 <= table.shape[1] <= 64:
        shape = list(getattr(table, "shape", ()))
        raise InputError(f"{path}: array {shape}; expected [N, 3 or more] x y z (intensity)")
    columns = {name: table[:, i] for i, name in enumerate("xyz")}
    if table.shape[1] > 3:
        columns["intensity"] = table[:, 3]
    return scan_of_columns(path, columns)


def read_npz(path: Path) -> LidarScan:
    """Read a ``.npz`` with ``xyz`` [N, 3] metres and, under their usual names, the other columns.

    Packed scans are understood too: ``xyz`` int16 with metres = xyz ÷ ``q``, ``inten`` uint8.
    Raises InputError.
    """
    # opened here, because numpy leaves the file open where the archive is damaged
    with (
        _numpy_errors(path),
        path.open("rb") as file,
        np.load(file, allow_pickle=False) as archive,
    ):
        names = {"q", "inten", "xyz", "points", *"xyz"} | {
            *INTENSITY_NAMES,
            *RING_NAMES,
            *TIME_NAMES,
        }
        sizes = {
            info.filename.removesuffix(".npy"): info.file_size for info in archive.zip.infolist()
        }
        arrays: dict[str, NDArray[Any]] = {}
        for name in names.intersection(archive.files):
            if sizes[name] > _MEMBER_LIMIT:
                raise InputError(f"{path}: array {name} unpacks to {sizes[name]} bytes; too large")
            arrays[name] = archive[name]
    xyz = arrays.pop("xyz", arrays.pop("points", None))
    if xyz is not None:
        if xyz.ndim != 2 or xyz.shape[1] < 3:
            raise InputError(f"{path}: xyz is {list(xyz.shape)}; expected [N, 3]")
        if xyz.dtype.kind == "i" and "q" in arrays:
            xyz = xyz.astype(np.float32) / float(arrays["q"])
        arrays.update({name: xyz[:, i] for i, name in enumerate("xyz")})
    if "inten" in arrays:
        arrays["intensity"] = arrays.pop("inten").astype(np.float32) / _packed_full_scale(path)
    arrays.pop("q", None)
    return scan_of_columns(path, arrays)


@contextmanager
def _numpy_errors(path: Path) -> Iterator[None]:
    """Turn what numpy, zipfile and the decompressors raise on damaged files into InputError."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{path}: not a readable {path.suffix} file ({reason}); expected numeric arrays"
        ) from error


def _packed_full_scale(path: Path) -> np.float32:
    """What ``inten`` must be divided by: packed KITTI holds remission × 100, all others 0..255.

    The file does not say which; the rule of the format is that KITTI's file or folder names do.
    """
    return np.float32(100 if "kitti" in f"{path.parent.name}/{path.name}".lower() else 255)
