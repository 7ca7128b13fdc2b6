# SPDX-License-Identifier: Apache-2.0
"""ROS parameters say the same as the dataclasses they come from."""

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")

from rclpy.parameter import Parameter

from pointdistill_ros.config import NodeConfig
from pointdistill_ros.errors import ConfigError
from pointdistill_ros.nodes.outputs import CLASS_INFO, CLOUDS, LABEL_INFO, STATS, TIMES
from pointdistill_ros.nodes.parameters import declare, judge, parameter_table, rebuild, settings
from tests.conftest import ROOT

SETTINGS = {setting.name: setting for setting in settings(NodeConfig())}
LIVE = {
    "model.max_latency_ms",
    "input.max_age",
    "input.intensity_field",
    "input.intensity_scale",
    "input.zero_is_no_return",
    "input.max_points",
    "input.z_offset",
    "output.layout",
    "output.lazy",
    "filter.classes",
    "filter.class_probability_threshold",
    "filter.output_format",
    "pace.every",
    "pace.max_load",
    "diagnostics.silent_after",
    "diagnostics.warn_age",
    "diagnostics.error_age",
    "diagnostics.warn_dropped",
    "diagnostics.log_period",
    "drift.warn",
    "drift.alarm",
}


def test_every_parameter_is_explained():
    for setting in SETTINGS.values():
        assert len(setting.help) > 20, setting.name
        assert setting.descriptor().description == setting.help


def test_only_what_a_running_node_can_follow_is_live():
    assert {name for name, setting in SETTINGS.items() if setting.live} == LIVE
    read_only = {name for name, s in SETTINGS.items() if s.descriptor().read_only}
    assert read_only == set(SETTINGS) - LIVE
    assert {"autostart", "model.path", "input.depth"} <= read_only


def test_ranges_and_choices_reach_the_descriptor():
    (ages,) = SETTINGS["input.max_age"].descriptor().floating_point_range
    assert (ages.from_value, ages.to_value, ages.step) == (0.0, 3600.0, 0.0)
    (depths,) = SETTINGS["input.depth"].descriptor().integer_range
    assert (depths.from_value, depths.to_value, depths.step) == (1, 1000, 1)
    constraints = SETTINGS["output.layout"].descriptor().additional_constraints
    assert constraints == "one of: xyzcpe_aligned, xyzcpe_packed, append, rgb"


def test_rebuild_replaces_only_what_is_named():
    config = rebuild(NodeConfig(), {"input.max_age": 2.0, "model.path": "a.safetensors"})
    assert config.input.max_age == 2.0
    assert config.model.path == "a.safetensors"
    assert rebuild(config, {"input.max_age": 0.5, "model.path": "student"}) == NodeConfig()


def test_changes_are_judged_together():
    old = NodeConfig()
    warn, error = (Parameter(f"diagnostics.{name}_age", value=5.0) for name in ("warn", "error"))
    verdict, config = judge(old, [warn, error])
    assert verdict.successful
    assert (config.diagnostics.warn_age, config.diagnostics.error_age) == (5.0, 5.0)
    verdict, config = judge(old, [Parameter("input.max_age", value=2.0), warn])
    assert not verdict.successful
    assert verdict.reason == "diagnostics.error_age (1) must not be below warn_age (5)"
    assert config == old


def test_a_bad_choice_is_refused_with_the_choices():
    verdict, _ = judge(NodeConfig(), [Parameter("output.layout", value="xyz")])
    assert not verdict.successful
    assert "output.layout must be one of xyzcpe_aligned" in verdict.reason
    with pytest.raises(ConfigError, match=r"^output\.layout must be one of"):
        rebuild(NodeConfig(), {"output.layout": "xyz"})


def test_parameters_of_others_change_nothing():
    verdict, config = judge(NodeConfig(), [Parameter("use_sim_time", value=True)])
    assert verdict.successful
    assert config == NodeConfig()


@pytest.fixture
def declared(tmp_path):
    """Declare the parameters in a node that a file was given to."""
    import rclpy
    from rclpy.signals import SignalHandlerOptions

    context = rclpy.Context()
    # handlers of ROS would outlive the context in this process
    rclpy.init(context=context, signal_handler_options=SignalHandlerOptions.NO)
    nodes = []

    def start(text):
        (tmp_path / "node.yaml").write_text(text)
        arguments = ["--ros-args", "--params-file", str(tmp_path / "node.yaml")]
        nodes.append(rclpy.create_node("lists", context=context, cli_args=arguments))
        return nodes[-1], declare(nodes[-1], NodeConfig())

    yield start
    for node in nodes:
        node.destroy_node()
    context.try_shutdown()


@pytest.mark.ros
@pytest.mark.parametrize(
    ("given", "classes"),
    [
        ("{}", ()),
        ("{filter: {classes: []}}", ()),
        ("{filter: {classes: ['']}}", ()),
        ("{filter: {classes: [road]}}", ("road",)),
        ("{filter: {classes: [road, '', car]}}", ("road", "car")),
    ],
)
def test_lists_of_names_may_be_empty(declared, given, classes):
    node, config = declared(f"{{/**: {{ros__parameters: {given}}}}}")
    assert config.filter.classes == classes
    (set_one,) = node.set_parameters([Parameter("filter.classes", value=["car"])])
    assert set_one.successful, set_one.reason
    (cleared,) = node.set_parameters([Parameter("filter.classes", value=[""])])
    assert cleared.successful, cleared.reason


@pytest.mark.ros
@pytest.mark.parametrize("given", ["[1, 2]", "road", "[true]"])
def test_a_list_of_something_else_is_refused(declared, given):
    with pytest.raises(ConfigError, match=r"^parameter filter\.classes: "):
        declared(f"{{/**: {{ros__parameters: {{filter: {{classes: {given}}}}}}}}}")


def test_the_page_of_the_node_lists_every_parameter_and_topic():
    page = (ROOT / "docs" / "node.md").read_text()
    assert parameter_table(NodeConfig()) in page, "python -m pointdistill_ros.nodes.parameters"
    for topic in (*CLOUDS, STATS, *TIMES.values(), CLASS_INFO, LABEL_INFO):
        assert f"`{topic}`" in page, topic
