# SPDX-License-Identifier: Apache-2.0
"""CloudLayout: where the bytes of every field of a PointCloud2 message lie.

Fields may come in any order, overlap, leave gaps, be unaligned, in either byte order; rows may be
padded. Each field is a strided view of the message's data; nothing is parsed per point. A message
whose numbers contradict each other is refused before anything is allocated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.errors import CloudError

DATATYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}
"""sensor_msgs/PointField datatype → numpy type without byte order."""
DATATYPE_OF = {np.dtype(code): number for number, code in DATATYPES.items()}

_MAX_FIELDS = 1024
_MAX_NAMES = 1 << 14  # characters of all names together: checked layouts are kept, with their names
_SHOWN = 20  # field names in an error message
_MAX_POINT_STEP = 1 << 30  # numpy cannot describe larger items


class CloudMessage(Protocol):
    """What the codec needs of a PointCloud2: rclpy's, rosbags' or a CloudParts. No header."""

    @property
    def height(self) -> int: ...  # noqa: D102
    @property
    def width(self) -> int: ...  # noqa: D102
    @property
    def fields(self) -> Sequence[Any]: ...  # noqa: D102
    @property
    def is_bigendian(self) -> bool: ...  # noqa: D102
    @property
    def point_step(self) -> int: ...  # noqa: D102
    @property
    def row_step(self) -> int: ...  # noqa: D102
    @property
    def data(self) -> Any: ...  # noqa: D102


@dataclass(frozen=True)
class CloudField:
    """One entry of ``PointCloud2.fields``."""

    name: str
    offset: int
    """Bytes from the start of the point."""
    datatype: int
    """1..8, see DATATYPES."""
    count: int = 1
    """Elements; 0, which some drivers write, means 1."""


@dataclass(frozen=True)
class CloudLayout:
    """The fields of one kind of cloud, checked once and cached."""

    fields: tuple[CloudField, ...]
    point_step: int
    bigendian: bool

    def __contains__(self, name: str) -> bool:
        return any(field.name == name for field in self.fields)

    @property
    def names(self) -> list[str]:
        """Names of the fields in message order."""
        return [field.name for field in self.fields]

    def place(self, name: str) -> tuple[int, np.dtype[Any]]:
        """Offset and number type, with byte order, of a field. Raises CloudError."""
        found = [field for field in self.fields if field.name == name]
        if len(found) != 1:
            names = ", ".join(self.names[:_SHOWN]) or "none"
            names += f" and {left} more" if (left := len(self.names) - _SHOWN) > 0 else ""
            many = "no" if not found else f"{len(found)} times the"
            raise CloudError(f"cloud has {many} field {name!r}; its fields: {names}")
        field = found[0]
        if field.datatype not in DATATYPES:
            raise CloudError(f"field {name!r} has datatype {field.datatype}; expected 1 to 8")
        if field.count not in (0, 1):
            raise CloudError(f"field {name!r} has count {field.count}; expected 1")
        dtype = np.dtype((">" if self.bigendian else "<") + DATATYPES[field.datatype])
        end = field.offset + dtype.itemsize
        if field.offset < 0 or end > self.point_step:
            raise CloudError(
                f"field {name!r} ends at byte {end} of a point, point_step is {self.point_step}"
            )
        return field.offset, dtype

    @cached_property
    def xyz_place(self) -> tuple[int, np.dtype[Any]] | None:
        """Offset and type where x, y, z lie side by side with one type, so that one copy serves."""
        (x, dtype), (y, dtype_y), (z, dtype_z) = map(self.place, "xyz")
        size = dtype.itemsize
        together = dtype == dtype_y == dtype_z and (y, z) == (x + size, x + 2 * size)
        return (x, dtype) if together else None


@dataclass(frozen=True)
class CloudBytes:
    """The data of one message and how to walk through it."""

    layout: CloudLayout
    height: int
    width: int
    row_step: int
    data: memoryview

    @classmethod
    def of(cls, message: CloudMessage) -> CloudBytes:
        """Check a message's sizes against its data. Raises CloudError."""
        try:
            height, width = int(message.height), int(message.width)
            point_step, row_step = int(message.point_step), int(message.row_step)
            layout = _layout(_field_key(message.fields), point_step, bool(message.is_bigendian))
            data = memoryview(message.data).cast("B")
        except (AttributeError, TypeError, ValueError) as error:
            raise CloudError(f"not a PointCloud2 message ({error})") from error
        if min(height, width, point_step, row_step) < 0:
            raise CloudError("cloud has a negative height, width, point_step or row_step")
        if point_step > _MAX_POINT_STEP:
            raise CloudError(f"cloud has point_step {point_step}; at most {_MAX_POINT_STEP}")
        if height * width and not point_step:
            raise CloudError(f"cloud has {height} × {width} points of point_step 0")
        row = width * point_step
        # a single row needs no step, and several drivers write a wrong one
        if height > 1 and row_step < row:
            raise CloudError(f"row_step {row_step} is less than width × point_step = {row}")
        needed = (height - 1) * row_step + row if height * width else 0
        if len(data) < needed:
            raise CloudError(
                f"cloud of {height} × {width} points of {point_step} bytes needs {needed} bytes, "
                f"has {len(data)}"
            )
        return cls(layout, height, width, row_step, data)

    def __len__(self) -> int:
        return self.height * self.width

    def column(self, name: str) -> NDArray[Any]:
        """Copy a field out: [N] in its own type and byte order. Raises CloudError."""
        return self._packed(*self.layout.place(name)).reshape(-1)

    def xyz(self) -> NDArray[np.float32]:
        """Copy the coordinates out: [N, 3] float32. Raises CloudError where one is missing."""
        together = self.layout.xyz_place
        with np.errstate(over="ignore", invalid="ignore"):  # float64 beyond float32 becomes Inf
            if together:
                offset, dtype = together
                xyz = self._packed(offset, np.dtype((dtype, 3))).reshape(-1, 3)
                return xyz.astype(np.float32, copy=False)
            return np.stack([self.column(name).astype(np.float32) for name in "xyz"], axis=1)

    def points(self) -> NDArray[np.void]:
        """[height, width] view of whole points, ``point_step`` bytes each."""
        return self._view(0, self.layout.point_step)

    def _packed(self, offset: int, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Copy a field, contiguous and aligned: [height, width · k], k elements a point.

        Bytes move as opaque items: numpy copies unaligned numbers three times slower.
        """
        packed = np.empty((self.height, self.width), f"V{dtype.itemsize}")
        packed[...] = self._view(offset, dtype.itemsize)
        return packed.view(dtype.base)

    def _view(self, offset: int, size: int) -> NDArray[np.void]:
        """[height, width] view of ``size`` bytes of every point."""
        if not len(self):
            return np.empty((self.height, self.width), f"V{size}")
        strides = (self.row_step, self.layout.point_step)
        return np.ndarray((self.height, self.width), f"V{size}", self.data, offset, strides)


def _field_key(fields: Sequence[Any]) -> tuple[tuple[str, int, int, int], ...]:
    if len(fields) > _MAX_FIELDS:
        raise ValueError(f"{len(fields)} fields, at most {_MAX_FIELDS}")
    names = sum(len(f.name) for f in fields)
    if names > _MAX_NAMES:
        raise ValueError(f"field names of {names} characters, at most {_MAX_NAMES}")
    return tuple((str(f.name), int(f.offset), int(f.datatype), int(f.count)) for f in fields)


@lru_cache(maxsize=256)
def _layout(
    fields: tuple[tuple[str, int, int, int], ...], point_step: int, bigendian: bool
) -> CloudLayout:
    return CloudLayout(tuple(CloudField(*field) for field in fields), point_step, bigendian)
