# SPDX-License-Identifier: Apache-2.0
"""config/security against the graph: what a node has it may have, what it may have it has."""

from contextlib import suppress

import pytest

from pointdistill_ros.nodes.multi_config import read_lidars
from pointdistill_ros.resources import config_path
from tests.conftest import ROOT
from tests.security.sros2_policy import Rights, read_policy, read_profiles

POLICIES = sorted(config_path("security").glob("*.policy.xml"))
PATIENCE = 200
"""Seconds for a node to be whole; it imports much, and machines are shared."""
MULTI = "multi_lidar_node"
COMPARISON = ("-m", "pointdistill_ros.nodes.comparison_node")


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.name)
def test_form(path):
    program = path.name.removesuffix(".policy.xml")
    for policy in read_profiles(path):
        assert policy.context == f"/pointdistill/{program}"
        assert program == MULTI or policy.node == program
        listed = [name.text for rule in policy.rules for name in rule]
        assert len(listed) == len(set(listed)), "a name stands in two places"


def test_nobody_may_call_services():
    for policy in (policy for path in POLICIES for policy in read_profiles(path)):
        assert policy.rights(*policy.options).names["request"] == set()


def test_the_teacher_may_what_the_student_may():
    student, teacher = (
        read_policy(config_path(f"security/{name}.policy.xml"))
        for name in ("segmentation_node", "teacher")
    )
    teacher.node = student.node
    assert teacher.rights(*teacher.options) == student.rights(*student.options)
    assert teacher.rights() == student.rights()


def test_each_lidar_of_the_example_may_what_a_lone_node_may():
    alone = read_policy(config_path("security/segmentation_node.policy.xml"))
    lidars = read_lidars(str(config_path("nodes/multi_lidar.yaml")))
    profiles = read_profiles(config_path(f"security/{MULTI}.policy.xml"))
    assert [(profile.namespace, profile.node) for profile in profiles] == [
        (lidar.namespace_in(), lidar.node_name) for lidar in lidars
    ]
    for lidar, profile in zip(lidars, profiles, strict=True):
        assert set(profile.options) == set(alone.options)
        for options in ((), tuple(alone.options)):
            expected = alone.rights(*options, namespace=lidar.namespace_in(), points=lidar.topic)
            assert profile.rights(*options) == expected


def graph(client, name, namespace) -> Rights:
    """What a node has, as everybody in the graph sees it."""
    node = client.node
    found = {
        "publish": node.get_publisher_names_and_types_by_node,
        "subscribe": node.get_subscriber_names_and_types_by_node,
        "reply": node.get_service_names_and_types_by_node,
        "request": node.get_client_names_and_types_by_node,
    }
    return Rights(
        {kind: {topic for topic, _ in ask(name, namespace)} for kind, ask in found.items()}
    )


def compare(client, policy, allowed, path, namespace="/"):
    """Wait until the graph is what the policy says; else say which lines are wrong."""
    seen = Rights()

    def same():
        nonlocal seen
        if (policy.node, namespace) not in client.node.get_node_names_and_namespaces():
            return False
        seen = graph(client, policy.node, namespace)
        return seen == allowed

    with suppress(AssertionError):  # what is wrong is said below
        client.until(same, timeout=PATIENCE)
    missing, surplus = seen.beyond(allowed), allowed.beyond(seen)
    lines = [f"add {line}" for line in missing] + [f"remove {line}" for line in surplus]
    if lines:
        pytest.fail(
            f"config/security/{path.name} is not what the node has:\n" + "\n".join(lines),
            pytrace=False,
        )


@pytest.fixture
def messages_built():
    pytest.importorskip("pointdistill_ros.msg", reason="pointdistill_ros.msg is not built")


# the teacher is a segmentation node, and its policy is compared with that one's
START = {"segmentation_node": {}, "comparison_node": {"program": COMPARISON}}


def start(start_node, name, *more):
    return start_node("--ros-args", "-p", "autostart:=true", *more, **START[name])


