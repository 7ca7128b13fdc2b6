# SPDX-License-Identifier: Apache-2.0
"""Adapting given weights to unlabelled scans: what is held out, the recipe, the whole way."""

import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pointdistill_ros.checkpoint import load_checkpoint, save_checkpoint
from pointdistill_ros.config import load_config
from pointdistill_ros.errors import ConfigError, InputError
from pointdistill_ros.model.ptv3 import PTv3
from pointdistill_ros.segmenter import Segmenter
from training import adapt
from training.adapt_agreement import agreement, facts, part
from training.adapt_recipe import adapted_recipe, left_out, model_of
from training.data_config import SourceConfig
from training.distillation.config import DistillConfig
from training.licences import sources_of
from training.lineage import INITIAL
from training.networks import model_config
from training.pseudo_files import PseudoFolder, packed_cloud, unpacked_cloud
from training.recipes import load_recipe, recipe_names, recipe_path
from training.self_training import SoftLabeller

from ..evaluation.bags.drive import scan, write_drive
from ..tiny import tiny_config, tiny_meta, tiny_network
from .toy_run import two_places

STREETS = {"config": {"sources": [{"kind": "simulated", "weight": 1.0}]}}


def job(name, drive=True):
    return SimpleNamespace(name=name, folder="drives/a" if drive else "unlabelled", is_drive=drive)


def names(jobs):
    return [one.name for one in jobs]


def test_the_end_of_a_drive_is_held_out_and_evenly_many_places():
    drive = [job(f"a{i}") for i in range(10)]
    places = [job(f"p{i}", False) for i in range(9)]
    held = part([*drive, *places], 0.3)
    assert names(held.held_out) == ["a7", "a8", "a9", "p0", "p4", "p8"]
    assert names(held.training) == [*names(drive[:7]), "p1", "p2", "p3", "p5", "p6", "p7"]
    assert names(part(drive[:2], 0.01).held_out) == ["a1"]  # a drive holds one out at least


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0])
def test_a_share_that_cannot_be_meant_is_refused(share):
    with pytest.raises(ConfigError, match="--hold-out must lie between 0 and 1"):
        part([job("a"), job("b")], share)


def test_too_few_scans_are_refused():
    with pytest.raises(InputError, match="1 scans, of which 0 would be held out: too few"):
        part([job("a")], 0.5)
    with pytest.raises(InputError, match="too few"):
        part([job("a", False), job("b", False)], 0.9)


@pytest.mark.parametrize("name", recipe_names("adapted"))
def test_shipped_recipes_are_whole_and_short(name):
    path = recipe_path("adapted", name)
    base = load_recipe(path, {}, DistillConfig)
    assert path.read_text().startswith("# ")
    assert base.steps and base.steps <= 600 and base.soft_targets.kept
    meta = replace(tiny_meta(model_config(base)), grid_size=0.15)
    assert adapted_recipe(base, meta, path.parent, path, "vlp32c").sources


BASE = DistillConfig(
    sources=(
        SourceConfig("pseudo", folder="input", min_confidence=0.0),
        SourceConfig("packed", "semantic-kitti"),
        SourceConfig("simulated", lidars=("hdl64e",)),
    ),
)


def test_a_recipe_takes_its_shape_from_the_weights_and_its_scans_from_the_run(tmp_path):
    model = replace(model_config(BASE), patch_sizes=(64,) * 5)
    meta = replace(tiny_meta(model, used=False), grid_size=0.25)
    found = adapted_recipe(BASE, meta, tmp_path / "labels", tmp_path, "vlp32c")
    assert (found.model, found.grid_size, found.patch_size) == ("student", 0.25, 64)
    assert not found.augment.uses_intensity  # as the weights
    assert [s.folder for s in found.sources] == [str(tmp_path / "labels"), "", ""]
    assert found.sources[2].lidars == ("hdl64e", "vlp32c")
    again = adapted_recipe(BASE, meta, tmp_path / "labels", tmp_path, "hdl64e")
    assert again.sources[2].lidars == ("hdl64e",)
    alone = adapted_recipe(BASE, meta, tmp_path / "labels")
    assert [s.kind for s in alone.sources] == ["pseudo", "simulated"]
    assert left_out(BASE, None) == ["semantic-kitti"] and not left_out(BASE, tmp_path)


def test_what_does_not_fit_is_named(tmp_path):
    meta = replace(tiny_meta(model_config(BASE)), grid_size=0.15)
    with pytest.raises(ConfigError, match=r"--lidar nothing: no such lidar; there are .*vlp32c"):
        adapted_recipe(BASE, meta, tmp_path, None, "nothing")
    with pytest.raises(ConfigError, match=r"no source \{kind: pseudo, folder: input\}"):
        adapted_recipe(replace(BASE, sources=BASE.sources[1:]), meta, tmp_path)
    with pytest.raises(
        ConfigError, match=r"classes of semantic-kitti; the recipe adapts .* common7"
    ):
        adapted_recipe(replace(BASE, label_set="common7"), meta, tmp_path)
    with pytest.raises(
        ConfigError, match=r"no model of .*student, .* has the shape of the weights"
    ):
        model_of(tiny_config())


