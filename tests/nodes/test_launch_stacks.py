# SPDX-License-Identifier: Apache-2.0
"""What multi_lidar, autoware and nav2.launch.py would start; a stand-in replaces ROS launch."""

import runpy
from pathlib import Path

import pytest
import yaml

pytest.importorskip("lifecycle_msgs", reason="ROS messages are not installed")

from pointdistill_ros.config import NodeConfig
from pointdistill_ros.errors import ConfigError
from pointdistill_ros.labels import LabelSet
from pointdistill_ros.nodes.multi_config import read_lidars
from pointdistill_ros.nodes.parameters import rebuild

ROOT = Path(__file__).resolve().parents[2]
STACKS = ROOT / "config/stacks"
run = runpy.run_path(str(Path(__file__).with_name("launch_stand_in.py")))["launch"]
TWO = """[
  {name: roof, topic: /roof/points, parameters: {input: {z_offset: 0.4}}},
  {name: rear, topic: points, namespace: /back, node_name: labels, params_file: rear.yaml},
]"""


@pytest.fixture
def launch(monkeypatch):
    return lambda name, **values: run(ROOT / f"launch/{name}.launch.py", monkeypatch, **values)[1]


def nodes(actions):
    return [a.kwargs for a in actions if type(a).__name__ in ("Node", "LifecycleNode")]


def parameters(file):
    return yaml.safe_load((STACKS / file).read_text())["/**"]["ros__parameters"]


def config(file):
    """A parameter file over the defaults. Raises ConfigError where the node would."""

    def dotted(data, prefix=""):
        for key, value in data.items():
            if isinstance(value, dict):
                yield from dotted(value, f"{prefix}{key}.")
            else:
                yield prefix + key, tuple(value) if isinstance(value, list) else value

    return rebuild(NodeConfig(), dict(dotted(parameters(file))))


# several lidars


def test_a_node_for_each_lidar_with_its_own_parameters_last(launch):
    roof, rear = nodes(launch("multi_lidar", lidars=TWO, namespace="car", model="big"))
    assert {node["executable"] for node in (roof, rear)} == {"segmentation_node"}
    assert (roof["namespace"], roof["name"]) == ("/car/roof", "segmentation_node")
    assert (rear["namespace"], rear["name"]) == ("/back", "labels")
    assert roof["remappings"] == [("points", "/roof/points")]
    assert rear["remappings"] == [("points", "points")]
    for node in (roof, rear):
        assert Path(node["parameters"][0]).name == "segmentation.yaml"
        assert node["parameters"][1]["model.path"] == "big"
    assert roof["parameters"][2:] == [{"input.z_offset": 0.4}]
    assert rear["parameters"][2:] == ["rear.yaml"]


def test_launch_leads_the_node_of_each_lidar(launch):
    kinds = [type(a).__name__ for a in launch("multi_lidar", lidars=TWO, autostart="false")]
    assert kinds == ["RegisterEventHandler", "LifecycleNode", "EmitEvent"] * 2


@pytest.mark.parametrize(
    ("autostart", "parameter"), [("true", True), ("false", False), ("external", False)]
)
def test_one_process_for_all_lidars(launch, autostart, parameter):
    values = {"lidars": TWO, "namespace": "car", "model": "big", "autostart": autostart}
    (process,) = nodes(launch("multi_lidar", mode="process", **values))
    assert process["executable"] == "multi_lidar_node"
    # a name or namespace given by launch would be that of all nodes of the process
    assert "name" not in process and "namespace" not in process
    assert process["parameters"][1] == {
        "model.path": "big",
        "use_sim_time": False,
        "autostart": parameter,
    }
    command = process["arguments"]
    assert read_lidars(command[command.index("--lidars") + 1]) == read_lidars(TWO)
    assert command[command.index("--namespace") + 1] == "car"


def test_the_process_understands_its_arguments(launch, monkeypatch):
    node = pytest.importorskip("pointdistill_ros.nodes.multi_lidar_node", reason="rclpy is absent")
    (process,) = nodes(launch("multi_lidar", mode="process", lidars=TWO, namespace="car"))
    monkeypatch.setattr("sys.argv", ["multi_lidar_node", *process["arguments"]])
    spun = []
    monkeypatch.setattr(node, "spin", lambda make, program: spun.append(make))
    node.main()
    (make,) = spun
    assert make.args == (read_lidars(TWO), "car")


def test_a_bad_list_of_lidars_starts_nothing(launch):
    for mode in ("nodes", "process"):
        with pytest.raises(ConfigError, match="two lidars have the name a"):
            launch("multi_lidar", mode=mode, lidars="[{name: a, topic: b}, {name: a, topic: c}]")


