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
PARAMETERS["multi_lidar_node"] = PARAMETERS["segmentation_node"]
NEEDED = {"replay.launch.py": {"bag": "drive.mcap"}}
"""Arguments without a default."""
FOREIGN = {
    ("rviz2", "rviz2"),
    ("foxglove_bridge", "foxglove_bridge"),
    ("autoware_euclidean_cluster", "label_based_euclidean_cluster_node"),
    ("nav2_lifecycle_manager", "lifecycle_manager"),
}
SETS = [
    {},
    {"use_sim_time": "true", "log_level": "debug", "dds_transport": "udp_large"},
    {"model": "m.safetensors", "device": "cpu", "max_latency_ms": "80", "z_offset": "-0.5"},
    {"filter_classes": "road, sidewalk", "filter_probability": "0.7", "classes": "autoware"},
    {"autostart": "external", "namespace": "car", "target_frame": "base_link"},
    {"rviz": "true", "viewer": "rviz", "cluster": "true", "mode": "process", "step": "true"}
    | {"use_sim_time": "true"},
    {"viewer": "foxglove", "run_teacher": "false", "use_sim_time": "true"},
    {"lifecycle_manager": "false"},
]
"""Argument sets; a file gets what it declares of each."""


def starter(path, monkeypatch):
    needed = NEEDED.get(path.name, {})
    return lambda **values: launch(path, monkeypatch, **needed | values)


@pytest.fixture(params=FILES, ids=lambda path: path.name)
def start_any(request, monkeypatch):
    """Run each launch file with some arguments."""
    return starter(request.param, monkeypatch)


@pytest.fixture
def started(start_any):
    """Each launch file with each choice of each argument, and with the argument sets."""

    def runs():
        arguments, _ = start_any()
        known = {argument.name for argument in arguments}
        for values in SETS:
            yield start_any(**{name: v for name, v in values.items() if name in known})[1]
        for argument in arguments:
            for choice in argument.kwargs.get("choices", []):
                yield start_any(**{argument.name: choice})[1]

    return runs


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
    assert set(names) == {
        *("segmentation", "comparison", "replay", "multi_lidar", "autoware", "nav2")
    }


def test_every_argument_has_a_description_and_a_valid_default(start_any):
    arguments, _ = start_any()
    needed = {a.name for a in arguments if "default_value" not in a.kwargs}
    assert needed <= {"bag"}
    for argument in arguments:
        assert len(argument.kwargs["description"]) > 15, argument.name
        choices = argument.kwargs.get("choices")
        assert choices is None or argument.kwargs["default_value"] in choices


def test_an_argument_means_the_same_in_every_file(monkeypatch):
    described = {}
    for path in FILES:
        for argument in starter(path, monkeypatch)()[0]:
            told = argument.kwargs["description"], tuple(argument.kwargs.get("choices", ()))
            assert described.setdefault(argument.name, told) == told
    from pointdistill_ros.nodes.launch_arguments import ARGUMENTS

    assert set(described) == set(ARGUMENTS), "described, but no file has it"


def test_the_segmentation_file_has_the_arguments_that_people_expect(start):
    arguments, _ = start()
    assert {a.name for a in arguments} >= {
        *("params_file", "model", "namespace", "use_sim_time", "input_topic", "node_name"),
        *("device", "engine", "precision", "max_latency_ms"),
        *("z_offset", "target_frame", "classes", "filter_classes", "filter_probability"),
        *("autostart", "log_level", "rviz", "dds_transport"),
    }


def read(file):
    return yaml.safe_load(Path(file).read_text())["/**"]["ros__parameters"]


def nodes_of(actions):
    return of_kind(actions, "Node") + of_kind(actions, "LifecycleNode")


