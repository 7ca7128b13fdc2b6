# SPDX-License-Identifier: Apache-2.0
"""Comparison → ROS messages, and class_info and comparisons back from them.

Where our own messages are not built, the same content goes as JSON in a String.
"""

from __future__ import annotations

import json
import re
from array import array
from math import isfinite, nan
from typing import Any

import numpy as np
from geometry_msgs.msg import Vector3
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import ColorRGBA, String
from visualization_msgs.msg import Marker

from pointdistill_ros.errors import LabelError
from pointdistill_ros.evaluation.agreement import Agreement
from pointdistill_ros.evaluation.distance import EDGES
from pointdistill_ros.labels import LabelSet
from pointdistill_ros.nodes.comparator import Comparison, Differences, Labeller, Times
from pointdistill_ros.nodes.status import Level

try:
    from pointdistill_ros.msg import ModelComparison

    if "band_begin" not in ModelComparison.get_fields_and_field_types():
        ModelComparison = None  # built from older sources
except ImportError:  # installed without the CMake step
    ModelComparison = None

__all__ = [
    "DISAGREEMENT",
    "ModelComparison",
    "comparison_fields",
    "comparison_message",
    "comparison_type",
    "disagreement_cloud",
    "labeller",
    "summary_marker",
    "window_message",
]

DISAGREEMENT = np.dtype(
    [
        ("xyz", "<f4", 3),
        ("rgb", "<u4"),
        ("student_class", "u1"),
        ("teacher_class", "u1"),
        ("padding", "<u2"),
        ("student_probability", "<f4"),
        ("teacher_probability", "<f4"),
    ]
)
"""One point of ``~/disagreement``, 28 bytes."""

_FLOATS = (
    *(("x", 0), ("y", 4), ("z", 8), ("rgb", 12)),
    *(("student_probability", 20), ("teacher_probability", 24)),
)
_FIELDS = [
    *(PointField(name=n, offset=at, datatype=PointField.FLOAT32, count=1) for n, at in _FLOATS),
    PointField(name="student_class", offset=16, datatype=PointField.UINT8, count=1),
    PointField(name="teacher_class", offset=17, datatype=PointField.UINT8, count=1),
]

_LABEL_SET_NAME = re.compile(r"\w[\w-]{0,63}", re.ASCII)

_COLOURS = {Level.OK: (0.4, 1.0, 0.4), Level.WARN: (1.0, 0.8, 0.2), Level.ERROR: (1.0, 0.3, 0.3)}


def comparison_type() -> Any:
    """Type of ``~/comparison``: ModelComparison, or String (JSON, same fields) without it."""
    return ModelComparison or String


def comparison_message(comparison: Comparison) -> Any:
    """One cloud, as ``comparison_type()``."""
    return _message(comparison, comparison.agreement, 1, comparison.times)


def window_message(comparison: Comparison) -> Any:
    """The last clouds together, as ``comparison_type()``."""
    return _message(comparison, comparison.window, comparison.clouds, comparison.window_times)


def _message(comparison: Comparison, agreement: Agreement, clouds: int, times: Times) -> Any:
    content = {
        "student_id": comparison.student.model_id,
        "teacher_id": comparison.teacher.model_id,
        "label_set": comparison.student.label_set.name,
        "clouds": clouds,
        "points": agreement.points,
        "agreement": agreement.agreement,
        "divergence": agreement.divergence,
        "divergence_basis": agreement.basis,
        "class_iou": agreement.class_iou.tolist(),
        "band_begin": list(EDGES),
        "band_points": agreement.points_by_band.tolist(),
        "band_agreement": agreement.agreement_by_band.tolist(),
        "band_divergence": agreement.divergence_by_band.tolist(),
        "student_age_ms": 1e3 * times.student_age,
        "teacher_age_ms": 1e3 * times.teacher_age,
        "teacher_lag_ms": 1e3 * times.lag,
    }
    if ModelComparison is not None:
        return ModelComparison(header=comparison.header, **content)
    stamp = comparison.header.stamp
    header = {
        "stamp": {"sec": stamp.sec, "nanosec": stamp.nanosec},
        "frame_id": comparison.header.frame_id,
    }
    return String(data=json.dumps(_plain({"header": header, **content}), allow_nan=False))


