# SPDX-License-Identifier: Apache-2.0
"""What batches of a distillation tell, and that without it they are those of a supervised run."""

import dataclasses
import pickle

import numpy as np
import pytest
import torch

from pointdistill_ros.datasets.convention import SensorConvention
from pointdistill_ros.datasets.packed import PackedScans
from pointdistill_ros.datasets.pseudo import PseudoScans
from pointdistill_ros.datasets.sweeps import Sweeps
from pointdistill_ros.errors import ConfigError, InputError
from training.batch import BatchStream
from training.camera.weights import load_camera_teacher
from training.data_config import AugmentConfig
from training.device import open_device
from training.distillation.camera import camera_side
from training.distillation.config import CameraTerms, DistillConfig, SoftTargets, TeacherSweeps
from training.distillation.data import DistillStream, distill_mix
from training.opening import CachedScans
from training.packing import pack
from training.run import Places
from training.sources import SourceMix
from training.sweeps import SweptBatch

from ...tiny import tiny_config
from ..drives import KITTI, Drives
from .sources import camera_weights, drive, labelled_by_a_network

STRONG = AugmentConfig(mix=0.5, merge=0.3, paste=0.5, place=0.5, intensity_drop=0.0)
BASE = DistillConfig(
    grid_size=0.5, max_voxels=400, scans_per_step=2, augment=STRONG, device="cpu", compiled=False
)
KEPT = SoftTargets(kept=True)
SWEPT = TeacherSweeps(count=3, after=1, max_voxels=900)
CAMERA = CameraTerms()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = drive(tmp_path_factory.mktemp("data"))
    labelled_by_a_network(root / "network")
    camera_weights(root / "camera.safetensors")
    return root


@pytest.fixture(scope="module")
def mix(folder):
    packed = PackedScans(folder, SensorConvention.named("semantic-kitti"), "train")
    opened = [CachedScans(packed, 1 << 24), PseudoScans(folder / "network", 0)]
    return SourceMix([(scans, 1.0) for scans in opened])


def places(folder):
    return Places(folder / "run", folder, camera=folder / "camera.safetensors")


def stream_of(config, mix, side=None):
    data = distill_mix(config, mix, side.pairing if side else None)
    return DistillStream(data, tiny_config(), config, None)


def test_with_nothing_on_batches_are_those_of_a_supervised_run(mix):
    plain, ours = BatchStream(mix, tiny_config(), BASE), stream_of(BASE, mix)
    for k in range(4):
        one, other = plain(k), ours(k)
        assert one.features.equal(other.features) and one.targets.equal(other.targets)
        assert one.pyramid.permutation == other.pyramid.permutation
        assert other.camera is None and other.scores is None and other.keys == ()
        assert type(other) is type(one)


@pytest.mark.parametrize("swept", [False, True])
def test_everything_at_once_travels_with_the_voxels(folder, mix, swept):
    config = dataclasses.replace(BASE, soft_targets=KEPT, camera=CAMERA)
    config = dataclasses.replace(config, sweeps=SWEPT if swept else TeacherSweeps())
    side = camera_side(CAMERA, places(folder), mix, open_device(BASE))
    stream = stream_of(config, mix, side)
    batches = [stream(k) for k in range(8)]
    assert any(batch.camera for batch in batches) and any(batch.scores for batch in batches)
    for k, batch in enumerate(batches):
        again = pack(pickle.loads(pickle.dumps(stream))(k)).unpack()
        assert again.features.equal(batch.features) and again.to("cpu").head == "common"
        assert isinstance(batch, SweptBatch) == swept
        for name in ("camera", "scores"):
            found, other = getattr(batch, name), getattr(again, name)
            assert (found is None) == (other is None)
            if found is not None:
                assert found.voxels.equal(other.voxels)
                assert (found.voxels.diff() > 0).all() and found.voxels[-1] < len(batch.features)
        if batch.camera is not None and batch.scores is not None:
            # no scan has both
            assert not set(batch.camera.voxels.tolist()) & set(batch.scores.voxels.tolist())
        if batch.scores is not None:  # a label that is known is the likeliest class
            rows = batch.scores.voxels
            labels, best = batch.targets[rows], batch.scores.logits(19).argmax(1)
            sure = (labels != 255) & (batch.scores.values[:, 0] > batch.scores.values[:, 1])
            assert sure.any() and labels[sure].equal(best[sure])
        most = max(np.diff(batch.pyramid.stages[0].offsets))
        assert most <= 400
        if swept:
            assert max(np.diff(batch.teacher.pyramid.stages[0].offsets)) <= 900
            assert batch.features.equal(batch.teacher.features[batch.rows[0]])


def test_single_scans_beside_sweeps_are_seen_alike_by_both(mix):
    config = dataclasses.replace(BASE, sweeps=SWEPT, augment=AugmentConfig(mix=0, paste=0))
    config = dataclasses.replace(config, scans_per_step=1)
    data = distill_mix(config, mix, None)
    assert isinstance(data.sources[0], Sweeps) and data.sources[1] is mix.sources[1]
    stream = DistillStream(data, tiny_config(), config, None)
    sizes = [(len(b.features), len(b.teacher.features), b) for b in map(stream, range(12))]
    alike = [batch for own, every, batch in sizes if own == every]
    assert 0 < len(alike) < len(sizes)
    for batch in alike:
        assert batch.rows[0].equal(torch.arange(len(batch.features)))
        assert batch.rows[1].equal(torch.arange(len(batch.pyramid.stages[1])))
        assert batch.pyramid is batch.teacher.pyramid


def test_the_atlas_holds_what_the_camera_teacher_says(folder, mix):
    side = camera_side(CAMERA, places(folder), mix, open_device(BASE))
    assert list(side.atlas.index.places) == [("00", 0)]
    assert len(side.atlas) == 1 + 5 * 10
    teacher = load_camera_teacher(folder / "camera.safetensors", KITTI)
    assert (side.atlas.num_classes, side.atlas.feature_channels) == (19, teacher.feature_channels)


def test_what_is_nowhere_is_said(folder, mix, tmp_path):
    bare = SourceMix([(Drives(), 1.0)])
    fabric = open_device(BASE)
    with pytest.raises(InputError, match="no source has poses"):
        distill_mix(dataclasses.replace(BASE, sweeps=SWEPT), bare, None)
    with pytest.raises(InputError, match="no source has scores"):
        distill_mix(dataclasses.replace(BASE, soft_targets=KEPT), bare, None)
    with pytest.raises(ConfigError, match="--camera"):
        camera_side(CAMERA, Places(tmp_path, folder), mix, fabric)
    with pytest.raises(InputError, match="no scan of the sources has an image"):
        camera_side(CAMERA, places(folder), bare, fabric)
    there = dataclasses.replace(places(folder), data=None)
    with pytest.raises(InputError, match="--data"):
        camera_side(CAMERA, there, mix, fabric)
