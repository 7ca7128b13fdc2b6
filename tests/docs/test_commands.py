# SPDX-License-Identifier: Apache-2.0
"""A typo in any command of README.md and docs/*.md fails here."""

import dataclasses

import pytest

from tests.docs.blocks import PAGES, Command, all_commands, block_commands

pytest.importorskip("rclpy")  # the nodes' parameters

from tests.docs.checks import OUTSIDE, WrongCommand, check

OTHERS = ("security", "pkg", "topic", "component")
"""Verbs of ros2 whose options are not ours to know."""


def refusal(command):
    """Why a reader who types this would be refused, or nothing."""
    try:
        check(command)
    except WrongCommand as error:
        return f"{command}\n    {error}"
    return ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_would_be_understood(page):
    wrong = [reason for command in all_commands([page]) if (reason := refusal(command))]
    assert not wrong, "\n".join(wrong)


def test_no_option_is_taken_on_trust():
    """The same commands with one option too many are refused, all of them."""
    taken = []
    for command in all_commands():
        program = command.words[0]
        if program in OUTSIDE or command.words[:3] == ("python", "-m", "pytest"):
            continue
        if program == "ros2" and ("FILE" in command.words or command.words[1] in OTHERS):
            continue
        words = (*command.words, "--hexagonal")
        if not refusal(dataclasses.replace(command, words=words, inline=False)):
            taken.append(str(command))
    assert not taken, "\n".join(taken)


@pytest.mark.parametrize(
    "line",
    [
        "pointdistil segment a -o b",
        "pointdistill segmnt a -o b",
        "pointdistill segment a",
        "pointdistill segment a -o b --model studnet",
        "pointdistill segment a -o b --engine naitve",
        "pointdistill segment a -o b --precision bfloat61",
        "pointdistill segment a -o b --threads 0",
        "pointdistill simulate -o a --lidar hdl23e",
        "pointdistill evaluate KITTI --dataset semantic-kiti",
        "pointdistill evaluate KITTI --protocol p4",
        "pointdistill evaluate KITTI --label-set comon7",
        "pointdistill benchmark --engines native,native-b16",
        "python -m training.train_studnet --recipe cpu",
        "python -m training.train_student --recipe gpu",
        "python -m training.train_student --recipe cpu-real",
        "python -m training.ablation --plan gpu --teacher W --data D",
        "python -m training.distill_student --recipe cpu --teacher studnet",
        "python -m training.evaluate --weights studnet --data DATA",
        "python -m training.train_student --steps many",
        "python -m benchmarks.training_stp",
        "python -m tools.soak --minuets 3",
        "torchrun --nproc-per-node 8 -m training.train_student --recipe gpu",
        "make tset",
        "make demo BAGS=a",
        "pip install -e .[exprot]",
        "pip instal .",
        "ros2 launch pointdistill_ros segmentaton.launch.py",
        "ros2 launch pointdistill_ros segmentation.launch.py inputs_topic:=/a",
        "ros2 launch pointdistill_ros segmentation.launch.py precision:=float64",
        "ros2 launch pointdistill_ros segmentation.launch.py model:=studnet",
        "ros2 launch pointdistill_ros replay.launch.py rate:=2",
        "ros2 run pointdistill_ros segmentation",
        "ros2 param set /segmentation_node model.max_latency_ms 100",
        "ros2 param set /segmentation_node model.max_latency_ms -1.0",
        "ros2 param set /segmentation_node model.path teacher",
        "ros2 param set /segmentation_node input.intensity_scale div225",
        "ros2 topic echo /segmentation_node/label_points",
        "ros2 paramm set a b c",
        "segmentation_node --chek",
        "segmentation_node --ros-args -r point:=/points",
        "segmentation_node --ros-args -p model.pth:=student",
        "segmentation_node --ros-args -p model.path:=studnet",
        "multi_lidar_node --ros-args -p model.path:=student",
        "multi_lidar_node --lidar lidars.yaml",
    ],
)
def test_a_typo_is_found(line):
    (command,) = block_commands("page.md", f"    {line}\n")
    assert refusal(command)


def test_blocks_and_running_text_are_read():
    page = "Text\n\n    make demo  # why\n    pip install \\\n      -e . && make test\n\n"
    fence = "```bash\nA=b make ws; make x\n```\n"
    found = [(c.line, c.words) for c in block_commands("page.md", page + fence)]
    assert found == [
        (3, ("make", "demo")),
        (4, ("pip", "install", "-e", ".")),
        (4, ("make", "test")),
        (8, ("make", "ws")),
        (8, ("make", "x")),
    ]


def test_python_and_lists_are_no_commands(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```python\nmake = 1\n```\n- a\n    b\n\ntext `make demo` and `make`, `a b`\n")
    assert block_commands("page.md", page.read_text()) == []
    assert all_commands([page]) == [Command("page.md", 7, ("make", "demo"), inline=True)]


def test_the_pages_have_commands():
    commands = all_commands()
    assert len(commands) > 150
    assert {c.page for c in commands} >= {"README.md", "quickstart.md", "troubleshooting.md"}
