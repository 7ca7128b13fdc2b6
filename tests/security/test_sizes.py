# SPDX-License-Identifier: Apache-2.0
"""What a file promises takes no memory, what it packs only within bounds.

Address space is limited while a file is read, and the error must be ours, not that of an allocation
that failed.
"""

import bz2
import io
import json
import resource
import struct
import zipfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from backports import zstd
from lz4.frame import LZ4FrameCompressor

from pointdistill_ros.checkpoint import load_checkpoint
from pointdistill_ros.errors import PointDistillError
from pointdistill_ros.io.bag import BagScans
from pointdistill_ros.io.bag_limits import unpack
from pointdistill_ros.io.open import read_scan
from tests.fuzz import checkpoint as small
from tests.fuzz.mcap_bag import between, record, text

ROOM = 200 << 20
"""Bytes a reader may take beyond what the process has: an archive may unpack to 64 MiB."""


@contextmanager
def little_memory():
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + ROOM, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def refused(read, path, reason):
    with little_memory(), pytest.raises(PointDistillError, match=reason) as caught:
        read(path)
    assert "allocate" not in str(caught.value)
    assert "emory" not in str(caught.value)


def test_the_limit_works():
    with little_memory(), pytest.raises(MemoryError):
        bytearray(2 * ROOM)


def npy_of(shape, content=b""):
    file = io.BytesIO()
    header = {"descr": "<f8", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + content


def write_npz(path, content, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive, archive.open("xyz.npy", "w") as member:
        for piece in content:
            member.write(piece)


def test_npz_bomb(tmp_path):
    shape = ((100 << 20) // 24, 3)
    write_npz(tmp_path / "a.npz", [npy_of(shape), *[bytes(1 << 20)] * 100])
    assert (tmp_path / "a.npz").stat().st_size < 1 << 18
    refused(read_scan, tmp_path / "a.npz", r"unpacks to \d+ bytes; at most")


def test_npz_packed_by_bzip2_or_lzma(tmp_path):
    write_npz(tmp_path / "a.npz", [npy_of((1, 3), bytes(24))], zipfile.ZIP_BZIP2)
    refused(read_scan, tmp_path / "a.npz", "packed by bzip2; stored, deflated or lzma is read")
    write_npz(tmp_path / "b.npz", [npy_of((9999, 3), bytes(24 * 9999))], zipfile.ZIP_LZMA)
    assert len(read_scan(tmp_path / "b.npz")) == 9999


def test_npz_header_that_promises(tmp_path):
    write_npz(tmp_path / "a.npz", [npy_of((10**12, 3), bytes(24))])
    refused(read_scan, tmp_path / "a.npz", "holds 24 bytes, its header promises 24000000000000")


def test_npz_that_lies_about_its_size(tmp_path):
    """The directory tells the size of one point; the packed data go on for 60 MB."""
    write_npz(tmp_path / "a.npz", [npy_of((1, 3), bytes(24)), *[bytes(1 << 20)] * 60])
    data = (tmp_path / "a.npz").read_bytes()
    size = struct.pack("<I", len(npy_of((1, 3))) + 24 + (60 << 20))
    told = struct.pack("<I", len(npy_of((1, 3))) + 24)
    assert size in data
    (tmp_path / "a.npz").write_bytes(data.replace(size, told))
    refused(read_scan, tmp_path / "a.npz", "not a readable .npz")


def test_npy_header_that_promises(tmp_path):
    (tmp_path / "a.npy").write_bytes(npy_of((10**12, 3), bytes(24)))
    refused(read_scan, tmp_path / "a.npy", "not a readable .npy file")


@pytest.mark.parametrize("encoding", ["ascii", "binary", "binary_compressed"])
def test_pcd_header_that_promises(tmp_path, encoding):
    header = f"FIELDS x y z\nSIZE 8 8 8\nTYPE F F F\nPOINTS {10**12}\nDATA {encoding}\n"
    (tmp_path / "a.pcd").write_bytes(header.encode() + bytes(64))
    refused(read_scan, tmp_path / "a.pcd", "promises|not a number")


def test_pcd_with_many_fields(tmp_path):
    lines = (("FIELDS", "a"), ("SIZE", "1"), ("TYPE", "U"))
    header = "".join(f"{key} {' '.join([value] * 10_000)}\n" for key, value in lines)
    (tmp_path / "a.pcd").write_text(header + "WIDTH 1\nHEIGHT 1\nDATA binary\n")
    refused(read_scan, tmp_path / "a.pcd", "10000 fields, at most 1024")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (struct.pack("<Q", 2**62), "damaged or not safetensors"),
        (struct.pack("<Q", 99_999_999) + b"{}", "damaged or not safetensors"),
    ],
)
def test_safetensors_header_that_promises(tmp_path, content, reason):
    (tmp_path / "a.safetensors").write_bytes(content)
    refused(load_checkpoint, tmp_path / "a.safetensors", reason)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"encoder_channels": [10**6]}, "entries do not fit"),
        ({"encoder_channels": [2**40]}, "entries do not fit|no network has"),
        ({"mlp_ratio": 2**62}, "entries do not fit|no network has"),
        ({"in_channels": 10**9}, "entries do not fit"),
        ({"encoder_depths": [10**9]}, "promises 1000000000 blocks"),
        ({"encoder_depths": [10**30]}, "blocks|valid integer|does not parse"),
        ({"num_classes": 10**9}, "contradicts itself"),
    ],
)
def test_a_network_that_its_file_does_not_hold(tmp_path, change, reason):
    header = json.loads(small.HEADER)
    header["config"].update(change)
    entries = json.loads(small.ENTRIES)
    entries["__metadata__"]["pointdistill"] = json.dumps(header)
    head = json.dumps(entries).encode()
    whole = struct.pack("<Q", len(head)) + head + small.BODY
    (tmp_path / "a.safetensors").write_bytes(whole)
    refused(load_checkpoint, tmp_path / "a.safetensors", reason)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"grid_size": float("inf")}, "contradicts itself"),
        ({"model_id": "two\nlines"}, "printable"),
        ({"model_id": "\ud800"}, "printable"),
        ({"model_id": "x" * 10_000}, "printable"),
        ({"training": 7}, "does not parse"),
        ({"label_set": {"name": "x", "classes": [], "ignore": [0], "remaps": 1}}, "parse"),
    ],
)
def test_a_header_that_would_harm_later(tmp_path, change, reason):
    header = json.loads(small.HEADER) | change
    entries = json.loads(small.ENTRIES)
    entries["__metadata__"]["pointdistill"] = json.dumps(header)
    head = json.dumps(entries).encode()
    whole = struct.pack("<Q", len(head)) + head + small.BODY
    (tmp_path / "a.safetensors").write_bytes(whole)
    refused(load_checkpoint, tmp_path / "a.safetensors", reason)


