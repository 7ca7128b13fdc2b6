# SPDX-License-Identifier: Apache-2.0
"""pointdistill segment, as a user meets it; the network is a ten-line fake."""

import importlib
import json
import sys

import numpy as np
import pytest

from pointdistill_ros import LabelSet, LidarScan, Segmentation
from pointdistill_ros.cli import main
from pointdistill_ros.config import InputConfig
from pointdistill_ros.errors import ScanError
from pointdistill_ros.io.bag import POINTCLOUD2, BagReader, BagWriter
from pointdistill_ros.io.binfile import read_labels, write_kitti
from pointdistill_ros.io.pointcloud2 import LAYOUTS, decode, encode_scan
from tests.cli.node_path import LastBits, published

command = importlib.import_module("pointdistill_ros.cli.segment")
KITTI = LabelSet.named("semantic-kitti")
REFUSAL = "network fake needs a ring, the scan has none"
ROAD, VEGETATION = KITTI.index("road"), KITTI.index("vegetation")


class RoadBelowZero:
    """Road below the sensor, vegetation above, nothing where there is no return."""

    label_set, model_id, weights_sha256 = KITTI, "fake", "ab12"

    def __call__(self, scan):
        labels = np.where(scan.xyz[:, 2] < 0, ROAD, VEGETATION).astype(np.uint8)
        labels[~scan.valid] = 255
        share = np.full(len(scan), 0.5, np.float32)
        return Segmentation(labels, share, share / 2, KITTI)


