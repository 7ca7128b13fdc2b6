# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.torch import load_file

from training.persistence.bars import diagrams, persistence_sums
from training.persistence.filtration import Filtration, rips_diagrams
from training.persistence.metric import distance_matrix, quantile_length
from training.persistence.rips import rips_bars
from training.persistence.spanning_tree import tree_bars

from . import clouds

VECTORS = Path(__file__).parents[2] / "data" / "ptv3_tiny.safetensors"
CLOUDS = {
    "random, plane": clouds.gaussian(40, 2),
    "random, 8-D": clouds.gaussian(30, 8),
    "random, 64-D": clouds.gaussian(30, 64),
    "circle": clouds.circle(),
    "sphere": clouds.sphere(30),
    "clusters": clouds.clusters(4),
    "grid": clouds.grid(5),
    "duplicates": clouds.duplicates(),
    "simplex": clouds.simplex(),
    "on a line": np.arange(12.0)[:, None] ** 2,
    "far from the origin": clouds.gaussian(25, 3) + 1e4,
    "one far away": np.vstack([1e-3 * clouds.gaussian(20, 3), [[1e4, 0, 0]]]),
}


def close(found, expected, tolerance=1e-6):
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(clouds.in_order(ours), clouds.in_order(theirs), atol=tolerance)


@pytest.fixture(scope="module")
def reference():
    tensors = load_file(VECTORS)
    return {k.split("/")[-1]: v for k, v in tensors.items() if k.startswith("extra/ph/")}


def test_diagrams_and_gradient_equal_the_reference(reference):
    points = reference["points"].clone().requires_grad_()
    found = rips_diagrams(points, 2)
    close(found, [reference[f"h{k}_diagram"].numpy() for k in range(3)], 1e-12)
    total = sum((d[:, 1] - d[:, 0]).square().sum() for d in found)
    total.backward()
    torch.testing.assert_close(total.detach(), reference["total_persistence2"][0])
    torch.testing.assert_close(points.grad, reference["total_persistence2_grad"], atol=1e-9, rtol=0)


def test_edges_equal_the_reference(reference):
    distances = distance_matrix(reference["points"].numpy())
    found = rips_bars(distances, 2)

    def as_sets(edges):
        return sorted(tuple(sorted(e)) for e in np.asarray(edges).reshape(-1, 2).tolist())

    assert as_sets(found[0].deaths) == as_sets(reference["h0_edges"])
    for k in (1, 2):
        ours = np.hstack([found[k].births, found[k].deaths])
        assert as_sets(ours) == as_sets(reference[f"h{k}_edges"])


@pytest.mark.parametrize("name", CLOUDS)
def test_diagrams_equal_gudhis(name):
    points = CLOUDS[name]
    highest = 2 if len(points) <= 30 else 1
    close(rips_diagrams(torch.from_numpy(points), highest), clouds.gudhi_diagrams(points, highest))


@given(st.integers(0, 14), st.integers(1, 4), st.integers(0, 10**6), st.booleans())
@example(11, 4, 138, True)
def test_diagrams_equal_gudhis_on_any_cloud(n, d, seed, whole):
    points = clouds.gaussian(n, d, seed)
    if whole:  # ties, duplicates
        points = np.round(1.5 * points)
    found = rips_diagrams(torch.from_numpy(points), 2)
    if whole:  # rounding may part ties: bars that exact distances do not have
        found = [d[d[:, 1] - d[:, 0] > 1e-6] for d in found]
    if n:
        close(found, clouds.gudhi_diagrams(points, 2))
    else:
        assert [d.shape for d in found] == [(0, 2)] * 3


@given(st.integers(1, 30), st.integers(0, 10**6), st.booleans(), st.booleans())
def test_the_spanning_tree_is_h0(n, seed, whole, windowed):
    points = clouds.gaussian(n, 3, seed)
    cloud = torch.from_numpy(np.round(points) if whole else points)
    distances = distance_matrix(cloud.numpy())
    distances = np.maximum(distances, distances.T)
    window = (0.0, np.inf)
    if windowed and n > 1:
        window = (quantile_length(distances, 0.1), quantile_length(distances, 0.4))
    (alone,) = diagrams(cloud, [tree_bars(distances, window)])
    (both,) = diagrams(cloud, rips_bars(distances, 1, window)[:1])
    np.testing.assert_allclose(clouds.in_order(alone), clouds.in_order(both), atol=1e-12)


@pytest.mark.parametrize("max_dimension", [0, 1, 2])
@pytest.mark.parametrize("quantiles", [(0.0, 1.0), (0.05, 0.4)])
def test_gradients_equal_finite_differences(max_dimension, quantiles):
    points = torch.from_numpy(clouds.sphere(16) + 0.05 * clouds.gaussian(16, 3))

    def values(x):
        return Filtration(x, max_dimension, quantiles).diagrams()

    assert len(values(points)[max_dimension])  # there is something to check
    assert torch.autograd.gradcheck(values, points.requires_grad_())


@pytest.mark.parametrize("which", ["mean", "median"])
def test_gradients_of_the_scale_equal_finite_differences(which):
    points = torch.from_numpy(clouds.gaussian(12, 5)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: getattr(Filtration(x), which)(), points)
    lengths = torch.pdist(points.detach())
    torch.testing.assert_close(
        getattr(Filtration(points), which)().detach(), getattr(lengths, which)()
    )


