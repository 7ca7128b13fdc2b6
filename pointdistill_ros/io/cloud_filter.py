# SPDX-License-Identifier: Apache-2.0
"""Some points of a PointCloud2, every byte of them as it came.

- ``keep_points``: the points of a mask, in their order, in the input's own layout
- ``reduce_points``: the same in a smaller layout, made of fields that the input has
"""

from __future__ import annotations

from array import array
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.errors import CloudError
from pointdistill_ros.io.cloud_layout import DATATYPE_OF, CloudBytes, CloudField, CloudMessage
from pointdistill_ros.io.cloud_parts import CloudParts

FilterFormat: TypeAlias = Literal["input", "xyzi", "xyzirc", "xyzircaedt", "xyziradrt"]
FILTER_FORMATS: tuple[str, ...] = get_args(FilterFormat)

_XYZ = (("x", "f4"), ("y", "f4"), ("z", "f4"))
_XYZIRC = (*_XYZ, ("intensity", "u1"), ("return_type", "u1"), ("channel", "u2"))
_LAYOUTS = {
    "xyzi": (*_XYZ, ("intensity", "f4")),
    "xyzirc": _XYZIRC,
    "xyzircaedt": (
        *_XYZIRC,
        *((name, "f4") for name in ("azimuth", "elevation", "distance")),
        ("time_stamp", "u4"),
    ),
    "xyziradrt": (
        *_XYZ,
        ("intensity", "f4"),
        ("ring", "u2"),
        *((name, "f4") for name in ("azimuth", "distance")),
        ("return_type", "u1"),
        ("time_stamp", "f8"),
    ),
}
"""Fields of Autoware's point types in their order; offsets are those of the C structs."""


def keep_points(message: CloudMessage, keep: NDArray[np.bool_]) -> CloudParts:
    """The points where ``keep`` [N] is true: one row, packed, otherwise the input's layout.

    Fields, point_step, byte order and the bytes of every point stay as they are, fields that this
    package cannot read included; only the padding between rows goes. Raises CloudError where the
    message is broken or the lengths differ.
    """
    cloud = _checked(message, keep)
    points = cloud.points()[keep.reshape(cloud.height, cloud.width)]
    return _row(cloud.layout.fields, cloud.layout.bigendian, cloud.layout.point_step, points, cloud)


def reduce_points(
    message: CloudMessage, keep: NDArray[np.bool_], layout: FilterFormat
) -> CloudParts:
    """Those points in one of Autoware's layouts, made of fields of the same name.

    A field must have the layout's type, but for intensities, which are converted where that loses
    nothing (uint8 ↔ float32 with whole numbers of 0..255). Raises CloudError where a field is
    missing or does not fit.
    """
    if layout == "input":
        return keep_points(message, keep)
    cloud = _checked(message, keep)
    kinds = np.dtype([(name, f"<{kind}") for name, kind in _LAYOUTS[layout]], align=True)
    names = kinds.names or ()
    for name in names if len(cloud) else ():
        cloud.layout.place(name)  # what is missing is told before what does not fit
    points = np.zeros(int(keep.sum()), kinds)
    for name in names:
        if len(cloud):
            points[name] = _fitting(name, cloud.column(name)[keep], kinds[name], layout)
    fields = tuple(
        CloudField(name, int(offset), DATATYPE_OF[kind.newbyteorder("=")])
        for name, (kind, offset, *_) in (kinds.fields or {}).items()
    )
    return _row(fields, False, kinds.itemsize, points, cloud)


def _checked(message: CloudMessage, keep: NDArray[np.bool_]) -> CloudBytes:
    cloud = CloudBytes.of(message)
    if keep.shape != (len(cloud),):
        raise CloudError(f"cloud has {len(cloud)} points, the mask {list(keep.shape)} entries")
    return cloud


def _row(
    fields: tuple[CloudField, ...],
    bigendian: bool,
    step: int,
    points: NDArray[Any],
    cloud: CloudBytes,
) -> CloudParts:
    """One row of ``points``, of which each item is a point of ``step`` bytes."""
    data = array("B")
    data.frombytes(points.tobytes())
    kept = CloudParts(1, len(points), fields, bigendian, step, step * len(points), data, True)
    dense = not len(points) or bool(np.isfinite(CloudBytes.of(kept).xyz()).all())
    return CloudParts(1, len(points), fields, bigendian, step, kept.row_step, data, dense)


def _fitting(
    name: str, values: NDArray[Any], kind: np.dtype[Any], layout: FilterFormat
) -> NDArray[Any]:
    """Values [K] as ``kind``. Raises CloudError where that is another kind of number."""
    have = values.dtype.newbyteorder("=")
    want = kind.newbyteorder("=")
    if have == want:
        return values
    if name == "intensity" and {have, want} == {np.dtype("u1"), np.dtype("f4")}:
        with np.errstate(invalid="ignore", over="ignore"):
            converted = values.astype(want)
        if np.array_equal(converted.astype(have), values):
            return converted
        raise CloudError(f"intensities do not fit layout {layout}: expected whole numbers 0 to 255")
    raise CloudError(f"field {name!r} is {have}; layout {layout} needs {want}")
