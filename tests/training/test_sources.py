# SPDX-License-Identifier: Apache-2.0
import dataclasses
import json
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import training.sources
from pointdistill_ros.datasets.cache import pack
from pointdistill_ros.datasets.convention import InConvention
from pointdistill_ros.errors import ConfigError, InputError, LabelError
from pointdistill_ros.labels import UNLABELLED, LabelSet
from training.config import TrainConfig
from training.data_config import SourceConfig
from training.opening import CachedScans, cache_bytes
from training.sources import SourceMix, open_source

from .drives import KITTI, Drives

NUSCENES = LabelSet.named("nuscenes")


def labels_of(drawn):
    return np.array([points.labels[0] for points in drawn])


def test_sequences_are_equally_likely_however_many_scans_they_have():
    mix, rng = SourceMix([(Drives(), 1.0)]), np.random.default_rng(0)
    drawn = labels_of(mix.draw(rng) for _ in range(300))
    assert 0.4 < np.mean(drawn == 3) < 0.6
    assert set(drawn) == {0, 1, 2, 3}


def test_or_scans_are():
    mix = SourceMix([(Drives(), 1.0)], balance=["scan"])
    rng = np.random.default_rng(0)
    drawn = labels_of(mix.draw(rng) for _ in range(300))
    assert 0.18 < np.mean(drawn == 3) < 0.32


def test_sources_are_drawn_by_weight_and_nan_points_left_out():
    mix = SourceMix([(Drives(), 3.0), (Drives("c", [UNLABELLED]), 1.0)])
    rng = np.random.default_rng(0)
    drawn = [mix.draw(rng) for _ in range(300)]
    assert 0.65 < np.mean(labels_of(drawn) != UNLABELLED) < 0.85
    assert all(np.isfinite(p.xyz).all() and len(p) == 799 for p in drawn)


def test_several_scans_come_from_several_sequences():
    mix, rng = SourceMix([(Drives("aaabcd", range(6)), 1.0)]), np.random.default_rng(0)
    for _ in range(20):
        drawn = labels_of(mix.draw_apart(rng, 3))
        places = {"aaabcd"[i] for i in drawn}
        assert len(places) >= 2
    assert len(mix.draw_apart(rng, 9)) == 9  # more than there are sequences


def test_scans_with_a_class_are_found_and_none_where_there_is_none():
    mix = SourceMix([(Drives(), 1.0), (Drives("c", [UNLABELLED]), 9.0)])
    rng = np.random.default_rng(0)
    found = {int(mix.with_class(rng, [2, 3, 11]).labels[0]) for _ in range(30)}
    assert found == {2, 3}
    assert mix.with_class(rng, [11]) is None
    assert mix.with_class(rng, []) is None
    assert mix.with_class(rng, [2], least=800) is not None
    assert mix.with_class(rng, [2], least=801) is None


def test_labels_of_other_data_sets_become_targets():
    tree, cone = NUSCENES.index("vegetation"), NUSCENES.index("traffic_cone")
    mix = SourceMix([(Drives("ab", [tree, cone], NUSCENES), 1.0), (Drives("c", [14]), 1.0)])
    assert mix.heads == ("common",)
    sets, rng = mix.sets["common"], np.random.default_rng(0)
    drawn = set(labels_of(mix.draw(rng) for _ in range(60)).tolist())
    union = sets.names.index("vegetation|trunk")
    assert drawn == {14, union, UNLABELLED}
    assert int(mix.with_class(rng, [union]).labels[0]) == union


