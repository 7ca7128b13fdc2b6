# SPDX-License-Identifier: Apache-2.0
"""Arguments of the launch files, read from their sources: ROS launch need not be installed."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any, NamedTuple

from tools.docs.table import code, table

ROOT = Path(__file__).resolve().parents[2]
DECLARED = ROOT / "pointdistill_ros" / "nodes" / "launch_arguments.py"
HEAD = ("argument", "default", "values", "meaning", "in")


class Argument(NamedTuple):
    """What `launch_arguments.Argument` says of one."""

    description: str
    default: str | None
    """None: must be given."""
    choices: tuple[str, ...]


def arguments() -> dict[str, Argument]:
    """Every argument that a launch file may declare."""
    tree = ast.parse(DECLARED.read_text())
    known = {"_FLAG": _assigned(tree, "_FLAG")}
    listed = _assignment(tree, "ARGUMENTS")
    assert isinstance(listed, ast.Dict)
    found = {}
    for key, call in zip(listed.keys, listed.values, strict=True):
        assert isinstance(call, ast.Call) and isinstance(key, ast.Constant)
        given = dict(zip(("description", "default", "choices"), call.args, strict=False))
        given |= {k.arg: k.value for k in call.keywords if k.arg in ("default", "choices")}
        values = {name: _value(node, known) for name, node in given.items()}
        found[str(key.value)] = Argument(**({"default": "", "choices": ()} | values))
    return found


def declared() -> dict[str, dict[str, str | None]]:
    """Launch file → its arguments with the defaults that they have there."""
    known = arguments()
    found = {}
    for path in sorted((ROOT / "launch").glob("*.launch.py")):
        tree = ast.parse(path.read_text())
        constants = {
            target.id: node.value
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        names: dict[str, str | None] = {}
        for call in ast.walk(tree):
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "declare":
                for entry in _flattened(call.args, constants):
                    names[entry] = known[entry].default
                for keyword in call.keywords:
                    names |= _keyword(keyword, constants)
        found[path.name] = names
    return found


def launch_section() -> str:
    """One table: an argument means the same in every launch file; a default may differ."""
    files = declared()
    rows = []
    for name, argument in arguments().items():
        users = {path: own[name] for path, own in files.items() if name in own}
        users = {path.removesuffix(".launch.py"): own for path, own in users.items()}
        other = [
            path if own == argument.default else f"{path} ({code(own or 'empty')})"
            for path, own in users.items()
        ]
        default = "required" if argument.default is None else code(argument.default)
        choices = ", ".join(code(choice or "empty") for choice in argument.choices)
        rows.append((code(name), default, choices, argument.description, ", ".join(other)))
    listed = ", ".join(code(path) for path in files)
    return (
        f"`ros2 launch pointdistill_ros FILE` with {listed}. The last column names the files that "
        f"have an argument, and their own default where they have one.\n\n{table(HEAD, rows)}"
    )


def _flattened(nodes: list[ast.expr], constants: dict[str, ast.expr]) -> list[str]:
    """The names in arguments like ``"a", *("b", "c"), *NAMES``."""
    names: list[str] = []
    for node in nodes:
        if isinstance(node, ast.Constant):
            names.append(str(node.value))
        elif isinstance(node, ast.Starred):
            names += _flattened([node.value], constants)
        elif isinstance(node, ast.Tuple):
            names += _flattened(list(node.elts), constants)
        elif isinstance(node, ast.Dict):
            names += _flattened([key for key in node.keys if key], constants)
        elif isinstance(node, ast.Name):
            names += _flattened([constants[node.id]], constants)
        else:
            raise TypeError(f"line {node.lineno}: arguments that are not names: {ast.dump(node)}")
    return names


def _keyword(keyword: ast.keyword, constants: dict[str, ast.expr]) -> dict[str, str | None]:
    if keyword.arg:
        return {keyword.arg: ast.literal_eval(keyword.value)}
    value = keyword.value
    if isinstance(value, ast.Name):
        value = constants[value.id]
    return dict(ast.literal_eval(value))


def _assignment(tree: ast.Module, name: str) -> ast.expr:
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == name:
            return node.value
    raise LookupError(f"{DECLARED}: no {name}")


def _assigned(tree: ast.Module, name: str) -> Any:
    return ast.literal_eval(_assignment(tree, name))


def _value(node: ast.expr, known: dict[str, Any]) -> Any:
    return known[node.id] if isinstance(node, ast.Name) else ast.literal_eval(node)
