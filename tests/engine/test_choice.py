# SPDX-License-Identifier: Apache-2.0
"""Which engine runs, and what happens where the compiled one is missing."""

import json
import logging
import os
import subprocess
import sys

import numpy as np
import pytest

from pointdistill_ros.engine import choice, library
from pointdistill_ros.engine.interface import PointScores
from pointdistill_ros.errors import ConfigError
from tests.tiny import tiny_network

GRID, REACH = 0.2, 1000.0


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def no_library(monkeypatch):
    monkeypatch.setenv("POINTDISTILL_LIBRARY", "/nowhere/lib.so")
    library.load_library.cache_clear()
    choice._warn_once.cache_clear()
    yield
    library.load_library.cache_clear()


def test_without_a_compiled_engine_torch_runs_with_one_warning(no_library, caplog, monkeypatch):
    monkeypatch.setattr(choice, "find_spec", lambda _: None)  # no ONNX Runtime, no OpenVINO either
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert choice.make_engine("auto", tiny_network(), GRID, REACH).name == "torch"
    assert len(caplog.records) == 1
    assert "/nowhere/lib.so" in caplog.text and "pointdistill_ros.engine.build" in caplog.text
    with pytest.raises(ConfigError, match=r"'native'.*does not exist"):
        choice.make_engine("native", tiny_network(), GRID, REACH)


def test_a_library_from_other_sources_is_not_loaded(monkeypatch, tmp_path):
    source = tmp_path / "old.cpp"
    source.write_text('extern "C" const char* pd_sources() { return "0123456789abcdef"; }')
    old = tmp_path / "old.so"
    subprocess.run(["c++", "-shared", "-fPIC", source, "-o", old], check=True)
    monkeypatch.setenv("POINTDISTILL_LIBRARY", str(old))
    library.load_library.cache_clear()
    with pytest.raises(library.EngineMissingError, match="other sources"):
        library.load_library()
    (tmp_path / "text.so").write_text("not a library")
    monkeypatch.setenv("POINTDISTILL_LIBRARY", str(tmp_path / "text.so"))
    with pytest.raises(library.EngineMissingError, match="cannot be loaded"):
        library.load_library()
    library.load_library.cache_clear()


class Fake:
    detail = ""

    def __init__(self, name, seconds, clock):
        self.name, self.seconds, self.clock, self.calls = name, seconds, clock, 0

    def __call__(self, xyz, intensity):
        self.calls += 1
        self.clock[0] += self.seconds
        nothing = np.zeros(len(xyz), np.float32)
        return PointScores(nothing.astype(np.uint8), nothing, nothing, 1, {})


@pytest.fixture
def fakes(monkeypatch):
    clock = [0.0]
    engines = {"native": Fake("native", 2.0, clock), "torch": Fake("torch", 1.0, clock)}
    monkeypatch.setattr(choice.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(choice, "_candidates", lambda *_: list(engines))
    monkeypatch.setattr(
        choice, "_makers", lambda *_: {n: (lambda e=e: e) for n, e in engines.items()}
    )
    return engines


def test_the_measurement_decides_and_is_remembered(fakes, tmp_path):
    network = tiny_network()
    assert choice.make_engine("auto", network, GRID, REACH).name == "torch"  # whatever its name
    calls = {name: engine.calls for name, engine in fakes.items()}
    assert choice.make_engine("auto", network, GRID, REACH).name == "torch"
    assert {name: engine.calls for name, engine in fakes.items()} == calls
    other = tiny_network(patch_sizes=(32, 32))
    fakes["native"].seconds = 0.5
    assert choice.make_engine("auto", other, GRID, REACH).name == "native"
    stored = json.loads((tmp_path / "cache/pointdistill_ros/engines.json").read_text())
    assert sorted(stored.values()) == ["native", "torch"]


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"a": "warp"}'])
def test_a_damaged_cache_is_measured_again(fakes, tmp_path, content):
    path = tmp_path / "cache/pointdistill_ros/engines.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    assert choice.make_engine("auto", tiny_network(), GRID, REACH).name == "torch"


def test_a_cache_that_cannot_be_written_costs_nothing_else(fakes, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert choice.make_engine("auto", tiny_network(), GRID, REACH).name == "torch"


def test_refusals_say_what_to_do():
    network = tiny_network()
    for options, complaint in (
        ({"choice": "warp"}, "unknown engine 'warp'; known: auto, native"),
        ({"choice": "torch", "precision": "float8"}, "unknown precision 'float8'"),
        ({"choice": "torch", "precision": "bfloat16"}, "computes in float32"),
        ({"choice": "auto", "threads": 0}, "threads must be"),
        ({"choice": "native", "device": "cuda:3"}, "runs on the CPU, not on cuda:3"),
    ):
        asked = options.pop("choice")
        with pytest.raises(ConfigError, match=complaint):
            choice.make_engine(asked, network, GRID, REACH, **options)


def test_one_openmp_runtime_in_the_process():
    """Two of them would keep two pools that put each other to sleep."""
    code = """
from pointdistill_ros import Segmenter
from pointdistill_ros.engine.library import load_library
from pathlib import Path
load_library()
Segmenter.load("student", device="cpu", engine="native").warm_up()
Segmenter.load("student", device="cpu", engine="torch").warm_up()
paths = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines()}
names = {path.split("/")[-1] for path in paths}
print(sorted(name for name in names if name.startswith(("libgomp", "libomp", "libiomp"))))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        env=os.environ,
    )
    if "EngineMissingError" in done.stderr:
        pytest.skip("the CPU engine is not built")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(".so") == 1, done.stdout
