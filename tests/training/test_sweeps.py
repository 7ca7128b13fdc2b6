# SPDX-License-Identifier: Apache-2.0
import dataclasses
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pointdistill_ros.datasets.sweeps import Sweeps
from pointdistill_ros.errors import ScanError
from pointdistill_ros.scan import LidarScan
from training.batch import collate
from training.config import TrainConfig
from training.data_config import AugmentConfig
from training.packing import pack
from training.sources import SourceMix
from training.sweeps import SWEEP, SweptMix, SweptStream, collate_sweeps
from training.transforms import (
    LabelledPoints,
    augment,
    concatenate,
    crop_range,
    merge,
    mix_bands,
    mix_sectors,
    paste_objects,
    place_objects,
    thin_out,
)

from ..tiny import tiny_config, tiny_network
from .clouds import CAR, PERSON, ROAD, WALL, beams, block, ground
from .drives import Drives

STRONG = AugmentConfig(
    mix=0.7, mix_by=("sectors", "bands"), merge=0.5, paste=0.5, place=1.0, range_drop=0.5,
    beam_drop=0.5, intensity_drop=0.0, intensity_scale=0.0, intensity_shift=0.0,
)  # fmt: skip
CONFIG = TrainConfig(grid_size=0.5, augment=STRONG, scans_per_step=2)


def swept_points(seed, own=300, other=500, spread=6.0):
    """Own points have even labels, those of other sweeps odd ones; intensity says the same."""
    rng = np.random.default_rng(seed)
    n = own + other
    sweep = np.where(np.arange(n) < own, 0, rng.choice([-2, -1, 1], n)).astype(np.int8)
    order = rng.permutation(n)
    labels = (2 * rng.integers(0, 9, n) + (sweep != 0)).astype(np.uint8)
    xyz = rng.normal(0, (spread, spread, 0.5), (n, 3)).astype(np.float32)
    points = LabelledPoints(xyz, (labels / 20).astype(np.float32), labels, None, {SWEEP: sweep})
    return points.select(order)


def is_own(points):
    return points.columns[SWEEP] == 0


@given(st.integers(0, 10_000), st.integers(1, 3), st.booleans(), st.sampled_from([60, 10_000]))
def test_the_student_sees_some_of_the_teachers_voxels_and_knows_which(seed, n, train, most):
    samples = [swept_points(seed + i, own=40 + 100 * i) for i in range(n)]
    rng = np.random.default_rng(seed) if train else None
    config = tiny_config(
        encoder_depths=(1, 1, 1), encoder_channels=(16, 16, 16), encoder_heads=(1, 1, 1),
        decoder_depths=(1, 1), decoder_channels=(16, 16), decoder_heads=(1, 1),
        strides=(2, 2), patch_sizes=(64, 64, 64),
    )  # fmt: skip
    try:
        batch = collate_sweeps(samples, config, 0.5, most, rng)
    except ScanError:
        assert most == 60  # a narrow sector without own points
        return
    student, teacher = batch.pyramid, batch.teacher.pyramid
    assert len(batch.rows) == 3 and student.permutation == teacher.permutation
    assert student.depth == teacher.depth  # Hilbert curves depend on it
    for rows, mine, theirs in zip(batch.rows, student.stages, teacher.stages, strict=True):
        assert len(rows) == len(mine)
        assert mine.coords.equal(theirs.coords[rows])
        assert mine.scan.equal(theirs.scan[rows])
        assert (rows.diff() > 0).all()
    assert batch.features.equal(batch.teacher.features[batch.rows[0]])
    assert batch.targets.equal(batch.teacher.targets[batch.rows[0]])
    # exactly the voxels in which an own point lies: own labels are even
    alone = torch.ones(len(teacher), dtype=torch.bool)
    alone[batch.rows[0]] = False
    assert (batch.targets % 2 == 0).all() and (batch.teacher.targets[alone] % 2 == 1).all()
    np.testing.assert_allclose(batch.teacher.features[:, 3], batch.teacher.targets / 20, atol=1e-6)
    if most == 10_000:
        cells = [np.floor(s.xyz[is_own(s)].astype(float) / 0.5) for s in samples]
        assert len(student) == sum(len(np.unique(c, axis=0)) for c in cells)
    else:
        assert max(np.diff(teacher.stages[0].offsets)) <= (60 if train else 10_000)


