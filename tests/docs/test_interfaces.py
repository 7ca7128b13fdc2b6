# SPDX-License-Identifier: Apache-2.0
"""docs/interfaces.md is what the code says now."""

import pytest

pytest.importorskip("rclpy")

from tests.nodes.launch_stand_in import ROOT, launch
from tools.docs import launch_files, topics
from tools.docs.interfaces import INTRODUCTION, PAGE, sections, training_programs
from tools.docs.options import commands

REMEDY = "out of date: python -m tools.docs.interfaces"
WRITERS = sections()
LAUNCH_FILES = sorted((ROOT / "launch").glob("*.launch.py"))


def part(title):
    """What stands under a title of the page."""
    text = PAGE.read_text()
    assert text.count(f"\n## {title}\n\n") == 1, REMEDY
    return text.split(f"\n## {title}\n\n")[1].split("\n\n## ")[0].rstrip("\n")


def differing(title):
    """The first line that differs, or nothing."""
    now, then = WRITERS[title]().split("\n"), part(title).split("\n")
    return next((f"{a}\n{b}" for a, b in zip(now, then, strict=False) if a != b), "") or (
        "" if len(now) == len(then) else "length"
    )


def test_the_page_has_these_parts():
    text = PAGE.read_text()
    assert text.startswith(INTRODUCTION)
    titles = [line[3:] for line in text.splitlines() if line.startswith("## ")]
    assert titles == list(WRITERS), REMEDY


@pytest.mark.parametrize("title", [title for title in WRITERS if title != "Topics"])
def test_a_part_is_up_to_date(title):
    assert not differing(title), REMEDY


@pytest.mark.ros
def test_the_topics_are_up_to_date():
    if topics.messages.SegmentationStats is None:
        pytest.skip("messages not built")
    assert not differing("Topics"), REMEDY


def test_a_changed_default_is_noticed(monkeypatch):
    from dataclasses import dataclass, field

    from pointdistill_ros.config import ModelConfig, NodeConfig
    from tools.docs import interfaces

    @dataclass(frozen=True)
    class Other(NodeConfig):
        model: ModelConfig = field(default_factory=lambda: ModelConfig(path="other"))

    monkeypatch.setattr(interfaces, "NodeConfig", Other)
    assert differing("Parameters")


@pytest.mark.parametrize(
    "file", sorted((ROOT / "launch").glob("*.launch.py")), ids=lambda f: f.name
)
def test_arguments_read_from_the_source_are_those_declared(file, monkeypatch):
    """The tables are read without running launch files; the stand-in runs them."""
    read = launch_files.declared()[file.name]
    needed = {name: "x" for name, default in read.items() if default is None}
    found, _ = launch(file, monkeypatch, **needed)
    assert [argument.name for argument in found] == list(read)
    for argument in found:
        default = argument.kwargs.get("default_value")
        shipped = (read[argument.name] or "").startswith("config/")
        assert (read[argument.name] is None) == (default is None)
        assert default is None or (shipped or default == read[argument.name])


def test_every_program_is_listed():
    from pointdistill_ros.cli import app

    text = PAGE.read_text()
    assert len(commands(app)) >= 11
    for callback in commands(app):
        assert f"### pointdistill {callback.__name__.replace('_', '-')}\n" in text
    assert {"training.train_student", "training.evaluate"} <= set(training_programs())
