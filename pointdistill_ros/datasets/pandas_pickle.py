# SPDX-License-Identifier: Apache-2.0
"""Pickled pandas frames of numbers, read without pandas and without running what they ask for.

A pickle is a program: it names functions of any module, and unpickling calls them. Here every name
is looked up in a table of a few stand-ins that hold numbers and strings, and every other name is
refused. Known are frames of pandas 1 to 3, the block managers of before and after 1.3, with numbers
in the columns and strings for their names. Nothing is copied before all is known to fit together.
Not here: strings, dates or objects in columns, and the pickle protocols of Python 2.
"""

from __future__ import annotations

import gzip
import io
import pickle
import pickletools
import zlib
from pathlib import Path
from typing import Any

from pointdistill_ros.datasets.pandas_stand_ins import (
    STAND_INS,
    BlockManager,
    DataFrame,
    Frame,
    RefusedError,
)
from pointdistill_ros.errors import InputError

_MAX_BYTES = 1 << 26
"""Unpacked; a frame of PandaSet has 8 MB."""
_MAX_OPERATIONS = 100_000
_FORBIDDEN = {"EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID", "NEXT_BUFFER", "READONLY_BUFFER"}


def read_frame(path: Path) -> Frame:
    """The frame of a .pkl or .pkl.gz file.

    Raises InputError naming the file, and the function where it asks for one that has no place in
    a data frame, or that it is too large, damaged or no data frame.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise InputError(f"{path}: missing") from error
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
    if len(data) > _MAX_BYTES:
        raise InputError(f"{path}: unpacks to more than {_MAX_BYTES >> 20} MB; refused")
    try:
        _check_operations(data)
        return _frame_of(_Unpickler(io.BytesIO(data)).load())
    except RefusedError as error:
        raise InputError(f"{path}: {error}") from error
    except Exception as error:  # a damaged pickle can fail anywhere
        raise InputError(f"{path}: not a whole pandas data frame ({error!r})") from error


def _frame_of(unpickled: Any) -> Frame:
    if not isinstance(unpickled, DataFrame) or not isinstance(unpickled.manager, BlockManager):
        raise RefusedError("not a pandas data frame")
    return unpickled.manager.frame()


def _check_operations(data: bytes) -> None:
    """Operations that bypass the table of names, or number their memory to exhaust ours."""
    for count, (operation, argument, _) in enumerate(pickletools.genops(data)):
        if operation.name in _FORBIDDEN:
            raise RefusedError(f"asks for the pickle operation {operation.name}; refused")
        if operation.name.endswith("PUT") and int(argument or 0) > _MAX_OPERATIONS:
            raise RefusedError(f"numbers its memory up to {argument}; refused")
        if count > _MAX_OPERATIONS:
            raise RefusedError(f"has more than {_MAX_OPERATIONS} operations; refused")


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        stand_in = STAND_INS.get(f"{module}.{name}")
        if stand_in is None:
            raise RefusedError(
                f"asks for {module}.{name}, which is no part of a data frame; refused"
            )
        return stand_in