def test_a_head_per_label_set_draws_from_its_own_sources_in_their_own_classes():
    mix = SourceMix(
        [
            (Drives("ab", [3, 15], NUSCENES), 1.0),
            (Drives("c", [14]), 1.0),
            (Drives("d", [15]), 2.0),
        ],
        per_dataset=True,
    )
    assert set(mix.heads) == {"nuscenes", "semantic-kitti"}
    assert {name: len(sets) for name, sets in mix.sets.items()} == {
        "nuscenes": 16,
        "semantic-kitti": 19,
    }
    rng = np.random.default_rng(0)
    heads = [mix.draw_head(rng) for _ in range(300)]
    assert 0.65 < np.mean([h == "semantic-kitti" for h in heads]) < 0.85
    drawn = {h: set(labels_of(mix.draw(rng, h) for _ in range(60))) for h in mix.heads}
    assert drawn == {"nuscenes": {3, 15}, "semantic-kitti": {14, 15}}
    assert {int(mix.with_class(rng, [15], h).labels[0]) for h in mix.heads} == {15}
    assert mix.with_class(rng, [14], "nuscenes") is None
    with pytest.raises(ConfigError, match="no source has head 'waymo'"):
        mix.draw(rng, "waymo")


def test_labels_without_a_meaning_in_the_common_set_are_refused():
    with pytest.raises(LabelError, match="no remap to waymo"):
        SourceMix([(Drives(), 1.0)], LabelSet.named("waymo"))


def test_class_counts_are_those_of_a_drawn_scan():
    mix = SourceMix([(Drives("aaab", [0, 0, 1, 2]), 1.0), (Drives("c", [5]), 1.0)])
    counts = mix.class_counts() / 1e6
    expected = {0: 1 / 6, 1: 1 / 12, 2: 1 / 4, 5: 1 / 2}
    assert counts.shape == (19,)
    for label, share in expected.items():
        assert counts[label] == pytest.approx(share, abs=1e-5)
    by_scan = SourceMix([(Drives("aaab", [0, 0, 1, 2]), 1.0)], balance=["scan"])
    assert by_scan.class_counts()[0] == pytest.approx(5e5, abs=1)


def test_unions_count_as_their_members_do_elsewhere():
    tree, road = NUSCENES.index("vegetation"), NUSCENES.index("driveable_surface")
    alone = SourceMix([(Drives("ab", [tree, road], NUSCENES), 1.0)]).class_counts()
    assert alone.nonzero()[0].tolist() == [8, 9, 14, 15]
    assert alone[[8, 9, 14, 15]] == pytest.approx(25e4, abs=1)  # nothing is known better
    exact = Drives("abcd", [14, 14, 14, 15])
    both = SourceMix([(Drives("a", [tree], NUSCENES), 1.0), (exact, 1.0)]).class_counts()
    assert both[14] == pytest.approx(75e4, abs=1)
    assert both[15] == pytest.approx(25e4, abs=1)


def test_large_data_sets_are_counted_by_a_sample_of_all_sequences(monkeypatch):
    monkeypatch.setattr(training.sources, "COUNTED", 12)
    sequences = "a" * 50 + "b" * 30 + "c" * 3
    drives = Drives(sequences, [i % 19 for i in range(83)])
    mix = SourceMix([(drives, 1.0)], seed=3)
    assert drives.reads == 12
    counted = mix._sources[0].counted
    assert len(set(counted)) == 12
    names = [sequences[i] for i in counted]
    assert names.count("c") == 3
    assert abs(names.count("a") - names.count("b")) <= 1
    again = SourceMix([(drives, 1.0)], seed=3)._sources[0].counted
    other = SourceMix([(drives, 1.0)], seed=4)._sources[0].counted
    assert counted.tolist() == again.tolist() != other.tolist()
    rng = np.random.default_rng(0)
    assert len({p.xyz.tobytes() for p in (mix.draw(rng) for _ in range(60))}) > 12  # all are drawn


def test_a_mix_travels_to_other_processes_and_draws_the_same():
    mix = SourceMix([(CachedScans(Drives(ring=True), 1 << 20), 1.0)])
    again = pickle.loads(pickle.dumps(mix))
    a, b = mix.draw(np.random.default_rng(7)), again.draw(np.random.default_rng(7))
    np.testing.assert_array_equal(a.xyz, b.xyz)
    np.testing.assert_array_equal(a.labels, b.labels)
    np.testing.assert_array_equal(a.ring, b.ring)
    assert a.ring is not None