def test_a_circle_has_one_long_loop():
    _, h1 = rips_diagrams(torch.from_numpy(clouds.circle()))
    bars = clouds.lengths(h1)
    assert bars[0] > 1.2
    assert bars[1:].sum() < 0.1


def test_a_sphere_has_one_long_void_and_no_long_loop():
    _, h1, h2 = rips_diagrams(torch.from_numpy(clouds.sphere()), 2)
    bars = clouds.lengths(h2)
    assert bars[0] > 0.7
    assert bars[1:].sum() < 0.1
    assert clouds.lengths(h1)[0] < 0.3


@pytest.mark.parametrize("k", [2, 5])
def test_k_clusters_have_k_less_one_long_bars(k):
    h0, _ = rips_diagrams(torch.from_numpy(clouds.clusters(k)))
    bars = clouds.lengths(h0)
    assert (bars[: k - 1] > 20).all()
    assert (bars[k - 1 :] < 1).all()


@pytest.mark.parametrize(
    ("points", "bars"),
    [
        (np.zeros((1, 3)), [0, 0, 0]),
        (clouds.gaussian(2, 3), [1, 0, 0]),
        (clouds.gaussian(3, 3), [2, 0, 0]),
        (np.ones((6, 2)), [0, 0, 0]),
        (clouds.simplex(6), [5, 0, 0]),
        (clouds.duplicates(), [8, None, None]),
    ],
)
def test_degenerate_clouds(points, bars):
    cloud = torch.from_numpy(points).requires_grad_()
    found = rips_diagrams(cloud, 2)
    for diagram, expected in zip(found, bars, strict=True):
        assert expected is None or len(diagram) == expected
        assert bool((diagram[:, 1] > diagram[:, 0]).all())
    (sum(d.sum() for d in found) + 0 * cloud.sum()).backward()
    assert bool(cloud.grad.isfinite().all())


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(bad):
    points = clouds.gaussian(8, 2)
    points[3, 1] = bad
    cloud = torch.from_numpy(points)
    assert not Filtration(cloud).finite
    for highest in (0, 1):
        with pytest.raises(ValueError, match="finite"):
            Filtration(cloud, highest).diagrams()


def test_a_window_cuts_the_filtration_at_both_ends():
    points = torch.from_numpy(clouds.circle())
    cut = Filtration(points, 1, (0.1, 0.3))
    low = quantile_length(cut.distances, 0.1)
    high = quantile_length(cut.distances, 0.3)
    expected = []
    for diagram in Filtration(points).diagrams():
        clamped = diagram.clamp(low, high)
        expected.append(clamped[clamped[:, 0] < clamped[:, 1]].numpy())
    close(cut.diagrams(), expected, 1e-12)
    assert len(expected[0]) < 39  # bars that die before the window are gone
    assert float(cut.diagrams()[1][:, 1].max()) == pytest.approx(high)  # the loop lives on at 0.3


def test_a_window_may_end_before_all_is_connected():
    points = torch.from_numpy(clouds.clusters(3))
    cut = Filtration(points, 1, (0.0, 0.2))
    end = quantile_length(cut.distances, 0.2)
    assert end < 20  # three clusters still
    expected = [np.minimum(d, end) for d in clouds.gudhi_diagrams(points, 1)]
    close(cut.diagrams(), [d[d[:, 0] < d[:, 1]] for d in expected])


def test_perturbed_points_move_the_diagram_no_further_than_twice_as_far():
    gudhi = pytest.importorskip("gudhi.bottleneck")
    points = clouds.gaussian(30, 3)
    step = 0.01 * clouds.gaussian(30, 3, seed=1)
    furthest = np.linalg.norm(step, axis=1).max()
    before = rips_diagrams(torch.from_numpy(points))
    after = rips_diagrams(torch.from_numpy(points + step))
    for a, b in zip(before, after, strict=True):
        assert gudhi.bottleneck_distance(a.numpy(), b.numpy()) <= 2 * furthest + 1e-9


@given(st.integers(2, 40), st.integers(1, 70), st.integers(0, 10**6), st.floats(0, 1e6))
def test_distances_are_right_to_nine_digits(n, d, seed, offset):
    points = clouds.gaussian(n, d, seed) + offset
    points[n // 2] = points[0] + 1e-6  # close, far from the origin
    points[-1] = points[0]
    exact = np.linalg.norm(points[:, None] - points, axis=-1)
    found = distance_matrix(points)
    np.testing.assert_allclose(found, exact, rtol=1e-9, atol=1e-9 * offset * 1e-6)
    assert found[0, -1] == found[-1, 0] == 0


def test_persistence_falls_with_the_scale_of_features():
    points = torch.from_numpy(clouds.gaussian(30, 4))
    whole = persistence_sums(rips_diagrams(points))
    half = persistence_sums(rips_diagrams(points / 2))
    assert half == pytest.approx([value / 2 for value in whole])
    assert persistence_sums(rips_diagrams(torch.ones(5, 4))) == [0, 0]
