# SPDX-License-Identifier: Apache-2.0
import pickle

import numpy as np
import pytest
import torch
import yaml

from pointdistill_ros.datasets.convention import SensorConvention
from pointdistill_ros.datasets.packed import PackedScans
from pointdistill_ros.errors import ConfigError, LabelError
from pointdistill_ros.labels import UNLABELLED, LabelSet
from pointdistill_ros.resources import config_path
from training.targets import TargetSets

KITTI = LabelSet.named("semantic-kitti")
SOURCES = sorted(yaml.safe_load(config_path("targets/semantic-kitti.yaml").read_text()))


def allowed(targets, source, name):
    target = targets.table(source)[source.index(name)]
    return set() if target == UNLABELLED else set(targets.names[target].split("|"))


def test_own_labels_are_themselves():
    targets = TargetSets.of(KITTI, [KITTI])
    assert targets.names == KITTI.names
    assert targets.table(KITTI)[:19].tolist() == list(range(19))
    assert set(targets.table(KITTI)[19:]) == {UNLABELLED}


@pytest.mark.parametrize("name", SOURCES)
def test_shipped_tables_name_every_class_and_only_known_ones(name):
    source = LabelSet.named(name)
    targets = TargetSets.of(KITTI, [source])
    table = targets.table(source)
    assert set(table[len(source) :]) == {UNLABELLED}
    for target in set(table[: len(source)].tolist()) - {UNLABELLED}:
        members = set(np.array(KITTI.names)[targets.members[target].numpy()])
        assert members == set(targets.names[target].split("|"))


@pytest.mark.parametrize("name", SOURCES)
def test_shipped_tables_agree_with_the_seven_common_classes(name):
    """A union must hold a class of the same common class, where both sides have one."""
    source, common = LabelSet.named(name), LabelSet.named("common7")
    here, there = source.remap_to(common), KITTI.remap_to(common)
    targets = TargetSets.of(KITTI, [source])
    for i, label in enumerate(source.names):
        names = allowed(targets, source, label)
        if names and here[i] != UNLABELLED:
            assert here[i] in {there[KITTI.index(n)] for n in names}, label


@pytest.mark.parametrize("name", ["pandaset", "ika11", "ika11_nuscenes"])
def test_unions_contain_what_unambiguous_remaps_say(name):
    source = LabelSet.named(name)
    targets = TargetSets.of(KITTI, [source])
    for label, there in source.remaps["semantic-kitti"].items():
        assert there in allowed(targets, source, label), label


@pytest.mark.parametrize("convention", ["pandaset", "nuscenes", "ika-vlp32"])
def test_real_scans_know_more_by_unions_than_by_unambiguous_classes(real_data, convention):
    table = SensorConvention.named(convention)
    own = {"pandaset": "pandaset", "nuscenes": "ika11_nuscenes", "ika-vlp32": "ika11"}[convention]
    source = LabelSet.named(own)
    _, native = PackedScans(real_data, table, "train", label_set=source)[0]
    _, folded = PackedScans(real_data, table, "train")[0]
    targets = TargetSets.of(KITTI, [source])
    ids = targets.table(source)[native]
    both = (ids != UNLABELLED) & (folded != UNLABELLED)
    assert targets.members.numpy()[ids[both], folded[both]].all()
    assert np.mean(ids != UNLABELLED) > 1.15 * np.mean(folded != UNLABELLED)


def test_sources_share_their_unions():
    nuscenes, pandaset = LabelSet.named("nuscenes"), LabelSet.named("pandaset")
    targets = TargetSets.of(KITTI, [nuscenes, pandaset])
    tree = targets.table(nuscenes)[nuscenes.index("vegetation")]
    assert targets.table(pandaset)[pandaset.index("Vegetation")] == tree >= 19
    assert len(set(targets.names)) == len(targets) == len(targets.members)


def test_a_label_set_without_a_table_uses_the_remaps_of_its_sources():
    common, nuscenes = LabelSet.named("common7"), LabelSet.named("nuscenes")
    targets = TargetSets.of(common, [nuscenes, KITTI])
    assert len(targets) == 7
    assert allowed(targets, nuscenes, "manmade") == {"structure"}
    assert allowed(targets, nuscenes, "traffic_cone") == set()
    with pytest.raises(LabelError, match="has no remap"):
        TargetSets.of(LabelSet.named("waymo"), [nuscenes])


def test_within_counts_unions_whose_members_all_belong():
    targets = TargetSets.of(KITTI, [LabelSet.named("nuscenes")])
    ids = targets.within(["road", "parking", "sidewalk", "no such class"])
    assert {targets.names[i] for i in ids} == {"road", "parking", "sidewalk", "road|parking"}


def test_unknown_sources_and_wrong_shapes_are_refused():
    targets = TargetSets.of(KITTI, [KITTI])
    with pytest.raises(LabelError, match="no targets for labels of waymo; known: semantic-kitti"):
        targets.table(LabelSet.named("waymo"))
    with pytest.raises(ConfigError, match="classes must come first"):
        TargetSets(KITTI, KITTI.names, torch.eye(19).bool().flip(0))
    with pytest.raises(ConfigError, match="bool"):
        TargetSets(KITTI, KITTI.names, torch.eye(19))
    with pytest.raises(ConfigError, match="empty"):
        rows = torch.cat([torch.eye(19).bool(), torch.zeros(1, 19).bool()])
        TargetSets(KITTI, (*KITTI.names, "nothing"), rows)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"car": ["car"]}, "no line for person"),
        ({"car": ["car"], "person": ["persn"]}, "semantic-kitti has no class persn"),
        ({"car": ["car"], "person": [], "tree": []}, "two has no class tree"),
    ],
)
def test_incomplete_tables_are_refused_by_name(rules, message, monkeypatch):
    two = LabelSet("two", ("car", "person"), ((0, 0, 0),) * 2, ((1,), (2,)))
    monkeypatch.setattr("training.targets._rules", lambda _name: {"two": rules})
    with pytest.raises(ConfigError, match=message):
        TargetSets.of(KITTI, [two])


def test_targets_travel_to_other_processes():
    targets = TargetSets.of(KITTI, [LabelSet.named("pandaset")])
    again = pickle.loads(pickle.dumps(targets))
    assert again.names == targets.names
    assert again.members.equal(targets.members)
    assert (again.table(LabelSet.named("pandaset")) == targets.tables["pandaset"]).all()
