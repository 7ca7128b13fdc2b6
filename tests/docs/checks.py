# SPDX-License-Identifier: Apache-2.0
"""Whether a command of the pages could be run as it stands: asked of what would parse it.

Every option must exist, every value must be one that the program takes, every name (recipe, plan,
weights, label set, lidar, launch argument, parameter, make target, extra) must be there. Words in
capitals stand for the reader's own files.
"""

import ast
import re
from functools import cache

import typer
import yaml

from pointdistill_ros.benchmark.subjects import forms_named
from pointdistill_ros.cli import app
from pointdistill_ros.config import NodeConfig, parse_config
from pointdistill_ros.engine.interface import ENGINES, PRECISIONS
from pointdistill_ros.errors import PointDistillError
from pointdistill_ros.labels import LabelSet
from pointdistill_ros.resources import config_path, shipped_weights
from tests.docs.blocks import ROOT
from tools.docs.launch_files import arguments, declared
from tools.docs.parsers import parse

ROLES = {
    "training.train_teacher": "teacher",
    "training.train_student": "student",
    "training.distill_student": "distilled",
    "training.score_scans": "distilled",
    "training.search": "search",
    "training.adapt": "adapted",
}
OUTSIDE = ("source", "cd", "export", "for", "trtexec")
"""Words of the shell and programs of others: nothing of ours to check."""


class WrongCommand(Exception):
    """A reader who types this is refused."""


def check(command):
    """Raises WrongCommand with the reason."""
    words = list(command.words)
    program, *rest = words
    if program in OUTSIDE:
        return
    if program not in CHECKS:
        raise WrongCommand(f"{program} is no program of ours, nor in OUTSIDE")
    try:
        _check_known(program, rest)
    except WrongCommand as error:
        if command.inline and re.search(r"[Mm]issing|required|requires an argument", str(error)):
            return  # running text names the options that matter there
        raise


def _check_known(program, words):
    try:
        CHECKS[program](words)
    except (PointDistillError, LookupError, ValueError, TypeError) as error:  # too few words, too
        raise WrongCommand(f"{program}: {error}") from error


def need(condition, reason):
    if not condition:
        raise WrongCommand(reason)


# pointdistill


@cache
def group():
    return typer.main.get_command(app)


def check_pointdistill(words):
    name, *rest = words
    need(name in group().commands, f"no command {name}")
    command = group().commands[name]
    try:
        context = command.make_context(f"pointdistill {name}", list(rest))
    except Exception as error:  # click's, which typer brings a copy of
        message = error.format_message() if hasattr(error, "format_message") else error
        raise WrongCommand(f"pointdistill {name}: {message}") from error
    for parameter, value in context.params.items():
        if value is not None:
            check_value(parameter, value)


def check_value(parameter, value):
    """Names that only the program itself would refuse, minutes later."""
    if parameter in ("model", "weights", "teacher") and value != "none":
        check_weights(value)
    elif parameter == "engine":
        need(value in ("auto", *ENGINES), f"no engine {value}")
    elif parameter == "engines" and value != "all":
        forms_named(value.split(","))
    elif parameter == "precision":
        need(getattr(value, "value", value) in PRECISIONS, f"no precision {value}")
    elif parameter == "lidar":
        need(config_path(f"lidars/{value}.yaml").exists(), f"no lidar {value}")
    elif parameter == "dataset":
        need(config_path(f"datasets/{value}.yaml").exists(), f"no data set {value}")
    elif parameter in ("label_set", "classes") and value != "model":
        LabelSet.named(value)
    elif parameter == "protocol":
        names = getattr(value, "value", value).split(",")
        need(set(names) <= {"p1", "p2", "p3"}, f"no protocol {value}")


def check_weights(name):
    own = name.isupper() or name.endswith(".safetensors")
    need(own or name in shipped_weights(), f"no shipped weights {name}")


# python, torchrun, make, pip


def check_python(words):
    need(words[0] == "-m", f"python {words[0]} instead of python -m")
    module, *rest = words[1:]
    if module == "pytest":
        for word in rest:
            need(word[0] == "-" or "/" not in word or (ROOT / word).exists(), f"no {word}")
        return
    if module == "colcon":
        return
    path = ROOT / module.replace(".", "/")
    need(path.is_dir() or path.with_suffix(".py").exists(), f"no module {module}")
    try:
        options = parse(module, rest)
    except LookupError:
        need(not rest, f"{module} takes no arguments")
        return
    except ValueError as error:
        raise WrongCommand(str(error)) from error
    check_training(module, vars(options))


def check_training(module, options):
    recipe, plan = options.get("recipe"), options.get("plan")
    if recipe and recipe.endswith(".yaml"):
        need((ROOT / recipe).is_file(), f"no recipe {recipe}")
    elif recipe and not recipe.isupper():
        role = ROLES[module]
        need(config_path(f"training/{role}/{recipe}.yaml").exists(), f"no {role} recipe {recipe}")
    if plan and not plan.isupper():
        need(config_path(f"training/ablation/{plan}.yaml").exists(), f"no plan {plan}")
    for key in ("weights", "teacher") if module.startswith("training.") else ():
        for name in _listed(options.get(key)):
            need(name == "" or check_weights(str(name)) is None, name)
    if options.get("engine"):
        check_value("engine", options["engine"])


