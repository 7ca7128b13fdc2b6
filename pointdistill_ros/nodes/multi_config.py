# SPDX-License-Identifier: Apache-2.0
"""The lidars of a vehicle: which topic, which name, which parameters of its own. Imports no ROS."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from pointdistill_ros.config import parse_config
from pointdistill_ros.errors import ConfigError

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_NAMESPACE = re.compile(r"/?([A-Za-z][A-Za-z0-9_]*(/[A-Za-z][A-Za-z0-9_]*)*)?")


@dataclass(frozen=True)
class LidarConfig:
    """One lidar and the segmentation node that labels its clouds."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - read by pydantic, never changed

    name: str
    """Short name, e.g. front."""
    topic: str
    """Topic of its clouds; without a leading slash it lies in the lidar's namespace."""
    namespace: str | None = None
    """Namespace of its node; the lidar's name where it is not given."""
    node_name: str = "segmentation_node"
    """Name of its node, with which its topics begin."""
    params_file: str = ""
    """Parameter file of this lidar alone (keyed /**)."""
    parameters: dict[str, Any] = field(default_factory=dict)
    """Parameters of this lidar alone, as in config/nodes/segmentation.yaml: by groups or dotted.
    They win over params_file, which wins over what all lidars share."""

    def __post_init__(self) -> None:
        for what, name in (("name", self.name), ("node_name", self.node_name)):
            if not _NAME.fullmatch(name):
                raise ValueError(
                    f"{what} {name!r} is no ROS name: a letter, then letters, digits, _"
                )
        if not self.topic:
            raise ValueError("topic is empty; give the topic of the lidar's clouds")
        if not _NAMESPACE.fullmatch(self.namespace or ""):
            raise ValueError(f"namespace {self.namespace!r} is no ROS namespace")

    def namespace_in(self, outer: str = "") -> str:
        """Absolute namespace of the node where all lidars lie in ``outer``, e.g. /vehicle/front."""
        own = self.name if self.namespace is None else self.namespace
        if not own.startswith("/"):
            own = f"{outer.strip('/')}/{own}"
        return "/" + own.strip("/")

    def overrides(self) -> dict[str, Any]:
        """``parameters`` by dotted names."""
        return dict(_dotted(self.parameters))


@dataclass(frozen=True)
class LidarList:
    """All lidars, in the order of their turns."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    lidars: tuple[LidarConfig, ...]

    def __post_init__(self) -> None:
        if not self.lidars:
            raise ValueError("lidars is empty; name one at least")
        nodes = [f"{lidar.namespace_in()}/{lidar.node_name}" for lidar in self.lidars]
        for what, names in (("name", [lidar.name for lidar in self.lidars]), ("node", nodes)):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"two lidars have the {what} {', '.join(twice)}")


def read_lidars(given: str) -> tuple[LidarConfig, ...]:
    """Lidars of a YAML file, or of YAML text that begins with ``[``.

    Raises ConfigError naming the file and what is wrong in it.
    """
    inline = given.lstrip().startswith("[")
    source = "lidars" if inline else given
    try:
        data = yaml.safe_load(given if inline else Path(given).read_text()) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise ConfigError(f"{source}: {reason}") from error
    return parse_config(LidarList, {"lidars": data} if inline else data, source).lidars


def _dotted(values: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found = []
    for key, value in values.items():
        name = f"{prefix}{key}"
        found += _dotted(value, f"{name}.") if isinstance(value, dict) else [(name, value)]
    return found