def test_agreement_counts_equal_labels_of_the_scans_asked_for(tmp_path):
    segmenter = Segmenter(tiny_network(), tiny_meta(), engine="torch")
    folder = PseudoFolder(tmp_path)
    equal = []
    for i in range(3):
        cloud = packed_cloud(scan(i, 90)[0])
        folder.write_cloud(f"{i}", "unlabelled", cloud)
        found = SoftLabeller([segmenter])(unpacked_cloud(cloud))
        labels = found.labels().copy()
        labels[: 10 * i] = (labels[: 10 * i] + 1) % 19
        folder.write_labels(f"{i}", labels, found.confidence())
        mine = segmenter(unpacked_cloud(cloud)).labels
        equal.append((mine == labels).mean())
    found = agreement(segmenter, folder, ["0", "2"], lambda title, scans: lambda done: None)
    assert found.points == 180
    assert found.agreement == pytest.approx(np.mean([equal[0], equal[2]]))
    told = facts(found, segmenter.label_set.names)
    assert told["agreement"] == round(found.agreement, 4) and told["class_iou"]
    with pytest.raises(InputError, match="no held-out scan is labelled there"):
        agreement(segmenter, folder, ["9"], lambda title, scans: lambda done: None)


RECIPE = """\
# A run of seconds.
sources:
  - {kind: pseudo, folder: input, min_confidence: 0, cache_megabytes: 0}
  - {kind: packed, name: semantic-kitti, cache_megabytes: 0}
steps: 2
norm_batches: 0
teacher: none
soft_targets: {kept: true}
gradient_guidance: {weight: 0.0}
topology: {weight: 0.0}
"""


@pytest.mark.timeout(400)  # shared machines stall
def test_from_a_bag_to_adapted_weights(tmp_path, monkeypatch, capsys):
    config = DistillConfig(patch_size=64)
    torch.manual_seed(0)
    student = PTv3(model_config(config))
    meta = replace(tiny_meta(student.config), grid_size=0.8, training=STREETS, model_id="mine")
    save_checkpoint(tmp_path / "student.safetensors", student, meta)
    teacher = replace(tiny_meta(), training=STREETS)
    save_checkpoint(tmp_path / "teacher.safetensors", tiny_network(), teacher)
    bag = write_drive(tmp_path / "street.mcap", 5, 900)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    out = tmp_path / "out"
    words = [bag, "--weights", tmp_path / "student.safetensors", "--sweeps", "1"]
    words += ["--teacher", tmp_path / "teacher.safetensors", "--recipe", tmp_path / "recipe.yaml"]
    words += ["--data", two_places(tmp_path), "--out", out, "--engine", "torch"]
    words += ["--device", "cpu", "--cache", tmp_path]

    def call(*more):
        monkeypatch.setattr(sys, "argv", [str(word) for word in ["adapt", *words, *more]])
        adapt.main()
        return capsys.readouterr().out

    shown = call()
    assert "4 scans, 0 of them labelled before" in shown and "agreement with the teacher" in shown
    report = json.loads((out / "adaptation.json").read_text())
    assert report["held_out"] == ["street_000004"] and report["training_scans"] == 4
    for when in ("before", "after"):
        assert 0 <= report["agreement_with_teacher"][when]["agreement"] <= 1
    _, adapted = load_checkpoint(out / "adapted.safetensors")
    assert (adapted.model_id, adapted.grid_size) == ("mine-adapted", 0.8)
    roles = [(e["role"], e["model"]) for e in adapted.training["learned_from"]]
    assert roles == [("labels", "tiny"), (INITIAL, "mine")]
    assert adapted.training["config"]["sources"][0]["folder"] == "labels"  # no path of a machine
    assert "labelled by tiny" in sources_of(adapted.training)[0].title
    records = [json.loads(line) for line in (out / "training/metrics.jsonl").read_text().split("\n")
               if line]  # fmt: skip
    assert sum(record.get("soft_targets", 0) > 0 for record in records) >= 1
    with pytest.raises(InputError, match="was trained on in an earlier run and would be held out"):
        call("--hold-out", "0.5")
    monkeypatch.setattr(SoftLabeller, "__call__", None)
    trained = load_config(DistillConfig, out / "recipe.yaml")
    monkeypatch.setattr(adapt, "_train", lambda args, recipe, initial: _same(recipe, trained, out))
    assert "4 scans, 4 of them labelled before" in call()  # goes on; nothing is left to do


def _same(recipe, trained, out):
    """In place of a training that would find itself finished."""
    assert recipe == trained
    return out / "training/student.safetensors"
