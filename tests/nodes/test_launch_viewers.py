# SPDX-License-Identifier: Apache-2.0
"""Layouts of RViz and Foxglove, as far as that can be told without them: form, classes, topics."""

import json
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
VIEWERS = ROOT / "config/viewers"
RVIZ = sorted(VIEWERS.glob("*.rviz"))
FOXGLOVE = sorted(VIEWERS.glob("*.foxglove.json"))
DISPLAYS = {
    # class → type of its topic, and the settings that are used of it
    "rviz_default_plugins/Grid": (None, {"Cell Size", "Plane Cell Count"}),
    "rviz_default_plugins/PointCloud2": (
        "PointCloud2",
        {"Color Transformer", "Style", "Size (Pixels)", "Size (m)"},
    ),
    "rviz_default_plugins/Marker": ("Marker", set()),
    "rviz_default_plugins/Image": ("Image", set()),
}
STYLES = {"Points", "Squares", "Flat Squares", "Spheres", "Boxes", "Tiles"}
"""Of PointCloud2 displays, rviz_default_plugins."""
PANELS = {"3D", "Plot", "DiagnosticSummary", "Image"}
"""Of Foxglove, that a layout of ours may have."""
TYPES = {
    "segmentation_node/visualization": "PointCloud2",
    "student/visualization": "PointCloud2",
    "teacher/visualization": "PointCloud2",
    "segmentation_node/legend": "Image",
    "student/legend": "Image",
    "comparison_node/disagreement": "PointCloud2",
    "comparison_node/summary": "Marker",
}


def test_there_are_layouts():
    assert RVIZ and FOXGLOVE


def test_the_types_above_are_those_of_the_nodes():
    source = {
        "segmentation": (ROOT / "pointdistill_ros/nodes/outputs.py").read_text(),
        "comparison": (ROOT / "pointdistill_ros/nodes/comparison_node.py").read_text(),
    }
    assert '"~/visualization"' in source["segmentation"]
    assert '"~/legend"' in source["segmentation"]
    assert '("~/disagreement", PointCloud2, 1)' in source["comparison"]
    assert '("~/summary", Marker, 1)' in source["comparison"]


@pytest.mark.parametrize("path", RVIZ, ids=lambda path: path.name)
def test_rviz_layouts_hold_displays_that_exist_with_topics_of_their_type(path):
    layout = yaml.safe_load(path.read_text())
    assert all(panel["Class"].startswith("rviz_common/") for panel in layout["Panels"])
    manager = layout["Visualization Manager"]
    assert manager["Global Options"]["Fixed Frame"]
    assert manager["Views"]["Current"]["Class"] == "rviz_default_plugins/Orbit"
    names = [display["Name"] for display in manager["Displays"]]
    assert len(set(names)) == len(names)
    for display in manager["Displays"]:
        kind, settings = DISPLAYS[display["Class"]]
        assert set(display) - {"Class", "Name", "Enabled", "Topic"} <= settings, display["Name"]
        assert type(display["Enabled"]) is bool
        if kind is None:
            continue
        topic = display["Topic"]
        assert TYPES[topic["Value"]] == kind
        assert topic["Reliability Policy"] in ("Best Effort", "Reliable")
        assert topic["Durability Policy"] in ("Volatile", "Transient Local")
        assert topic["History Policy"] == "Keep Last" and topic["Depth"] >= 1
        latched = topic["Value"].endswith("/legend")  # sent once
        assert topic["Durability Policy"] == ("Transient Local" if latched else "Volatile")
        if kind == "PointCloud2":
            assert display["Style"] in STYLES
            size = "Size (Pixels)" if display["Style"] == "Points" else "Size (m)"
            assert display[size] > 0
            assert display["Color Transformer"] == "RGB8", "the clouds have a field rgb"


@pytest.mark.parametrize("path", FOXGLOVE, ids=lambda path: path.name)
def test_foxglove_layouts_place_every_panel_once(path):
    layout = json.loads(path.read_text())

    def leaves(tree):
        if isinstance(tree, str):
            return [tree]
        assert set(tree) <= {"first", "second", "direction", "splitPercentage"}
        assert tree["direction"] in ("row", "column")
        assert 0 < tree.get("splitPercentage", 50) < 100
        return leaves(tree["first"]) + leaves(tree["second"])

    panels = layout["configById"]
    assert sorted(leaves(layout["layout"])) == sorted(panels)
    for panel, settings in panels.items():
        kind, _, identity = panel.partition("!")
        assert kind in PANELS and identity
        for topic in settings.get("topics", {}):
            assert topic.strip("/") in TYPES, topic
        if kind == "Image":
            assert TYPES[settings["imageMode"]["imageTopic"].strip("/")] == "Image"
        for curve in settings.get("paths", []):
            assert curve["value"].startswith("/") and "." in curve["value"]
            assert curve["timestampMethod"] in ("receiveTime", "headerStamp")


@pytest.mark.parametrize("path", [*RVIZ, *FOXGLOVE], ids=lambda path: path.name)
def test_where_classes_have_colours_a_legend_says_which(path):
    text = path.read_text()
    for node in ("segmentation_node", "student"):
        assert (f"{node}/visualization" in text) == (f"{node}/legend" in text)


@pytest.mark.parametrize("path", FOXGLOVE, ids=lambda path: path.name)
def test_curves_are_of_fields_that_the_messages_have(path):
    """Of those with messages of our own; their type is in msg/."""
    types = {"stats": "SegmentationStats", "comparison": "ModelComparison"}
    curves = [
        curve["value"]
        for panel in json.loads(path.read_text())["configById"].values()
        for curve in panel.get("paths", [])
    ]
    assert curves
    for value in curves:
        topic, _, field = value.rpartition(".")
        kind = types[topic.rpartition("/")[2].removesuffix("_window")]
        lines = (ROOT / "msg" / f"{kind}.msg").read_text().splitlines()
        names = [line.split()[1] for line in lines if line and not line.startswith("#")]
        assert field in names, value
