# SPDX-License-Identifier: Apache-2.0
"""Scans with a header: PCL's .pcd (ascii, binary, binary_compressed), numpy's .npy and .npz.

Nothing is ever unpickled. Sizes in headers are compared with the file before memory is taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.errors import InputError
from pointdistill_ros.io.columns import (
    INTENSITY_NAMES,
    RING_NAMES,
    TIME_NAMES,
    first_name,
    relative_seconds,
    ring_index,
    scale_intensity,
)
from pointdistill_ros.io.lzf import decompress
from pointdistill_ros.scan import LidarScan

_HEADER_LIMIT = 1 << 16
_MEMBER_LIMIT = 1 << 31  # bytes one array of an .npz may unpack to
_NUMPY_TYPES = {"F": "f", "I": "i", "U": "u"}


def read_pcd(path: Path) -> LidarScan:
    """Read a ``.pcd``: fields in any order and type, x y z needed, intensity, ring, time if there.

    Raises InputError naming the file and what was expected.
    """
    data = _read_bytes(path)
    header, body = _pcd_header(path, data)
    columns = _pcd_columns(path, header, body)
    return _scan(path, columns)


@dataclass(frozen=True)
class _PcdHeader:
    dtype: np.dtype[Any]
    """One point; fields without a unique name are called ``_0``, ``_1`` …"""
    points: int
    encoding: str


def _pcd_header(path: Path, data: bytes) -> tuple[_PcdHeader, bytes]:
    """Parse the text up to and including the DATA line; return it and the rest."""
    entries: dict[str, list[str]] = {}
    position = 0
    while "DATA" not in entries:
        end = data.find(b"\n", position, _HEADER_LIMIT)
        if end < 0:
            raise InputError(f"{path}: no DATA line; expected a PCD header")
        key, *values = data[position:end].decode("ascii", "replace").split() or [""]
        entries.setdefault(key.upper(), values)
        position = end + 1
    try:
        names = entries["FIELDS"] if "FIELDS" in entries else entries["COLUMNS"]
        sizes, kinds = entries["SIZE"], entries["TYPE"]
        counts = [int(c) for c in entries.get("COUNT", ["1"] * len(names))]
        if "POINTS" in entries:
            points = int(entries["POINTS"][0])
        else:
            points = int(entries["WIDTH"][0]) * int(entries["HEIGHT"][0])
        fields: list[tuple[Any, ...]] = []
        for name, size, kind, count in zip(names, sizes, kinds, counts, strict=True):
            unique = name if names.count(name) == 1 and name != "_" else f"_{len(fields)}"
            code = f"<{_NUMPY_TYPES[kind.upper()]}{int(size)}"
            fields.append((unique, code) if count == 1 else (unique, code, (count,)))
        header = _PcdHeader(np.dtype(fields), points, entries["DATA"][0].lower())
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise InputError(f"{path}: broken PCD header ({error})") from error
    if points < 0 or not header.dtype.itemsize:
        raise InputError(f"{path}: PCD header promises {points} points of no size")
    return header, data[position:]


def _pcd_columns(path: Path, header: _PcdHeader, body: bytes) -> Mapping[str, NDArray[Any]]:
    size = header.points * header.dtype.itemsize
    if not size:
        return {name: np.empty(0, header.dtype[name].base) for name in header.dtype.names or ()}
    if header.encoding == "ascii":
        return _pcd_ascii(path, header, body)
    if header.encoding == "binary":
        if len(body) < size:
            raise InputError(f"{path}: {len(body)} bytes of points; the header promises {size}")
        points = np.frombuffer(body, header.dtype, header.points)
        return {name: points[name] for name in header.dtype.names or ()}
    if header.encoding == "binary_compressed":
        packed, unpacked = (int(n) for n in np.frombuffer(body[:8].ljust(8, b"\0"), "<u4"))
        if len(body) < 8 + packed or unpacked != size:
            raise InputError(
                f"{path}: {len(body)} bytes of compressed points for {unpacked}; "
                f"the header promises {8 + packed} for {size}"
            )
        try:
            data = decompress(body[8 : 8 + packed], unpacked)
        except ValueError as error:
            raise InputError(f"{path}: damaged compressed points ({error})") from error
        return _pcd_by_column(header, data)
    raise InputError(f"{path}: DATA {header.encoding}; expected ascii, binary or binary_compressed")


def _pcd_by_column(header: _PcdHeader, data: bytes) -> Mapping[str, NDArray[Any]]:
    """Compressed PCD stores one field after the other instead of one point after the other."""
    columns, position = {}, 0
    for name in header.dtype.names or ():
        dtype = header.dtype[name]
        columns[name] = np.frombuffer(data, dtype, header.points, position)
        position += header.points * dtype.itemsize
    return columns


def _pcd_ascii(path: Path, header: _PcdHeader, body: bytes) -> Mapping[str, NDArray[Any]]:
    width = sum(int(np.prod(header.dtype[name].shape)) for name in header.dtype.names or ())
    try:
        values = np.array(body.split(), np.float64)
    except ValueError as error:
        raise InputError(f"{path}: not a number in ascii points ({error})") from error
    if len(values) != header.points * width:
        raise InputError(
            f"{path}: {len(values)} numbers; the header promises {header.points} × {width}"
        )
    table, columns, position = values.reshape(header.points, width), {}, 0
    for name in header.dtype.names or ():
        dtype = header.dtype[name]
        count = int(np.prod(dtype.shape))
        if count == 1:
            with np.errstate(over="ignore", invalid="ignore"):
                columns[name] = table[:, position].astype(dtype.base)
        position += count
    return columns


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
    return _scan(path, columns)


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
    return _scan(path, arrays)


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


def _scan(path: Path, columns: Mapping[str, NDArray[Any]]) -> LidarScan:
    """Named columns [N] → scan. Raises InputError where x, y, z are missing or lengths differ."""
    used = {
        role: first_name(columns, aliases)
        for role, aliases in (
            ("intensity", INTENSITY_NAMES),
            ("ring", RING_NAMES),
            ("time", TIME_NAMES),
        )
    }
    wanted = ["x", "y", "z", *(name for name in used.values() if name)]
    if missing := [axis for axis in "xyz" if axis not in columns]:
        held = ", ".join(columns) or "nothing"
        raise InputError(f"{path}: no field {missing[0]!r}; it holds {held}")
    for name in wanted:
        column = columns[name]
        if column.shape != columns["x"].shape or column.ndim != 1 or column.dtype.kind not in "fiu":
            raise InputError(
                f"{path}: field {name!r} is {column.dtype} {list(column.shape)}; "
                f"expected one number per point ({len(columns['x'])})"
            )
    with np.errstate(over="ignore", invalid="ignore"):
        xyz = np.stack([columns[axis].astype(np.float32) for axis in "xyz"], axis=1)
    intensity, ring, time = (columns[name] if name else None for name in used.values())
    return LidarScan(
        xyz=xyz,
        intensity=None if intensity is None else scale_intensity(intensity, "auto"),
        ring=None if ring is None else ring_index(ring),
        time=None if time is None else relative_seconds(time, 0),
    )


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