def comparison_fields(message: Any) -> dict[str, Any]:
    """The fields of a comparison message of either type, as plain data; NaN where unknown."""
    if isinstance(message, String):
        content: dict[str, Any] = json.loads(message.data, object_hook=_with_nan)
        return content
    stamp = message.header.stamp
    fields: dict[str, Any] = {
        "header": {
            "stamp": {"sec": stamp.sec, "nanosec": stamp.nanosec},
            "frame_id": message.header.frame_id,
        }
    }
    for name in message.get_fields_and_field_types():
        if name != "header":
            value = getattr(message, name)
            fields[name] = value if isinstance(value, str | int | float) else list(value)
    return fields


def disagreement_cloud(header: Any, differs: Differences, label_set: LabelSet) -> PointCloud2:
    """The points on which the sides disagree, with both labels, in the teacher's colours."""
    points = np.zeros(len(differs.xyz), DISAGREEMENT)
    student, teacher = differs.labels
    points["xyz"] = differs.xyz
    red, green, blue = label_set.palette.astype(np.uint32).T
    points["rgb"] = (red << 16 | green << 8 | blue)[teacher]
    points["student_class"], points["teacher_class"] = student, teacher
    points["student_probability"], points["teacher_probability"] = differs.probability
    cloud = PointCloud2(
        header=header,
        height=1,
        width=len(points),
        fields=_FIELDS,
        is_bigendian=False,
        point_step=DISAGREEMENT.itemsize,
        row_step=DISAGREEMENT.itemsize * len(points),
        is_dense=bool(np.isfinite(differs.xyz).all()),
    )
    cloud.data = array("B", points.tobytes())
    return cloud


def summary_marker(comparison: Comparison, level: Level) -> Marker:
    """Agreement and latencies as a text above the sensor, for viewers without plots."""
    window, times = comparison.window, comparison.window_times
    marker = Marker(header=comparison.header, ns="comparison", id=0)
    marker.type, marker.action = Marker.TEXT_VIEW_FACING, Marker.ADD
    marker.pose.position.z, marker.pose.orientation.w = 6.0, 1.0
    marker.scale = Vector3(x=0.0, y=0.0, z=1.5)
    red, green, blue = _COLOURS.get(level, (1.0, 1.0, 1.0))
    marker.color = ColorRGBA(r=red, g=green, b=blue, a=1.0)
    marker.text = (
        f"agreement {100 * comparison.agreement.agreement:.1f} %, last {comparison.clouds} clouds "
        f"{100 * window.agreement:.1f} %\nage: student {_ms(times.student_age)}, "
        f"teacher {_ms(times.teacher_age)}; teacher later by {_ms(times.lag)}"
    )
    return marker


def labeller(message: Any) -> Labeller:
    """Whom a ``class_info`` message describes. Raises LabelError where it makes no sense."""
    try:
        if isinstance(message, String):
            content = json.loads(message.data)
        else:
            fields = "label_set", "model_id", "names", "rgb"
            content = {field: getattr(message, field) for field in fields}
        names = tuple(str(name) for name in content["names"])
        rgb = [int(channel) for channel in content["rgb"]]
        name, model_id = str(content["label_set"]), str(content["model_id"])
    except (
        *(AttributeError, KeyError, TypeError, ValueError),
        *(ArithmeticError, RecursionError),  # infinite numbers and endless brackets in JSON
    ) as error:
        raise LabelError(f"class_info makes no sense ({error!r:.200})") from error
    if not all(text.isprintable() for text in (name, model_id, *names)):
        raise LabelError("class_info holds names that cannot be printed")
    if not names:
        raise LabelError("class_info names no class")
    if len(rgb) != 3 * len(names):
        raise LabelError(f"class_info has {len(names)} names and {len(rgb)} colour channels")
    return Labeller(model_id, _label_set(name, names, rgb))


def _label_set(name: str, names: tuple[str, ...], rgb: list[int]) -> LabelSet:
    """The shipped one where it is the same, because that knows remaps; else one without raw ids."""
    if _LABEL_SET_NAME.fullmatch(name):  # it came over the wire and must not become a path
        try:
            shipped = LabelSet.named(name)
            if shipped.names == names:
                return shipped
        except LabelError:
            pass  # of a checkpoint's own
    triples = zip(rgb[::3], rgb[1::3], rgb[2::3], strict=True)
    return LabelSet(name, names, tuple(triples), tuple(() for _ in names))


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.0f} ms" if isfinite(seconds) else "unknown"


def _plain(value: Any) -> Any:
    """NaN, which JSON does not know, becomes null."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def _with_nan(content: dict[str, Any]) -> dict[str, Any]:
    def back(value: Any) -> Any:
        if isinstance(value, list):
            return [back(entry) for entry in value]
        return nan if value is None else value

    return {key: back(value) for key, value in content.items()}
