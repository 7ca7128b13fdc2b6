# SPDX-License-Identifier: Apache-2.0
"""Autoware's parameter names at the start of a node."""

from types import SimpleNamespace

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")

from rclpy.parameter import Parameter

from pointdistill_ros.config import NodeConfig
from pointdistill_ros.errors import ConfigError
from pointdistill_ros.nodes.aliases import ALIASES, REFUSED, apply_aliases
from pointdistill_ros.nodes.parameters import rebuild, settings

THRESHOLD = "segmentation3d.filter.class_probability_threshold"
CLASSES = "segmentation3d.filter.classes"


def overrides_after(values):
    """What the node's overrides are once the names are ours; our names only."""
    overrides = {name: Parameter(name, value=value) for name, value in values.items()}
    apply_aliases(SimpleNamespace(_parameter_overrides=overrides))
    own = {setting.name for setting in settings(NodeConfig())}
    return {name: parameter.value for name, parameter in overrides.items() if name in own}


def test_every_alias_means_a_parameter_that_exists():
    own = {setting.name for setting in settings(NodeConfig())}
    assert set(ALIASES.values()) <= own
    assert not own & (set(ALIASES) | set(REFUSED)), "a name of ours cannot be an alias"


def test_autowares_file_reaches_our_parameters():
    given = {
        THRESHOLD: 0.05,
        CLASSES: ["road"],
        "segmentation3d.filter.output_format": "xyzirc",
        "segmentation3d.source_reconstruction": "full",
        "cloud_capacity": 1_000_000,
        "somebody.else": 3,
    }
    config = rebuild(NodeConfig(), overrides_after(given))
    assert config.filter.class_probability_threshold == 0.05
    assert config.filter.classes == ("road",)
    assert config.filter.output_format == "xyzirc"
    assert config.input.max_points == 1_000_000


def test_an_empty_output_format_is_the_inputs():
    assert overrides_after({"segmentation3d.filter.output_format": ""}) == {
        "filter.output_format": "input"
    }


def test_both_names_with_one_value_are_accepted_and_with_two_refused():
    both = {CLASSES: ["road"], "filter.classes": ["road"]}
    assert overrides_after(both) == {"filter.classes": ["road"]}
    with pytest.raises(ConfigError) as error:
        overrides_after({THRESHOLD: 0.05, "filter.class_probability_threshold": 0.5})
    for part in (THRESHOLD, "and filter.class_probability_threshold", "0.05", "0.5"):
        assert part in str(error.value)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_cannot_be_followed_is_refused_with_a_hint(name):
    with pytest.raises(ConfigError) as error:
        overrides_after({name: "something"})
    assert str(error.value) == f"{name}: {REFUSED[name]}"


def test_all_that_cannot_be_followed_is_told_at_once():
    with pytest.raises(ConfigError) as error:
        overrides_after({"backbone.onnx_path": "a.onnx", "trt_precision": "fp16"})
    assert "backbone.onnx_path: give model.path" in str(error.value)
    assert "trt_precision: set model.precision" in str(error.value)


def test_a_detection_head_must_be_off():
    assert overrides_after({"detection3d.use_head": False, "detection3d.engine_path": "a"}) == {}
    for given in ({"detection3d.use_head": True}, {"detection3d.engine_path": "a"}):
        with pytest.raises(ConfigError, match="detects no objects"):
            overrides_after(given)


def test_partial_reconstruction_is_refused():
    with pytest.raises(ConfigError, match="every point gets a label"):
        overrides_after({"segmentation3d.source_reconstruction": "none"})
