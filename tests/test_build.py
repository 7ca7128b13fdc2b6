# SPDX-License-Identifier: Apache-2.0
"""The two faces of the package agree with each other, and the light entry stays light."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

import pointdistill_ros

ROOT = Path(__file__).resolve().parents[1]


def setup_keywords() -> dict[str, ast.expr]:
    """The keyword arguments of the setup() call, without running it."""
    tree = ast.parse((ROOT / "setup.py").read_text())
    call = next(
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "setup"
    )
    return {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_versions_agree():
    package = ElementTree.parse(ROOT / "package.xml").getroot()
    printed = run(sys.executable, "setup.py", "--version").stdout.split()[-1]
    assert {package.findtext("version"), printed} == {pointdistill_ros.__version__}


def test_licences_agree():
    package = ElementTree.parse(ROOT / "package.xml").getroot()
    assert package.findtext("license") == ast.literal_eval(setup_keywords()["license"])
    assert "Apache License" in (ROOT / "LICENSE").read_text()


def test_both_faces_install_the_same_executables():
    scripts = set(ast.literal_eval(setup_keywords()["entry_points"])["console_scripts"])
    block = re.search(r"set\(EXECUTABLES\s+(.*?)\)", (ROOT / "CMakeLists.txt").read_text(), re.S)
    assert block, "CMakeLists.txt has no EXECUTABLES"
    programs = {line.replace("${PROJECT_NAME}", "pointdistill_ros") for line in block[1].split()}
    assert programs == scripts


def test_every_message_is_built():
    files = {f"msg/{path.name}" for path in (ROOT / "msg").glob("*.msg")}
    assert set(re.findall(r'"(msg/\w+\.msg)"', (ROOT / "CMakeLists.txt").read_text())) == files


def test_every_executable_exists():
    for entry in ast.literal_eval(setup_keywords()["entry_points"])["console_scripts"]:
        module, function = entry.partition("=")[2].split(":")
        path = ROOT / Path(*module.split("."))
        source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        names = {n.name for n in ast.parse(source.read_text()).body if hasattr(n, "name")}
        assert function in names, f"{entry}: {source} defines no {function}"


def test_pins_lie_in_the_ranges_of_setup():
    requirement = pytest.importorskip("packaging.requirements").Requirement
    lines = (ROOT / "requirements/core.txt").read_text().splitlines()
    pins = [requirement(line) for line in lines if line and not line.startswith("#")]
    ranges = {
        r.name: r.specifier
        for r in map(requirement, ast.literal_eval(setup_keywords()["install_requires"]))
    }
    assert {pin.name for pin in pins} == set(ranges)
    for pin in pins:
        (exact,) = pin.specifier
        assert exact.operator == "=="
        assert exact.version in ranges[pin.name], f"{pin} is outside {ranges[pin.name]}"


def test_no_requirement_is_a_stranger_with_a_ros_name():
    text = (ROOT / "setup.py").read_text() + (ROOT / "requirements/core.txt").read_text()
    for name in ("rclpy", "launch", "launch_ros", "sensor_msgs_py", "tf2_ros"):
        assert not re.search(rf'^\s*"?{name}\b', text, re.MULTILINE), name


def test_every_make_target_has_help():
    makefile = (ROOT / "Makefile").read_text()
    phony = set(re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[1].split())
    described = set(re.findall(r"^([a-z-]+):.*## .+$", makefile, re.MULTILINE))
    assert described == phony
    listed = run("make", "help").stdout
    assert all(f"make {target}" in listed for target in phony)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("wheels", "/nowhere/python"), "no such interpreter: PYTHON=/nowhere/python"),
        (("wheels", "false"), "needs Python 3.10 to 3.13"),
    ],
)
def test_an_unusable_python_is_refused_in_one_line(tmp_path, arguments, complaint):
    result = run("tools/make_venv.sh", str(tmp_path / "venv"), *arguments)
    assert result.returncode == 2
    assert complaint in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "venv").exists()


def test_a_missing_compiler_is_refused_in_one_line(tmp_path):
    result = run(
        "tools/make_venv.sh", str(tmp_path / "venv"), "wheels", sys.executable, CXX="/no/c++"
    )
    assert result.returncode == 2
    assert "no compiler `/no/c++`" in result.stderr


def test_two_roses_do_not_share_an_environment(tmp_path):
    (tmp_path / ".made-for-wheels").touch()
    result = run("tools/make_venv.sh", str(tmp_path), "jazzy", sys.executable)
    assert result.returncode == 2
    assert "was made for ROS from wheels, now it is jazzy" in result.stderr


@pytest.mark.parametrize("statement", ["import pointdistill_ros", "import pointdistill_ros.cli"])
def test_the_entry_is_light(statement):
    heavy = "torch", "rclpy", "matplotlib", "trimesh", "rosbags", "pydantic.types"
    code = f"{statement}, sys; print(*(m for m in {heavy} if m in sys.modules))"
    result = run(sys.executable, "-c", code)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == []


def test_config_is_found_from_a_wheel(tmp_path):
    """Files of config/ lie beside the code when the package is installed, not linked.

    Here without a compiler: that costs the CPU engine, not the installation.
    """
    pytest.importorskip("setuptools")
    build = run(sys.executable, "setup.py", "-q", "build", "-b", str(tmp_path), CXX="/no/c++")
    assert build.returncode == 0, build.stderr
    assert "everything runs on PyTorch instead: no C++ compiler (/no/c++)" in build.stderr
    (lib,) = tmp_path.glob("lib*")
    code = (
        "from pointdistill_ros.labels import LabelSet; from pointdistill_ros import resources;"
        "print(LabelSet.named('semantic-kitti').names[0], resources.__file__)"
    )
    installed = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(lib)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert installed.stdout.split() == ["car", str(lib / "pointdistill_ros/resources.py")]
