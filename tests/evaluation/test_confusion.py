# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file

from pointdistill_ros.errors import LabelError
from pointdistill_ros.evaluation.confusion import (
    ConfusionMatrix,
    frequency_weighted_iou,
    iou_per_class,
    mean_over,
    overall_accuracy,
)


def u8(*values):
    return np.array(values, np.uint8)


def test_counts_by_hand():
    matrix = ConfusionMatrix(3)
    #          hit hit miss ignored nothing-predicted
    matrix.update(u8(0, 1, 1, 2, 255), u8(0, 1, 0, 255, 1))
    assert matrix.counts.dtype == np.int64
    np.testing.assert_array_equal(matrix.counts, [[1, 1, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0]])
    np.testing.assert_allclose(matrix.iou(), [1 / 2, 1 / 3, np.nan])
    assert matrix.accuracy() == 2 / 4
    assert matrix.miou() == pytest.approx((1 / 2 + 1 / 3) / 2)


def test_ignored_points_are_no_false_positives():
    matrix = ConfusionMatrix(2)
    matrix.update(u8(0, 0, 0), u8(0, 255, 255))
    assert matrix.iou()[0] == 1


def test_rare_classes_stay_out_of_the_mean():
    matrix = ConfusionMatrix(2)
    matrix.update(np.zeros(109, np.uint8), np.repeat(u8(0, 1), [100, 9]))
    assert matrix.miou(min_points=10) == pytest.approx(100 / 109)
    assert matrix.miou(min_points=9) == pytest.approx(100 / 109 / 2)


def test_a_class_only_predicted_is_not_present_but_has_iou_zero():
    matrix = ConfusionMatrix(2)
    matrix.update(u8(0, 1), u8(0, 0))
    assert matrix.iou()[1] == 0
    assert matrix.miou() == 1 / 2


def test_nothing_labelled_gives_nan():
    matrix = ConfusionMatrix(2)
    matrix.update(u8(0), u8(255))
    assert np.isnan(matrix.accuracy())
    assert np.isnan(matrix.miou())


@pytest.mark.parametrize(("labels", "truth"), [(u8(0), u8(0, 0)), (u8(3), u8(0)), (u8(0), u8(3))])
def test_bad_labels_are_refused(labels, truth):
    with pytest.raises(LabelError):
        ConfusionMatrix(3).update(labels, truth)


pairs = st.lists(st.tuples(st.sampled_from([0, 1, 2, 255]), st.sampled_from([0, 1, 2, 255])))


@given(pairs, st.integers(0, 20))
def test_a_split_in_parts_is_the_split(points, cut):
    labels, truth = np.array(points, np.uint8).reshape(-1, 2).T
    whole, first, second = ConfusionMatrix(3), ConfusionMatrix(3), ConfusionMatrix(3)
    whole.update(labels, truth)
    first.update(labels[:cut], truth[:cut])
    second.update(labels[cut:], truth[cut:])
    np.testing.assert_array_equal((first + second).counts, whole.counts)
    assert whole.counts.sum() == (truth != 255).sum()
    for c in range(3):  # the definition, point by point
        known = truth != 255
        union = ((truth == c) | (labels == c))[known].sum()
        hits = ((truth == c) & (labels == c))[known].sum()
        assert whole.iou()[c] == (
            pytest.approx(hits / union) if union else pytest.approx(np.nan, nan_ok=True)
        )


@given(pairs)
def test_figures_equal_their_definitions(points):
    labels, truth = np.array(points, np.uint8).reshape(-1, 2).T
    matrix = ConfusionMatrix(3)
    matrix.update(labels, truth)
    known = truth != 255
    labels, truth = labels[known], truth[known]
    recall, iou, weight = [], [], []
    for c in range(3):
        true = truth == c
        union = (true | (labels == c)).sum()
        iou.append((true & (labels == c)).sum() / union if union else 0.0)
        if true.any():
            recall.append((labels[true] == c).mean())
        weight.append(true.sum())
    assert matrix.miou_of_all() == pytest.approx(np.mean(iou))
    if len(truth):
        assert matrix.accuracy() == pytest.approx((labels == truth).mean())
        assert matrix.mean_class_accuracy() == pytest.approx(np.mean(recall))
        assert matrix.frequency_weighted_iou() == pytest.approx(np.average(iou, weights=weight))
        assert matrix.share(truth[0], 1) == pytest.approx((labels[truth == truth[0]] == 1).mean())
    else:
        assert np.isnan([matrix.mean_class_accuracy(), matrix.frequency_weighted_iou()]).all()


def test_many_matrices_are_judged_at_once():
    counts = np.random.default_rng(0).integers(0, 50, (4, 2, 3, 4))
    counts[1, 1, 2] = 0
    every = np.ones(3, bool)
    for i in np.ndindex(4, 2):
        one = ConfusionMatrix(3, counts[i])
        np.testing.assert_array_equal(iou_per_class(counts)[i], one.iou())
        assert overall_accuracy(counts)[i] == one.accuracy()
        assert frequency_weighted_iou(counts)[i] == one.frequency_weighted_iou()
        if one.present().all():
            assert mean_over(iou_per_class(counts), every)[i] == pytest.approx(one.miou())


def test_reference_logits_point_by_point():
    vectors = load_file(Path(__file__).parents[1] / "data" / "ptv3_tiny.safetensors")
    labels = vectors["extra/lovasz/logits"].argmax(1).astype(np.uint8)
    truth = vectors["extra/lovasz/labels"].astype(np.int64)
    classes = vectors["extra/lovasz/logits"].shape[1]
    matrix = ConfusionMatrix(classes)
    matrix.update(labels, np.where(truth < 0, 255, truth).astype(np.uint8))
    known = truth >= 0
    ious = []
    for c in range(classes):
        hits = sum(int(a == b == c) for a, b in zip(labels[known], truth[known], strict=True))
        union = sum(int(c in (a, b)) for a, b in zip(labels[known], truth[known], strict=True))
        if (truth[known] == c).any():
            ious.append(hits / union)
    assert not (truth == 4).any() and len(ious) == classes - 1
    assert matrix.miou() == pytest.approx(np.mean(ious))
