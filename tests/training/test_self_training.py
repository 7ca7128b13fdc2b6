# SPDX-License-Identifier: Apache-2.0
import json
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pointdistill_ros.checkpoint import save_checkpoint
from pointdistill_ros.datasets.pseudo import PseudoScans
from pointdistill_ros.errors import ConfigError, InputError, ScanError
from pointdistill_ros.protocols.labellers import labeller
from pointdistill_ros.protocols.views import PLAIN, QUARTER_TURNS
from pointdistill_ros.scan import LidarScan
from pointdistill_ros.segmenter import Segmenter
from training import pseudo_label
from training.lineage import labellers_of
from training.pseudo_files import PseudoFolder, packable, packed_cloud, unpacked_cloud
from training.self_training import (
    VIEWS,
    SoftLabeller,
    Thresholds,
    confidence_histogram,
    dense,
    filtered,
    top_classes,
)

from ..tiny import tiny_meta, tiny_network


@pytest.fixture(scope="module")
def segmenter():
    return Segmenter(tiny_network(), tiny_meta(), engine="torch")


def cloud(seed=0, n=500):
    rng = np.random.default_rng(seed)
    xyz = rng.normal(0, (4, 4, 0.5), (n, 3)).astype(np.float32)
    return LidarScan(xyz, rng.random(n).astype(np.float32))


def confidence_of(probability):
    return np.floor(100 * probability.astype(np.float64))


def test_one_view_is_what_a_robot_runs(segmenter):
    scan = cloud()
    soft, plain = SoftLabeller([segmenter], PLAIN)(scan), segmenter(scan)
    np.testing.assert_array_equal(soft.labels(), plain.labels)
    assert np.abs(soft.confidence() - confidence_of(plain.probability)).max() <= 1
    np.testing.assert_allclose(soft.probability.sum(axis=1), 1, rtol=1e-5)


def test_every_point_of_four_turns_is_protocol_p3(segmenter):
    scan = cloud()
    soft = SoftLabeller([segmenter], QUARTER_TURNS, every_point=True)(scan)
    p3 = labeller("p3", segmenter, "semantic-kitti")(scan)
    np.testing.assert_array_equal(soft.labels(), p3.labels)
    np.testing.assert_allclose(soft.probability.max(axis=1)[soft.row], p3.probability, atol=1e-5)


def test_one_pass_per_view_counts_every_view_once(segmenter):
    calls = []

    class Votes:
        def prepare(self, coords):
            calls.append(len(coords))
            won = len(calls) - 1  # view k is sure of class k
            return lambda features: np.eye(19, dtype=np.float32)[np.full(len(features), won)]

    scan = LidarScan(cloud(n=200).xyz / 8, cloud(n=200).intensity)  # several points per voxel
    found = SoftLabeller([segmenter], VIEWS[4], softmaxes=[Votes()])(scan)
    assert max(calls) < len(found.probability)
    assert len(calls) == 4
    np.testing.assert_allclose(
        found.probability[:, :5], [[0.25] * 4 + [0]] * len(found.probability)
    )
    assert set(found.confidence()) == {25}
    calls.clear()
    SoftLabeller([segmenter], VIEWS[10], softmaxes=[Votes()])(scan)
    assert len(calls) == 10


def test_points_without_a_place_get_no_label(segmenter):
    scan = cloud(n=60)
    scan.xyz[3], scan.xyz[5] = np.nan, 1e9
    found = SoftLabeller([segmenter])(scan)
    lost = np.isin(np.arange(60), [3, 5])
    np.testing.assert_array_equal(found.labels() == 255, lost)
    np.testing.assert_array_equal(found.confidence() == 0, lost)
    scan.xyz[:] = np.nan
    assert set(SoftLabeller([segmenter])(scan).labels()) == {255}
    with pytest.raises(ConfigError, match="at least one network and one view"):
        SoftLabeller([segmenter], ())


@given(
    arrays(np.int64, (4, 101), elements=st.integers(0, 50)),
    st.floats(0.01, 1),
    st.integers(0, 90),
)
def test_a_threshold_keeps_the_share_and_would_not_if_it_were_higher(histogram, share, floor):
    bounds = Thresholds(100, share, floor).per_class(histogram)
    for counts, bound in zip(histogram, bounds, strict=True):
        assert bound >= floor
        if bound > floor:
            assert counts[bound:].sum() >= share * counts.sum() - 1e-6
        if bound < 100:
            assert counts[bound + 1 :].sum() < share * counts.sum() or counts.sum() == 0


def test_rare_classes_survive_and_sure_ones_are_kept_whole():
    histogram = np.zeros((3, 101), np.int64)
    histogram[0, 95] = 1000  # always sure
    histogram[1, [45, 60]] = 90, 10  # never sure
    histogram[2, 20] = 10  # below the floor
    assert Thresholds(80).per_class(histogram).tolist() == [80, 80, 80]
    assert Thresholds(80, 0.1).per_class(histogram).tolist() == [80, 60, 40]
    assert Thresholds(80, 0.2).per_class(histogram).tolist() == [80, 45, 40]


