# SPDX-License-Identifier: Apache-2.0
"""Runtime settings: frozen dataclasses, complete defaults, one docstring per field.

An empty YAML file is a valid configuration; a misspelt key or a value out of range is refused with
its dotted path. The same dataclasses declare the ROS parameters.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import yaml

from pointdistill_ros.errors import ConfigError

T = TypeVar("T")


def load_config(kind: type[T], path: Path) -> T:
    """Read a YAML file into a configuration dataclass. Raises ConfigError with file and key."""
    try:
        data = yaml.safe_load(path.read_text()) or {}
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: {error}") from error
    return parse_config(kind, data, str(path))


def parse_config(kind: type[T], data: Any, source: str) -> T:
    """Plain data into a configuration dataclass; ``source`` names it in errors."""
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(kind).validate_python(data)
    except ValidationError as error:
        details = "; ".join(
            f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors()
        )
        raise ConfigError(f"{source}: {details}") from error