@pytest.fixture
def segment(monkeypatch, capsys):
    """Run the command; returns exit code, stdout, stderr."""
    loaded = []
    monkeypatch.setattr(
        command, "load_segmenter", lambda *args: loaded.append(args) or RoadBelowZero()
    )

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["pointdistill", "segment", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
            sys.exit(0)
        out, err = capsys.readouterr()
        return stop.value.code, out, err

    run.loaded = loaded
    return run


def scan(number=0):
    return LidarScan.from_arrays(
        [[1, 0, -1], [2, 0, 1], [np.nan, 0, 0], [number, 0, -1]], intensity=[0, 0.5, 0.5, 1]
    )


@pytest.fixture
def folder(tmp_path):
    for number in range(3):
        write_kitti(scan(number), tmp_path / "scans" / f"{number:06d}.bin")
    return tmp_path / "scans"


@pytest.fixture
def bag(tmp_path):
    with BagWriter(tmp_path / "in.mcap") as writer:
        for number in range(3):
            time_ns = 10**9 + number
            cloud = encode_scan(scan(number))
            writer.write_cloud("/velo", time_ns + 50, cloud, stamp_ns=time_ns, frame="roof")
    return tmp_path / "in.mcap"


def test_folder_to_label_files(segment, folder, tmp_path):
    code, out, _ = segment(folder, "-o", tmp_path / "out")
    assert code == 0
    files = sorted((tmp_path / "out").iterdir())
    assert [f.name for f in files] == ["000000.label", "000001.label", "000002.label"]
    raw, instances = read_labels(files[0], 4)
    assert raw.tolist() == [40, 70, 0, 40]  # SemanticKITTI's own ids
    assert not instances.any()
    assert "3 scans, 12 points" in out
    assert "road                      50.0 %" in out
    assert "unlabelled                25.0 %" in out


def test_probabilities_on_request(segment, folder, tmp_path):
    assert segment(folder / "000001.bin", "-o", tmp_path / "out", "--format", "npz")[0] == 0
    with np.load(tmp_path / "out" / "000001.npz") as saved:
        assert saved["label"].tolist() == [ROAD, VEGETATION, 255, ROAD]
        assert saved["probability"].tolist() == [0.5] * 4
        assert saved["names"].tolist() == list(KITTI.names)


def test_pictures_on_request(segment, folder, tmp_path):
    code, _, _ = segment(folder, "-o", tmp_path / "out", "--pictures", tmp_path / "seen")
    assert code == 0
    names = sorted(path.name for path in (tmp_path / "seen").iterdir())
    assert names == [f"scans_00000{i}_{view}.png" for i in range(3) for view in ("above", "range")]
    assert all(path.stat().st_size > 10_000 for path in (tmp_path / "seen").iterdir())


def test_folder_to_bag(segment, folder, tmp_path):
    assert segment(folder, folder, "-o", tmp_path / "out.mcap")[0] == 0
    with BagReader(tmp_path / "out.mcap") as bag:
        assert dict(bag.counts) == {"/points": 6, "/points/labeled": 6, "/class_info": 1}
        clouds = [decode(bag.cloud(m)) for m in bag.messages("/points")]
        np.testing.assert_array_equal(clouds[2].xyz, scan(2).xyz)
        assert [c.stamp_ns for c in clouds] == [i * 10**8 for i in range(6)]  # one after the other
        labelled = [bag.cloud(m) for m in bag.messages("/points/labeled")]
    assert [decode(c).stamp_ns for c in labelled] == [i * 10**8 for i in range(6)]
    classes = np.frombuffer(labelled[0].data, np.uint8)[12::24]
    assert classes.tolist() == [ROAD, VEGETATION, 255, ROAD]


def test_bag_to_bag_copies_the_clouds_and_their_headers(segment, bag, tmp_path):
    assert segment(bag, "-o", tmp_path / "out.mcap")[0] == 0
    with BagReader(bag) as source, BagReader(tmp_path / "out.mcap") as result:
        assert result.topics["/velo/labeled"] == POINTCLOUD2
        before = list(source.messages("/velo"))
        after = list(result.messages("/velo"))
        assert [(m.time_ns, m.cdr) for m in before] == [(m.time_ns, m.cdr) for m in after]
        labelled = list(result.messages("/velo/labeled"))
        for message, label in zip(before, labelled, strict=True):
            assert label.time_ns == message.time_ns
            assert source.cloud(message).header == result.cloud(label).header
        (info,) = result.messages("/class_info")
    content = json.loads(bytes(info.cdr)[8:].rstrip(b"\0"))
    assert content["names"] == list(KITTI.names)
    assert (content["model_id"], content["weights_sha256"], content["unlabelled"]) == (
        "fake",
        "ab12",
        255,
    )
    assert content["rgb"][3 * ROAD : 3 * ROAD + 3] == [255, 0, 255]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(segment, bag, tmp_path, layout):
    assert segment(bag, "-o", tmp_path / "out.mcap", "--layout", layout)[0] == 0
    with BagReader(tmp_path / "out.mcap") as result:
        cloud = result.cloud(next(result.messages("/velo/labeled")))
    steps = {"xyzcpe_aligned": 24, "xyzcpe_packed": 21, "append": 28, "rgb": 16}
    assert cloud.point_step == steps[layout]


@pytest.mark.parametrize("z_offset", [0.42, -1.73])
def test_z_offset_gives_what_the_node_sends_bit_for_bit(segment, tmp_path, monkeypatch, z_offset):
    monkeypatch.setattr(command, "load_segmenter", lambda *args: LastBits())
    rng = np.random.default_rng(0)
    xyz = rng.normal(0, 9, (500, 3)).astype(np.float32)
    xyz[::50] = [np.nan, np.inf, 1]
    with BagWriter(tmp_path / "in.mcap") as writer:
        writer.write_cloud("/velo", 1, encode_scan(LidarScan(xyz)), stamp_ns=1, frame="roof")
    options = (tmp_path / "in.mcap", "-o", tmp_path / "out.mcap")
    segment(*options, "--z-offset", z_offset)
    with BagReader(tmp_path / "out.mcap") as result:
        (cloud,) = (result.cloud(message) for message in result.messages("/velo/labeled"))
    assert [bytes(cloud.data)] == published(tmp_path / "in.mcap", "/velo", z_offset)
    np.testing.assert_array_equal(decode(cloud).xyz, xyz)  # lies where it was
    segment(*options)
    with BagReader(tmp_path / "out.mcap") as result:
        (level,) = (result.cloud(message) for message in result.messages("/velo/labeled"))
    assert bytes(level.data) != bytes(cloud.data)


class IntensityRanks:
    """A network that looks at nothing but the intensity, in 19 steps of 0..1."""

    label_set, model_id, weights_sha256 = KITTI, "ranks", "ab12"
    max_latency_ms, budget = 0.0, None

    def __call__(self, scan):
        labels = np.clip(19 * scan.intensity, 0, 18).astype(np.uint8)
        labels[~scan.valid] = 255
        p = np.where(scan.valid, 0.5, 0).astype(np.float32)
        return Segmentation(labels, p, p, KITTI, {"total": 1.0}, len(scan))

    def intensity_warning(self, intensity):
        return None


@pytest.mark.parametrize(
    "chosen",
    [
        {"intensity_field": "signal"},
        {"intensity_field": "signal", "intensity_scale": "div255"},
        {"intensity_scale": "log"},
        {"zero_is_no_return": True},
    ],
    ids=str,
)
def test_intensity_is_read_as_by_the_node(segment, tmp_path, monkeypatch, chosen):
    monkeypatch.setattr(command, "load_segmenter", lambda *args: IntensityRanks())
    rng = np.random.default_rng(0)
    one = LidarScan.from_arrays(rng.normal(0, 9, (500, 3)), intensity=rng.random(500))
    one.xyz[::7] = 0
    cloud = encode_scan(one, {"signal": rng.uniform(0, 200, 500).astype(np.float32)})
    with BagWriter(tmp_path / "in.mcap") as writer:
        writer.write_cloud("/velo", 1, cloud, stamp_ns=1, frame="roof")
    sent = {}
    for name, options in {"plain": {}, "chosen": chosen}.items():
        words = [("--" + o.replace("_", "-"), v) for o, v in options.items()]
        words = [word for pair in words for word in pair if word is not True]
        assert segment(tmp_path / "in.mcap", "-o", tmp_path / "out.mcap", *words)[0] == 0
        with BagReader(tmp_path / "out.mcap") as result:
            (cloud,) = (result.cloud(message) for message in result.messages("/velo/labeled"))
        sent[name] = [bytes(cloud.data)]
        assert sent[name] == published(
            tmp_path / "in.mcap", "/velo", network=IntensityRanks(), **options
        )
    assert sent["plain"] != sent["chosen"]


@pytest.mark.parametrize(
    "words", [("--intensity-field", "x"), ("--intensity-scale", "log"), ("--zero-is-no-return",)]
)
def test_scan_files_say_themselves_what_they_hold(segment, folder, bag, tmp_path, words):
    code, _, err = segment(bag, folder, "-o", tmp_path / "out.mcap", *words)
    assert (code, err.count("\n")) == (2, 1)
    assert f"{folder}: scan files hold what their format says; --intensity-field" in err
    assert not segment.loaded and not (tmp_path / "out.mcap").exists()
    code, _, err = segment(bag, "-o", tmp_path / "out.mcap", "--intensity-scale", "loud")
    assert code == 2 and "--intensity-scale" in err


def test_a_field_that_no_cloud_has_is_named(segment, bag, tmp_path):
    code, _, err = segment(bag, "-o", tmp_path / "out", "--intensity-field", "signal")
    assert (code, err.count("\n")) == (2, 1)
    assert "cloud 0 on /velo" in err and "'signal'" in err


def test_heights_are_those_of_the_node():
    from pointdistill_ros.cli.options import MAX_OFFSET

    for limit in (-MAX_OFFSET, MAX_OFFSET):
        InputConfig(z_offset=limit)
        with pytest.raises(ValueError):
            InputConfig(z_offset=1.01 * limit)


def test_choices_are_those_of_the_codec():
    assert tuple(choice.value for choice in command.Layout) == LAYOUTS


def test_bag_to_label_files_and_topic(segment, bag, tmp_path):
    assert segment(bag, "-o", tmp_path / "out")[0] == 0
    names = sorted(f.name for f in (tmp_path / "out").iterdir())
    assert names == ["000000.label", "000001.label", "000002.label"]
    assert segment(bag, "-o", tmp_path / "out.mcap")[0] == 0
    code, _, err = segment(tmp_path / "out.mcap", "-o", tmp_path / "again")
    assert code == 2
    assert "several PointCloud2 topics; choose one of /velo, /velo/labeled" in err
    code, _, _ = segment(tmp_path / "out.mcap", "-o", tmp_path / "again", "--topic", "/velo")
    assert code == 0


def test_model_and_device_reach_the_loader(segment, folder, tmp_path):
    where = "--model mine.safetensors --device cpu"
    how = "--engine native --precision bfloat16 --threads 2"
    segment(folder, "-o", tmp_path / "out", *where.split(), *how.split())
    assert segment.loaded == [("mine.safetensors", "cpu", "native", "bfloat16", 2)]


def test_empty_scan_gives_empty_labels(segment, tmp_path):
    (tmp_path / "empty.bin").touch()
    code, out, _ = segment(tmp_path / "empty.bin", "-o", tmp_path / "out")
    assert (code, (tmp_path / "out" / "empty.label").read_bytes()) == (0, b"")
    assert "1 scan, 0 points" in out


def test_scan_that_the_network_refuses_is_named(segment, folder, tmp_path, monkeypatch):
    def refuse(self, scan):
        raise ScanError(REFUSAL)

    monkeypatch.setattr(RoadBelowZero, "__call__", refuse)
    code, _, err = segment(folder, "-o", tmp_path / "out")
    assert (code, err) == (2, f"pointdistill: {folder}: scan 000000: {REFUSAL}\n")


def spoil(folder):
    (folder / "000001.bin").write_bytes(b"\xff" * 17)


@pytest.mark.parametrize("output", ["out", "out.mcap"])
def test_bad_scan_stops_with_one_line(segment, folder, tmp_path, output):
    spoil(folder)
    code, out, err = segment(folder, "-o", tmp_path / output)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert f"{folder / '000001.bin'}: 17 bytes is not a multiple of 16; expected 4 × float32" in err
    left = [p.name for p in tmp_path.rglob("*") if p.is_file() and p.parent != folder]
    assert left == (["000000.label"] if output == "out" else [])  # whole files or none


@pytest.mark.parametrize("output", ["out", "out.mcap"])
def test_keep_going_skips_and_lists(segment, folder, tmp_path, output):
    spoil(folder)
    code, out, err = segment(tmp_path / "none", folder, "-o", tmp_path / output, "--keep-going")
    assert code == 1
    assert "2 scans, 8 points" in out
    lines = err.splitlines()
    assert len(lines) == 2
    assert "none: no such file" in lines[0]
    assert "000001.bin: 17 bytes" in lines[1]
    assert (tmp_path / output).exists()


def test_keep_going_with_nothing_left(segment, folder, tmp_path):
    code, _, err = segment(tmp_path / "none", "-o", tmp_path / "out", "--keep-going")
    assert (code, err.count("\n")) == (2, 1)
    for file in folder.iterdir():
        file.write_bytes(b"\xff")
    code, _, err = segment(folder, "-o", tmp_path / "out.mcap", "--keep-going")
    assert (code, err.count("\n")) == (2, 1)
    assert not list(tmp_path.glob("*out*"))
    assert not list(tmp_path.glob(".*"))


def test_bad_input_is_found_before_the_network_is_loaded(segment, folder, tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "file").touch()
    for arguments, reason in [
        ((tmp_path / "none", "-o", "out"), "none: no such file or folder"),
        ((tmp_path / "notes.txt", "-o", "out"), "unknown kind of file; known: .pcd.bin"),
        ((folder, "-o", tmp_path / "x.db3"), "expected a folder or NAME.mcap"),
        ((folder, "-o", tmp_path / "file"), "a file; expected a folder or NAME.mcap"),
        ((folder, folder, "-o", tmp_path / "out"), "two scans would write this file"),
    ]:
        code, _, err = segment(*arguments)
        assert (code, err.count("\n")) == (2, 1)
        assert reason in err
    assert segment.loaded == []


def test_inputs_are_never_overwritten(segment, bag, tmp_path):
    before = bag.read_bytes()
    code, _, err = segment(bag, "-o", bag)
    assert (code, "input and output are the same" in err) == (2, True)
    (tmp_path / "npz").mkdir()
    np.savez(tmp_path / "npz" / "a.npz", xyz=np.zeros((1, 3)))
    for source in (tmp_path / "npz", tmp_path / "npz" / "a.npz"):
        code, _, err = segment(source, "-o", tmp_path / "npz", "--format", "npz")
        assert (code, "input and output are the same" in err) == (2, True)
    assert bag.read_bytes() == before
    assert segment(tmp_path / "npz", "-o", tmp_path / "npz")[0] == 0  # labels may lie beside


def test_bag_that_breaks_off(segment, bag, folder, tmp_path):
    """The index is whole, the data of the second half is not."""
    with BagWriter(bag) as writer:
        cloud = encode_scan(LidarScan.from_arrays(np.ones((100_000, 3))))
        for number in range(4):
            writer.write_cloud("/velo", number, cloud, stamp_ns=number, frame="roof")
    data = bytearray(bag.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 1_300_000] = bytes(1_300_000)  # more than a message
    bag.write_bytes(data)
    code, out, err = segment(bag, "-o", tmp_path / "out.mcap")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "damaged, only 3 of 4 clouds on /velo could be read" in err
    assert not (tmp_path / "out.mcap").exists()
    code, out, err = segment(bag, folder, "-o", tmp_path / "out.mcap", "--keep-going")
    assert (code, "in.mcap" in err) == (1, True)


def test_help_names_every_option(segment):
    code, out, _ = segment("--help")
    assert code == 0
    for word in (
        "--out",
        "--model",
        "--device",
        "--topic",
        "--z-offset",
        "--intensity-field",
        "--intensity-scale",
        "--zero-is-no-return",
        "--format",
        "--layout",
        "--keep-going",
    ):
        assert word in out
