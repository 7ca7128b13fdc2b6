# SPDX-License-Identifier: Apache-2.0
"""What comparison.launch.py and replay.launch.py would start; a stand-in replaces ROS launch."""

import json
import re
import runpy
from pathlib import Path

import pytest
import yaml

pytest.importorskip("lifecycle_msgs", reason="ROS messages are not installed")

ROOT = Path(__file__).resolve().parents[2]
launch = runpy.run_path(str(Path(__file__).with_name("launch_stand_in.py")))["launch"]
OUTPUTS = {
    "student": ["labeled_points", "visualization", "stats", "class_info", "legend"],
    "teacher": ["labeled_points", "visualization", "stats", "class_info", "legend"],
    "comparison_node": ["comparison", "comparison_window", "disagreement", "summary"],
}


@pytest.fixture
def compare(monkeypatch):
    return lambda **values: launch(ROOT / "launch/comparison.launch.py", monkeypatch, **values)[1]


@pytest.fixture
def replay(monkeypatch):
    path = ROOT / "launch/replay.launch.py"
    return lambda **values: launch(path, monkeypatch, **{"bag": "drive.mcap"} | values)[1]


def nodes(actions):
    """Name → what a node is started with."""
    found = [a.kwargs for a in actions if type(a).__name__ == "Node"]
    return {node.get("name", node["package"]): node for node in found}


def player(actions):
    (process,) = [a.kwargs for a in actions if type(a).__name__ == "ExecuteProcess"]
    return process


def test_three_nodes_meet_under_one_namespace(compare):
    started = nodes(compare(namespace="front", input_topic="/velodyne_points", teacher="big"))
    assert set(started) == {"student", "teacher", "comparison_node"}
    assert {node["namespace"] for node in started.values()} == {"front"}
    for side in ("student", "teacher"):
        assert started[side]["executable"] == "segmentation_node"
        assert started[side]["remappings"] == [("points", "/velodyne_points")]
    assert "model.path" not in started["student"]["parameters"][1]
    assert started["teacher"]["parameters"][1]["model.path"] == "big"
    files = [Path(started[side]["parameters"][0]).name for side in ("student", "teacher")]
    assert files == ["segmentation.yaml", "teacher.yaml"]


def test_each_side_has_its_own_arguments(compare):
    started = nodes(compare(student_device="cuda:0", teacher_device="cpu", max_latency_ms="80"))
    student, teacher = (started[side]["parameters"][1] for side in ("student", "teacher"))
    assert (student["model.device"], teacher["model.device"]) == ("cuda:0", "cpu")
    assert (student["model.max_latency_ms"], "model.max_latency_ms" in teacher) == (80.0, False)


def test_the_topics_that_the_comparison_reads_are_those_that_the_sides_write():
    source = (ROOT / "pointdistill_ros/nodes/comparison_node.py").read_text()
    read = re.findall(r'"(labeled_points|class_info)"', source)
    assert set(read) == {"labeled_points", "class_info"}
    assert 'f"{side}/{topic}"' in source
    written = (ROOT / "pointdistill_ros/nodes/outputs.py").read_text()
    assert all(f'"~/{topic}"' in written for topic in read)


def test_without_a_teacher_of_our_own(compare):
    assert set(nodes(compare(run_teacher="false"))) == {"student", "comparison_node"}


def test_with_autostart_false_launch_leads_all_three(compare):
    actions = compare(autostart="false")
    led = [a for a in actions if type(a).__name__ == "LifecycleNode"]
    assert {node.kwargs["name"] for node in led} == {"student", "teacher", "comparison_node"}
    assert not any(node.kwargs["parameters"][1]["autostart"] for node in led)
    kinds = [type(action).__name__ for action in actions]
    assert kinds == ["RegisterEventHandler", "LifecycleNode", "EmitEvent"] * 3


