# SPDX-License-Identifier: Apache-2.0
"""pointdistill export, as a user meets it; the network is tiny, the scans are smaller."""

import importlib
import sys

import numpy as np
import onnx
import pytest

from pointdistill_ros import LidarScan
from pointdistill_ros.checkpoint import file_sha256, save_checkpoint
from pointdistill_ros.cli import main
from pointdistill_ros.engine.onnx import export as engine
from pointdistill_ros.engine.onnx.export import Parity
from tests.tiny import tiny_meta, tiny_network

command = importlib.import_module("pointdistill_ros.cli.export")
simulated = command._scans


@pytest.fixture
def export(tmp_path, monkeypatch, capsys):
    """Run the command in an empty folder with a checkpoint; returns exit code, stdout, stderr."""
    rng = np.random.default_rng(0)
    scan = LidarScan(rng.normal(0, 3, (500, 3)).astype(np.float32), rng.random(500, np.float32))
    monkeypatch.setattr(
        command, "_scans", lambda: [scan, LidarScan(scan.xyz[:1], scan.intensity[:1])]
    )
    monkeypatch.chdir(tmp_path)
    save_checkpoint(tmp_path / "net.safetensors", tiny_network(), tiny_meta())

    def run(*arguments):
        arguments = ["pointdistill", "export", "net.safetensors", "--to", "onnx", *arguments]
        monkeypatch.setattr(sys, "argv", arguments)
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capsys.readouterr()
        return stop.value.code, out, err

    return run


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_it_writes_a_checked_file_named_after_the_model(export, tmp_path):
    code, out, err = export()
    assert (code, err) == (0, "")
    assert out.splitlines()[0].startswith("tiny.onnx: float32 for cpu, ")
    assert out.count("✓") == 2 and out.count("100.00 % of the labels equal") == 2
    assert files(tmp_path) == ["net.safetensors", "tiny.onnx"]
    facts = {p.key: p.value for p in onnx.load("tiny.onnx").metadata_props}
    assert facts["weights_sha256"] == file_sha256(tmp_path / "net.safetensors")
    assert (facts["target"], facts["precision"]) == ("cpu", "float32")


def test_target_precision_and_place_can_be_chosen(export):
    code, out, _ = export("--target", "gpu", "--precision", "float16", "-o", "there/half.onnx")
    assert code == 0 and "there/half.onnx: float16 for gpu" in out
    model = onnx.load("there/half.onnx")
    assert {i.data_type for i in model.graph.initializer} >= {onnx.TensorProto.FLOAT16}
    assert {p.key: p.value for p in model.metadata_props}["precision"] == "float16"


@pytest.mark.parametrize("wrong", [Parity(9, 1.0, 2e-4, 1.0), Parity(9, 0.5, 1e-6, 1.0)])
def test_a_file_that_computes_something_else_is_not_kept(export, tmp_path, monkeypatch, wrong):
    (tmp_path / "tiny.onnx").write_text("the one of yesterday")
    monkeypatch.setattr(engine, "compare", lambda *_: wrong)
    code, out, err = export()
    assert code == 1
    assert "✗ 9 voxels" in out and "tiny.onnx: not the same function, not kept" in err
    assert files(tmp_path) == ["net.safetensors", "tiny.onnx"]
    assert (tmp_path / "tiny.onnx").read_text() == "the one of yesterday"


def test_without_onnxruntime_it_says_that_nothing_was_compared(export, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    code, _, err = export()
    assert code == 0 and "tiny.onnx" in files(tmp_path)
    assert "not compared with the torch form: onnxruntime is not installed" in err


def test_without_onnx_it_says_what_to_install(export, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    code, _, err = export()
    assert code == 2 and "pip install 'pointdistill-ros[export]'" in err
    assert files(tmp_path) == ["net.safetensors"]


def test_the_comparison_sees_a_street_less_than_a_patch_and_one_point():
    whole, near, one = simulated()
    assert len(whole) > 30_000 and (len(near), len(one)) == (200, 1)
    assert np.linalg.norm(near.xyz, axis=1).max() <= np.median(np.linalg.norm(whole.xyz, axis=1))