def test_without_other_sweeps_it_is_the_plain_batch():
    points = swept_points(0, own=500, other=0)
    batch = collate_sweeps([points], tiny_config(), 0.5, 10**6, None)
    plain = collate([points], tiny_config(), 0.5, 10**6, None)
    for one in (batch, batch.teacher):
        assert one.features.equal(plain.features) and one.targets.equal(plain.targets)
        assert one.pyramid.stages[1].coords.equal(plain.pyramid.stages[1].coords)
    assert batch.rows[1].equal(torch.arange(len(plain.pyramid.stages[1])))


def test_compiled_and_plain_geometry_agree():
    samples = [swept_points(1)]
    first, second = (
        collate_sweeps(samples, tiny_config(), 0.5, 300, np.random.default_rng(0), compiled=c)
        for c in (True, False)
    )
    assert first.teacher.features.equal(second.teacher.features)
    assert all(a.equal(b) for a, b in zip(first.rows, second.rows, strict=True))


def test_representatives_are_drawn_among_all_own_points():
    xyz = np.float32([[0.1, 0, 0], [0.2, 0, 0], [0.3, 0, 0], [0.4, 0, 0]])
    labels = np.uint8([1, 2, 3, 4])
    points = LabelledPoints(
        xyz, np.zeros(4, np.float32), labels, None, {SWEEP: np.int8([1, 0, 0, -1])}
    )
    drawn = {
        int(collate_sweeps([points], tiny_config(), 0.5, 9, np.random.default_rng(k)).targets)
        for k in range(30)
    }
    assert drawn == {2, 3}
    others = points.select(np.array([0, 3]))
    with pytest.raises(ScanError, match="no point of its own sweep"):
        collate_sweeps([others], tiny_config(), 0.5, 9, None)


def test_networks_run_on_it_and_meet_at_the_rows():
    batch = collate_sweeps(
        [swept_points(0), swept_points(1)], tiny_config(), 0.5, 400, np.random.default_rng(0)
    )
    teacher, student = tiny_network(0), tiny_network(1, encoder_depths=(1, 1))
    with torch.no_grad():
        seen = teacher(batch.teacher.features, batch.teacher.pyramid)[batch.rows[0]]
        alone = teacher(batch.features, batch.pyramid)
    found = student(batch.features, batch.pyramid)
    assert seen.shape == found.shape and found.requires_grad
    assert not torch.allclose(seen, alone)  # more voxels around them


SIDES = [
    lambda p, r: p,
    lambda p, r: augment(p, r, STRONG),
    lambda p, r: thin_out(p, r, STRONG),
    lambda p, r: crop_range(p, 5),
    lambda p, r: merge(p, swept_points(3)),
    lambda p, r: mix_sectors([p, swept_points(3)], r),
    lambda p, r: mix_bands([p, swept_points(3)], r),
    lambda p, r: paste_objects(p, swept_points(3), [2, 3], r),
]


@pytest.mark.parametrize("side", range(len(SIDES)))
def test_flags_follow_their_points_through_every_transform(side):
    for seed in range(5):
        points = SIDES[side](swept_points(seed), np.random.default_rng(seed))
        assert len(points.columns[SWEEP]) == len(points) > 0
        np.testing.assert_array_equal(is_own(points), points.labels % 2 == 0)


