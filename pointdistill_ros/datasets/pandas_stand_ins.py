# SPDX-License-Identifier: Apache-2.0
"""What a pickled data frame is made of, as pieces that hold arguments and do nothing.

A piece never copies: what is made of the bytes is made once, when all fits together.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

_NUMBERS = {f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)} | {"f4", "f8"}


@dataclass(frozen=True, eq=False)
class Frame:
    """What is left of a data frame."""

    index: NDArray[np.int64]
    """[N] name of each row."""
    columns: dict[str, NDArray[Any]]
    """[N] numbers by name of the column."""


class RefusedError(Exception):
    """One sentence on why a pickle is not read."""


class _StandIn:
    """Calling it keeps the arguments; a state it does not expect is refused."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments

    def __setstate__(self, state: Any) -> None:
        raise RefusedError(f"gives a state to {type(self).__name__[1:]}; refused")


class _DType(_StandIn):
    """numpy.dtype: a code as f8, and the byte order with the state."""

    order = "<"

    def __setstate__(self, state: Any) -> None:
        self.order = {"<": "<", "|": "<", ">": ">"}[state[1]]

    @property
    def code(self) -> str:
        return str(self.arguments[0])


class _NDArray(_StandIn):
    """numpy.ndarray, made by one of three functions."""

    value: Any = None
    """A numeric array, or a list of strings."""

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, content = state
        self._set(content, dtype, shape, "F" if fortran else "C")

    def _set(self, content: Any, dtype: _DType, shape: tuple[int, ...], order: Any) -> None:
        if dtype.code in ("O8", "O"):
            if not isinstance(content, list) or {*map(type, content)} - {str}:
                raise RefusedError("holds an array of objects that are not strings; refused")
            self.value = content
            return
        if dtype.code not in _NUMBERS:
            raise RefusedError(f"holds an array of type {dtype.code}; expected numbers")
        flat = np.frombuffer(content, dtype.order + dtype.code)
        if len(flat) != prod(shape):
            raise RefusedError(f"holds {len(flat)} numbers in an array of shape {shape}")
        self.value = flat.reshape(shape, order=order)


class _FromBuffer(_NDArray):
    def __init__(self, content: Any, dtype: _DType, shape: tuple[int, ...], order: str) -> None:
        super().__init__()
        self._set(content, dtype, shape, order)


class _Slice(_StandIn):
    def __new__(cls, *arguments: Any) -> Any:
        return slice(*arguments)


class _Buffer(_StandIn):
    """bytearray and pyarrow.py_buffer: the bytes they are given."""

    def __new__(cls, content: Any) -> Any:
        if not isinstance(content, (bytes, bytearray)):
            raise RefusedError("asks for a buffer that is not given; refused")
        return content


class _ArrowArray(_StandIn):
    """pyarrow's strings: one buffer of ends, one of letters."""

    @property
    def value(self) -> list[str]:
        kind, count, _, start, (_, ends, letters), *_ = self.arguments[0]
        wide = {"large_string": "<i8", "string": "<i4"}[kind.arguments[0]]
        bounds = np.frombuffer(ends, wide)[start : start + count + 1].tolist()
        return [bytes(letters[a:b]).decode() for a, b in pairwise(bounds)]


class _Strings(_StandIn):
    """An array of strings of pandas 3."""

    parts: Any = ()

    def __setstate__(self, state: Any) -> None:
        self.parts = state.values() if isinstance(state, dict) else state

    @property
    def value(self) -> list[str]:
        values = [p.value for p in self.parts if isinstance(p, (_NDArray, _ArrowArray))]
        return list(values[0])


class _Index(_StandIn):
    """Names of rows or columns, made by a function that is told which kind."""

    def values(self, count: int) -> Any:
        """Numbers or strings, as many as there are rows or columns."""
        given = self.arguments[1]
        if "data" in given:
            values = given["data"].value
        else:
            rows = range(given["start"], given["stop"], given["step"])
            values = np.array(rows) if len(rows) == count else rows
        if len(values) != count:
            raise RefusedError(f"has {count} rows or columns and {len(values)} names for them")
        return values


class _Block(_StandIn):
    """Columns of one type: values [columns, N], and where these columns stand."""

    def columns(self) -> dict[int, NDArray[Any]]:
        values, place = self.arguments[:2]
        if not isinstance(values, _NDArray) or not isinstance(values.value, np.ndarray):
            raise RefusedError("has columns that are not numbers")
        stands = place.value if isinstance(place, _NDArray) else range(*place.indices(1 << 10))
        return {int(at): row for at, row in zip(stands, values.value, strict=True)}


class BlockManager(_StandIn):
    """Blocks and the two axes: arguments since pandas 1.3, before it the last part of a state."""

    def __setstate__(self, state: Any) -> None:
        state = state[3]["0.14.1"]
        blocks = [_Block(block["values"], block["mgr_locs"]) for block in state["blocks"]]
        self.arguments = (blocks, state["axes"])

    def frame(self) -> Frame:
        """The columns by name."""
        blocks, (names, index) = self.arguments
        columns: dict[int, NDArray[Any]] = {}
        for block in blocks:
            columns |= block.columns()
        rows = {len(column) for column in columns.values()}
        if len(rows) != 1:
            raise RefusedError("has no columns of one length")
        named = zip(names.values(len(columns)), sorted(columns), strict=True)
        numbers = np.asarray(index.values(rows.pop()))
        if numbers.dtype.kind not in "iu":
            raise RefusedError("has rows that are not numbered by integers")
        return Frame(numbers.astype(np.int64), {str(name): columns[at] for name, at in named})


class DataFrame(_StandIn):
    """What the whole pickle must be."""

    manager: BlockManager

    def __setstate__(self, state: Any) -> None:
        self.manager = state["_mgr"] if "_mgr" in state else state["_data"]


STAND_INS: dict[str, type] = {
    "pandas.DataFrame": DataFrame,
    "pandas.core.frame.DataFrame": DataFrame,
    "pandas.core.internals.managers.BlockManager": BlockManager,
    "pandas._libs.internals._unpickle_block": _Block,
    "pandas.core.indexes.base._new_Index": _Index,
    **dict.fromkeys(
        (
            "pandas.Index",
            "pandas.RangeIndex",
            "pandas.core.indexes.base.Index",
            "pandas.core.indexes.numeric.Int64Index",
            "pandas.core.indexes.numeric.UInt64Index",
            "pandas.core.indexes.range.RangeIndex",
            "pandas.StringDtype",
            "pandas.arrays.StringArray",
            "pyarrow.lib.type_for_alias",
        ),
        _StandIn,
    ),
    "pandas.arrays.ArrowStringArray": _Strings,
    "pandas._libs.arrays.__pyx_unpickle_NDArrayBacked": _Strings,
    "pyarrow.lib._restore_array": _ArrowArray,
    "pyarrow.lib.py_buffer": _Buffer,
    "builtins.bytearray": _Buffer,
    "builtins.slice": _Slice,
    "numpy.ndarray": _NDArray,
    "numpy.dtype": _DType,
    **{f"numpy.{core}.multiarray._reconstruct": _NDArray for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": _FromBuffer for core in ("core", "_core")},
}
