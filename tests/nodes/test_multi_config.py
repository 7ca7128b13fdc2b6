# SPDX-License-Identifier: Apache-2.0
"""The list of lidars: files, text, names, and what is wrong with bad ones."""

import pytest
import yaml

from pointdistill_ros.errors import ConfigError
from pointdistill_ros.nodes.multi_config import LidarConfig, read_lidars
from pointdistill_ros.resources import config_path

TWO = """
lidars:
  - {name: roof, topic: /roof/points}
  - name: rear
    topic: points
    namespace: back/lidar
    node_name: labels
    parameters: {input: {z_offset: -0.4}, pace.every: 2}
"""


def test_a_file_and_the_same_list_as_text(tmp_path):
    file = tmp_path / "lidars.yaml"
    file.write_text(TWO)
    lidars = read_lidars(str(file))
    assert lidars == read_lidars(
        yaml.safe_dump(yaml.safe_load(TWO)["lidars"], default_flow_style=1)
    )
    roof, rear = lidars
    assert (roof.namespace_in(), roof.node_name) == ("/roof", "segmentation_node")
    assert (rear.namespace_in(), rear.node_name) == ("/back/lidar", "labels")
    assert roof.overrides() == {}
    assert rear.overrides() == {"input.z_offset": -0.4, "pace.every": 2}


@pytest.mark.parametrize(
    ("namespace", "outer", "absolute"),
    [
        (None, "", "/roof"),
        (None, "car", "/car/roof"),
        (None, "/car/", "/car/roof"),
        ("", "car", "/car"),
        ("", "", "/"),
        ("/fixed/here", "car", "/fixed/here"),
    ],
)
def test_namespaces_lie_in_the_outer_one_unless_absolute(namespace, outer, absolute):
    assert LidarConfig("roof", "points", namespace).namespace_in(outer) == absolute


def test_the_shipped_example_names_lidars_with_parameters_that_exist():
    from pointdistill_ros.config import NodeConfig

    parameters = pytest.importorskip("pointdistill_ros.nodes.parameters", reason="rclpy is absent")
    lidars = read_lidars(str(config_path("nodes/multi_lidar.yaml")))
    assert len(lidars) > 1
    known = {setting.name for setting in parameters.settings(NodeConfig())}
    for lidar in lidars:
        assert set(lidar.overrides()) <= known
        parameters.rebuild(NodeConfig(), lidar.overrides())  # refuses values that are not allowed


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("lidars: []", "lidars is empty"),
        ("{}", "lidars: Field required"),
        ("lidars: [{name: a}]", "lidars.0.topic: Field required"),
        ("lidars: [{name: a, topic: ''}]", "topic is empty"),
        ("lidars: [{name: a, topics: b}]", "lidars.0.topics"),
        ("lidars: [{name: 1a, topic: b}]", "name '1a' is no ROS name"),
        ("lidars: [{name: a, topic: b, node_name: c/d}]", "node_name 'c/d' is no ROS name"),
        ("lidars: [{name: a, topic: b, namespace: c//d}]", "namespace 'c//d' is no ROS namespace"),
        ("lidars: [{name: a, topic: b}, {name: a, topic: c}]", "two lidars have the name a"),
        (
            "lidars: [{name: a, topic: b, namespace: n}, {name: c, topic: b, namespace: n}]",
            "two lidars have the node /n/segmentation_node",
        ),
        ("lidars: [", "expected the node content"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_with_the_file(tmp_path, text, complaint):
    file = tmp_path / "lidars.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_lidars(str(file))
    assert str(caught.value).startswith(f"{file}: ")
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named():
    with pytest.raises(ConfigError, match=r"^/no/lidars.yaml: No such file or directory$"):
        read_lidars("/no/lidars.yaml")
    with pytest.raises(ConfigError, match=r"^lidars: "):
        read_lidars("[{name: a}]")
