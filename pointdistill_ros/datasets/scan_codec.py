# SPDX-License-Identifier: Apache-2.0
"""One labelled scan as few bytes: integer steps from point to point, byte planes, zstandard.

- coordinates: steps of 1/256 m, or 1/128, 1/64, 1/32 where a point lies beyond 128, 256, 512 m;
  a point without a return (NaN or Inf) comes back as NaN
- intensity: exact where it comes in steps of 1/100 (KITTI) or 1/255, else in steps of 1/65535
- labels, instances, ring, order and number of points: exact; time: steps of 1 µs
- the zstandard frame has a checksum, so damaged and cut-off bytes are recognised

Neighbours in a scan are neighbours in space, so the steps are small, and most high bytes are zero.
"""

from __future__ import annotations

import json
import struct
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.errors import ScanError
from pointdistill_ros.scan import LidarScan

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_QUANTA = (256, 128, 64, 32)
_DIVISORS = (100, 255)
_NO_RETURN = -32768
_MAX_BYTES = 1 << 30
_STEPPED = ("x", "y", "z", "ring", "time")
"""Columns kept as differences from the point before."""
_OPTIONS: dict[int, int] = {
    zstd.CompressionParameter.compression_level: 3,  # 9 saves 2 % and takes three times as long
    zstd.CompressionParameter.checksum_flag: 1,
}


@dataclass(frozen=True, eq=False)
class LabelledScan:
    """What one packed scan holds."""

    scan: LidarScan
    labels: NDArray[Any]
    """uint8 or uint16 [N]."""
    pose: NDArray[np.float64] | None = None
    """[4, 4] sensor → world, where the source knows it."""
    instances: NDArray[np.uint16] | None = None
    """[N] number of the object a point belongs to, 0 = none, where the source knows it."""


def encode(packed: LabelledScan) -> bytes:
    """The bytes of a scan.

    Raises ScanError on coordinates beyond 1023 m, intensity outside 0..1, times that are not
    finite, labels of another length or type.
    """
    scan, labels = packed.scan, packed.labels
    if labels.shape != (len(scan),) or labels.dtype not in (np.uint8, np.uint16):
        given = f"{labels.dtype} {list(labels.shape)}"
        raise ScanError(f"labels must be uint8 or uint16 [{len(scan)}], got {given}")
    quantum, xyz = _quantised(scan)
    header: dict[str, Any] = {"points": len(scan), "quantum": quantum}
    header |= {"stamp_ns": scan.stamp_ns, "frame": scan.frame}
    columns: dict[str, NDArray[Any]] = dict(zip("xyz", xyz.T, strict=True))
    if scan.intensity is not None:
        header["divisor"], columns["intensity"] = _intensity_steps(scan.intensity)
    columns["label"] = labels
    if scan.ring is not None:
        columns["ring"] = scan.ring
    if scan.time is not None:
        if not np.isfinite(scan.time).all():
            raise ScanError("time of a point is not finite")
        columns["time"] = np.rint(scan.time.astype(np.float64) * 1e6).astype(np.int32)
    if packed.instances is not None:
        columns["instance"] = packed.instances
    if packed.pose is not None:
        header["pose"] = packed.pose.tolist()
    header["columns"] = [[name, column.dtype.str] for name, column in columns.items()]
    head = json.dumps(header).encode()
    planes = [_planes(name, column) for name, column in columns.items()]
    return zstd.compress(b"".join([struct.pack("<I", len(head)), head, *planes]), options=_OPTIONS)


