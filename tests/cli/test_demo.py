# SPDX-License-Identifier: Apache-2.0
"""The demo, end to end over real DDS with a tiny network; its refusals; its failures."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from pointdistill_ros.checkpoint import save_checkpoint
from pointdistill_ros.cli import app
from pointdistill_ros.errors import CheckpointError, InputError, PointDistillError
from pointdistill_ros.io.bag import BagReader
from pointdistill_ros.io.binfile import write_kitti, write_labels
from pointdistill_ros.io.cloud_layout import CloudBytes
from pointdistill_ros.labels import LabelSet
from pointdistill_ros.scan import LidarScan
from tests.tiny import tiny_meta, tiny_network

# the package's attribute `demo` is the command, not the module
demo_command = importlib.import_module("pointdistill_ros.cli.demo")
KITTI = LabelSet.named("semantic-kitti")
OUTPUT = "/segmentation_node/labeled_points"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    """Weights of a few thousand parameters, never trained, that need intensity."""
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_checkpoint(path, tiny_network(), tiny_meta(missing=None))
    return path


def scan(rng: np.random.Generator, points: int, intensity: bool = True) -> LidarScan:
    xyz = rng.uniform(-20, 20, (points, 3)).astype(np.float32)
    return LidarScan(xyz, rng.random(points, np.float32) if intensity else None)


@pytest.fixture
def sequence(tmp_path) -> Path:
    """A SemanticKITTI sequence folder with three small labelled scans."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "sequence"
    for kind in ("velodyne", "labels"):
        (folder / kind).mkdir(parents=True)
    for i in range(3):
        write_kitti(scan(rng, 500 + i), folder / f"velodyne/{i:06d}.bin")
        truth = rng.integers(0, 19, 500 + i).astype(np.uint8)
        write_labels(KITTI.to_raw(truth), folder / f"labels/{i:06d}.label")
    return folder


def run(*arguments: object):
    return CliRunner().invoke(app, ["demo", *map(str, arguments)])


def clouds(path: Path, topic: str) -> list[CloudBytes]:
    with BagReader(path) as bag:
        return [CloudBytes.of(bag.cloud(message)) for message in bag.messages(topic)]


@pytest.mark.ros
def test_a_labelled_folder_goes_over_dds_and_back(tmp_path, tiny, sequence):
    out = tmp_path / "out"
    result = run("--input", sequence, "--model", tiny, "-o", out)
    assert result.exit_code == 0, result.output
    summary = json.loads((out / "summary.json").read_text())
    assert summary["frames"] == {"in": 3, "out": 3, "dropped": 0}
    assert summary["points"] == 500 + 501 + 502
    assert 0 < summary["latency_ms"]["p50"] <= summary["latency_ms"]["p99"] < 30_000

    # the bag holds what went out and what came back, and the figures follow from it
    sent = clouds(out / "labelled.mcap", "/points")
    labelled = clouds(out / "labelled.mcap", OUTPUT)
    assert [len(cloud) for cloud in labelled] == [500, 501, 502]
    hits = 0
    for i, (before, after) in enumerate(zip(sent, labelled, strict=True)):
        raw = np.fromfile(sequence / f"velodyne/{i:06d}.bin", "<f4").reshape(-1, 4)
        np.testing.assert_array_equal(before.xyz(), raw[:, :3])
        np.testing.assert_array_equal(after.xyz(), raw[:, :3])
        truth = np.fromfile(sequence / f"labels/{i:06d}.label", "<u4")
        hits += int((KITTI.to_raw(after.column("class_id")) == truth).sum())
    assert summary["accuracy"] == pytest.approx(hits / 1503, abs=1e-4)

    for name in ("birds_eye", "range_view", "comparison"):
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.ros
def test_a_bag_is_played_as_it_is_and_only_so_far(tmp_path, tiny, sequence):
    first = run("--input", sequence, "--model", tiny, "-o", tmp_path / "one")
    assert first.exit_code == 0, first.output
    bag = tmp_path / "one/input.mcap"
    second = run("--input", bag, "--model", tiny, "-o", tmp_path / "two", "--frames", 2)
    assert second.exit_code == 0, second.output
    summary = json.loads((tmp_path / "two/summary.json").read_text())
    assert summary["frames"] == {"in": 2, "out": 2, "dropped": 0}
    again = clouds(tmp_path / "two/labelled.mcap", OUTPUT)
    before = clouds(tmp_path / "one/labelled.mcap", OUTPUT)[:2]
    assert [bytes(c.data) for c in again] == [bytes(c.data) for c in before]


