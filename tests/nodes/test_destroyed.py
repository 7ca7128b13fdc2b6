# SPDX-License-Identifier: Apache-2.0
"""A node that was destroyed is gone for the others, also where its process lives on."""

import gc

import pytest

pytestmark = pytest.mark.ros


@pytest.mark.parametrize("active", [False, True])
@pytest.mark.parametrize("name", ["segmentation_node", "comparison_node"])
def test_a_destroyed_node_leaves_the_graph_without_the_garbage_collector(
    client, fake_segmenter, name, active
):
    import rclpy
    from rclpy.parameter import Parameter
    from rclpy.signals import SignalHandlerOptions

    from pointdistill_ros.nodes.comparison_node import ComparisonNode
    from pointdistill_ros.nodes.segmentation_node import SegmentationNode

    context = rclpy.Context()
    rclpy.init(context=context, signal_handler_options=SignalHandlerOptions.NO)
    options = {
        "context": context,
        "parameter_overrides": [Parameter("autostart", value=False)],
    }
    gc.disable()
    try:
        if name == "comparison_node":
            node = ComparisonNode(**options)
        else:
            node = SegmentationNode(fake_segmenter(), **options)
        if active:
            node.trigger_configure()
            node.trigger_activate()
        client.until(lambda: name in client.node.get_node_names())
        node.destroy_node()
        context.try_shutdown()
        client.until(lambda: name not in client.node.get_node_names())
    finally:
        gc.enable()
