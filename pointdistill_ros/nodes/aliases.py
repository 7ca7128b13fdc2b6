# SPDX-License-Identifier: Apache-2.0
"""Parameter names of Autoware's point cloud segmentation nodes (ptv3, frnet), accepted at start.

- a name that means the same here stands for ours; both with different values are refused
- a name that asks for what this node does not do is refused with what to do instead; ignoring it
  would run something else than the file says
Names of neither list are not looked at: one parameter file may serve several nodes.
"""

from __future__ import annotations

from rclpy.node import Node
from rclpy.parameter import Parameter

from pointdistill_ros.errors import ConfigError

ALIASES = {
    "segmentation3d.filter.class_probability_threshold": "filter.class_probability_threshold",
    "segmentation3d.filter.classes": "filter.classes",
    "segmentation3d.filter.output_format": "filter.output_format",
    "cloud_capacity": "input.max_points",
}
"""Autoware's name → ours."""

_NETWORK = "give model.path a .safetensors file or the name of a shipped network"
_IN_CHECKPOINT = "this comes with the weights, leave it out"
_CLASSES = "class names and colours come with the weights (~/class_info), leave it out"
REFUSED = {
    "onnx_path": _NETWORK,
    "engine_path": _NETWORK,
    "backbone.onnx_path": _NETWORK,
    "backbone.engine_path": _NETWORK,
    "segmentation3d.onnx_path": _NETWORK,
    "segmentation3d.engine_path": _NETWORK,
    "plugins_path": "there is no TensorRT here, leave it out",
    "trt_precision": "set model.precision (float32, bfloat16, float16)",
    "build_only": "start the node with --check",
    "class_names": _CLASSES,
    "segmentation3d.class_names": _CLASSES,
    "segmentation3d.palette": _CLASSES,
    "voxel_size": _IN_CHECKPOINT,
    "voxels_num": _IN_CHECKPOINT,
    "point_cloud_range": _IN_CHECKPOINT,
    "backbone.voxel_size": _IN_CHECKPOINT,
    "backbone.voxels_num": _IN_CHECKPOINT,
    "backbone.point_cloud_range": _IN_CHECKPOINT,
    "backbone.serialization_orders": _IN_CHECKPOINT,
    "backbone.pooling_strides": _IN_CHECKPOINT,
    "ground_prob_threshold": "set filter.classes and filter.class_probability_threshold",
}
"""Autoware's name → what to do instead."""
_DETECTION = "detection3d."


def apply_aliases(node: Node) -> None:
    """Turn Autoware's names among the node's parameter overrides into ours, before declaring.

    Raises ConfigError naming both names where they differ, or what a name asks for in vain.
    """
    overrides = node._parameter_overrides
    refused = [f"{name}: {REFUSED[name]}" for name in overrides if name in REFUSED]
    use = overrides.get(f"{_DETECTION}use_head")
    if any(name.startswith(_DETECTION) for name in overrides) and (use is None or use.value):
        refused.append(f"{_DETECTION}*: this node detects no objects, set {_DETECTION}use_head off")
    points = overrides.get("segmentation3d.source_reconstruction")
    if points is not None and points.value != "full":
        refused.append("segmentation3d.source_reconstruction: every point gets a label, set full")
    if refused:
        raise ConfigError("; ".join(refused))
    for alias, name in ALIASES.items():
        given = overrides.get(alias)
        if given is None:
            continue
        value = "input" if alias.endswith("output_format") and not given.value else given.value
        own = overrides.get(name)
        if own is not None and _comparable(own.value) != _comparable(value):
            raise ConfigError(
                f"{alias} is {value!r} and {name} is {own.value!r}; they mean the same, give one"
            )
        overrides[name] = Parameter(name, given.type_ if own is None else own.type_, value)


def _comparable(value: object) -> object:
    return list(value) if isinstance(value, (list, tuple)) else value
