# SPDX-License-Identifier: Apache-2.0
"""Node settings: complete defaults, refusals that name the key, files that match."""

import dataclasses

import pytest
import yaml

from pointdistill_ros.config import (
    DiagnosticsConfig,
    FilterConfig,
    InputConfig,
    ModelConfig,
    NodeConfig,
    OutputConfig,
    PaceConfig,
    load_config,
    parse_config,
)
from pointdistill_ros.errors import ConfigError
from pointdistill_ros.nodes.comparison_config import AlarmConfig, ComparisonConfig, PairingConfig
from pointdistill_ros.resources import config_path


def node_file(name):
    data = yaml.safe_load(config_path(f"nodes/{name}.yaml").read_text())
    assert list(data) == ["/**"], "renamed and namespaced nodes must match too"
    return data["/**"]["ros__parameters"]


def test_an_empty_file_is_a_valid_configuration(tmp_path):
    (tmp_path / "empty.yaml").touch()
    assert load_config(NodeConfig, tmp_path / "empty.yaml") == NodeConfig()


def test_the_segmentation_file_shows_every_default():
    data = node_file("segmentation")
    assert parse_config(NodeConfig, data, "file") == NodeConfig()
    data["filter"]["classes"] = tuple(data["filter"]["classes"])
    assert data == dataclasses.asdict(NodeConfig())


def test_the_comparison_file_shows_every_default():
    data = node_file("comparison")
    assert parse_config(ComparisonConfig, data, "file") == ComparisonConfig()
    assert data == dataclasses.asdict(ComparisonConfig())


def test_the_teacher_leaves_the_machine_to_the_student():
    pace = parse_config(NodeConfig, node_file("teacher"), "file").pace
    assert (pace.priority, pace.max_load < 1) == ("idle", True)


def test_the_teacher_file_is_valid():
    assert parse_config(NodeConfig, node_file("teacher"), "file").model.path == "teacher"


@pytest.mark.parametrize(
    ("data", "key"),
    [
        ({"input": {"max_agee": 1.0}}, "input.max_agee"),
        ({"inputs": {}}, "inputs"),
        ({"input": {"depth": "many"}}, "input.depth"),
        ({"output": {"layout": "xyz"}}, "output.layout"),
        ({"filter": {"classes": "road"}}, "filter.classes"),
        ({"filter": {"classes": [1]}}, "filter.classes.0"),
        ({"input": {"depth": 0}}, "depth must lie in 1 .. 1000"),
        ({"diagnostics": {"warn_age": 2.0}}, "error_age (1) must not be below warn_age (2)"),
    ],
)
def test_refusals_name_file_and_key(data, key):
    with pytest.raises(ConfigError) as error:
        parse_config(NodeConfig, data, "robot.yaml")
    assert str(error.value).startswith("robot.yaml: ")
    assert key in str(error.value)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (InputConfig, {"max_age": -0.1}),
        (InputConfig, {"max_age": float("nan")}),
        (InputConfig, {"depth": 1001}),
        (InputConfig, {"reliability": "sometimes"}),
        (InputConfig, {"intensity_scale": "loud"}),
        (InputConfig, {"max_points": 0}),
        (InputConfig, {"z_offset": float("inf")}),
        (OutputConfig, {"layout": "xyz"}),
        (FilterConfig, {"class_probability_threshold": 1.01}),
        (FilterConfig, {"output_format": "pcd"}),
        (ModelConfig, {"threads": -1}),
        (ModelConfig, {"max_latency_ms": -1.0}),
        (ModelConfig, {"max_latency_ms": float("nan")}),
        (ModelConfig, {"max_latency_ms": 60001.0}),
        (DiagnosticsConfig, {"silent_after": 0.0}),
        (PaceConfig, {"every": 0}),
        (PaceConfig, {"max_load": 0.0}),
        (PaceConfig, {"max_load": 1.1}),
        (PaceConfig, {"priority": "highest"}),
        (PairingConfig, {"depth": 0}),
        (AlarmConfig, {"warn_below": float("nan")}),
    ],
)
def test_direct_construction_is_checked_too(kind, values):
    (name,) = values
    with pytest.raises(ValueError, match=f"^{name} must"):
        kind(**values)