@pytest.mark.ros
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("messages_built")
@pytest.mark.parametrize("name", START)
def test_the_graph_is_the_policy(client, start_node, name):
    path = config_path(f"security/{name}.policy.xml")
    policy = read_policy(path)
    has_labels = importable("vision_msgs") and "vision_msgs" in policy.options
    start(start_node, name)
    compare(client, policy, policy.rights(*(["vision_msgs"] if has_labels else [])), path)


@pytest.mark.ros
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("messages_built")
@pytest.mark.parametrize("name", START)
def test_the_graph_is_the_policy_with_every_option(client, start_node, name):
    """In a namespace, with other topics, in simulated time and another frame."""
    path = config_path(f"security/{name}.policy.xml")
    policy = read_policy(path)
    options, arguments = ["use_sim_time"], ["-p", "use_sim_time:=true"]
    if importable("tf2_ros") and "input.target_frame" in policy.options:
        options.append("input.target_frame")
        arguments += ["-p", "input.target_frame:=base_link"]
    if importable("vision_msgs") and "vision_msgs" in policy.options:
        options.append("vision_msgs")
    renamed = {"points": "/lidar/top/points", "student/labeled_points": "front/labeled_points"}
    for old, new in renamed.items():
        arguments += ["-r", f"{old}:={new}"]
    start(start_node, name, *arguments, "-r", "__ns:=/vehicle")
    allowed = policy.rights(*options, namespace="/vehicle", **renamed)
    compare(client, policy, allowed, path, namespace="/vehicle")


@pytest.mark.ros
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("messages_built")
def test_the_graph_of_a_process_for_several_lidars_is_its_policy(client, start_node):
    path = config_path(f"security/{MULTI}.policy.xml")
    profiles = read_profiles(path)
    options = ["use_sim_time", *(["vision_msgs"] if importable("vision_msgs") else [])]
    start_node(
        str(config_path("nodes/multi_lidar.yaml")),
        *("--ros-args", "-p", "use_sim_time:=true"),
        program=(str(ROOT / "tests/nodes/fake_multi_node.py"),),
    )
    for policy in profiles:
        compare(client, policy, policy.rights(*options), path, namespace=policy.namespace)
    found = set(client.node.get_node_names_and_namespaces())
    assert found - {("client", "/")} == {(policy.node, policy.namespace) for policy in profiles}


def importable(module):
    from importlib.util import find_spec

    return find_spec(module) is not None


def test_names_are_resolved_as_ros_does(tmp_path):
    rules = "".join(f"<topic>{name}</topic>" for name in ("a/b", "~/c", "/d"))
    (tmp_path / "n.policy.xml").write_text(
        '<policy version="0.2.0"><contexts><context path="/n"><profiles><profile ns="/" node="n">'
        f'<topics publish="ALLOW">{rules}</topics>'
        "<!-- With x: <services request='ALLOW'><service>e</service></services> -->"
        "</profile></profiles></context></contexts></policy>"
    )
    policy = read_policy(tmp_path / "n.policy.xml")
    assert policy.rights().names["publish"] == {"/a/b", "/n/c", "/d"}
    inside = policy.rights("x", namespace="/v/w", **{"a/b": "/f"})
    assert inside.names["publish"] == {"/f", "/v/w/n/c", "/d"}
    assert inside.names["request"] == {"/v/w/e"}
    assert inside.beyond(policy.rights(namespace="/v/w")) == [
        '<topic>/f</topic> (publish="ALLOW")',
        '<service>/v/w/e</service> (request="ALLOW")',
    ]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("publish=", "subscribed="),
        ('"ALLOW"', '"DENY"'),
        ("<topic>points</topic>", "<topic>*</topic>"),
        ("<topic>points</topic>", ""),
        ("<topic>points</topic>", "<service>points</service>"),
        ('version="0.2.0"', 'version="0.1.0"'),
        ("With use_sim_time", "use_sim_time"),
    ],
)
def test_the_form_is_checked(tmp_path, old, new):
    text = config_path("security/segmentation_node.policy.xml").read_text()
    assert old in text
    (tmp_path / "a.policy.xml").write_text(text.replace(old, new))
    with pytest.raises(AssertionError):
        read_policy(tmp_path / "a.policy.xml")