def test_memory_of_decoded_scans_is_bounded_and_the_oldest_go_first():
    drives = Drives("abcdef")
    size = 800 * (12 + 4 + 1)
    cached = CachedScans(drives, 3 * size)
    for i in (0, 1, 2):
        cached[i]
    assert (drives.reads, cached.bytes) == (3, 3 * size)
    cached[0]  # the youngest now
    assert drives.reads == 3
    cached[3]  # 1 goes
    assert cached.bytes == 3 * size
    cached[0], cached[2], cached[3]
    assert drives.reads == 4
    np.testing.assert_array_equal(cached[1][0].xyz, drives[1][0].xyz)
    assert pickle.loads(pickle.dumps(cached)).bytes == 0
    tiny = CachedScans(drives, size - 1)
    assert len(tiny[0][1]) == 800
    assert tiny.bytes == 0


def test_threads_share_the_memory_of_decoded_scans():
    size = 800 * (12 + 4 + 1)
    cached = CachedScans(Drives("abcdefgh"), 3 * size)

    def read(seed):
        for i in np.random.default_rng(seed).integers(8, size=200):
            assert (cached[int(i)][1] == i).all()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(read, range(4)))
    assert cached.bytes == 3 * size


def save_packed(root, sequence, space, split="train", dataset="PandaSet"):
    rng = np.random.default_rng(0)
    root.mkdir(parents=True, exist_ok=True)
    np.savez(
        root / f"{sequence}.npz",
        xyz=rng.integers(-2000, 2000, (5000, 3)).astype(np.int16),
        q=256,
        inten=np.full(5000, 24, np.uint8),
        label=np.full(5000, 5, np.uint8),
        label19=np.full(5000, 14, np.uint8),
        label7=np.full(5000, 6, np.uint8),
    )
    path = root / "manifest.json"
    files = json.loads(path.read_text())["files"] if path.exists() else []
    entry = {"path": f"{sequence}.npz", "dataset": dataset, "sequence": sequence}
    path.write_text(json.dumps({"files": [*files, entry | {"split": split, "label_space": space}]}))


def test_packed_sources_are_read_in_their_own_classes_unless_told_otherwise(tmp_path):
    save_packed(tmp_path / "p", "002", "pandaset")
    save_packed(tmp_path / "p", "003", "pandaset", "val")
    save_packed(tmp_path / "k", "00", "semantickitti_raw", dataset="SemanticKITTI")
    own = open_source(SourceConfig("packed", "pandaset", "p"), tmp_path, tmp_path)
    assert own.label_set.name == "pandaset"
    assert set(own[0][1]) == {own.label_set.index("Vegetation")}
    assert own[0][0].xyz[:, 2].mean() < -1  # in the reference convention
    folded = SourceConfig("packed", "pandaset", "p", label_set="semantic-kitti")
    assert set(open_source(folded, tmp_path, tmp_path)[0][1]) == {14}
    val = open_source(SourceConfig("packed", "pandaset", "p", split="val"), tmp_path, tmp_path)
    assert list(val.sequences) == ["003"]
    assert len(pickle.dumps(own)) < 10_000  # what was read stays here
    kitti = open_source(SourceConfig("packed", "semantic-kitti", "k"), tmp_path, tmp_path)
    assert kitti.label_set.name == "semantic-kitti"


