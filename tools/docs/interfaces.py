# SPDX-License-Identifier: Apache-2.0
"""docs/interfaces.md: topics, parameters, messages, launch arguments, commands, from the code.

    python -m tools.docs.interfaces            # write it
    python -m tools.docs.interfaces --check    # exit with 1 where it is out of date

tests/docs compares every section with the page.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from pointdistill_ros.cli import app
from pointdistill_ros.config import NodeConfig
from pointdistill_ros.errors import one_line_errors
from pointdistill_ros.io.atomic import atomic_path
from pointdistill_ros.nodes.comparison_config import ComparisonConfig
from pointdistill_ros.nodes.multi_config import LidarConfig
from pointdistill_ros.nodes.parameters import Setting, field_docstrings, settings
from tools.docs.launch_files import launch_section
from tools.docs.options import command_section, commands, program_section
from tools.docs.table import code, table
from tools.docs.topics import topic_sections

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "interfaces.md"
INTRODUCTION = """\
# Interfaces

<!-- Written by `python -m tools.docs.interfaces`; a test fails where it is out of date. -->

Everything on this page is read from the code. What it is for, and how the parts play together:
[node.md](node.md), [comparison.md](comparison.md), [integration.md](integration.md),
[training.md](training.md)."""
NODE_PROGRAMS = ("pointdistill_ros.nodes.multi_lidar_node",)
SETTING = ("parameter", "type", "default", "range", "live", "meaning")


def sections() -> dict[str, Callable[[], str]]:
    """Title of each part of the page → what writes it. Only the topics need DDS."""
    return {
        "Topics": topic_sections,
        "Parameters": parameter_sections,
        "Messages": message_sections,
        "Launch files": launch_section,
        "Commands": command_sections,
        "Training programs": training_sections,
    }


def page() -> str:
    """The whole page. Raises PointDistillError where the messages are not built."""
    parts = [f"## {title}\n\n{write()}" for title, write in sections().items()]
    return "\n\n".join([INTRODUCTION, *parts]) + "\n"


def parameter_sections() -> str:
    """Both nodes' parameters, and what stands in a list of lidars."""
    parts = [
        f"### Parameters of {name}\n\n"
        f"Set at start; those marked live also while the node runs.\n\n"
        f"{table(SETTING, map(_setting_row, settings(config)))}"
        for name, config in (
            ("segmentation_node", NodeConfig()),
            ("comparison_node", ComparisonConfig()),
        )
    ]
    listed = table(("key", "type", "default", "meaning"), _lidar_rows())
    return "\n\n".join([*parts, f"### Lidars of multi_lidar_node\n\n{listed}"])


def message_sections() -> str:
    """The fields of every message of ours, with the comments of its file."""
    parts = []
    for path in sorted((ROOT / "msg").glob("*.msg")):
        purpose, rows = _message(path.read_text())
        head = table(("field", "type", "meaning"), rows)
        parts.append(f"### pointdistill_ros/{path.stem}\n\n{purpose}\n\n{head}")
    return "\n\n".join(parts)


def command_sections() -> str:
    """Every command of `pointdistill`, and the nodes that take options of their own."""
    ours = [command_section(callback) for callback in commands(app)]
    return "\n\n".join([*ours, *map(program_section, NODE_PROGRAMS)])


def training_sections() -> str:
    """Every program of training/."""
    return "\n\n".join(map(program_section, training_programs()))


def training_programs() -> list[str]:
    """Modules of training/ that are meant to be started."""
    return [
        f"training.{path.stem}"
        for path in sorted((ROOT / "training").glob("*.py"))
        if 'if __name__ == "__main__":' in path.read_text()
    ]


def _setting_row(setting: Setting) -> tuple[str, ...]:
    default: Any = setting.default
    kind = "string[]" if isinstance(default, tuple) else _ros_type(default)
    if isinstance(default, tuple):
        default = list(default)
    bounds = f"{setting.range.low:g} … {setting.range.high:g}" if setting.range else ""
    choices = ", ".join(map(code, setting.choices))
    live = "yes" if setting.live else ""
    shown = "empty" if default == "" else code(default)
    return code(setting.name), kind, shown, bounds or choices, live, setting.help


def _ros_type(value: object) -> str:
    names = {bool: "bool", int: "integer", float: "double", str: "string"}
    return names[type(value)]


def _lidar_rows() -> Iterator[tuple[str, ...]]:
    manual = field_docstrings(LidarConfig)
    for entry in fields(LidarConfig):
        needed = entry.default is MISSING and entry.default_factory is MISSING
        default = "" if needed or entry.default in (MISSING, None, "") else code(entry.default)
        kind = str(entry.type).replace(" | None", "").replace("dict[str, Any]", "mapping")
        kind = kind.replace("str", "string")
        yield code(entry.name), kind, "required" if needed else default, manual[entry.name]


def _message(text: str) -> tuple[str, list[tuple[str, str, str]]]:
    """Its opening comment, and a row for each field or constant."""
    purpose: list[str] = []
    rows: list[tuple[str, str, str]] = []
    for line in text.splitlines():
        definition, _, comment = line.partition("#")
        if not definition.strip():
            if rows and comment:  # goes on in the next line
                name, kind, before = rows[-1]
                rows[-1] = (name, kind, f"{before} {comment.strip()}".strip())
            elif comment:
                purpose.append(comment.strip())
            continue
        kind, name = definition.split(maxsplit=1)
        rows.append((code(name.strip()), code(kind), comment.strip()))
    return " ".join(purpose), rows


def main() -> int:
    """Write the page, or say whether it is up to date."""
    parser = argparse.ArgumentParser(prog="python -m tools.docs.interfaces", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing")
    options = parser.parse_args()
    text = page()
    if options.check:
        same = PAGE.read_text() == text
        print("up to date" if same else f"{PAGE} is out of date: python -m tools.docs.interfaces")
        return 0 if same else 1
    with atomic_path(PAGE) as temporary:
        temporary.write_text(text)
    return 0


if __name__ == "__main__":
    with one_line_errors("interfaces"):
        sys.exit(main())