def test_time_transport_and_log_level_reach_every_node(replay, compare):
    actions = compare(use_sim_time="true", dds_transport="large_data", log_level="debug")
    for node in nodes(actions).values():
        assert node["parameters"][1]["use_sim_time"] is True
        assert node["arguments"][-1] == "debug"
    kinds = [type(action).__name__ for action in actions]
    assert kinds == ["SetEnvironmentVariable"] + ["Node"] * 3
    assert player(replay(dds_transport="large_data"))["additional_env"] == {
        "FASTDDS_BUILTIN_TRANSPORTS": "LARGE_DATA"
    }


def test_the_replay_plays_onto_what_the_nodes_read_with_the_bags_time(replay):
    actions = replay()
    for side in ("student", "teacher"):
        node = nodes(actions)[side]
        assert node["remappings"] == [("points", "/points")]
        assert node["parameters"][1]["use_sim_time"] is True
    command = player(actions)["cmd"]
    assert command[1:3] == ["play", "drive.mcap"]
    assert command[command.index("--to") + 1] == "/points"
    assert "--clock" in command
    assert player(actions)["on_exit"] is None
    (shutdown,) = player(replay(exit_at_end="true"))["on_exit"]
    assert type(shutdown).__name__ == "Shutdown"


@pytest.mark.parametrize("flags", [{}, {"loop": "true", "step": "true", "topic": "/lidar"}])
def test_the_player_understands_its_options(replay, flags):
    from typer.main import get_command

    from pointdistill_ros.cli import app

    _, name, *options = player(replay(rate="0.5", **flags))["cmd"]
    parsed = get_command(app).commands[name].make_context(name, list(options)).params
    assert (str(parsed["bag"]), parsed["rate"], parsed["to"]) == ("drive.mcap", 0.5, "/points")
    assert parsed["clock"] and parsed["loop"] == parsed["step_on_result"] == bool(flags)
    if flags:
        assert parsed["topic"] == ["/lidar"]
        assert parsed["result_topic"] == "/student/labeled_points"


def known_topics():
    return {f"{node}/{topic}" for node, topics in OUTPUTS.items() for topic in topics}


def test_rviz_shows_labels_disagreement_and_latency(compare):
    rviz = nodes(compare(viewer="rviz", fixed_frame="velodyne", namespace="front"))["rviz2"]
    assert rviz["namespace"] == "front"
    assert rviz["arguments"][2:] == ["-f", "velodyne"]
    layout = yaml.safe_load(Path(rviz["arguments"][1]).read_text())
    displays = layout["Visualization Manager"]["Displays"]
    topics = [display["Topic"]["Value"] for display in displays if "Topic" in display]
    assert set(topics) <= known_topics()
    shown = {d["Topic"]["Value"] for d in displays if "Topic" in d and d["Enabled"]}
    assert shown == {
        "student/visualization",
        "student/legend",
        "comparison_node/disagreement",
        "comparison_node/summary",
    }


def test_foxglove_shows_labels_disagreement_and_latency(compare):
    assert "foxglove_bridge" in nodes(compare(viewer="foxglove"))
    layout = json.loads((ROOT / "config/viewers/comparison.foxglove.json").read_text())
    panels = layout["configById"]

    def leaves(tree):
        return [tree] if isinstance(tree, str) else leaves(tree["first"]) + leaves(tree["second"])

    assert sorted(leaves(layout["layout"])) == sorted(panels)
    topics = {topic.strip("/") for topic in panels["3D!labels"]["topics"]}
    assert topics <= known_topics() and "comparison_node/disagreement" in topics
    paths = [
        path["value"]
        for name, panel in panels.items()
        if name.startswith("Plot!")
        for path in panel["paths"]
    ]
    messages = {
        "comparison": "ModelComparison",
        "comparison_window": "ModelComparison",
        "stats": "SegmentationStats",
    }
    for path in paths:
        topic, _, field = path.strip("/").partition(".")
        assert topic in known_topics()
        message = (ROOT / f"msg/{messages[topic.split('/')[1]]}.msg").read_text()
        assert re.search(rf"^float32 {field}\b", message, re.M), path
    assert {
        "/comparison_node/comparison.student_age_ms",
        "/comparison_node/comparison.teacher_age_ms",
    } <= set(paths)
