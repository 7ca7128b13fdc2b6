# SPDX-License-Identifier: Apache-2.0
"""Rows of a large Parquet file by key, read forward in small batches.

Waymo's files hold a whole drive in one piece, gigabytes when unpacked; rows asked for in the order
of the file cost one pass over it, and the memory of a few rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.errors import InputError

_BATCH = 5
"""Rows read at once: one frame of five lidars."""
_BUFFER = 1 << 22
"""Bytes per column read from disk at once."""


class ParquetRows:
    """Some columns of a file; rows are found by the values of key columns."""

    def __init__(self, path: Path, keys: Sequence[str], columns: Sequence[str]) -> None:
        """The file is opened when rows are asked for."""
        self.path, self.keys, self.columns = path, list(keys), [*keys, *columns]
        self._batches = self._open()
        self._batch: Any = None

    def find(self, key: Mapping[str, int]) -> dict[str, NDArray[Any] | None]:
        """Column → array of the row with this key, None for a null.

        Raises InputError if there is no such row, the file is missing or damaged, a column is
        missing, or pyarrow is not installed.
        """
        for _ in range(2):  # from here to the end, then once more from the beginning
            while self._batch is not None or self._next():
                row = np.flatnonzero(
                    np.logical_and.reduce(
                        [self._batch.column(k).to_numpy() == value for k, value in key.items()]
                    )
                )
                if len(row):
                    return {c: _array(self._batch.column(c)[int(row[0])]) for c in self.columns}
                self._batch = None
            self._batches = self._open()
        what = ", ".join(f"{name} {value}" for name, value in key.items())
        raise InputError(f"{self.path}: no row with {what}")

    def all_keys(self) -> list[tuple[Any, ...]]:
        """The key columns of all rows, in the order of the file. Raises InputError as ``find``."""
        batches = self._open(self.keys)
        return [
            row
            for b in batches
            for row in zip(*(b.column(k).to_pylist() for k in self.keys), strict=True)
        ]

    def _next(self) -> bool:
        self._batch = next(self._batches, None)
        return self._batch is not None

    def _open(self, columns: Sequence[str] | None = None) -> Iterator[Any]:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError as error:
            raise InputError(
                f"reading Waymo needs pyarrow: pip install pyarrow ({error})"
            ) from error
        if not self.path.is_file():
            raise InputError(f"{self.path}: missing")
        wanted = list(columns or self.columns)
        try:
            file = pyarrow.parquet.ParquetFile(self.path, buffer_size=_BUFFER, pre_buffer=False)
            if missing := sorted(set(wanted) - set(file.schema_arrow.names)):
                raise InputError(f"{self.path}: no column {', '.join(missing)}")
            yield from file.iter_batches(_BATCH, columns=wanted, use_threads=False)
        except (OSError, pyarrow.ArrowException) as error:
            raise InputError(f"{self.path}: not a whole Parquet file ({error})") from error


def _array(value: Any) -> NDArray[Any] | None:
    if not value.is_valid:
        return None
    if hasattr(value, "values"):  # a list: its elements without copies
        array: NDArray[Any] = value.values.to_numpy(zero_copy_only=False)
        return array
    return np.array(value.as_py())
