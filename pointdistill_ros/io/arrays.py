# SPDX-License-Identifier: Apache-2.0
"""Scans in numpy's .npy and .npz.

Nothing is ever unpickled. Sizes in headers are compared with the file before memory is taken, and
an archive unpacks to a bounded multiple of its size.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from pointdistill_ros.errors import InputError
from pointdistill_ros.io.columns import (
    INTENSITY_NAMES,
    RING_NAMES,
    TIME_NAMES,
    scan_of_columns,
)
from pointdistill_ros.io.regular import require_file
from pointdistill_ros.scan import LidarScan

_UNPACKED_FLOOR, _UNPACKED_LIMIT, _UNPACKED_RATIO = 1 << 26, 1 << 30, 200
"""Bytes the arrays of an archive may unpack to: this ratio of its size, within these bounds."""
_PIECE = 4096
"""Bytes read at once: zipfile unpacks LZMA without a bound, that many packed bytes at a time."""


def read_npy(path: Path) -> LidarScan:
    """Read a ``.npy`` [N, 3 or more]: x y z and, as fourth column, intensity of any scale.

    Raises InputError.
    """
    require_file(path)
    with _numpy_errors(path):
        # mapped, because numpy takes the memory a header promises before it looks at the file
        table = npy.open_memmap(path, mode="r")
    if table.ndim != 2 or not 3 <= table.shape[1] <= 64:
        raise InputError(
            f"{path}: array {list(table.shape)}; expected [N, 3 or more] x y z (intensity)"
        )
    columns = {name: table[:, i] for i, name in enumerate("xyz")}
    if table.shape[1] > 3:
        columns["intensity"] = table[:, 3]
    return scan_of_columns(path, columns)


def read_npz(path: Path) -> LidarScan:
    """Read a ``.npz`` with ``xyz`` [N, 3] metres and, under their usual names, the other columns.

    Packed scans are understood too: ``xyz`` int16 with metres = xyz ÷ ``q``, ``inten`` uint8.
    Raises InputError.
    """
    require_file(path)
    names = {"q", "inten", "xyz", "points", *"xyz", *INTENSITY_NAMES, *RING_NAMES, *TIME_NAMES}
    with _numpy_errors(path), zipfile.ZipFile(path) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        wanted = {name: members[name] for name in members if name in names}
        allowed = min(max(_UNPACKED_RATIO * path.stat().st_size, _UNPACKED_FLOOR), _UNPACKED_LIMIT)
        if (unpacked := sum(info.file_size for info in wanted.values())) > allowed:
            raise InputError(f"{path}: unpacks to {unpacked} bytes; at most {allowed} are read")
        arrays = {name: _member(archive, info) for name, info in wanted.items()}
    xyz = arrays.pop("xyz", arrays.pop("points", None))
    q = arrays.pop("q", None)
    if xyz is not None:
        if xyz.ndim != 2 or xyz.shape[1] < 3:
            raise InputError(f"{path}: xyz is {list(xyz.shape)}; expected [N, 3]")
        if xyz.dtype.kind == "i" and q is not None:
            xyz = xyz.astype(np.float32) / _steps_per_metre(path, q)
        arrays.update({name: xyz[:, i] for i, name in enumerate("xyz")})
    if "inten" in arrays:
        packed = arrays.pop("inten")
        if packed.dtype.kind not in "iuf":
            raise InputError(f"{path}: inten is {packed.dtype}; expected numbers")
        arrays["intensity"] = packed.astype(np.float32) / _packed_full_scale(path)
    return scan_of_columns(path, arrays)


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> NDArray[Any]:
    """One array of an archive. Raises ValueError and what zipfile and zlib raise."""
    if info.compress_type == zipfile.ZIP_BZIP2:  # a piece of it may unpack to gigabytes
        raise ValueError(f"{info.filename} is packed by bzip2; stored, deflated or lzma is read")
    with archive.open(info) as file:
        version = npy.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"{info.filename} is in npy format {version}, not 1 or 2")
        read_header = npy.read_array_header_1_0 if version[0] == 1 else npy.read_array_header_2_0
        shape, fortran, dtype = read_header(file)
        if dtype.hasobject:
            raise ValueError(f"{info.filename} holds Python objects")
        promised, held = math.prod((dtype.itemsize, *shape)), info.file_size - file.tell()
        if promised != held:
            raise ValueError(f"{info.filename} holds {held} bytes, its header promises {promised}")
        # at most ``held`` bytes come
        flat = np.frombuffer(b"".join(iter(lambda: file.read(_PIECE), b"")), dtype)
    return flat.reshape(shape, order="F" if fortran else "C")


def _steps_per_metre(path: Path, q: NDArray[Any]) -> np.float32:
    if q.size != 1 or q.dtype.kind not in "iuf" or not 1e-6 < (steps := float(q.ravel()[0])) < 1e12:
        raise InputError(f"{path}: q is {q.dtype} {list(q.shape)}; expected one positive number")
    return np.float32(steps)


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