def test_flags_follow_placed_objects():
    street = concatenate([ground(), block(8, 0, WALL, size=(0.6, 6, 3))])
    street = dataclasses.replace(street, columns={SWEEP: np.full(len(street), 1, np.int8)})
    donor = concatenate([ground(), block(10, 3, PERSON)])
    found = place_objects(street, donor, [PERSON], [ROAD], np.random.default_rng(0), 30)
    assert (found.labels == PERSON).any()
    np.testing.assert_array_equal(is_own(found), found.labels == PERSON)


def test_columns_of_any_shape_are_filled_with_nothing():
    plain, rich = swept_points(0), swept_points(1)
    wide = np.arange(2 * len(rich), dtype=np.float16).reshape(-1, 2)
    rich = dataclasses.replace(rich, columns={"soft": wide})
    found = concatenate([plain, rich])
    assert found.columns["soft"].dtype == np.float16
    assert not found.columns["soft"][: len(plain)].any()
    np.testing.assert_array_equal(found.columns["soft"][len(plain) :], wide)
    assert (found.columns[SWEEP][len(plain) :] == 0).all()


class Turning(Drives):
    """Drives with poses: every scan a metre on; the label says which scan it was."""

    def pose(self, i):
        pose = np.eye(4)
        pose[0, 3] = i
        return pose


def swept_mix(**options):
    scans = Sweeps(Turning("aaab", [ROAD, ROAD + 1, ROAD + 2, CAR]), before=2, after=1, **options)
    return SweptMix([(scans, 1.0)])


def test_samples_tell_whose_a_point_is():
    mix, seen = swept_mix(), set()
    for seed in range(12):
        points = mix.draw(np.random.default_rng(seed))
        sweep, labels = points.columns[SWEEP], points.labels.astype(int)
        assert np.isfinite(points.xyz).all()
        own = labels[sweep == 0]
        assert (own == own[0]).all() and (labels - own[0] == sweep).all()
        seen |= set(sweep.tolist())
    assert seen == {0, -1, -2, 1}


def test_batches_are_the_same_again_and_travel():
    stream = SweptStream(swept_mix(), tiny_config(), CONFIG, teacher_voxels=2000)
    for k in range(3):
        first, again = stream(k), pickle.loads(pickle.dumps(stream))(k)
        assert first.features.equal(again.features)
        assert first.teacher.features.equal(again.teacher.features)
        assert first.rows[1].equal(again.rows[1])
        assert len(first.teacher.targets) > len(first.targets)
        assert max(np.diff(first.teacher.pyramid.stages[0].offsets)) <= 2000
        sent = pack(first).unpack()
        assert sent.rows[0].equal(first.rows[0]) and sent.to("cpu").head == "common"


def test_data_sets_without_sweeps_mix_with_those_that_have_some():
    scans = Sweeps(Turning("aa", [ROAD, ROAD]), before=1)
    mix = SweptMix([(scans, 1.0), (Drives("bb"), 1.0)])
    stream = SweptStream(mix, tiny_config(), CONFIG)
    for k in range(6):
        assert len(stream(k).targets) > 0


class Spinning(Turning):
    """A round wall, seen beam by beam; the other sensor stands outside of it."""

    def pose(self, i):
        pose = np.eye(4)
        pose[0, 3] = 12 * i
        return pose

    def __getitem__(self, i):
        wall = beams(np.linspace(-10, 10, 16), 200)
        return LidarScan(wall.xyz, wall.intensity), np.full(len(wall), ROAD, np.uint8)


def test_a_lost_beam_is_lost_in_all_sweeps():
    mix = SweptMix([(Sweeps(Spinning("aa"), before=1), 1.0)])
    points = next(
        p for p in map(mix.draw, map(np.random.default_rng, range(9))) if p.columns[SWEEP].any()
    )
    for step in (0, -1):
        mine = points.columns[SWEEP] == step
        # intensity holds the true beam
        assert len({*zip(points.ring[mine], points.intensity[mine], strict=True)}) == 16
    assert isinstance(mix, SourceMix)
