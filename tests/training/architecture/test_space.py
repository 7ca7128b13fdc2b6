# SPDX-License-Identifier: Apache-2.0
"""What is drawn is a network that the engine can run, within the limits of the space."""

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pointdistill_ros.config import load_config
from pointdistill_ros.engine.plan import check_shape
from pointdistill_ros.errors import ConfigError
from pointdistill_ros.model.ptv3 import PTv3, PTv3Config
from pointdistill_ros.resources import config_path
from tests.tiny import tiny_config
from training.architecture.candidate import Candidate
from training.architecture.plan import base_recipe, load_plan, plan_names, plan_path
from training.architecture.space import Space, draw, parameters
from training.config import TrainConfig
from training.networks import model_config


@settings(max_examples=15)
@given(st.integers(0, 2**31))
def test_every_draw_is_a_network_of_the_space(seed):
    space = Space()
    drawn = draw(space, np.random.default_rng(seed))
    shape = drawn.shape
    check_shape(shape)  # the engine takes it
    assert space.min_parameters <= parameters(shape) <= space.max_parameters
    assert shape.strides in space.strides and drawn.grid_size in space.grid_sizes
    assert list(shape.encoder_channels) == sorted(shape.encoder_channels)
    attends = [heads > 0 for heads in shape.encoder_heads]
    assert attends == sorted(attends)  # once attention has started it stays
    assert all(c >= e for c, e in zip(shape.decoder_channels, shape.encoder_channels, strict=False))


@pytest.mark.parametrize("name", ["student", "teacher", "student-rt-g", "student-rt-d"])
def test_parameters_are_counted_as_torch_does(name):
    shapes = [load_config(PTv3Config, config_path(f"models/{name}.yaml"))]
    shapes += [draw(Space(), np.random.default_rng(seed)).shape for seed in range(2)]
    shapes.append(
        tiny_config(
            encoder_depths=(1,),
            encoder_channels=(16,),
            encoder_heads=(1,),
            decoder_depths=(),
            decoder_channels=(),
            decoder_heads=(),
            strides=(),
            patch_sizes=(8,),
        )
    )
    for shape in shapes:
        with torch.device("meta"):
            network = PTv3(shape)
        assert parameters(shape) == sum(p.numel() for p in network.parameters())


def test_the_same_seed_draws_the_same_shapes_and_names():
    draws = [
        [Candidate.drawn(draw(Space(), np.random.default_rng(seed))) for _ in range(2)]
        for seed in (1, 1, 2)
    ]
    assert draws[0] == draws[1] and draws[0] != draws[2]


def test_a_space_that_holds_nothing_is_refused():
    with pytest.raises(ConfigError, match="widen the space"):
        draw(Space(max_parameters=300_000, widths=(192,)), np.random.default_rng(0))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"widths": []}, "widths needs at least one"),
        ({"widths": [40]}, "40 is no multiple of 16"),
        ({"grid_sizes": [0.0]}, "grid_sizes"),
        ({"max_parameters": 1}, "min_parameters"),
        ({"witdhs": [32]}, "witdhs"),
    ],
)
def test_mistakes_in_a_space_are_named(tmp_path, change, complaint):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"recipe": "cpu", "space": change}))
    with pytest.raises(ConfigError, match=complaint) as error:
        load_plan(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"rungs": [20, 10]}, "rising"),
        ({"keep": 0}, "keep"),
        ({"precision": "int8"}, "precision"),
        ({"candidates": 9, "proposals": 8}, "must not exceed"),
        ({"streets": 0, "held_out": None}, "nothing to score on"),
    ],
)
def test_mistakes_in_a_plan_are_named(tmp_path, change, complaint):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"recipe": "cpu", **change}))
    with pytest.raises(ConfigError, match=complaint):
        load_plan(path)


@pytest.mark.parametrize("name", plan_names())
def test_shipped_searches_can_be_run(name):
    plan = load_plan(plan_path(name))
    base = base_recipe(plan, plan_path(name), None)
    assert {source.kind for source in base.sources} == {"simulated"}
    for model in (plan.reference, *plan.starts):
        candidate = Candidate.of_file(model, base.grid_size, base.patch_size)
        check_shape(candidate.shape)
        assert set(candidate.shape.patch_sizes) == {base.patch_size}


def test_an_unknown_search_lists_the_known_ones():
    with pytest.raises(ConfigError, match=r"plans are .*cpu"):
        plan_path("gpu-of-my-dreams")


def test_a_recipe_takes_the_file_of_a_shape(tmp_path):
    candidate = Candidate.drawn(draw(Space(), np.random.default_rng(5)))
    path = candidate.write(tmp_path)
    assert load_config(PTv3Config, path) == candidate.shape
    assert model_config(TrainConfig(model=str(path))) == candidate.shape
