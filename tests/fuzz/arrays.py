# SPDX-License-Identifier: Apache-2.0
"""``.npy``, and ``.npz`` both as bytes and as archives of strange arrays."""

import io
import zipfile

import numpy as np

from pointdistill_ros.io.arrays import read_npy, read_npz
from tests.fuzz.target import Choices, Target, holding

NAMES = (
    *("xyz", "q", "inten", "x", "y", "z", "points", "intensity", "ring", "t", "time", "i"),
    *("channel", "timestamp", "label", "../xyz", "remission"),
)
TYPES = (
    *("<f4", "<f8", "<i2", "u1", "i1", "<u2", "<i8", "<u8", "<f2", ">f4", ">u2", "?", "<c8"),
    *("<U2", "S3", "<M8[ns]", "<i4", "<u4", "V4", "<f4,<i2"),
)
_RAW, _BUILT = b"r", b"b"


def check_npy(data: bytes) -> None:
    scan = read_npy(holding("a.npy", data))
    assert len(scan) * 3 <= len(data)  # bytes, at least


def check_npz(data: bytes) -> None:
    archive = data[1:] if data[:1] == _RAW else built(data[1:])
    scan = read_npz(holding("a.npz", archive))
    assert len(scan) * 3 <= 1 << 26


def built(data: bytes) -> bytes:
    """An archive whose members are what the bytes choose."""
    choices, file = Choices(data), io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        names = set()
        for _ in range(1 + choices.below(5)):
            name = choices.pick(*NAMES) + choices.pick(".npy", "")
            method = choices.pick(zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)
            content = _member(choices)
            if name not in names:
                names.add(name)
                archive.writestr(zipfile.ZipInfo(name), content, method)
    return file.getvalue()


def _member(choices: Choices) -> bytes:
    if choices.below(4) == 3:
        return choices.take(choices.number())  # no array at all
    dtype = np.dtype(choices.pick(*TYPES))
    shape = choices.pick((), (1,), (2,), (2, 3), (3, 2), (0, 3), (2, 4), (1, 2, 3), (2, 0))
    count = int(np.prod(shape))
    array = np.frombuffer(choices.take(count * dtype.itemsize), dtype, count).reshape(shape)
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asfortranarray(array) if choices.below(2) else array)
    content = bytearray(file.getvalue())
    if choices.below(3) == 2:  # something in the header is not so
        content[choices.number(2) % len(content)] = choices.number()
    return bytes(content)


def npy_seeds() -> dict[str, bytes]:
    table = np.array([[1, 2, 3, 0.5], [np.nan, 5, 6, 7]])
    arrays = {
        "kitti": table.astype("<f4"),
        "double-fortran": np.asfortranarray(table),
        "int16": np.nan_to_num(table[:, :3]).astype("<i2"),
        "none": table[:0],
        "big-endian": table.astype(">f4"),
    }
    return {name: _npy(array) for name, array in arrays.items()}


def npz_seeds() -> dict[str, bytes]:
    xyz = np.array([[256, -512, 128]], np.int16)
    seeds = {"packed": _npz(xyz=xyz, q=np.int32(256), inten=np.uint8([50]))}
    columns = {"ring": np.uint16([1, 2]), "t": np.int64([0, 10**8])}
    seeds["plain"] = _npz(xyz=np.float32([[1, 2, 3], [4, 5, 6]]), remission=[0, 1], **columns)
    # one member xyz.npy, stored, float32 [2, 3]; then the same with another member q
    choices = bytes([0, 0, 0, 0, 0, 0, 3]) + np.arange(6, dtype="<f4").tobytes() + b"\0\0"
    two = bytes([1, 0, 0, 0, 0, 2, 3]) + np.arange(6, dtype="<i2").tobytes() + b"\0\0"
    seeds["built"] = _BUILT + choices
    seeds["built-with-q"] = _BUILT + two + bytes([1, 0, 1, 0, 16, 0]) + b"\7\0\0\0\0\0"
    return seeds


def _npy(array) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _npz(**arrays) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), _npy(array), zipfile.ZIP_DEFLATED)
    return _RAW + file.getvalue()


NPY = Target("npy", check_npy, npy_seeds, share=8, max_len=512)
NPZ = Target("npz", check_npz, npz_seeds, share=7, max_len=1024)