def test_official_layouts_come_in_the_reference_convention(tmp_path):
    folder = tmp_path / "kitti" / "sequences" / "00"
    (folder / "velodyne").mkdir(parents=True)
    (folder / "labels").mkdir()
    np.arange(40, dtype=np.float32).tofile(folder / "velodyne" / "000000.bin")
    np.full(10, 40, np.uint32).tofile(folder / "labels" / "000000.label")
    config = SourceConfig("official", "semantic-kitti", "kitti", sequences=("00",))
    source = open_source(config, tmp_path, tmp_path)
    assert isinstance(source.scans, InConvention)
    assert set(source[0][1]) == {8}
    with pytest.raises(InputError):
        open_source(SourceConfig("official", "semantic-kitti", "nowhere"), tmp_path, tmp_path)


def test_packed_caches_are_opened_by_name_or_as_they_are(tmp_path):
    pack(Drives(), tmp_path / "cache", "semantic-kitti", "train")
    config = SourceConfig("cache", "semantic-kitti", "cache", cache_megabytes=0)
    assert isinstance(open_source(config, tmp_path, tmp_path), InConvention)
    plain = open_source(SourceConfig("cache", folder="cache"), tmp_path, tmp_path)
    assert set(plain[2][1]) == {2}
    with pytest.raises(InputError, match="train split"):
        open_source(
            SourceConfig("cache", "semantic-kitti", "cache", split="val"), tmp_path, tmp_path
        )


def test_pseudo_labels_below_the_confidence_are_ignored(tmp_path):
    for name in ("unlabelled", "pseudo"):
        (tmp_path / name).mkdir()
    xyz = np.zeros((4, 3), np.int16)
    np.savez(tmp_path / "unlabelled/a.npz", xyz=xyz + 500, q=128, inten=np.zeros(4, np.uint8))
    confidence = np.uint8([95, 80, 79, 10])
    np.savez(tmp_path / "pseudo/a.npz", pseudo19=np.uint8([0, 1, 2, 3]), conf=confidence)
    source = open_source(SourceConfig("pseudo", min_confidence=0.8), tmp_path, tmp_path)
    assert source[0][1].tolist() == [0, 1, UNLABELLED, UNLABELLED]


def test_recordings_need_a_folder(tmp_path):
    with pytest.raises(InputError, match="source pandaset needs recordings"):
        open_source(SourceConfig("packed", "pandaset"), None, tmp_path)
    with pytest.raises(InputError, match="source pseudo needs recordings"):
        open_source(SourceConfig("pseudo"), None, tmp_path)


def test_a_recipe_decides_weights_heads_and_balance():
    sources = (SourceConfig("packed", "a", weight=3), SourceConfig("packed", "b", balance="scan"))
    opened = [Drives("ab", [3, 3], NUSCENES), Drives("aaab", range(4), KITTI)]
    mix = SourceMix.of(TrainConfig(sources=sources, head="per-dataset"), opened)
    assert mix.weights.tolist() == [0.75, 0.25]
    assert mix.heads == ("nuscenes", "semantic-kitti")
    rng = np.random.default_rng(0)
    drawn = labels_of(mix.draw(rng, "semantic-kitti") for _ in range(300))
    assert 0.18 < np.mean(drawn == 3) < 0.32
    common = SourceMix.of(TrainConfig(sources=sources, label_set="common7"), opened)
    assert len(common.sets["common"]) == 7


@pytest.mark.parametrize("name", ["pandaset", "nuscenes", "ika-vlp32", "semantic-kitti"])
def test_real_sources_open(real_data, tmp_path, name):
    config = SourceConfig("packed", name)
    source = open_source(config, real_data, tmp_path)
    scan, labels = source[0]
    assert len(scan) == len(labels) > 1000
    assert (labels[labels != UNLABELLED] < len(source.label_set)).all()


def test_memory_of_kept_scans_is_bounded_by_their_number_and_by_the_limit():
    few = SourceConfig("packed", cache_megabytes=100)
    assert cache_bytes([(few, 3)]) == 3 * (2 << 20)
    assert cache_bytes([(few, 3), (few, 10**6)]) == 106 << 20
    assert cache_bytes([(dataclasses.replace(few, cache_megabytes=0), 10)]) == 0