def test_executables_are_installed_programs(started):
    block = re.search(r"set\(EXECUTABLES\s+(.*?)\)", (ROOT / "CMakeLists.txt").read_text(), re.S)
    installed = {line.partition("=")[0] for line in block[1].split()}
    for actions in started():
        assert nodes_of(actions)
        for node in nodes_of(actions):
            if node.kwargs["package"] == "pointdistill_ros":
                assert node.kwargs["executable"] in installed
            else:
                assert (node.kwargs["package"], node.kwargs["executable"]) in FOREIGN
        for process in of_kind(actions, "ExecuteProcess"):
            folder, _, program = process.kwargs["cmd"][0].rpartition("/")
            assert folder == "lib/pointdistill_ros"
            assert program in installed


def test_the_parameters_of_every_node_exist_with_their_type(started):
    for actions in started():
        for node in nodes_of(actions):
            if node.kwargs["package"] != "pointdistill_ros":
                continue
            known = PARAMETERS[node.kwargs["executable"]]
            for given in node.kwargs["parameters"]:
                assert given, "launch cannot pass an empty set"
                for name, value in flattened(given if isinstance(given, dict) else read(given)):
                    assert name in known
                    kind = list if isinstance(known[name], tuple) else type(known[name])
                    assert type(value) is kind, name


def test_use_sim_time_reaches_every_node(started):
    for actions in started():
        told = set()
        for node in nodes_of(actions):
            (value,) = [p["use_sim_time"] for p in node.kwargs["parameters"] if "use_sim_time" in p
                        and isinstance(p, dict)]  # fmt: skip
            told.add(value)
        assert len(told) == 1


def test_files_lie_in_the_share_folder(start_any, started):
    """CMake installs config/ and launch/ from the root of the sources, as they are there."""
    installed = re.search(
        r"install\(DIRECTORY (.*) DESTINATION share/", (ROOT / "CMakeLists.txt").read_text()
    )
    folders = [ROOT / name for name in installed[1].split()]
    arguments, _ = start_any()
    named = [str(argument.kwargs.get("default_value", "")) for argument in arguments]
    for actions in started():
        for node in nodes_of(actions):
            given = [*node.kwargs.get("parameters", []), *node.kwargs.get("arguments", [])]
            named += [entry for entry in given if isinstance(entry, str)]
    files = {Path(entry) for entry in named if entry.startswith(str(ROOT))}
    assert files
    for file in files:
        assert file.is_file()
        assert any(folder in file.parents for folder in folders)


def test_parameters_exist_with_their_type(start):
    _, actions = start(
        model="teacher",
        device="cuda:1",
        engine="cuda",
        precision="float16",
        max_latency_ms="80",
        z_offset="-1.5",
        target_frame="base_link",
        classes="autoware",
        filter_classes="road, sidewalk",
        filter_probability="0.7",
        use_sim_time="true",
    )
    overrides = node_of(actions)["parameters"][1]
    assert overrides == {
        "use_sim_time": True,
        "autostart": True,
        "model.path": "teacher",
        "model.device": "cuda:1",
        "model.engine": "cuda",
        "model.precision": "float16",
        "model.max_latency_ms": 80.0,
        "input.z_offset": -1.5,
        "input.target_frame": "base_link",
        "output.classes": "autoware",
        "filter.classes": ["road", "sidewalk"],
        "filter.class_probability_threshold": 0.7,
    }


def test_a_value_of_the_wrong_type_is_named(start):
    from pointdistill_ros.errors import ConfigError

    with pytest.raises(ConfigError, match=r"^max_latency_ms:=fast: could not convert"):
        start(max_latency_ms="fast")


def test_empty_arguments_leave_the_parameter_file_alone(start):
    _, actions = start()
    assert node_of(actions)["parameters"][1] == {"use_sim_time": False, "autostart": True}


def test_remaps_name_topics_of_the_node(start):
    source = (ROOT / "pointdistill_ros/nodes/intake.py").read_text()
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


def test_with_autostart_external_nobody_here_leads_the_lifecycle(start):
    _, actions = start(autostart="external")
    (node,) = actions
    assert type(node).__name__ == "Node"
    assert node.kwargs["parameters"][1]["autostart"] is False


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
    assert topics == ["segmentation_node/visualization", "segmentation_node/legend"]