# Autoware


def test_autoware_gets_its_topics_from_those_of_the_node(launch):
    outputs = pytest.importorskip("pointdistill_ros.nodes.outputs", reason="rclpy is absent")
    (node,) = nodes(launch("autoware"))
    assert (node["namespace"], node["name"]) == ("/perception", "ptv3")
    remaps = dict(node["remappings"])
    assert remaps.pop("points") == "/sensing/lidar/concatenated/pointcloud"
    assert set(remaps) == set(outputs.CLOUDS)
    assert all(topic.startswith("/perception/ptv3/") for topic in remaps.values())
    (moved,) = nodes(
        launch("autoware", filtered_topic="/perception/obstacle_segmentation/pointcloud")
    )
    assert ("~/filtered", "/perception/obstacle_segmentation/pointcloud") in moved["remappings"]


def test_autowares_clustering_reads_what_the_node_writes_in_all_its_versions(launch):
    segmentation, cluster = nodes(launch("autoware", cluster="true"))
    labelled = dict(segmentation["remappings"])["~/labeled_points"]
    remaps = dict(cluster["remappings"])
    inputs = {topic: to for topic, to in remaps.items() if "input" in topic}
    assert len(inputs) == 3 and set(inputs.values()) == {labelled}
    assert {to for topic, to in remaps.items() if topic not in inputs} == {
        "/perception/ptv3/clustered/objects"
    }


def test_the_classes_of_autowares_clustering_stand_in_the_order_of_the_ids_that_go_out():
    node = config("autoware/segmentation.yaml")
    sent = LabelSet.named(node.output.classes)
    mapping = parameters("autoware/label_based_euclidean_cluster.param.yaml")["class_names"]
    assert list(mapping) == list(sent.names)
    kept = {name for name, label in mapping.items() if label != "ignore"}
    assert {"car", "truck", "bus", "motorcycle", "bicycle", "pedestrian"} <= kept
    assert all(mapping[name] == name for name in kept)
    assert set(node.filter.classes) <= set(sent.names) - kept
    assert node.output.layout == "xyzcpe_aligned"


# Nav2


def test_nav2_leads_the_node_and_asks_for_no_bond(launch):
    node, manager = nodes(launch("nav2", namespace="robot", node_name="labels"))
    assert node["parameters"][1]["autostart"] is False
    assert (node["namespace"], node["name"]) == ("robot", "labels")
    (options,) = manager["parameters"]
    assert manager["namespace"] == "robot"
    assert options["node_names"] == ["labels"]
    assert options["autostart"] is True
    assert options["bond_timeout"] == 0.0 and type(options["bond_timeout"]) is float
    (alone,) = nodes(launch("nav2", lifecycle_manager="false"))
    assert alone["executable"] == "segmentation_node"


def test_the_costmaps_read_what_the_node_writes_and_reads(launch):
    node, _ = nodes(launch("nav2"))
    filtered, points = f"/{node['name']}/filtered", dict(node["remappings"])["points"]
    costmaps = yaml.safe_load((STACKS / "nav2/costmaps.yaml").read_text())
    assert set(costmaps) == {"local_costmap", "global_costmap"}
    for name, layer in (("local_costmap", "voxel_layer"), ("global_costmap", "obstacle_layer")):
        settings = costmaps[name][name]["ros__parameters"]
        assert layer in settings["plugins"]
        assert all(settings[plugin]["plugin"].startswith("nav2") for plugin in settings["plugins"])
        sources = {s: settings[layer][s] for s in settings[layer]["observation_sources"].split()}
        obstacles, free = sources["obstacles"], sources["free_space"]
        assert (obstacles["topic"], free["topic"]) == (filtered, points)
        assert (obstacles["marking"], free["marking"], free["clearing"]) == (True, False, True)
        assert free["min_obstacle_height"] < 0 < obstacles["min_obstacle_height"]
        for source in (obstacles, free):
            assert source["data_type"] == "PointCloud2"
            assert source["max_obstacle_height"] > 0, "Nav2's own default is 0: no point passes"
            assert all(
                type(v) is float for k, v in source.items() if k.endswith(("height", "range"))
            )


def test_what_nav2_drives_over_are_classes_of_the_shipped_student():
    left_out = config("nav2/segmentation.yaml").filter.classes
    names = LabelSet.named("semantic-kitti").names
    assert set(left_out) <= set(names)
    assert not {"car", "person", "building", "fence", "pole"} & set(left_out)
