# SPDX-License-Identifier: Apache-2.0
"""Class scores given beforehand, from points to the voxels of a batch."""

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from pointdistill_ros.datasets.pseudo import PseudoScans
from pointdistill_ros.errors import InputError
from pointdistill_ros.labels import LabelSet
from training.opening import CachedScans
from training.pseudo_files import PseudoFolder, packed_cloud
from training.pseudo_scores import ScoredScans, scored
from training.self_training import SoftLabels, dense, top_classes
from training.transforms import LabelledPoints, concatenate
from training.voxel_scores import CLASS, VALUE, voxel_scores

from .drives import Drives
from .test_self_training import cloud

KITTI = LabelSet.named("semantic-kitti")


def pseudo_folder(root, soft, seed=0, n=300, name="a"):
    """A scan labelled by nobody; some of its points have no label. Returns the probabilities."""
    rng = np.random.default_rng(seed)
    scan, folder = cloud(seed, n), PseudoFolder(root)
    row = rng.integers(-1, 40, n).astype(np.int32)
    found = SoftLabels(row, rng.dirichlet(np.full(19, 0.1), 40).astype(np.float32))
    folder.write_cloud(name, "unlabelled", packed_cloud(scan))
    folder.write_scores(name, found, "", "", soft)
    folder.write_labels(name, found.labels(), found.confidence())
    return found


def points(n, seed=0, **columns):
    xyz = np.random.default_rng(seed).normal(size=(n, 3)).astype(np.float32)
    return LabelledPoints(xyz, np.zeros(n, np.float32), np.zeros(n, np.uint8), None, columns)


@given(st.integers(0, 99), st.integers(1, 19))
@example(42, 19)  # one of the probabilities is 0 in float16
def test_voxels_have_the_probabilities_that_were_kept(seed, k):
    rng = np.random.default_rng(seed)
    probability = rng.dirichlet(np.full(19, 0.3), 20).astype(np.float32)
    classes, values = top_classes(probability, k)
    known = values * (np.arange(20) // 2 != 4)[:, None]  # nothing is known of 8 and 9
    scores = voxel_scores([points(20, **{CLASS: classes, VALUE: known}), points(5)])
    assert scores.voxels.tolist() == [i for i in range(20) if i not in (8, 9)]
    found = scores.logits(19).exp().numpy()
    expected = dense(classes, values, 19)[scores.voxels]
    np.testing.assert_allclose(found, expected, atol=2e-4)
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-5)
    assert bool(scores.logits(19).isfinite().all())


def test_rows_follow_the_samples_of_a_batch():
    first = {CLASS: np.uint8([[3, 0]]), VALUE: np.float16([[0.75, 0.25]])}
    scores = voxel_scores([points(4), points(1, **first), points(2)])
    assert scores.voxels.tolist() == [4] and scores.classes.tolist() == [[3, 0]]
    assert scores.logits(4).exp()[0].tolist() == pytest.approx([0.25, 0, 0, 0.75], abs=1e-5)
    assert voxel_scores([points(4), points(2)]) is None
    nothing = {CLASS: np.zeros((4, 2), np.uint8), VALUE: np.zeros((4, 2), np.float16)}
    assert voxel_scores([points(4, **nothing)]) is None


def test_scores_lie_on_the_points_that_they_were_knownto(tmp_path):
    found = pseudo_folder(tmp_path / "one", 3)
    pseudo_folder(tmp_path / "two", 5, seed=1)
    opened = [
        CachedScans(PseudoScans(tmp_path / "one", 0), 1 << 20),
        Drives(),
        PseudoScans(tmp_path / "two", 0),
    ]
    one, drives, two = scored(opened, KITTI)
    assert drives is opened[1] and isinstance(two, ScoredScans)
    assert one.sequences == ["a"] and len(one[0][0]) == 300
    columns, other = one.columns(0, 300), two.columns(0, 300)
    assert columns[CLASS].shape == other[CLASS].shape == (300, 5)
    both = concatenate([points(300, **columns), points(300, **other)])
    scores = voxel_scores([both])
    expected = found.probability[found.row[found.row >= 0]]
    mine = scores.logits(19).exp()[: len(expected)]
    top = torch.from_numpy(expected).topk(3).indices
    np.testing.assert_allclose(
        mine.gather(1, top), torch.from_numpy(expected).gather(1, top), atol=1e-3
    )


def test_scores_of_other_points_and_folders_without_any_are_refused(tmp_path):
    pseudo_folder(tmp_path / "one", 3)
    pseudo_folder(tmp_path / "bare", 0)
    (scans,) = scored([PseudoScans(tmp_path / "one", 0)], KITTI)
    with pytest.raises(InputError, match=r"a\.npz: scores of 300 points for a cloud of 299"):
        scans.columns(0, 299)
    with pytest.raises(InputError, match=r"a\.npz: holds no soft targets"):
        scored([PseudoScans(tmp_path / "bare", 0)], KITTI)
    with pytest.raises(InputError, match=r"kept: no source has scores"):
        scored([Drives()], KITTI)
    with pytest.raises(InputError, match=r"kept: no source has scores"):
        scored([PseudoScans(tmp_path / "one", 0)], LabelSet.named("common7"))
