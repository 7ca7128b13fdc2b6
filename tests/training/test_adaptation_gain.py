# SPDX-License-Identifier: Apache-2.0
"""The proof that adapting helps: no label reaches it, and nobody who knows the sensor teaches."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from benchmarks.adaptation import LIDARS, clouds_alone, refuse_known, table
from pointdistill_ros.checkpoint import save_checkpoint
from pointdistill_ros.errors import ConfigError, InputError
from pointdistill_ros.resources import config_path
from training.config import TrainConfig
from training.recipes import load_recipe
from training.validation import FOREIGN

from ..tiny import tiny_meta, tiny_network
from .test_release import figures
from .toy_run import two_places


def test_clouds_are_copied_without_their_labels(tmp_path):
    data = two_places(tmp_path)
    entries = json.loads((data / "manifest.json").read_text())["files"]
    entries = [entry | {"dataset": "PandaSet"} for entry in entries]
    entries[1]["split"] = "val"
    (data / "manifest.json").write_text(json.dumps({"files": entries}))
    assert clouds_alone(data, "pandaset", tmp_path / "out") == 1
    (path,) = (tmp_path / "out").iterdir()
    with np.load(path) as held, np.load(data / "0.npz") as source:
        assert sorted(held.files) == ["inten", "q", "xyz"]
        np.testing.assert_array_equal(held["xyz"], source["xyz"])
    (data / "0.npz").write_bytes(b"cut")
    with pytest.raises(InputError, match=r"0\.npz: not a packed scan"):
        clouds_alone(data, "pandaset", tmp_path / "out")


def trained(path, *names, learned_from=(), weight=1.0):
    sources = [{"kind": "packed", "name": name, "weight": weight} for name in names]
    training = {"config": {"sources": sources}, "learned_from": list(learned_from)}
    save_checkpoint(path, tiny_network(), replace(tiny_meta(), training=training))
    return path


def test_who_knows_the_sensor_is_refused(tmp_path):
    refuse_known(trained(tmp_path / "a.safetensors", "semantic-kitti"), "pandaset")
    refuse_known(trained(tmp_path / "a.safetensors", "pandaset", weight=0.0), "pandaset")
    with pytest.raises(ConfigError, match="has learned from pandaset"):
        refuse_known(trained(tmp_path / "a.safetensors", "pandaset"), "pandaset")
    grandparent = {"role": "teacher", "sources": [{"kind": "packed", "name": "pandaset"}]}
    parent = {"role": "initial weights", "sources": [], "learned_from": [grandparent]}
    path = trained(tmp_path / "a.safetensors", "semantic-kitti", learned_from=[parent])
    with pytest.raises(ConfigError, match="has learned from pandaset"):
        refuse_known(path, "pandaset")


@pytest.mark.parametrize("name", ["student", "teacher"])
def test_the_networks_of_the_proof_know_one_sensor(name):
    path = Path(__file__).parents[2] / "benchmarks/recipes" / f"one_sensor_{name}.yaml"
    config = load_recipe(path, {}, TrainConfig)
    assert {source.name for source in config.sources} == {"semantic-kitti", ""}
    assert [source.lidars for source in config.sources] == [("hdl64e",)] * 2


def test_every_new_sensor_has_a_description():
    assert LIDARS.keys() == FOREIGN.keys()
    assert all(config_path(f"lidars/{name}.yaml").is_file() for name in LIDARS.values())


def test_the_table_says_what_was_gained():
    before, after = figures(road_as_sidewalk=500), figures()
    console = Console(width=100)
    with console.capture() as shown:
        console.print(table({"before": {"07": before}, "after": {"07": after}}))
    (row,) = [line for line in shown.get().splitlines() if " road " in line]
    assert "0.500" in row and "1.000" in row and "+0.500" in row
