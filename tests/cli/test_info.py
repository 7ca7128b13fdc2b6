# SPDX-License-Identifier: Apache-2.0
"""Exact parameter counts, and an environment that is broken when it is, and only then."""

import importlib
import json
import sys
import types

import pytest
from typer.testing import CliRunner

from pointdistill_ros import resources
from pointdistill_ros.cli import app
from pointdistill_ros.nodes import environment

info_command = importlib.import_module("pointdistill_ros.cli.info")


@pytest.mark.parametrize(
    ("name", "classes", "parameters"),
    [
        ("student", 16, 2_777_344),
        ("student", 19, 2_777_539),
        ("student", 22, 2_777_734),
        ("teacher", 16, 46_159_312),
        ("teacher", 19, 46_159_507),
        ("teacher", 22, 46_159_702),
    ],
)
def test_parameter_counts_are_exact(name, classes, parameters):
    assert info_command.count_parameters(name, classes) == parameters


@pytest.fixture
def healthy(monkeypatch):
    """Weights and ROS are taken as given, so that these tests judge `info` alone."""
    weights = {
        "model": "student",
        "parameters": 2_777_539,
        "label set": "semantic-kitti",
        "classes": ["car", "road"],
        "device": "cpu",
        "engine": "torch",
        "file": "student.safetensors",
        "sha256": "0" * 64,
    }
    monkeypatch.setattr(info_command, "_weights", lambda name: weights | {"model": name})
    monkeypatch.setattr(resources, "shipped_weights", lambda: ["student", "student-free"])
    found = environment.RosEnvironment(facts={"ROS": "kilted"})
    monkeypatch.setattr(environment, "ros_environment", lambda: found)
    return found


def test_json_holds_what_the_tables_show(healthy):
    result = CliRunner().invoke(app, ["info", "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.output)
    assert report["networks"]["teacher"] == {"16": 46159312, "19": 46159507, "22": 46159702}
    assert report["weights"]["student"]["device"] == "cpu"
    assert report["weights"]["student-free"]["model"] == "student-free"
    assert report["environment"]["ROS"] == "kilted"
    assert report["problems"] == []
    table = CliRunner().invoke(app, ["info"]).output
    parts = ("2 777 539", "46 159 507", "semantic-kitti", "cpu, torch", "kilted", "student-free")
    for part in parts:
        assert part in table


def test_a_ros_problem_breaks_the_environment(healthy):
    healthy.problems.append("rclpy is installed but cannot be used: ImportError: x")
    result = CliRunner().invoke(app, ["info"])
    assert result.exit_code == 1
    assert "rclpy is installed but cannot be used" in result.output


def test_missing_student_weights_break_the_environment(healthy, monkeypatch):
    monkeypatch.setattr(resources, "shipped_weights", list)
    result = CliRunner().invoke(app, ["info", "--json"])
    assert result.exit_code == 1
    assert json.loads(result.output)["problems"] == [
        "the weights of the student are missing from this installation"
    ]


def test_no_ros_is_no_problem(monkeypatch):
    monkeypatch.setattr(environment.util, "find_spec", lambda _: None)
    found = environment.ros_environment()
    assert found.problems == []
    assert "nodes do not" in found.facts["ROS"]


def test_half_a_ros_is_a_problem(monkeypatch):
    utilities = pytest.importorskip("rclpy.utilities")

    def fail():
        raise ImportError("librmw_fastrtps_cpp.so: cannot open shared object file")

    monkeypatch.setattr(utilities, "get_rmw_implementation_identifier", fail)
    found = environment.ros_environment()
    assert len(found.problems) == 1
    assert found.problems[0].startswith("rclpy is installed but cannot be used: ")


def test_messages_that_do_not_load_are_a_problem(monkeypatch):
    pytest.importorskip("rclpy")
    broken = types.ModuleType("pointdistill_ros.msg")
    broken.__path__ = ["/somewhere"]

    class SegmentationStats:
        def __init__(self):
            raise RuntimeError("compiled against another numpy")

    broken.SegmentationStats = SegmentationStats
    monkeypatch.setitem(sys.modules, "pointdistill_ros.msg", broken)
    monkeypatch.setattr("pointdistill_ros.msg", broken, raising=False)
    found = environment.ros_environment()
    assert len(found.problems) == 1
    assert "compiled against another numpy" in found.problems[0]


def messages(monkeypatch, **built):
    """What is said of a package that holds these messages; None: there is no such package."""
    pytest.importorskip("rclpy")
    package = types.ModuleType("pointdistill_ros.msg")
    package.__path__ = ["/somewhere"]
    vars(package).update(built)
    monkeypatch.setitem(sys.modules, "pointdistill_ros.msg", package if built else None)
    found = environment.ros_environment()
    assert found.problems == []
    return found.facts["messages"]


def test_messages_are_named(monkeypatch):
    built = dict.fromkeys(("SegmentationStats", "ClassInfo", "ModelComparison"), object)
    every = "SegmentationStats, ClassInfo, ModelComparison"
    assert messages(monkeypatch, **built) == f"{every}: built, in /somewhere"
    del built["ModelComparison"]  # built before there was one
    assert "ModelComparison not: build again" in messages(monkeypatch, **built)
    assert messages(monkeypatch).startswith(f"{every} not built: nodes use standard messages")


def test_a_profile_that_is_no_file_is_a_problem(monkeypatch):
    pytest.importorskip("rclpy")
    monkeypatch.setenv(environment.profile_variable(), "/no/profile.xml")
    found = environment.ros_environment()
    assert any("/no/profile.xml is not a file" in problem for problem in found.problems)


def test_the_stranger_called_launch_is_a_problem(monkeypatch, tmp_path):
    pytest.importorskip("rclpy")
    (tmp_path / "launch").mkdir()
    (tmp_path / "launch/__init__.py").write_text('"""An application launcher."""')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "launch", raising=False)
    found = environment.ros_environment()
    sys.modules.pop("launch", None)
    assert any("is not ROS launch" in problem for problem in found.problems)
