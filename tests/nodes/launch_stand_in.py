# SPDX-License-Identifier: Apache-2.0
"""NOT ROS launch: records what a launch file would do, where launch is not installed.

Knows only the names that our launch files use; any other is an ImportError.
"""

import runpy
import sys
from abc import ABC, abstractmethod
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
OURS = ("pointdistill_ros.nodes.launch_arguments", "pointdistill_ros.nodes.launch_actions")
"""Modules that import launch: they must not outlive the stand-in."""


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


class Substitution(ABC):
    @abstractmethod
    def perform(self, context):
        """Its value, as text."""


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


class ExecutableInPackage(Substitution):
    def __init__(self, executable, package):
        assert package == "pointdistill_ros"
        self.executable = executable

    def perform(self, context):
        return f"lib/pointdistill_ros/{self.executable}"


def recorded(name):
    return type(name, (Recorded,), {})


def modules():
    """Module name → stand-in, for sys.modules."""
    names = {
        "launch": [LaunchContext, LaunchDescription],
        "launch.actions": [
            DeclareLaunchArgument,
            *map(recorded, ["EmitEvent", "OpaqueFunction", "RegisterEventHandler"]),
            *map(recorded, ["SetEnvironmentVariable", "ExecuteProcess", "Shutdown"]),
            *map(recorded, ["GroupAction", "IncludeLaunchDescription"]),
        ],
        "launch.launch_description_sources": [recorded("PythonLaunchDescriptionSource")],
        "launch.events": [recorded("matches_action")],
        "launch.substitutions": [LaunchConfiguration, PathJoinSubstitution],
        "launch_ros": [],
        "launch_ros.actions": [recorded("LifecycleNode"), recorded("Node")],
        "launch_ros.event_handlers": [recorded("OnStateTransition")],
        "launch_ros.events": [],
        "launch_ros.events.lifecycle": [recorded("ChangeState")],
        "launch_ros.substitutions": [ExecutableInPackage, FindPackageShare],
    }
    found = {}
    for name, classes in names.items():
        found[name] = ModuleType(name)
        for kind in classes:
            setattr(found[name], kind.__name__, kind)
    return found


def launch(path, monkeypatch, **values):
    """Run a launch file and what it includes.

    Returns its declared arguments and all actions for these values, in order.
    """
    for name, module in modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    for name in OURS:
        monkeypatch.setitem(sys.modules, name, None)  # undone when the test ends
        del sys.modules[name]
    description = runpy.run_path(str(path))["generate_launch_description"]()
    entities = description.args[0]
    arguments = [e for e in entities if isinstance(e, DeclareLaunchArgument)]
    unknown = set(values) - {a.name for a in arguments}
    assert not unknown, f"{path.name} declares no argument {unknown}"
    empty = LaunchContext({})
    defaults = {
        a.name: resolve(a.kwargs["default_value"], empty)
        for a in arguments
        if "default_value" in a.kwargs
    }
    context = LaunchContext(defaults | values)
    actions = []
    for entity in entities:
        if type(entity).__name__ == "OpaqueFunction":
            actions += entity.kwargs["function"](context)
        elif entity not in arguments:
            actions.append(entity)
    return arguments, [flat for action in actions for flat in expand(action, context, monkeypatch)]


def expand(action, context, monkeypatch, alone=False):
    """The action itself, or those that it stands for. ``alone``: it sees no arguments but its own.

    An included file sees all arguments of the file that includes it, unless a group hides them.
    """
    if type(action).__name__ == "GroupAction":
        alone = action.kwargs["scoped"] and not action.kwargs["forwarding"]
        for inner in action.args[0]:
            yield from expand(inner, context, monkeypatch, alone)
        return
    action.args, action.kwargs = resolve(action.args, context), resolve(action.kwargs, context)
    if type(action).__name__ == "IncludeLaunchDescription":
        assert alone, "an included file must not see its parent's arguments of the same names"
        (file,) = resolve(action.args[0].args, context)
        included = dict(action.kwargs["launch_arguments"])
        yield from launch(Path(file), monkeypatch, **included)[1]
        return
    yield action
