# SPDX-License-Identifier: Apache-2.0
"""Training that starts from given weights: what fits, what is kept, whose they are."""

from dataclasses import replace

import pytest
import torch
from lightning_fabric import Fabric

from pointdistill_ros.checkpoint import load_checkpoint, save_checkpoint
from pointdistill_ros.errors import ConfigError
from pointdistill_ros.labels import LabelSet
from pointdistill_ros.model.ptv3 import PTv3
from training import command, train_student
from training.card import card
from training.config import TrainConfig
from training.data_config import AugmentConfig, SourceConfig
from training.licences import SIMULATED, SOURCES, sources_of
from training.lineage import INITIAL
from training.networks import build_network, model_config
from training.opening import open_source
from training.recipes import load_recipe, recipe_path
from training.run import Places, train_run
from training.run_folder import RunFolder
from training.sources import SourceMix
from training.supervised import supervised

from ..tiny import tiny_meta
from .test_release import figures
from .toy_run import two_places

SOURCE = SourceConfig("packed", "semantic-kitti", cache_megabytes=0)
CONFIG = TrainConfig(grid_size=0.8, patch_size=64, sources=(SOURCE,), steps=1, norm_batches=0)
CURVES = ((2, 0, 3, 1),) * 5
STREETS = {"config": {"sources": [{"kind": "simulated", "weight": 1.0}]}}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return two_places(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def mix(data):
    return SourceMix.of(CONFIG, [open_source(SOURCE, data, data)])


def written(path, model=None, used=True, **changes):
    torch.manual_seed(3)
    network = PTv3(replace(model_config(CONFIG), permutation=CURVES) if model is None else model)
    for name, tensor in network.state_dict().items():  # statistics of a trained network
        if name.endswith("running_mean"):
            tensor.fill_(0.25)
    meta = replace(tiny_meta(network.config, used=used), grid_size=0.8, training=STREETS)
    save_checkpoint(path, network, replace(meta, **changes))
    return path


def built(path, mix, config=CONFIG):
    fabric = Fabric(accelerator="cpu", devices=1)
    return build_network(config, model_config(config, path), mix, fabric, path)


def test_a_network_starts_as_the_file_is(tmp_path, mix):
    path = written(tmp_path / "w.safetensors")
    network, held = built(path, mix), load_checkpoint(path)[0].state_dict()
    assert network.config.permutation == CURVES
    assert network.state_dict().keys() == held.keys()
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(tensor, held[name], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda p: written(p, grid_size=0.1), r"voxels of 0\.1 m, the run's 0\.8 m; set grid_size"),
        (
            lambda p: written(p, replace(model_config(CONFIG), encoder_depths=(1, 1, 1, 1, 1))),
            r"not of the shape of \S*config/models/student\.yaml",
        ),
        (
            lambda p: written(
                p,
                replace(model_config(CONFIG), num_classes=7),
                label_set=LabelSet.named("common7"),
            ),
            "classes of common7, the run's semantic-kitti",
        ),
        (lambda p: written(p, used=False), r"without intensity; set augment\.intensity_drop: 1"),
    ],
)
def test_weights_that_do_not_fit_are_named(tmp_path, mix, make, line):
    with pytest.raises(ConfigError, match=line):
        built(make(tmp_path / "w.safetensors"), mix)


def test_weights_without_intensity_stay_without(tmp_path, mix):
    path = written(tmp_path / "w.safetensors", used=False)
    assert built(path, mix, replace(CONFIG, augment=AugmentConfig(intensity_drop=1.0)))


def test_several_heads_cannot_start_from_one(tmp_path, mix, data):
    config = replace(CONFIG, head="per-dataset")
    several = SourceMix.of(config, mix.sources)
    with pytest.raises(ConfigError, match="need head: common"):
        built(written(tmp_path / "w.safetensors"), several, config)


def test_a_run_remembers_where_it_started(tmp_path):
    folder = RunFolder(tmp_path / "run")
    path = written(tmp_path / "w.safetensors")

    def places(*words):
        args = command._parser(train_student.PROGRAM).parse_args([str(word) for word in words])
        return command._setting(train_student.PROGRAM, args)[1]

    first = places("--recipe", "cpu", "--initial", path, "--run", folder.path)
    assert first.initial == path
    folder.path.mkdir()
    folder.begin(
        load_recipe(recipe_path("student", "cpu"), {}, TrainConfig), {"initial": str(path)}
    )
    assert places("--run", folder.path, "--resume").initial == path
    assert places("--recipe", "cpu", "--run", tmp_path / "other").initial is None


def test_a_run_changes_them_and_says_whose_they_were(tmp_path, data):
    path = written(tmp_path / "w.safetensors")
    config = replace(CONFIG, learning_rate=1e-7, block_learning_rate=1e-7, weight_decay=0.0)
    made = train_run(config, Places(tmp_path / "run", data, initial=path), supervised)
    network, meta = load_checkpoint(made)
    before = dict(load_checkpoint(path)[0].named_parameters())
    moved = [(p - before[n]).abs().max() for n, p in network.named_parameters()]
    assert max(moved) < 2e-3  # float16, and a step of next to nothing
    assert meta.config.permutation == CURVES
    (entry,) = meta.training["learned_from"]
    assert (entry["role"], entry["model"]) == (INITIAL, "tiny")
    assert sources_of(meta.training) == [SOURCES["semantic-kitti"], SIMULATED]
    text = card("x", "0" * 64, 1, meta, {"p1": {"07": figures()}}, sources_of(meta.training))
    assert f"started from `tiny`, sha256 `{entry['sha256'][:12]}`" in text
