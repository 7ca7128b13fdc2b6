# SPDX-License-Identifier: Apache-2.0
"""pointdistill benchmark as a user meets it: a real run of tiny networks, and what is refused."""

import importlib
import json
import sys

import numpy as np
import pytest

from pointdistill_ros.benchmark import peaks
from pointdistill_ros.checkpoint import save_checkpoint
from pointdistill_ros.cli import main
from tests.tiny import tiny_meta, tiny_network

command = importlib.import_module("pointdistill_ros.cli.benchmark")


@pytest.fixture
def benchmark(monkeypatch, capsys, tmp_path):
    """Run the command in an empty folder; returns exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["pointdistill", "benchmark", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
            sys.exit(0)
        out, err = capsys.readouterr()
        return stop.value.code or 0, out, err

    return run


@pytest.fixture
def inputs(tmp_path):
    """A tiny student and teacher, a folder with two scans."""
    for seed, name in enumerate(("student", "teacher")):
        save_checkpoint(tmp_path / f"{name}.safetensors", tiny_network(seed), tiny_meta())
    rng = np.random.default_rng(0)
    (tmp_path / "drive").mkdir()
    for i, points in enumerate((600, 1500)):
        xyz = rng.uniform((-9, -9, -0.5), (9, 9, 0.5), (points, 3)).astype(np.float32)
        intensity = rng.random(points).astype(np.float32)
        np.savez(tmp_path / "drive" / f"{i}.npz", xyz=xyz, intensity=intensity)
    return ["drive", "--take", 2, "--models", "student.safetensors,teacher.safetensors"]


def test_a_whole_run(benchmark, inputs, tmp_path, monkeypatch):
    monkeypatch.setattr(peaks, "_SQUARE", 96)
    monkeypatch.setattr(peaks, "_COPY_BYTES", 1 << 20)
    sections = "parity,timing,one-thread,roofline,busy"
    outputs = ["--json", "out/now.json", "--plot", "out/plot.png", "--markdown", "out/page.md"]
    counts = ["--runs", 4, "--warm-up", 1, "--minutes", 2, "--threads", 1]
    code, out, err = benchmark(
        *inputs, *outputs, *counts, "--only", sections, "--engines", "native,native-bf16"
    )
    assert code == 0, err
    found = json.loads((tmp_path / "out" / "now.json").read_text())
    assert set(found["ratios"]) == {
        "student_vs_plain_student",
        "student_vs_plain_teacher",
        "teacher_vs_plain_teacher",
        "shipped_vs_plain_shipped",
    }
    assert {"exponent", "parity", "machine", "rows", "missing", "load"} <= set(found)
    assert found["reference_scan"] == "drive/1"
    plain = [row for row in found["rows"] if row["form"] == "torch"]
    assert len(plain) == 4  # two networks, two scans, never left out
    for row in plain:
        assert row["wall"]["n"] == 4 and row["wall"]["p50"] >= row["wall"]["min"] > 0
        assert row["one_thread"]["cpu"] > 0
        assert row["parts"]["total"] >= row["parts"]["network"] > 0
    ran = {row["form"] for row in found["rows"]}
    assert ran | {missing["form"] for missing in found["missing"]} == {
        "torch",
        "native",
        "native-bf16",
    }
    if "native" in ran:
        assert found["ratios"]["student_vs_plain_student"] > 0
        assert found["parity"]["student native"]["kept"]
    else:
        assert found["ratios"]["student_vs_plain_student"] is None
    assert found["busy"][0]["form"] == "torch"

    assert "drive/1: 1 500 points" in out and "Voxels and pairs" in out
    assert "(plot.png)" in (tmp_path / "out" / "page.md").read_text()
    picture = (tmp_path / "out" / "plot.png").read_bytes()
    assert picture.startswith(b"\x89PNG") and len(picture) > 10_000
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "now.json",
        "page.md",
        "plot.png",
    ]


QUICK = ("--only", "timing", "--engines", "torch", "--runs", 1, "--warm-up", 0, "--threads", 1)


def test_memory_is_measured_in_a_process_of_its_own(benchmark, inputs, tmp_path):
    arguments = ("--only", "memory", "--engines", "torch", "--threads", 1, "--json", "now.json")
    code, _, err = benchmark("drive/1.npz", "--models", "student.safetensors", *arguments)
    assert code == 0, err
    (row,) = json.loads((tmp_path / "now.json").read_text())["rows"]
    assert 10_000 < row["peak_memory"] < 300e6 and row["wall"] is None


def test_the_gate(benchmark, inputs, tmp_path):
    before = {"ratios": {"student_vs_plain_student": 4.0, "teacher_vs_plain_teacher": None}}
    (tmp_path / "before.json").write_text(json.dumps(before))
    code, out, _ = benchmark(*inputs, *QUICK, "--baseline", "before.json")
    assert code == 1
    assert "worse: ratios.student_vs_plain_student: 4.00 before, not measured now" in out

    (tmp_path / "before.json").write_text(json.dumps({"ratios": {}}))
    code, out, _ = benchmark(*inputs, *QUICK, "--baseline", "before.json")
    assert code == 0 and "none fell by more than 10 %" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.bin"], "missing.bin"),
        (["--models", "studnet"], "unknown model 'studnet'"),
        (["--models", ""], "needs a model"),
        (["--engines", "tensorrt"], "unknown engine 'tensorrt'; known: torch, native"),
        (["--only", "speed"], "unknown section 'speed'; known: parity, timing"),
        (["--plot", "plot.pdf"], "NAME.png or NAME.svg"),
        (["--json", "."], "is a folder"),
        (["--baseline", "before.json"], "before.json"),
        (["--device", "cuda:99"], "device 'cuda:99' cannot be used"),
        (["--minutes", "-1"], "minutes > 0"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(benchmark, inputs, arguments, message, tmp_path):
    scan = [] if arguments[0].endswith(".bin") else ["drive"]
    code, out, err = benchmark(*scan, *arguments)
    assert code == 2 and out == ""
    assert message in err and "Traceback" not in err
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "drive",
        "student.safetensors",
        "teacher.safetensors",
    ]


def test_an_interrupted_run_writes_nothing(benchmark, inputs, tmp_path, monkeypatch):
    def interrupted(options, paths, take):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "_measure", interrupted)
    code, _, _ = benchmark("drive", "--json", "now.json", "--plot", "plot.png")
    assert code != 0
    assert not list(tmp_path.glob("*.json")) and not list(tmp_path.glob("*.png"))


def test_help_teaches(benchmark):
    code, out, _ = benchmark("--help")
    assert code == 0
    for phrase in ("P1", "--only parity,timing", "--baseline", "1-thread CPU"):
        assert phrase in out
