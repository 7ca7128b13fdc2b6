# SPDX-License-Identifier: Apache-2.0
"""What the launch files would start, checked against the nodes; a stand-in replaces ROS launch."""

import re
import runpy
from pathlib import Path

import pytest
import yaml

pytest.importorskip("lifecycle_msgs", reason="ROS messages are not installed")

from pointdistill_ros.config import NodeConfig
from pointdistill_ros.nodes.comparison_config import ComparisonConfig
from pointdistill_ros.nodes.parameters import settings

ROOT = Path(__file__).resolve().parents[2]
launch = runpy.run_path(str(Path(__file__).with_name("launch_stand_in.py")))["launch"]
FILES = sorted((ROOT / "launch").glob("*.launch.py"))
PARAMETERS = {
    executable: {s.name: s.default for s in settings(config)} | {"use_sim_time": False}
    for executable, config in (
        ("segmentation_node", NodeConfig()),
        ("comparison_node", ComparisonConfig()),
    )
}
NEEDED = {"replay.launch.py": {"bag": "drive.mcap"}}
"""Arguments without a default."""
VIEWERS = {("rviz2", "rviz2"), ("foxglove_bridge", "foxglove_bridge")}


def starter(path, monkeypatch):
    needed = NEEDED.get(path.name, {})
    return lambda **values: launch(path, monkeypatch, **needed | values)


@pytest.fixture(params=FILES, ids=lambda path: path.name)
def start_any(request, monkeypatch):
    """Run each launch file with some arguments."""
    return starter(request.param, monkeypatch)


@pytest.fixture
def start(monkeypatch):
    """Run segmentation.launch.py with some arguments."""
    return starter(ROOT / "launch/segmentation.launch.py", monkeypatch)


def of_kind(actions, kind):
    return [action for action in actions if type(action).__name__ == kind]


def node_of(actions, kind="Node"):
    (node,) = [a for a in of_kind(actions, kind) if a.kwargs["package"] == "pointdistill_ros"]
    return node.kwargs