def test_settings_that_cannot_be_meant_are_refused():
    with pytest.raises(ConfigError, match=r"min_confidence must lie in 0 \.\. 100, got 101"):
        Thresholds(101)
    with pytest.raises(ConfigError, match="keep_share must lie"):
        Thresholds(80, 1.5)
    with pytest.raises(ConfigError, match="raise min_confidence"):
        Thresholds(keep_share=0.5)


def test_filtering_counts_like_the_histogram():
    rng = np.random.default_rng(0)
    labels = rng.choice([0, 1, 2, 255], 1000).astype(np.uint8)
    confidence = rng.integers(0, 101, 1000).astype(np.uint8)
    histogram = confidence_histogram(labels, confidence, 3)
    assert histogram.sum() == (labels != 255).sum()
    bounds = np.uint8([0, 50, 101])
    left = filtered(labels, confidence, bounds)
    for c, bound in enumerate(bounds):
        assert (left == c).sum() == histogram[c, bound:].sum()
    assert set(left[labels == 255]) == {255}
    assert set(left[left != labels]) == {255}


@given(st.integers(1, 6), st.integers(0, 100))
def test_soft_targets_come_back(k, seed):
    rng = np.random.default_rng(seed)
    probability = rng.dirichlet(np.full(6, 0.3), 20).astype(np.float32)
    classes, values = top_classes(probability, k)
    found = dense(classes, values, 6)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
    kept = np.take_along_axis(probability, classes.astype(int), 1)
    np.testing.assert_allclose(np.take_along_axis(found, classes.astype(int), 1), kept, atol=2e-3)
    assert (found.argmax(1) == probability.argmax(1)).mean() > 0.9  # float16 makes ties
    assert np.all(np.diff(values, axis=1) <= 0)
    if k == 6:
        np.testing.assert_allclose(found, probability, atol=2e-3)
    with pytest.raises(ConfigError, match=r"keep 1 \.\. 6 classes, not 7"):
        top_classes(probability, 7)


@given(st.floats(1, 255), st.integers(0, 5))
def test_packed_clouds_are_near_the_scan(reach, seed):
    rng = np.random.default_rng(seed)
    xyz = rng.uniform(-reach, reach, (50, 3)).astype(np.float32)
    xyz[:4] = [[np.nan, 0, 0], [np.inf, 0, 0], [0, 256.5, 0], [0, 0, -np.inf]]
    scan = packable(LidarScan(xyz, rng.random(50).astype(np.float32)))
    assert len(scan) == 46
    back = unpacked_cloud(packed_cloud(scan))
    assert np.abs(back.xyz - scan.xyz).max() <= 1 / 256 + 1e-5
    assert np.abs(back.intensity - scan.intensity).max() <= 0.005 + 1e-6


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    weights = tmp_path / "tiny.safetensors"
    save_checkpoint(weights, tiny_network(), tiny_meta())
    scans = tmp_path / "data" / "unlabelled"
    scans.mkdir(parents=True)
    for i in range(2):
        packed = packed_cloud(cloud(i, 300))
        np.savez(scans / f"{i}_kitti.npz", **packed)
    xyz = cloud(2, 300).xyz
    xyz[7] = np.nan
    np.savez(scans / "2_other.npz", xyz=xyz, intensity=np.linspace(0, 1, 300, dtype=np.float32))

    def call(*options, more=()):
        argv = ["pseudo_label", scans, *more, "--out", tmp_path / "out", "--weights", weights]
        argv += ["--engine", "torch", *options]
        monkeypatch.setattr(sys, "argv", [str(a) for a in argv])
        pseudo_label.main()
        return capsys.readouterr().out

    return call


def test_command_writes_what_training_reads(command, tmp_path):
    text = command("--soft", "3")
    assert "3 scans, 0 of them labelled before" in text and "100% of the labels kept" in text
    scans = PseudoScans(tmp_path / "out", 0)
    assert scans.sequences == ["0_kitti", "1_kitti", "2_other"]
    assert (tmp_path / "out/unlabelled/0_kitti.npz").is_symlink()
    assert not (tmp_path / "out/unlabelled/2_other.npz").is_symlink()
    assert len(scans[2][0]) == 299
    segmenter = Segmenter.load(tmp_path / "tiny.safetensors", engine="torch")
    for i, name in enumerate(scans.sequences):
        scan, labels = scans[i]
        found = SoftLabeller([segmenter])(scan)
        np.testing.assert_array_equal(labels, found.labels())
        columns = PseudoFolder(tmp_path / "out").soft_columns(name)
        soft = dense(columns["soft_class"], columns["soft_value"], 19)
        np.testing.assert_allclose(soft.max(1), found.probability.max(1)[found.row], atol=2e-3)
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert sum(row["points"] for row in manifest["classes"].values()) == 899
    (entry,) = labellers_of(tmp_path / "out", "out")
    assert (entry["model"], entry["folder"]) == (segmenter.model_id, "out")
    assert entry["sha256"] == segmenter.weights_sha256
    assert "| road |" in (tmp_path / "out/README.md").read_text()


