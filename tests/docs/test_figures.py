# SPDX-License-Identifier: Apache-2.0
"""The figures of docs/concepts.md: small, and of today's objects."""

import numpy as np
import pytest

from pointdistill_ros.model.voxels import voxelise
from tests.docs.blocks import ROOT
from tools.docs.figures.__main__ import FIGURES, IMAGES
from tools.docs.figures.curves import PATCH, SHOWN, patches_along
from tools.docs.figures.node import draw_node
from tools.docs.figures.stage_table import PAGE, stage_table, table_of

CONCEPTS = (ROOT / "docs" / "concepts.md").read_text()
LIMIT = 300_000
"""Bytes of all figures together."""


def test_the_page_shows_all_of_them_and_they_are_small():
    for name in FIGURES:
        assert f"](images/{name})" in CONCEPTS
    assert sum((IMAGES / name).stat().st_size for name in FIGURES) <= LIMIT


@pytest.mark.parametrize("curve", [curve for curve, _ in SHOWN])
def test_patches_are_the_whole_walk_cut_into_pieces(curve):
    rng = np.random.default_rng(0)
    voxels = voxelise(rng.uniform(0, 6, (500, 3)).astype(np.float32), 0.5)
    patches = patches_along(voxels, curve)
    assert sorted(np.concatenate(patches)) == list(range(len(voxels)))
    assert {len(rows) for rows in patches[:-1]} == {PATCH}


def test_a_full_cube_along_the_hilbert_curve_has_no_jump():
    corner = np.stack(np.meshgrid(*[np.arange(8.0)] * 3), axis=-1).reshape(-1, 3)
    voxels = voxelise((corner + 0.5).astype(np.float32), 1.0)
    walk = voxels.coords[np.concatenate(patches_along(voxels, "hilbert"))]
    assert (np.abs(np.diff(walk, axis=0)).sum(axis=1) == 1).all()
    walk = voxels.coords[np.concatenate(patches_along(voxels, "z"))]
    assert (np.abs(np.diff(walk, axis=0)).sum(axis=1) > 1).any()


def test_the_drawing_of_the_node_is_up_to_date(tmp_path):
    """The same code gives the same file, whatever matplotlib's version puts around its text."""
    draw_node(tmp_path / "concepts_node.svg")
    assert texts(tmp_path / "concepts_node.svg") == texts(IMAGES / "concepts_node.svg")


def test_a_step_without_a_box_is_noticed(tmp_path, monkeypatch):
    from tools.docs.figures import node

    monkeypatch.setattr(node, "TIMES", {**node.TIMES, "polish": "~/debug/polish_ms"})
    with pytest.raises(KeyError, match="polish"):
        draw_node(tmp_path / "a.svg")


@pytest.mark.slow
def test_the_numbers_of_the_stages_are_up_to_date():
    assert table_of(PAGE.read_text()) == stage_table(), "python -m tools.docs.figures"


def texts(path):
    from xml.etree import ElementTree

    return [e.text for e in ElementTree.parse(path).iter() if e.tag.endswith("}text")]
