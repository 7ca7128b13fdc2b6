# SPDX-License-Identifier: Apache-2.0
"""pointdistill submit, as a user meets it; the network is a ten-line fake."""

import importlib
import sys

import numpy as np
import pytest

from pointdistill_ros import LabelSet, Segmentation
from pointdistill_ros.cli import main
from tests.official_trees import write_nuscenes, write_semantic_kitti

command = importlib.import_module("pointdistill_ros.cli.submit")


class EverythingIs:
    """Every point is of class 8: road in SemanticKITTI, trailer in nuScenes."""

    model_id, weights_sha256 = "fake", "ab12"

    def __init__(self, label_set):
        self.label_set = LabelSet.named(label_set)

    def __call__(self, scan):
        share = np.full(len(scan), 0.5, np.float32)
        return Segmentation(np.full(len(scan), 8, np.uint8), share, share, self.label_set)


@pytest.fixture
def submit(monkeypatch, capsys):
    """Run the command with a network of some classes; returns exit code, stdout, stderr."""

    def run(*arguments, label_set="semantic-kitti"):
        monkeypatch.setattr(command, "load_segmenter", lambda *args: EverythingIs(label_set))
        monkeypatch.setattr(sys, "argv", ["pointdistill", "submit", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
            sys.exit(0)
        out, err = capsys.readouterr()
        return stop.value.code, out, err

    return run


@pytest.fixture
def kitti(tmp_path):
    return write_semantic_kitti(tmp_path / "kitti", [f"{n}" for n in range(11, 22)], frames=1)


def test_semantic_kitti_from_scans_to_a_checked_archive(submit, kitti, tmp_path):
    archive = tmp_path / "out.zip"
    code, out, _ = submit(kitti, archive)
    assert code == 0
    assert "semantic-kitti test: 11 scans" in out
    assert f"11 scans labelled → {tmp_path}/out/, {archive}" in out
    assert out.count("✓") == 6
    assert out.endswith("ready to submit\n")
    label = np.fromfile(tmp_path / "out/sequences/11/predictions/000000.label", "<u4")
    assert label.tolist() == [40] * 5
    code, out, _ = submit(kitti, archive)
    assert code == 0
    assert "0 scans labelled, 11 were there" in out
    code, _, err = submit(kitti, archive, "--precision", "float16")
    assert code == 2
    assert "predictions of something else" in err


def test_a_check_says_what_is_wrong_and_exits_with_1(submit, kitti, tmp_path):
    submit(kitti, tmp_path / "out.zip")
    (kitti / "sequences/13/velodyne/000001.bin").write_bytes(b"\0" * 160)  # a scan more
    for frame in range(2, 16):
        (kitti / f"sequences/14/velodyne/{frame:06d}.bin").write_bytes(b"\0" * 16)
    code, out, _ = submit(kitti, tmp_path / "out.zip", "--check")
    assert code == 1
    assert "3. a file for every scan      ✗\n       sequences/13/predictions/000001.label" in out
    assert "… and 5 more" in out
    assert out.endswith("not valid: 15 findings\n")


def test_nuscenes_folder_and_archive(submit, tmp_path):
    root = write_nuscenes(tmp_path / "data", {"v1.0-mini": ("scene-0103", "scene-0916")})
    arguments = (root, tmp_path / "out.zip", "--split", "mini_val")
    code, out, _ = submit(*arguments, "--external-data", label_set="nuscenes")
    assert code == 0
    assert out.count("✓") == 7
    assert '"use_external": true' in (tmp_path / "out/mini_val/submission.json").read_text()
    code, out, _ = submit(root, tmp_path / "out", "--check", "--split", "mini_val")
    assert (code, out.splitlines()[-1]) == (0, "ready to submit")


def test_mistakes_end_with_one_line_and_2(submit, kitti, tmp_path):
    for arguments, message in (
        ((tmp_path, tmp_path / "out.zip"), "neither SemanticKITTI"),
        ((kitti, tmp_path / "out.tar"), "must be named *.zip"),
        ((kitti, tmp_path / "none.zip", "--check"), "not a whole zip archive"),
        ((kitti, tmp_path / "out.zip", "--split", "val"), "in sequence 08"),
    ):
        code, _, err = submit(*arguments)
        assert code == 2
        assert message in err
        assert err.count("\n") == 1
    code, _, err = submit(kitti, tmp_path / "out.zip", label_set="nuscenes")
    assert code == 2
    assert "knows the classes of nuscenes; this benchmark takes those of semantic-kitti" in err
    assert not (tmp_path / "out").exists()
