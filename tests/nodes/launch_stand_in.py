# SPDX-License-Identifier: Apache-2.0
"""NOT ROS launch: records what a launch file would do, where launch is not installed.

Knows only the names that our launch files use; any other is an ImportError.
"""

import runpy
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]


class Recorded:
    """Anything a launch file creates: its arguments, by name and by position."""

    def __init__(self, *args, **kwargs):
        self.args, self.kwargs = args, kwargs


class LaunchDescription(Recorded):
    pass


class LaunchContext:
    def __init__(self, values):
        self.values = values


class DeclareLaunchArgument(Recorded):
    @property
    def name(self):
        return self.args[0]


class Substitution:
    def perform(self, context):
        raise NotImplementedError


class LaunchConfiguration(Substitution):
    def __init__(self, name):
        self.name = name

    def perform(self, context):
        return context.values[self.name]


class FindPackageShare(Substitution):
    """The source tree: config/ and launch/ are installed from its root into share/."""

    def __init__(self, package):
        assert package == "pointdistill_ros"

    def perform(self, context):
        return str(ROOT)


class PathJoinSubstitution(Substitution):
    def __init__(self, parts):
        self.parts = parts

    def perform(self, context):
        return str(Path(*(resolve(part, context) for part in self.parts)))


def resolve(value, context):
    """Substitutions inside any structure → text."""
    if isinstance(value, Substitution):
        return value.perform(context)
    if isinstance(value, list | tuple):
        return type(value)(resolve(entry, context) for entry in value)
    if isinstance(value, dict):
        return {key: resolve(entry, context) for key, entry in value.items()}
    return value


def recorded(name):
    return type(name, (Recorded,), {})


def modules():
    """Module name → stand-in, for sys.modules."""
    names = {
        "launch": [LaunchContext, LaunchDescription],
        "launch.actions": [
            DeclareLaunchArgument,
            *map(recorded, ["EmitEvent", "OpaqueFunction", "RegisterEventHandler"]),
            recorded("SetEnvironmentVariable"),
        ],
        "launch.events": [recorded("matches_action")],
        "launch.substitutions": [LaunchConfiguration, PathJoinSubstitution],
        "launch_ros": [],
        "launch_ros.actions": [recorded("LifecycleNode"), recorded("Node")],
        "launch_ros.event_handlers": [recorded("OnStateTransition")],
        "launch_ros.events": [],
        "launch_ros.events.lifecycle": [recorded("ChangeState")],
        "launch_ros.substitutions": [FindPackageShare],
    }
    found = {}
    for name, classes in names.items():
        found[name] = ModuleType(name)
        for kind in classes:
            setattr(found[name], kind.__name__, kind)
    return found


def launch(path, monkeypatch, **values):
    """Run a launch file. Returns its declared arguments and the actions for these values."""
    import sys

    for name, module in modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    description = runpy.run_path(str(path))["generate_launch_description"]()
    entities = description.args[0]
    arguments = [e for e in entities if isinstance(e, DeclareLaunchArgument)]
    empty = LaunchContext({})
    context = LaunchContext(
        {a.name: resolve(a.kwargs["default_value"], empty) for a in arguments} | values
    )
    actions = []
    for entity in entities:
        if type(entity).__name__ == "OpaqueFunction":
            actions += entity.kwargs["function"](context)
        elif entity not in arguments:
            actions.append(entity)
    for action in actions:
        action.args, action.kwargs = resolve(action.args, context), resolve(action.kwargs, context)
    return arguments, actions