def flattened(data, prefix=""):
    for key, value in data.items():
        if isinstance(value, dict):
            yield from flattened(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def test_there_are_these_launch_files():
    names = [path.name.partition(".")[0] for path in FILES]
    assert {"segmentation", "comparison", "replay"} <= set(names)


def test_every_argument_has_a_description_and_a_valid_default(start_any):
    arguments, _ = start_any()
    needed = {a.name for a in arguments if "default_value" not in a.kwargs}
    assert needed <= {"bag"}
    for argument in arguments:
        assert len(argument.kwargs["description"]) > 15, argument.name
        choices = argument.kwargs.get("choices")
        assert choices is None or argument.kwargs["default_value"] in choices


def test_the_segmentation_file_has_the_arguments_that_people_expect(start):
    arguments, _ = start()
    assert {a.name for a in arguments} >= {
        *("params_file", "model", "namespace", "use_sim_time", "input_topic", "node_name"),
        *("device", "engine", "precision", "max_latency_ms"),
        *("autostart", "log_level", "rviz", "dds_transport"),
    }


def test_every_choice_can_be_started(start_any):
    arguments, _ = start_any()
    for argument in arguments:
        for choice in argument.kwargs.get("choices", []):
            _, actions = start_any(**{argument.name: choice})
            assert of_kind(actions, "Node") or of_kind(actions, "LifecycleNode")


def test_executables_are_installed_programs(start_any):
    block = re.search(r"set\(EXECUTABLES\s+(.*?)\)", (ROOT / "CMakeLists.txt").read_text(), re.S)
    installed = {line.partition("=")[0] for line in block[1].split()}
    arguments, _ = start_any()
    for argument in arguments:
        for choice in argument.kwargs.get("choices", [""]):
            values = {argument.name: choice} if choice else {}
            _, actions = start_any(**values)
            for node in of_kind(actions, "Node") + of_kind(actions, "LifecycleNode"):
                if node.kwargs["package"] == "pointdistill_ros":
                    assert node.kwargs["executable"] in installed
                else:
                    assert (node.kwargs["package"], node.kwargs["executable"]) in VIEWERS
            for process in of_kind(actions, "ExecuteProcess"):
                folder, _, program = process.kwargs["cmd"][0].rpartition("/")
                assert folder == "lib/pointdistill_ros"
                assert program in installed


def test_the_parameters_of_every_node_exist_with_their_type(start_any):
    _, actions = start_any()
    for node in of_kind(actions, "Node") + of_kind(actions, "LifecycleNode"):
        if node.kwargs["package"] == "pointdistill_ros":
            known = PARAMETERS[node.kwargs["executable"]]
            file, overrides = node.kwargs["parameters"]
            from_file = yaml.safe_load(Path(file).read_text())["/**"]["ros__parameters"]
            for name, value in [*flattened(from_file), *overrides.items()]:
                assert name in known
                assert type(value) is type(known[name]), name


def test_parameters_exist_with_their_type(start):
    _, actions = start(
        model="teacher",
        device="cuda:1",
        engine="cuda",
        precision="float16",
        max_latency_ms="80",
        use_sim_time="true",
    )
    overrides = node_of(actions)["parameters"][1]
    for name, value in overrides.items():
        assert type(value) is type(PARAMETERS["segmentation_node"][name]), name
    assert overrides == {
        "use_sim_time": True,
        "autostart": True,
        "model.path": "teacher",
        "model.device": "cuda:1",
        "model.engine": "cuda",
        "model.precision": "float16",
        "model.max_latency_ms": 80.0,
    }


def test_empty_arguments_leave_the_parameter_file_alone(start):
    _, actions = start()
    assert node_of(actions)["parameters"][1] == {"use_sim_time": False, "autostart": True}


def test_remaps_name_topics_of_the_node(start):
    source = (ROOT / "pointdistill_ros/nodes/segmentation_node.py").read_text()
    _, actions = start(input_topic="/velodyne_points", namespace="front")
    node = node_of(actions)
    assert node["remappings"] == [("points", "/velodyne_points")]
    assert '"points"' in source
    assert node["namespace"] == "front"


def test_with_autostart_false_launch_leads_the_lifecycle(start):
    _, actions = start(autostart="false")
    handler, node, configure = actions
    assert node_of(actions, "LifecycleNode")["parameters"][1]["autostart"] is False
    from lifecycle_msgs.msg import Transition

    change = configure.kwargs["event"].kwargs
    assert change["transition_id"] == Transition.TRANSITION_CONFIGURE
    assert change["lifecycle_node_matcher"].args == (node,)
    on = handler.args[0].kwargs
    assert (on["target_lifecycle_node"], on["start_state"], on["goal_state"]) == (
        node,
        "configuring",
        "inactive",
    )
    (activate,) = on["entities"]
    assert activate.kwargs["event"].kwargs["transition_id"] == Transition.TRANSITION_ACTIVATE


@pytest.mark.parametrize(
    ("choice", "variables"),
    [
        ("auto", []),
        ("default", [("FASTDDS_BUILTIN_TRANSPORTS", "DEFAULT")]),
        ("udp_large", [("FASTDDS_BUILTIN_TRANSPORTS", "UDPv4?sockets_size=4MB")]),
        ("large_data", [("FASTDDS_BUILTIN_TRANSPORTS", "LARGE_DATA")]),
    ],
)
def test_transports_are_environment_variables_set_before_the_nodes(start, choice, variables):
    _, actions = start(dds_transport=choice)
    count = len(variables)
    assert [a.args for a in actions[:count]] == variables
    assert not of_kind(actions[count:], "SetEnvironmentVariable")


def test_the_shared_memory_transport_names_our_profile(start):
    _, actions = start(dds_transport="shm_large")
    variable, path = actions[0].args
    assert variable in ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
    assert Path(path).samefile(ROOT / "config/fastdds_large_clouds.xml")


def test_rviz_shows_what_the_node_publishes(start):
    _, actions = start(rviz="true")
    (rviz,) = [a.kwargs for a in of_kind(actions, "Node") if a.kwargs["package"] == "rviz2"]
    layout = yaml.safe_load(Path(rviz["arguments"][1]).read_text())
    topics = [
        d["Topic"]["Value"] for d in layout["Visualization Manager"]["Displays"] if "Topic" in d
    ]
    assert topics == ["segmentation_node/visualization"]