@pytest.mark.ros
def test_a_lost_cloud_is_counted_and_fails_the_demo(tmp_path, tiny, monkeypatch):
    """The network needs intensity; the second of three clouds has none, so it gets no answer."""
    from pointdistill_ros.io.bag import BagWriter
    from pointdistill_ros.io.pointcloud2 import encode_scan

    monkeypatch.setattr(demo_command, "RESULT_TIMEOUT", 10.0)
    rng = np.random.default_rng(0)
    with BagWriter(tmp_path / "in.mcap") as bag:
        for i in range(3):
            cloud = encode_scan(scan(rng, 200, intensity=i != 1))
            time_ns = (i + 1) * 100_000_000
            bag.write_cloud("/lidar", time_ns, cloud, stamp_ns=time_ns, frame="lidar")
    result = run("--input", tmp_path / "in.mcap", "--model", tiny, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert "1 of 3 clouds came back without labels" in result.output
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["frames"] == {"in": 3, "out": 2, "dropped": 1}
    assert "accuracy" not in summary


@pytest.mark.ros
@pytest.mark.timeout(600)  # three processes start one after the other
def test_a_teacher_beside_is_compared_and_the_figures_are_right(
    tmp_path, tiny, sequence, monkeypatch
):
    from pointdistill_ros import LidarScan, Segmenter
    from pointdistill_ros.nodes import process

    # on a machine that is busy with something else an idle teacher would never come to its turn
    monkeypatch.setitem(process.TEACHER_PACE, "pace.priority", "normal")
    big, network = tmp_path / "big.safetensors", tiny_network()
    torch.manual_seed(5)
    with torch.no_grad():  # labels a few per cent of the points like the student
        network.head.weight += 0.02 * torch.randn_like(network.head.weight)
    save_checkpoint(big, network, tiny_meta(missing=None))
    out = tmp_path / "out"
    result = run(
        *("--input", sequence, "--model", tiny, "--teacher", big, "--frames", 1, "-o", out)
    )
    assert result.exit_code == 0, result.output
    raw = np.fromfile(sequence / "velodyne/000000.bin", "<f4").reshape(-1, 4)
    one = LidarScan.from_arrays(raw[:, :3], raw[:, 3])
    says = [Segmenter.load(str(path), device="cpu")(one).labels for path in (tiny, big)]
    summary = json.loads((out / "summary.json").read_text())
    assert summary["frames"] == {"in": 1, "out": 1, "dropped": 0}
    teacher = summary["teacher"]
    assert (teacher["clouds"], teacher["points"]) == (1, 500)
    assert teacher["agreement"] == pytest.approx(np.mean(says[0] == says[1]), abs=1e-4)
    assert teacher["agreement"] < 1
    assert f"{100 * teacher['agreement']:.1f} % of 500 points" in result.output
    assert (out / "disagreement.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("content", "error"), [(None, CheckpointError), (b"nothing", CheckpointError)]
)
def test_a_bad_teacher_is_refused_before_a_node_starts(
    tmp_path, tiny, sequence, content, error, monkeypatch
):
    pytest.importorskip("rclpy")
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("started a process"))
    teacher = tmp_path / "teacher.safetensors"
    if content:
        teacher.write_bytes(content)
    result = run("--input", sequence, "--model", tiny, "--teacher", teacher, "-o", tmp_path / "o")
    assert isinstance(result.exception, error)
    assert not (tmp_path / "o").exists()


@pytest.mark.ros
def test_a_node_that_cannot_load_its_model_says_so(tmp_path):
    from pointdistill_ros.nodes.process import student_process

    node = student_process(str(tmp_path / "absent.safetensors"), tmp_path / "node.log", timeout=60)
    with pytest.raises(PointDistillError, match=r"cannot load model .*absent\.safetensors"), node:
        pytest.fail("the block must not run")


@pytest.mark.ros
@pytest.mark.slow
def test_the_simulated_drive(tmp_path, tiny):
    result = run("--model", tiny, "--frames", 2, "-o", tmp_path)
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "summary.json").read_text())["input"] == "simulated"


@pytest.mark.parametrize(
    ("name", "content", "error", "complaint"),
    [
        ("absent", None, InputError, "absent: no such file or folder"),
        ("notes.txt", b"hello", InputError, "unknown kind of file"),
        ("odd.bin", b"12345", InputError, "odd.bin"),
        ("broken.mcap", b"not a bag", InputError, "not a readable bag"),
    ],
)
def test_bad_input_is_refused_before_a_node_starts(
    tmp_path, tiny, name, content, error, complaint, monkeypatch
):
    pytest.importorskip("rclpy")
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("started a process"))
    if content is not None:
        (tmp_path / name).write_bytes(content)
    result = run("--input", tmp_path / name, "--model", tiny, "-o", tmp_path / "out")
    assert isinstance(result.exception, error)
    assert complaint in str(result.exception)
    assert not list((tmp_path / "out").glob("*"))


def test_missing_weights_are_refused_before_anything_is_made(tmp_path):
    pytest.importorskip("rclpy")
    result = run("--model", tmp_path / "none.safetensors", "-o", tmp_path / "out")
    assert isinstance(result.exception, CheckpointError)
    assert not (tmp_path / "out").exists()


def test_user_errors_are_one_line_and_exit_code_2(tmp_path):
    pytest.importorskip("rclpy")
    command = [
        sys.executable,
        "-m",
        "pointdistill_ros.cli",
        "demo",
        "--model",
        "/no/model.safetensors",
    ]
    result = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 2
    assert result.stderr == "pointdistill: /no/model.safetensors: no such checkpoint\n"


@pytest.mark.parametrize(
    ("simulated", "model", "accuracy", "fails"),
    [
        (True, "student", demo_command.FLOOR - 0.01, True),
        (True, "student", demo_command.FLOOR + 0.01, False),
        (True, "own.safetensors", 0.1, False),
        (False, "student", 0.1, False),
    ],
)
def test_the_floor_holds_for_the_shipped_student_on_the_simulated_drive(
    simulated, model, accuracy, fails
):
    summary = {"frames": {"in": 2, "out": 2, "dropped": 0}, "accuracy": accuracy}
    played = demo_command.Played(Path("x.mcap"), "/points", 2, simulated)
    assert bool(demo_command._problem(summary, played, model)) is fails
