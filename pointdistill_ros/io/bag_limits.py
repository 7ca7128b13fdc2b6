# SPDX-License-Identifier: Apache-2.0
"""What a bag may make its reader do: bounded memory for what is packed, no programs in databases.

rosbags unpacks whatever a bag holds (zstd packs zeros 30 000 to 1, bzip2 a million to 1), and an
SQLite file may hold views that compute forever. Not here: whole bags packed as one file, which
rosbags unpacks into the folder for temporary files.
"""

from __future__ import annotations

import bz2
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import apsw
from lz4.frame import LZ4FrameDecompressor  # type: ignore[import-untyped]
from rosbags.rosbag1 import reader as ros1
from rosbags.rosbag2 import storage_mcap

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

UNPACKED_LIMIT = 1 << 30
"""Bytes that one chunk or message may unpack to."""
_VALUE_LIMIT = 1 << 28  # bytes of one value in a database; a cloud of 2 M points has 2^26
_FUNCTIONS = ("count", "min", "max")


def unpack(new: Callable[[], Any], data: bytes, size: int = UNPACKED_LIMIT) -> bytes:
    """Unpack one frame after the other, at most ``size`` bytes. Raises ValueError beyond.

    ``new`` makes a decompressor as those of bz2, lz4.frame and zstd are.
    """
    if size > UNPACKED_LIMIT:
        raise ValueError(f"{size} bytes in one chunk, at most {UNPACKED_LIMIT}")
    parts, left = [], size
    while data:
        decompressor = new()
        part = decompressor.decompress(data, left + 1)  # one more shows that there is more
        left -= len(part)
        if left < 0:
            raise ValueError(f"unpacks to more than {size} bytes")
        if not decompressor.eof:
            raise ValueError("packed data are cut short")
        parts.append(part)
        data = decompressor.unused_data or b""
    return b"".join(parts)


def unpack_zstd(data: bytes) -> bytes:
    """A message packed by itself, as rosbag2 does with zstd. Raises ValueError."""
    return unpack(zstd.ZstdDecompressor, data)


@contextmanager
def careful_sqlite() -> Iterator[None]:
    """Databases opened inside give what is stored in them and compute nothing of their own."""
    apsw.connection_hooks.append(_restrain)
    try:
        yield
    finally:
        apsw.connection_hooks.remove(_restrain)


def _restrain(connection: apsw.Connection) -> None:
    connection.limit(apsw.SQLITE_LIMIT_LENGTH, _VALUE_LIMIT)
    connection.authorizer = _judge


def _judge(
    action: int, first: str | None, second: str | None, _database: str | None, inside: str | None
) -> int:
    """Deny what a view or trigger (``inside``) asks for, recursion, and functions but three."""
    programs = inside is not None or action == apsw.SQLITE_RECURSIVE
    strange = action == apsw.SQLITE_FUNCTION and second not in _FUNCTIONS
    return apsw.SQLITE_DENY if programs or strange else apsw.SQLITE_OK


storage_mcap.DECOMPRESSORS["zstd"] = lambda data, size: unpack(zstd.ZstdDecompressor, data, size)
storage_mcap.DECOMPRESSORS["lz4"] = lambda data, size: unpack(LZ4FrameDecompressor, data, size)
ros1.decompressors["bz2"] = lambda data: unpack(bz2.BZ2Decompressor, data)
ros1.decompressors["lz4"] = lambda data: unpack(LZ4FrameDecompressor, data)