def _listed(value):
    return value if isinstance(value, list) else [] if value is None else [value]


def check_torchrun(words):
    need("-m" in words, "torchrun without -m")
    check_python(words[words.index("-m") :])


def check_make(words):
    text = (ROOT / "Makefile").read_text()
    for word in words:
        variable, assigned, _ = word.partition("=")
        if assigned:
            need(f"$({variable})" in text or f"$(or $({variable})" in text, f"unused {variable}")
        else:
            need(re.search(rf"^{re.escape(word)}:", text, re.M), f"no target {word}")


def check_pip(words):
    need(words[0] == "install", f"pip {words[0]}")
    for word in words[1:]:
        if match := re.fullmatch(r"(?:\.|pointdistill-ros)\[(.+)\]", word):
            unknown = set(match[1].split(",")) - extras()
            need(not unknown, f"no extras {unknown}")
        else:
            need(word in ("-e", ".", "pointdistill-ros"), f"unexpected {word}")


@cache
def extras():
    """Keys of extras_require in setup.py."""
    for node in ast.walk(ast.parse((ROOT / "setup.py").read_text())):
        if isinstance(node, ast.keyword) and node.arg == "extras_require":
            return {key.value for key in node.value.keys}
    raise LookupError("setup.py has no extras_require")


# ROS


def check_ros2(words):
    verb = tuple(words[:2])
    if verb[0] == "launch":
        check_launch(words[1:])
    elif verb[0] == "run":
        package, executable, *rest = words[1:]
        need(package == "pointdistill_ros", f"no package {package}")
        need(executable in ROS_PROGRAMS, f"no executable {executable}")
        check_node(executable)(rest)
    elif verb == ("param", "set"):
        check_live_parameter(*words[3:])
    elif verb[0] == "topic":
        topic = words[-1]
        need(topic in TOPICS, f"no topic {topic}")
    else:
        need(verb[0] in ("security", "pkg", "component"), f"ros2 {verb[0]}")


TOPICS = {
    "/points",
    "/diagnostics",
    *(f"/segmentation_node/{name}" for name in ("labeled_points", "class_info", "stats")),
}


def check_launch(words):
    package, file, *rest = words
    need(package == "pointdistill_ros", f"no package {package}")
    if file.isupper():
        return
    need(file in declared(), f"no launch file {file}")
    own = declared()[file]
    for word in rest:
        if word == "--show-args":
            continue
        name, assigned, value = word.partition(":=")
        need(assigned and name in own, f"{file} has no argument {name}")
        choices = arguments()[name].choices
        need(not choices or value in choices, f"{name} is one of {choices}, not {value}")
        if name in ("model", "teacher", "student"):
            check_weights(value)
    given = {word.partition(":=")[0] for word in rest}
    missing = {name for name, default in own.items() if default is None} - given
    need(not missing or "--show-args" in rest, f"{file} needs {missing}")


def check_live_parameter(name, text):
    setting = parameter(name)
    need(setting.live, f"{name} cannot change while the node runs")
    check_parameter(name, text)


def check_parameter(name, text):
    value, default = yaml.safe_load(text), parameter(name).default
    need(type(value) is type(default), f"{name}:={text} is {type(value)}, needs {type(default)}")
    group_name, field = name.split(".")
    parse_config(type(getattr(NodeConfig(), group_name)), {field: value}, name)
    if name == "model.path":
        check_weights(value)


def parameter(name):
    from pointdistill_ros.nodes.parameters import settings

    known = {setting.name: setting for setting in settings(NodeConfig())}
    need(name in known, f"no parameter {name}")
    return known[name]


def check_node(executable):
    """A node's own options, then those of ROS."""

    def arguments_of(words):
        own, _, ros = (" ".join(words)).partition("--ros-args")
        allowed = {"segmentation_node": ["--check"], "comparison_node": []}
        if executable in allowed:
            need(set(own.split()) <= set(allowed[executable]), f"{executable} has no {own}")
        else:
            try:
                parse(f"pointdistill_ros.nodes.{executable}", own.split())
            except ValueError as error:
                raise WrongCommand(str(error)) from error
        options = ros.split()
        for option, value in zip(options[::2], [*options[1::2], ""], strict=False):
            check_ros_argument(option, value)

    return arguments_of


def check_ros_argument(option, value):
    name, assigned, text = value.partition(":=")
    if option == "-p":
        need(assigned, f"-p {value}")
        if not name.startswith("qos_overrides.") and name != "use_sim_time":
            check_parameter(name, text)
    elif option == "-r":
        need(assigned and name in ("points", "__ns", "__node"), f"nothing is called {name}")
    else:
        need(option in ("--params-file", "--enclave"), f"ROS has no {option}")


ROS_PROGRAMS = ("segmentation_node", "comparison_node", "multi_lidar_node")
CHECKS = {
    "pointdistill": check_pointdistill,
    "python": check_python,
    "torchrun": check_torchrun,
    "make": check_make,
    "pip": check_pip,
    "ros2": check_ros2,
    **{name: check_node(name) for name in ROS_PROGRAMS},
}
