# SPDX-License-Identifier: Apache-2.0
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointdistill_ros.errors import InputError, LabelError
from pointdistill_ros.evaluation import divergence
from pointdistill_ros.evaluation.agreement import (
    Agreement,
    AgreementWindow,
    Labelling,
    compare,
    disagreement,
)
from pointdistill_ros.evaluation.distance import EDGES

CLASSES = 3
ids = st.sampled_from([0, 1, 2, 255])
points = st.lists(st.tuples(ids, ids, st.integers(0, len(EDGES) - 1)), max_size=40)


def u8(*values):
    return np.array(values, np.uint8)


def sides(points):
    first, second, bands = np.array(points, np.int64).reshape(-1, 3).T
    return Labelling(first.astype(np.uint8)), Labelling(second.astype(np.uint8)), bands


def js(p, q):
    """The definition: mean Kullback–Leibler divergence from the middle, bits."""
    m = (p + q) / 2
    return sum(0.5 * a * np.log2(a / c) for x in (p, q) for a, c in zip(x, m, strict=True) if a > 0)


def spread(label, top, classes=CLASSES):
    p = np.full(classes, (1 - top) / (classes - 1))
    p[label] = top
    return p


def test_counts_by_hand():
    #                      equal equal differ  one-sided    nobody
    first, second = u8(0, 1, 1, 2, 255, 255), u8(0, 1, 0, 255, 1, 255)
    bands = np.array([0, 0, 0, 1, 1, 1])
    result = compare(Labelling(first), Labelling(second), CLASSES, bands)
    assert result.points == 5
    assert result.agreement == pytest.approx(2 / 5)
    np.testing.assert_allclose(result.class_iou, [1 / 2, 1 / 3, 0])
    assert result.mean_iou == pytest.approx((1 / 2 + 1 / 3) / 3)
    np.testing.assert_array_equal(result.points_by_band, [3, 2, 0, 0, 0])
    np.testing.assert_allclose(result.agreement_by_band, [2 / 3, 0, np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(
        disagreement(first, second), [False, False, True, True, True, False]
    )
    assert set(result.greatest_differences()) == {(1, 0, 1), (2, 255, 1), (255, 1, 1)}
    assert result.basis == "labels"
    assert result.divergence == pytest.approx(1 - result.agreement)


@given(points)
def test_against_counting_point_by_point(points):
    first, second, bands = sides(points)
    result = compare(first, second, CLASSES, bands)
    pairs = [(a, b, band) for a, b, band in points if (a, b) != (255, 255)]
    assert result.points == len(pairs)
    equal = [a == b for a, b, _ in pairs]
    assert result.agreement == pytest.approx(np.mean(equal) if pairs else np.nan, nan_ok=True)
    for c in range(CLASSES):
        both = sum(a == b == c for a, b, _ in pairs)
        either = sum(c in (a, b) for a, b, _ in pairs)
        iou = both / either if either else np.nan
        assert result.class_iou[c] == pytest.approx(iou, nan_ok=True)
    for band in range(len(EDGES)):
        inside = [a == b for a, b, where in pairs if where == band]
        share = np.mean(inside) if inside else np.nan
        assert result.points_by_band[band] == len(inside)
        assert result.agreement_by_band[band] == pytest.approx(share, nan_ok=True)
        assert result.divergence_by_band[band] == pytest.approx(1 - share, nan_ok=True)


@given(points)
def test_it_does_not_matter_which_side_is_first(points):
    first, second, bands = sides(points)
    one, other = compare(first, second, CLASSES, bands), compare(second, first, CLASSES, bands)
    np.testing.assert_array_equal(one.counts, other.counts.transpose(0, 2, 1))
    np.testing.assert_array_equal(one.class_iou, other.class_iou)
    np.testing.assert_array_equal(one.divergences, other.divergences)


@given(points, st.integers(0, 40), st.randoms())
def test_a_cloud_in_parts_and_in_any_order_is_the_cloud(points, cut, random):
    whole = compare(*sides(points)[:2], CLASSES, sides(points)[2])
    random.shuffle(points)
    one, two = sides(points[:cut]), sides(points[cut:])
    parts = compare(*one[:2], CLASSES, one[2]) + compare(*two[:2], CLASSES, two[2])
    np.testing.assert_array_equal(parts.counts, whole.counts)
    np.testing.assert_array_equal(parts.divergences, whole.divergences)
    again = Agreement.from_dict(json.loads(json.dumps(parts.to_dict())))
    np.testing.assert_array_equal(again.counts, whole.counts)
    np.testing.assert_array_equal(again.divergences, whole.divergences)
    assert again.basis == whole.basis


tops = st.floats(1 / CLASSES, 1)


@given(st.lists(st.tuples(st.sampled_from([0, 1, 2]), tops, st.sampled_from([0, 1, 2]), tops)))
def test_divergence_of_tops_is_that_of_the_evenly_spread_distributions(points):
    a, p, b, q = np.array(points, np.float64).reshape(-1, 4).T
    labels = a.astype(np.uint8), b.astype(np.uint8)
    found = divergence.of_tops(labels, (p, q), CLASSES)
    spreads = [
        (spread(x, s), spread(y, t)) for x, s, y, t in zip(labels[0], p, labels[1], q, strict=True)
    ]
    np.testing.assert_allclose(found, [js(*pair) for pair in spreads], atol=1e-12)
    whole = [np.array(side).reshape(-1, CLASSES) for side in zip(*spreads, strict=True)]
    if spreads:
        np.testing.assert_allclose(divergence.of_distributions(*whole), found, atol=1e-12)


rows = st.lists(st.floats(0, 1), min_size=CLASSES, max_size=CLASSES).filter(lambda v: sum(v) > 0.1)


@given(rows, rows)
def test_divergence_of_distributions(first, second):
    p, q = (np.array([row]) / np.sum(row) for row in (first, second))
    (found,) = divergence.of_distributions(p, q)
    assert found == pytest.approx(max(js(p[0], q[0]), 0), abs=1e-9)
    assert 0 <= found <= 1
    a, b = (np.argmax(row, axis=1).astype(np.uint8) for row in (p, q))
    if a == b:  # then the tops alone give a lower bound
        (known,) = divergence.of_tops((a, b), (p[0][a], q[0][b]), CLASSES)
        assert known <= found + 1e-9


def test_of_both_only_what_both_sides_have_is_used():
    labels, top = u8(0, 1), np.array([0.5, 0.9], np.float32)
    whole = np.array([[0.5, 0.5, 0], [0, 0.9, 0.1]], np.float32)
    full, tops, plain = Labelling(labels, top, whole), Labelling(labels, top), Labelling(labels)
    assert compare(full, full, CLASSES).basis == "distributions"
    assert compare(full, tops, CLASSES).basis == "tops"
    assert compare(tops, plain, CLASSES).basis == "labels"


def test_sureness_counts():
    """The same wrong label diverges more where both are sure of theirs."""
    labels = u8(0), u8(1)
    unsure, sure = (np.array([p], np.float32) for p in (0.4, 0.99))
    weak = compare(Labelling(labels[0], unsure), Labelling(labels[1], unsure), CLASSES)
    strong = compare(Labelling(labels[0], sure), Labelling(labels[1], sure), CLASSES)
    assert 0 < weak.divergence < 0.1 < 0.9 < strong.divergence <= 1


def test_a_point_that_only_one_side_labels_diverges_fully():
    first = Labelling(u8(0, 0), np.array([0.5, 0.5], np.float32))
    second = Labelling(u8(255, 0), np.array([0.0, 0.5], np.float32))
    assert compare(first, second, CLASSES).divergence == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("first", "second", "bands"),
    [
        (Labelling(u8(0)), Labelling(u8(0, 0)), None),
        (Labelling(u8(3)), Labelling(u8(0)), None),
        (Labelling(u8(0)), Labelling(u8(254)), None),
        (Labelling(u8(0)), Labelling(u8(0)), np.zeros(2, np.int64)),
        (Labelling(u8(0), np.zeros(2)), Labelling(u8(0)), None),
        (Labelling(u8(0), None, np.zeros((1, 2))), Labelling(u8(0)), None),
    ],
)
def test_what_does_not_fit_is_refused(first, second, bands):
    with pytest.raises(LabelError):
        compare(first, second, CLASSES, bands)


def test_agreements_of_other_classes_or_of_another_basis_do_not_add_up():
    plain = compare(Labelling(u8(0)), Labelling(u8(0)), CLASSES)
    sure = Labelling(u8(0), np.ones(1))
    for other in (compare(Labelling(u8(0)), Labelling(u8(0)), 2), compare(sure, sure, CLASSES)):
        with pytest.raises(LabelError):
            plain + other


@pytest.mark.parametrize("damage", [{"basis": "guess"}, {"cells": [10**6]}, {"divergences": [1]}])
def test_damaged_records_are_refused(damage):
    data = compare(Labelling(u8(0)), Labelling(u8(0)), CLASSES).to_dict()
    with pytest.raises(InputError):
        Agreement.from_dict(data | damage)


@given(st.lists(points, min_size=1, max_size=8), st.integers(1, 4))
def test_a_window_is_the_sum_of_its_last_clouds(clouds, length):
    window = AgreementWindow(length)
    assert window.total is None
    results = [compare(*sides(cloud)[:2], CLASSES, sides(cloud)[2]) for cloud in clouds]
    for number, result in enumerate(results, 1):
        window.add(result)
        last = results[max(0, number - length) : number]
        assert len(window) == len(last)
        np.testing.assert_array_equal(window.total.counts, sum(r.counts for r in last))
        np.testing.assert_array_equal(window.total.divergences, sum(r.divergences for r in last))


def test_other_classes_begin_a_new_window():
    window = AgreementWindow(10)
    window.add(compare(Labelling(u8(0)), Labelling(u8(0)), CLASSES))
    window.add(compare(Labelling(u8(0)), Labelling(u8(1)), 2))
    assert (len(window), window.total.agreement) == (1, 0.0)
