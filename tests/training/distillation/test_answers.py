# SPDX-License-Identifier: Apache-2.0
"""What a teacher said is kept, found again, and never mistaken for something else."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pointdistill_ros.errors import ConfigError
from training.batch import collate
from training.config import TrainConfig
from training.data_config import AugmentConfig
from training.distillation.answers import KeptTeacher
from training.distillation.config import (
    _AUGMENTS,
    DistillConfig,
    Features,
    GradientGuidance,
    TeacherSweeps,
)
from training.distillation.task import stages_asked
from training.distillation.teacher import Teacher
from training.transforms import LabelledPoints

from ...tiny import tiny_config, tiny_network

CONFIG = TrainConfig(grid_size=0.5, compiled=False)
AS_THEY_ARE = replace(AugmentConfig(), **dict.fromkeys(_AUGMENTS, 0))


def cloud(seed, n=250):
    rng = np.random.default_rng(seed)
    xyz = rng.uniform([-6, -6, 0], [6, 6, 1], (n, 3)).astype(np.float32)
    return LabelledPoints(xyz, rng.random(n).astype(np.float32), np.zeros(n, np.uint8))


def batch_of(*seeds, draw=0):
    rng = np.random.default_rng(draw)
    samples = [cloud(seed) for seed in seeds]
    return collate(samples, tiny_config(), 0.5, 10_000, rng, compiled=False, fixed=True)


def kept(folder, stages=(1,), digest="x", **changes):
    network = tiny_network(3)
    return KeptTeacher(Teacher(network, digest), folder, stages, replace(CONFIG, **changes))


def count_passes(teacher, monkeypatch):
    passes, encode = [], teacher.network.encode
    monkeypatch.setattr(teacher.network, "encode", lambda *a: (passes.append(1), encode(*a))[1])
    return passes


def assert_same(one, other):
    assert one.logits.equal(other.logits)
    assert all(a.equal(b) for a, b in zip(one.stages, other.stages, strict=True))


def test_an_answer_is_the_teacher_s_own_and_comes_once(tmp_path, monkeypatch):
    teacher = kept(tmp_path)
    passes = count_passes(teacher, monkeypatch)
    batch = batch_of(0, 1)
    first, again = teacher.answer(batch), teacher.answer(batch)
    assert len(passes) == 2  # a pass per scan
    assert_same(first, again)
    assert first.logits.dtype == torch.float32
    assert len(first.stages[0]) == 0  # nobody asked for it
    new = kept(tmp_path)
    passes = count_passes(new, monkeypatch)
    assert_same(new.answer(batch), first)
    assert not passes


def test_an_answer_depends_on_the_scan_alone(tmp_path):
    together = kept(tmp_path / "a").answer(batch_of(0, 1, draw=1))
    first = kept(tmp_path / "b").answer(batch_of(0, draw=2))
    second = kept(tmp_path / "c").answer(batch_of(1, draw=3))
    assert together.logits.equal(torch.cat([first.logits, second.logits]))
    assert together.stages[1].equal(torch.cat([first.stages[1], second.stages[1]]))


def test_rows_meet_the_teacher_s(tmp_path):
    """Shown alone, in the model's own order of curves, a scan has this answer in float32."""
    config = tiny_config()
    alone = collate([cloud(0)], config, 0.5, 10_000, None, compiled=False)
    plain = Teacher(tiny_network(3)).answer(alone)
    found = kept(tmp_path, (0, 1)).answer(batch_of(1, 0))
    rows = slice(batch_of(1, 0).pyramid.stages[0].offsets[1], None)
    torch.testing.assert_close(found.logits[rows], plain.logits, atol=2e-3, rtol=2e-3)
    coarse = slice(batch_of(1, 0).pyramid.stages[1].offsets[1], None)
    torch.testing.assert_close(found.stages[1][coarse], plain.stages[1], atol=2e-3, rtol=2e-3)
    torch.testing.assert_close(found.stages[0][rows], plain.stages[0], atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("damage", [b"", b"cut off"])
def test_a_damaged_file_is_made_anew(tmp_path, damage):
    first = kept(tmp_path).answer(batch_of(0))
    (path,) = tmp_path.rglob("*.safetensors")
    path.write_bytes(damage)
    assert_same(kept(tmp_path).answer(batch_of(0)), first)
    assert len(path.read_bytes()) > 1000


def test_more_stages_are_asked_for_where_they_are_missing(tmp_path):
    kept(tmp_path, (1,)).answer(batch_of(0))
    found = kept(tmp_path, (0, 1)).answer(batch_of(0))
    assert len(found.stages[0]) == len(found.logits)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 1


@pytest.mark.parametrize("other", [{"digest": "y"}, {"grid_size": 0.4}, {"precision": "bfloat16"}])
def test_what_decides_an_answer_decides_where_it_lies(tmp_path, other):
    assert kept(tmp_path).folder != kept(tmp_path, **other).folder
    assert kept(tmp_path).folder == kept(tmp_path, (0,), seed=4, steps=9).folder


def test_the_gradient_is_asked_for_every_time(tmp_path, monkeypatch):
    teacher = kept(tmp_path)
    passes = count_passes(teacher, monkeypatch)
    for _ in range(2):
        answer = teacher.answer(batch_of(0), lambda logits, batch: logits.square().mean())
        assert answer.gradient.abs().sum() > 0
    assert len(passes) == 2 and not list(tmp_path.rglob("*.safetensors"))


def test_a_scan_gives_the_same_voxels_whenever_it_comes():
    first, again = batch_of(0, 1, draw=1), batch_of(1, draw=2)
    assert first.keys[1:] == again.keys and len(set(first.keys)) == 2
    start = first.pyramid.stages[0].offsets[1]
    assert first.features[start:].equal(again.features)
    assert first.pyramid.permutation != again.pyramid.permutation
    with pytest.raises(ConfigError, match=r"more than max_voxels 100; kept answers"):
        collate([cloud(0)], tiny_config(), 0.5, 100, np.random.default_rng(0), fixed=True)


def test_only_stages_that_terms_look_at_are_kept():
    config = DistillConfig(features=Features(weight=1.0, stages=(2,)))
    assert stages_asked(config, 4) == {2, 4}


@pytest.mark.parametrize("name", _AUGMENTS)
def test_augmentation_is_named_and_refused(name):
    DistillConfig(augment=AS_THEY_ARE, cache_answers=True)
    strength = getattr(AugmentConfig(), name) or 0.5
    augment = replace(AS_THEY_ARE, **{name: strength})
    with pytest.raises(ConfigError, match=f"cache_answers needs .* without .*: {name}$"):
        DistillConfig(augment=augment, cache_answers=True)


def test_every_strength_of_augmentation_is_known():
    """A new one must be named or be known to depend on another."""
    depend = {"clamp", "crop_metres", "mix_scans", "mix_by", "paste_copies", "paste_classes"}
    depend |= {"place_attempts", "place_classes", "place_on"}
    assert set(vars(AugmentConfig())) == depend | set(_AUGMENTS)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"teacher": "together"}, "needs teacher: frozen"),
        ({"sweeps": TeacherSweeps(count=2)}, "single scans"),
    ],
)
def test_what_else_cannot_be_kept(change, words):
    guidance = GradientGuidance(weight=0)
    with pytest.raises(ConfigError, match=words):
        DistillConfig(augment=AS_THEY_ARE, cache_answers=True, gradient_guidance=guidance, **change)