def decode(data: bytes) -> LabelledScan:
    """The scan of such bytes. Raises ValueError where they are damaged or cut off."""
    try:
        if zstd.get_frame_info(data).decompressed_size > _MAX_BYTES:
            raise ValueError("unpacks to more than 1 GiB")
        raw = zstd.decompress(data)
        (length,) = struct.unpack_from("<I", raw)
        header = json.loads(raw[4 : 4 + length])
        columns, start = {}, 4 + length
        for name, kind in header["columns"]:
            dtype, count = np.dtype(kind), int(header["points"])
            if dtype.kind not in "iu":
                raise ValueError(f"column {name} is of type {kind}; expected integers")
            planes = np.frombuffer(raw, np.uint8, count * dtype.itemsize, start)
            columns[name] = _column(name, planes.reshape(dtype.itemsize, count), dtype)
            start += planes.nbytes
        if start != len(raw):
            raise ValueError(f"{len(raw) - start} bytes too many")
        return _scan(header, columns)
    except (
        zstd.ZstdError,
        struct.error,
        LookupError,
        TypeError,
        ArithmeticError,
        ScanError,
    ) as error:
        raise ValueError(str(error)) from error


def _scan(header: dict[str, Any], columns: dict[str, NDArray[Any]]) -> LabelledScan:
    xyz = np.empty((header["points"], 3), np.float32)
    for axis, name in enumerate("xyz"):
        np.multiply(columns[name], np.float32(1 / header["quantum"]), out=xyz[:, axis])
    xyz[columns["x"] == _NO_RETURN] = np.nan
    intensity, time = columns.get("intensity"), columns.get("time")
    if intensity is not None:
        intensity = intensity.astype(np.float32) / np.float32(header["divisor"])
    if time is not None:
        time = (time / 1e6).astype(np.float32)
    ring = columns.get("ring")
    scan = LidarScan(xyz, intensity, time, ring, header["stamp_ns"], header["frame"])
    pose = np.array(header["pose"], np.float64) if "pose" in header else None
    return LabelledScan(scan, columns["label"], pose, columns.get("instance"))


def _quantised(scan: LidarScan) -> tuple[int, NDArray[np.int16]]:
    """Steps per metre and coordinates int16 [N, 3]."""
    xyz, valid = scan.xyz, scan.valid
    largest = float(np.abs(xyz[valid]).max(initial=0))
    quantum = next((q for q in _QUANTA if np.rint(largest * q) <= 32767), None)
    if quantum is None:
        raise ScanError(f"a coordinate of {largest:g} m; packed scans reach to 1023 m")
    steps = np.rint(np.where(valid[:, None], xyz * np.float32(quantum), _NO_RETURN))
    return quantum, steps.astype(np.int16)


def _intensity_steps(intensity: NDArray[np.float32]) -> tuple[int, NDArray[Any]]:
    """The value that means 1, and the steps uint8 or uint16 [N]."""
    if not (np.isfinite(intensity).all() and (intensity >= 0).all() and (intensity <= 1).all()):
        raise ScanError("intensity must lie in 0 .. 1")
    for divisor in _DIVISORS:
        steps = np.rint(intensity * np.float32(divisor)).astype(np.uint8)
        if (steps.astype(np.float32) / np.float32(divisor) == intensity).all():
            return divisor, steps
    return 65535, np.rint(intensity.astype(np.float64) * 65535).astype(np.uint16)


def _planes(name: str, column: NDArray[Any]) -> bytes:
    """All low bytes, then all higher ones; of a stepped column, those of its steps."""
    size = column.dtype.itemsize
    if name in _STEPPED:
        signed = np.ascontiguousarray(column).view(f"i{size}")
        step = signed.copy()
        step[1:] -= signed[:-1]  # wraps around, and back again when read
        column = (step << 1) ^ (step >> (8 * size - 1))  # sign in the lowest bit
    return column.astype(f"<u{size}").view(np.uint8).reshape(-1, size).T.tobytes()


def _column(name: str, planes: NDArray[np.uint8], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Inverse of ``_planes``: uint8 [bytes, N] → [N]."""
    size = dtype.itemsize
    coded = np.ascontiguousarray(planes.T).view(f"<u{size}")[:, 0]
    if name not in _STEPPED:
        return coded.astype(dtype)
    step = (coded >> 1).view(f"i{size}") ^ -(coded & 1).view(f"i{size}")
    total: NDArray[Any] = np.cumsum(step, dtype=f"i{size}").view(dtype)
    return total
