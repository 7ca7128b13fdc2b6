# SPDX-License-Identifier: Apache-2.0
"""Does a faster form still give the answer of the plain one? Labels on points, logits on voxels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pointdistill_ros.benchmark.roofline import Geometry
from pointdistill_ros.benchmark.subjects import Model, compiled_engine
from pointdistill_ros.engine.voxelwise import VoxelwiseEngine
from pointdistill_ros.model.curves import MAX_DEPTH
from pointdistill_ros.model.pyramid import VoxelPyramid, build_pyramid
from pointdistill_ros.model.voxels import canonical_points, voxelise
from pointdistill_ros.scan import LidarScan
from pointdistill_ros.segmentation import Segmentation
from pointdistill_ros.segmenter import Segmenter

MAX_LOGIT_ERROR = 1e-4
"""Largest |Δlogit| of a float32 form, in deviations of the logits."""
EQUAL_LABELS = {"float32": 0.9999, "bfloat16": 0.995, "float16": 0.995}
"""Least share of equal labels with trained weights."""
EQUAL_LABELS_RANDOM = {"float32": 0.9999, "bfloat16": 0.985, "float16": 0.985}
"""The same with random weights, whose best two classes lie close together nearly everywhere."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """A scan as a network sees it."""

    features: NDArray[np.float32]
    """[n, 4]."""
    coords: NDArray[np.int64]
    """[n, 3] cells."""
    pyramid: VoxelPyramid
    stem_pairs: int
    """Pairs of voxels, themselves included, within the stem's kernel."""
    logits: NDArray[np.float32] | None = None
    """[n, classes] of the plain form."""

    @property
    def geometry(self) -> Geometry:
        """Its size."""
        stages = self.pyramid.stages
        return Geometry(
            rows=tuple(len(stage) for stage in stages),
            pairs=tuple(len(s) + sum(s.neighbours.counts) for s in stages),
            stem_pairs=self.stem_pairs,
        )


def prepare(model: Model, scan: LidarScan, device: str) -> Prepared:
    """Voxels and pyramid of a scan, on ``device``, as the plain engine makes them."""
    reach = model.meta.grid_size * ((1 << (MAX_DEPTH - 1)) - 1)
    valid = (np.abs(scan.xyz) <= reach).all(axis=1)
    xyz = scan.xyz[valid]
    intensity = np.zeros(len(xyz), np.float32) if scan.intensity is None else scan.intensity[valid]
    intensity = np.nan_to_num(intensity)
    voxels = voxelise(xyz, model.meta.grid_size)
    point = canonical_points(voxels, xyz, intensity, model.meta.grid_size)
    features = np.column_stack([xyz[point], intensity[point]])
    index = torch.zeros(len(voxels), dtype=torch.int64, device=device)
    coords = torch.from_numpy(voxels.coords).to(device)
    pyramid = build_pyramid(coords, index, model.config, depth=MAX_DEPTH)
    stem = pyramid.stages[0].neighbours if model.config.stem_size == 3 else pyramid.stem
    return Prepared(features, voxels.coords, pyramid, len(pyramid) + sum(stem.counts))


@dataclass(frozen=True)
class Parity:
    """How near a form is to the plain one on one scan."""

    equal_labels: float
    """Share of points with the same label."""
    max_probability_error: float
    """Largest |Δ| of the probability of the winning class."""
    max_logit_error: float | None
    """Largest |Δlogit| over the logits' standard deviation; None where the form shows no logits."""
    kept: bool
    """Within the limits of this file."""


def logits_of(segmenter: Segmenter, prepared: Prepared, device: str) -> NDArray[np.float32] | None:
    """[n, classes] of any engine that can show them, in rows of ``prepared``."""
    compiled = compiled_engine(segmenter)
    if compiled is not None:
        return compiled.network.logits(prepared.features, prepared.coords)
    engine = segmenter._engine
    if not isinstance(engine, VoxelwiseEngine):
        return None
    with torch.inference_mode():
        features = torch.from_numpy(prepared.features).to(device)
        logits: NDArray[np.float32] = (
            engine._logits(features, prepared.pyramid).float().cpu().numpy()
        )
    return logits


def compare(
    plain: Segmentation,
    other: Segmentation,
    plain_logits: NDArray[np.float32] | None,
    other_logits: NDArray[np.float32] | None,
    precision: str,
    trained: bool,
) -> Parity:
    """Judge one form on one scan."""
    equal = float((plain.labels == other.labels).mean()) if len(plain) else 1.0
    error = np.abs(plain.probability - other.probability).max(initial=0.0)
    logit_error = None
    if plain_logits is not None and other_logits is not None:
        with np.errstate(invalid="ignore"):
            delta = np.abs(plain_logits - other_logits).max(initial=0.0)
        logit_error = float(delta / max(float(plain_logits.std()), 1e-12))
    least = (EQUAL_LABELS if trained else EQUAL_LABELS_RANDOM)[precision]
    close = precision != "float32" or logit_error is None or logit_error <= MAX_LOGIT_ERROR
    return Parity(equal, float(error), logit_error, bool(equal >= least and close))
