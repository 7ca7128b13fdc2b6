# SPDX-License-Identifier: Apache-2.0
"""PCL's .pcd: ascii, binary, binary_compressed.

Sizes in headers are compared with the file before memory is taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.errors import InputError
from pointdistill_ros.io.columns import scan_of_columns
from pointdistill_ros.io.lzf import decompress
from pointdistill_ros.io.regular import require_file
from pointdistill_ros.scan import LidarScan

_HEADER_LIMIT = 1 << 16
_MAX_FIELDS = 1024
_NUMPY_TYPES = {"F": "f", "I": "i", "U": "u"}


def read_pcd(path: Path) -> LidarScan:
    """Read a ``.pcd``: fields in any order and type, x y z needed, intensity, ring, time if there.

    Raises InputError naming the file and what was expected.
    """
    data = _read_bytes(path)
    header, body = _pcd_header(path, data)
    columns = _pcd_columns(path, header, body)
    return scan_of_columns(path, columns)


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
        if len(names) > _MAX_FIELDS:
            raise ValueError(f"{len(names)} fields, at most {_MAX_FIELDS}")  # noqa: TRY301
        sizes, kinds = entries["SIZE"], entries["TYPE"]
        counts = [int(c) for c in entries.get("COUNT", ["1"] * len(names))]
        if "POINTS" in entries:
            points = int(entries["POINTS"][0])
        else:
            points = int(entries["WIDTH"][0]) * int(entries["HEIGHT"][0])
        fields: list[tuple[Any, ...]] = []
        if min(counts, default=1) < 1:
            raise ValueError(f"a COUNT of {min(counts)}")  # noqa: TRY301
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


def _read_bytes(path: Path) -> bytes:
    require_file(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