def packed_zeros(compressor, megabytes, begin=lambda: b""):
    pieces = [begin()]
    pieces += [compressor.compress(bytes(1 << 20)) for _ in range(megabytes)]
    return b"".join([*pieces, compressor.flush()])


def bomb(compression, megabytes):
    if compression == "zstd":
        return packed_zeros(zstd.ZstdCompressor(), megabytes)
    compressor = LZ4FrameCompressor()
    return packed_zeros(compressor, megabytes, compressor.begin)


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
@pytest.mark.parametrize(
    ("promised", "reason"), [(1000, "unpacks to more than 1000"), (2**40, "at most 1073741824")]
)
def test_chunk_of_a_bag(tmp_path, compression, promised, reason):
    packed = bomb(compression, 400)
    sizes = struct.pack("<QQQI", 0, 9, promised, 0)
    chunk = sizes + text(compression) + struct.pack("<Q", len(packed)) + packed
    (tmp_path / "a.mcap").write_bytes(between(record(6, chunk)))
    refused(BagScans, tmp_path / "a.mcap", reason)


def test_bounded_unpacking():
    packed = bz2.compress(b"one") + bz2.compress(b"two")
    assert unpack(bz2.BZ2Decompressor, packed, 6) == b"onetwo"
    with pytest.raises(ValueError, match="more than 5"):
        unpack(bz2.BZ2Decompressor, packed, 5)
    with pytest.raises(ValueError, match="cut short"):
        unpack(bz2.BZ2Decompressor, packed[:-3], 6)
    assert unpack(zstd.ZstdDecompressor, b"", 0) == b""
