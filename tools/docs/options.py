# SPDX-License-Identifier: Apache-2.0
"""Options of the commands and programs as tables, read from what parses them."""

from __future__ import annotations

import argparse
import inspect
import types
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import typer
from typer.models import ArgumentInfo, OptionInfo

from tools.docs.parsers import parser_of
from tools.docs.table import code, table

HEAD = ("option", "type", "default", "meaning")
_KINDS: dict[object, str] = {str: "text", int: "integer", float: "number", Path: "path"}


def command_name(callback: Callable[..., Any]) -> str:
    """How typer calls the command of a function."""
    return callback.__name__.replace("_", "-")


def command_section(callback: Callable[..., Any]) -> str:
    """A command of ``pointdistill``: what it does, what it takes."""
    purpose = (inspect.getdoc(callback) or "").split("\n\n")[0].replace("\n", " ")
    rows = list(_command_rows(callback))
    return f"### pointdistill {command_name(callback)}\n\n{purpose}\n\n{table(HEAD, rows)}"


def commands(app: typer.Typer) -> list[Callable[..., Any]]:
    """The functions of all commands, in order."""
    return [entry.callback for entry in app.registered_commands if entry.callback]


def program_section(module: str) -> str:
    """A program that is started with ``python -m``, or a node that takes options of its own."""
    parser = parser_of(module)
    purpose = " ".join((parser.description or "").split("\n\n")[0].split())
    rows = list(_program_rows(parser))
    title = f"python -m {module}" if "." in module and "nodes" not in module else parser.prog
    return f"### {title}\n\n{purpose}\n\n{table(HEAD, rows)}"


def _command_rows(callback: Callable[..., Any]) -> Iterator[tuple[str, str, str, str]]:
    hints = get_type_hints(callback, include_extras=True)
    for name, parameter in inspect.signature(callback).parameters.items():
        kind, *marks = get_args(hints[name]) if _annotated(hints[name]) else (hints[name],)
        info = next((m for m in marks if isinstance(m, ArgumentInfo | OptionInfo)), OptionInfo())
        if isinstance(info, ArgumentInfo):
            shown = code(name.upper())
        else:
            shown = ", ".join(map(code, _names(info, name)))
        yield shown, _kind(kind, info), _default(parameter.default), info.help or ""


def _names(info: OptionInfo, name: str) -> list[str]:
    """Inside Annotated the first name given to ``typer.Option`` lies where a default would."""
    first = [info.default] if isinstance(info.default, str) else []
    return [*first, *(info.param_decls or [])] or [f"--{name.replace('_', '-')}"]


def _annotated(hint: object) -> bool:
    return get_origin(hint) is Annotated


def _kind(kind: Any, info: ArgumentInfo | OptionInfo) -> str:
    if get_origin(kind) in (Union, types.UnionType):
        kind = next(k for k in get_args(kind) if k is not type(None))
    several = get_origin(kind) is list
    if several:
        (kind,) = get_args(kind)
    if kind is bool:
        return "flag"
    if isinstance(kind, type) and issubclass(kind, Enum):
        name: str = ", ".join(code(entry.value) for entry in kind)
    else:
        name = _KINDS[kind]
    name += _bounds(info.min, info.max)
    return f"{name}, several" if several else name


def _bounds(low: float | None, high: float | None) -> str:
    if low is None and high is None:
        return ""
    if high is None:
        return f" ≥ {low:g}"
    return f" {low:g} … {high:g}" if low is not None else f" ≤ {high:g}"


def _default(value: Any) -> str:
    if value is inspect.Parameter.empty:
        return "required"
    if value is None or value is False or value == "":
        return ""
    return code(value.value if isinstance(value, Enum) else value)


def _program_rows(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str, str, str]]:
    for action in parser._actions:
        if action.dest == "help":
            continue
        positional = not action.option_strings
        names = ", ".join(map(code, action.option_strings or [str(action.metavar or action.dest)]))
        if action.nargs == 0:
            kind = "flag"
        elif action.choices:
            kind = ", ".join(code(choice) for choice in action.choices)
        else:
            kind = _KINDS.get(action.type or str, "text")
        if action.nargs in ("+", "*"):
            kind += ", several"
        needed = action.required and (not positional or action.nargs != "*")
        default = "required" if needed else _listed_default(action.default)
        yield names, kind, default, " ".join((action.help or "").split()).replace("%%", "%")


def _listed_default(value: Any) -> str:
    if value in (None, False, argparse.SUPPRESS):
        return ""
    return code(" ".join(map(str, value)) if isinstance(value, list | tuple) else value)
