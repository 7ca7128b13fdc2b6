# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from pointdistill_ros.datasets.cache import PackedCache, pack
from pointdistill_ros.datasets.convention import InConvention, SensorConvention
from pointdistill_ros.datasets.nuscenes import NuScenesLidarseg
from pointdistill_ros.datasets.open import dataset_names, open_dataset, open_in_convention
from pointdistill_ros.datasets.packed import PackedScans
from pointdistill_ros.datasets.semantic_kitti import SemanticKitti
from pointdistill_ros.errors import ConfigError, InputError
from tests.official_trees import write_nuscenes, write_semantic_kitti


@pytest.fixture
def kitti(tmp_path):
    return write_semantic_kitti(tmp_path / "kitti")


def same(one, other):
    assert list(one.sequences) == list(other.sequences)
    for i in range(len(one)):
        (scan, labels), (other_scan, other_labels) = one[i], other[i]
        np.testing.assert_array_equal(labels, other_labels)
        np.testing.assert_allclose(scan.xyz, other_scan.xyz, atol=1 / 256)


def test_official_layouts(kitti, tmp_path):
    scans = open_dataset("semantic-kitti", kitti, "train", ["00"])
    assert isinstance(scans, SemanticKitti)
    same(scans, SemanticKitti(kitti, "train", ["00"]))
    root = write_nuscenes(tmp_path / "nuscenes", {"v1.0-mini": ("scene-0103", "scene-0916")})
    scans = open_dataset("nuscenes", root, "mini_val")
    assert isinstance(scans, NuScenesLidarseg)
    assert len(scans) == 4


def test_every_data_set_of_the_configuration_opens_or_says_what_it_expects(tmp_path):
    for name in dataset_names():
        with pytest.raises(InputError, match=str(tmp_path)):
            open_dataset(name, tmp_path, "train")
        with pytest.raises(InputError, match="no such folder"):
            open_dataset(name, tmp_path / "absent", "train")
    with pytest.raises(ConfigError, match=r"'kitti'; known: .*nuscenes.*semantic-kitti"):
        open_dataset("kitti", tmp_path, "train")


def test_a_cache_stands_for_the_data_set_it_was_packed_from(kitti, tmp_path):
    official = SemanticKitti(kitti, "train", ["00"])
    pack(official, tmp_path / "cache", "semantic-kitti", "train")
    cache = open_dataset("semantic-kitti", tmp_path / "cache", "train")
    assert isinstance(cache, PackedCache)
    same(cache, official)
    same(
        open_in_convention("semantic-kitti", tmp_path / "cache", "train"),
        open_in_convention("semantic-kitti", kitti, "train", ["00"]),
    )
    for name, split in (("semantic-kitti", "val"), ("nuscenes", "train")):
        with pytest.raises(InputError, match="packed train split of semantic-kitti"):
            open_dataset(name, tmp_path / "cache", split)


def test_the_convention_is_applied_once(real_data, kitti):
    packed = open_in_convention("nuscenes", real_data, "train")
    assert isinstance(packed, PackedScans)  # turned while it is read
    assert isinstance(open_in_convention("semantic-kitti", kitti, "val"), InConvention)
    same(packed, PackedScans(real_data, SensorConvention.named("nuscenes"), "train"))


def test_damaged_manifests_are_named(tmp_path):
    for text in ("{", "3", '{"files": 1'):
        (tmp_path / "manifest.json").write_text(text)
        with pytest.raises(InputError, match=r"manifest\.json: not a manifest"):
            open_dataset("semantic-kitti", tmp_path, "train")
