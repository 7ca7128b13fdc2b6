# SPDX-License-Identifier: Apache-2.0
"""ROS parameters from configuration dataclasses, and back.

- group.field names, defaults, ranges, choices and help all come from the dataclass
- read-only unless the field is marked Live
- a set of changes is accepted or refused as a whole, with the reason
- lists are lists of strings, of which empty ones do not count
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from pointdistill_ros.config import Live, NodeConfig, Range
from pointdistill_ros.errors import ConfigError

C = TypeVar("C")

EMPTY_LIST = [""]
"""How ROS is told of a list of no strings: rclpy takes one without any entry for bytes."""
UNTYPED = (Parameter.Type.NOT_SET, Parameter.Type.BYTE_ARRAY, Parameter.Type.STRING_ARRAY)
"""What an empty list in a file or in code may come as."""


@dataclass(frozen=True)
class Setting:
    """One leaf of a configuration: what a ROS parameter needs to know."""

    name: str
    """Dotted, e.g. ``input.max_age``."""
    default: Any
    help: str
    live: bool
    range: Range | None
    choices: tuple[str, ...]

    def descriptor(self) -> ParameterDescriptor:
        """The descriptor that `ros2 param describe` shows."""
        descriptor = ParameterDescriptor(
            description=self.help,
            read_only=not self.live,
            additional_constraints=f"one of: {', '.join(self.choices)}" if self.choices else "",
        )
        if self.range and isinstance(self.default, float):
            bounds = FloatingPointRange(from_value=self.range.low, to_value=self.range.high)
            descriptor.floating_point_range = [bounds]
        elif self.range:
            low, high = int(self.range.low), int(self.range.high)
            descriptor.integer_range = [IntegerRange(from_value=low, to_value=high, step=1)]
        return descriptor


def settings(config: Any, prefix: str = "") -> Iterator[Setting]:
    """Every leaf of a configuration instance, groups flattened to dotted names."""
    hints = get_type_hints(type(config), include_extras=True)
    manual = field_docstrings(type(config))
    for entry in fields(config):
        value, hint = getattr(config, entry.name), hints[entry.name]
        if is_dataclass(value):
            yield from settings(value, f"{prefix}{entry.name}.")
            continue
        kind, *marks = get_args(hint) if get_origin(hint) is Annotated else (hint,)
        yield Setting(
            name=prefix + entry.name,
            default=value,
            help=manual.get(entry.name, ""),
            live=any(isinstance(mark, Live) for mark in marks),
            range=next((mark for mark in marks if isinstance(mark, Range)), None),
            choices=get_args(kind) if get_origin(kind) is Literal else (),
        )


def field_docstrings(kind: type) -> dict[str, str]:
    """The string below each field of a dataclass, on one line; empty where no source is at hand."""
    try:
        body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    except (OSError, TypeError):
        return {}
    assert isinstance(body, ast.ClassDef)
    return {
        field.target.id: " ".join(text.value.value.split())
        for field, text in zip(body.body, body.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }


def rebuild(config: C, values: Mapping[str, Any], prefix: str = "") -> C:
    """The configuration with some dotted values replaced. Raises ConfigError naming the group."""
    arguments = {}
    for entry in fields(config):  # type: ignore[arg-type]  # C is always a dataclass here
        name, old = prefix + entry.name, getattr(config, entry.name)
        group = is_dataclass(old)
        new = rebuild(old, values, f"{name}.") if group else values.get(name, old)
        arguments[entry.name] = tuple(filter(None, new)) if isinstance(old, tuple) else new
    try:
        return type(config)(**arguments)
    except ValueError as error:
        raise ConfigError(f"{prefix}{error}") from error


def declare(node: Node, defaults: C) -> C:
    """Declare every setting and return the configuration in force (files, command line applied).

    Raises ConfigError naming the parameter where an override has a wrong type or value.
    """
    values = {}
    known = []
    for setting in settings(defaults):
        known.append(setting.name)
        default: Any = setting.default
        if isinstance(default, tuple):
            default = list(default) or EMPTY_LIST
            given = node._parameter_overrides.get(setting.name)
            if given is not None and not given.value and given.type_ in UNTYPED:
                node._parameter_overrides[setting.name] = Parameter(setting.name, value=EMPTY_LIST)
        try:
            parameter = node.declare_parameter(setting.name, default, setting.descriptor())
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            raise ConfigError(f"parameter {setting.name}: {error}") from error
        values[setting.name] = parameter.value
    groups = {name.split(".")[0] for name in known if "." in name}
    for name in node._parameter_overrides:
        if name.split(".")[0] in groups and name not in known:
            raise ConfigError(f"no parameter {name}; known: {', '.join(known)}")
    return rebuild(defaults, values)


def parameter_table(config: Any) -> str:
    """Every setting as a row of Markdown; docs/node.md holds what `python -m` prints."""
    rows = ["| parameter | default | live | meaning |", "|---|---|---|---|"]
    for setting in settings(config):
        default: Any = setting.default
        default = list(default) if isinstance(default, tuple) else default
        shown = f"`{default}`" if default != "" else "empty"
        choices = f" One of {', '.join(setting.choices)}." if setting.choices else ""
        if setting.range:
            choices = f" {setting.range.low:g} to {setting.range.high:g}."
        live = "yes" if setting.live else ""
        rows.append(f"| `{setting.name}` | {shown} | {live} | {setting.help}{choices} |")
    return "\n".join(rows)


def judge(config: C, changes: list[Parameter[Any]]) -> tuple[SetParametersResult, C]:
    """Would these changes, together, make a valid configuration? With the result, the new one."""
    try:
        new = rebuild(config, {parameter.name: parameter.value for parameter in changes})
    except ConfigError as error:
        return SetParametersResult(successful=False, reason=str(error)), config
    return SetParametersResult(successful=True), new


if __name__ == "__main__":
    print(parameter_table(NodeConfig()))