def test_points_without_label_have_no_soft_target(segmenter, tmp_path):
    scan, folder = cloud(n=50), PseudoFolder(tmp_path)
    scan.xyz[7] = np.nan
    found = SoftLabeller([segmenter])(scan)
    folder.write_scores("a", found, "", "", 3)
    value = folder.soft_columns("a")["soft_value"]
    assert value.shape == (50, 3)
    np.testing.assert_array_equal(value[:, 0] == 0, np.arange(50) == 7)
    folder.write_scores("a", found, "", "", 0)
    with pytest.raises(InputError, match=r"a\.npz: holds no soft targets; label with --soft"):
        folder.soft_columns("a")


def test_finished_scans_are_kept_and_changed_ones_labelled_again(command, tmp_path):
    command("--match", "*_kitti")
    scores = tmp_path / "out/scores"
    stamps = {path.name: path.stat().st_mtime_ns for path in scores.iterdir()}
    assert "3 scans, 2 of them labelled before" in command()
    assert stamps == {name: (scores / name).stat().st_mtime_ns for name in stamps}
    (scores / "0_kitti.npz").write_bytes(b"cut off")
    np.savez(tmp_path / "data/unlabelled/1_kitti.npz", **packed_cloud(cloud(9, 200)))
    assert "3 scans, 1 of them labelled before" in command()
    assert len(PseudoScans(tmp_path / "out", 0)[1][1]) == 200
    assert "3 scans, 0 of them labelled before" in command("--views", "1")


def test_other_thresholds_need_no_network(command, tmp_path, monkeypatch):
    command("--min-confidence", "0")
    monkeypatch.setattr(SoftLabeller, "__call__", None)
    text = command("--min-confidence", "100")
    assert "3 of them labelled before" in text and "0% of the labels kept" in text
    assert set(PseudoScans(tmp_path / "out", 0)[0][1]) == {255}
    command("--min-confidence", "100", "--keep-share", "0.2", "--floor", "0")
    labels, whole = (PseudoScans(tmp_path / "out", 0)[0][1], PseudoFolder(tmp_path / "out"))
    said = whole.read_scores("0_kitti").labels
    assert 0.1 < (labels != 255).mean() < 1 and set(labels[labels != said]) <= {255}
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert all(r["kept"] >= 0.2 * r["points"] for r in manifest["classes"].values())


def test_labels_of_other_weights_are_not_mixed_in(command, tmp_path):
    command()
    with pytest.raises(InputError, match=r"2_other\.npz: labelled by other weights or views"):
        command("--views", "1", "--match", "*kitti")
    assert "1 of an earlier input" in command("--match", "*kitti")


def test_what_does_not_fit_is_named(command, tmp_path):
    with pytest.raises(InputError, match="no scan is called nothing"):
        command("--match", "nothing")
    with pytest.raises(ConfigError, match=r"--soft must lie in 0 \.\. 19, got 20"):
        command("--soft", "20")
    with pytest.raises(InputError, match="a scan 0_kitti is there twice"):
        command(more=[tmp_path / "data/unlabelled/0_kitti.npz"])


def test_scans_without_intensity_look_as_in_training(command, tmp_path):
    for missing in (0.25, None):
        meta = tiny_meta(missing=missing)
        save_checkpoint(tmp_path / "tiny.safetensors", tiny_network(), meta)
        np.save(tmp_path / "data/unlabelled/bare.npy", cloud().xyz)
        if missing is None:
            with pytest.raises(ScanError, match="needs intensity"):
                command("--match", "bare")
        else:
            command("--match", "bare")
            assert set(PseudoScans(tmp_path / "out", 0)[0][0].intensity) == {np.float32(0.25)}


def test_scans_of_one_drive_are_one_place(command, tmp_path):
    command("--one-drive", "--every", "2")
    scans = PseudoScans(tmp_path / "out", 0)
    assert scans.sequences == ["unlabelled"] * 2  # the folder
    command("--match", "0_kitti")
    assert PseudoScans(tmp_path / "out", 0).sequences == ["0_kitti", "unlabelled"]


def test_every_folder_and_bag_is_a_drive_of_its_own(command, tmp_path):
    drives = [tmp_path / "sequences" / name for name in ("03", "04")]
    for drive in drives:
        (drive / "velodyne").mkdir(parents=True)
        for i in range(2):
            rng = np.random.default_rng(i)
            points = np.column_stack([cloud(i, 200).xyz, rng.random(200)]).astype(np.float32)
            points.tofile(drive / "velodyne" / f"{i:06d}.bin")
    command("--match", "*0*", more=drives)
    scans = PseudoScans(tmp_path / "out", 0)
    found = dict(zip([path.stem for path in scans.label_paths], scans.sequences, strict=True))
    assert found["0_kitti"] == "0_kitti"
    assert [found[f"03_00000{i}"] for i in range(2)] == ["03"] * 2
    assert [found[f"04_00000{i}"] for i in range(2)] == ["04"] * 2
    assert len(scans[1][0]) == 200
