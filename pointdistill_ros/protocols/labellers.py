# SPDX-License-Identifier: Apache-2.0
"""The three protocols of published figures.

- P1: one pass, one point stands for a voxel, the others take its class: what a robot runs
- P2: one view, the points thinned to half a voxel, all fragments; their softmaxes are summed
- P3: the same over all views of the data set
P2 and P3 need many passes per scan and are for tables, not for driving.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, get_args

import numpy as np

from pointdistill_ros.errors import ConfigError
from pointdistill_ros.evaluation.walk import Labeller
from pointdistill_ros.labels import UNLABELLED, LabelSet
from pointdistill_ros.model.voxels import voxelise
from pointdistill_ros.protocols.fragments import fragments, sub_sample
from pointdistill_ros.protocols.softmax import VoxelSoftmax, voxel_softmax
from pointdistill_ros.protocols.views import PLAIN, View, views_for
from pointdistill_ros.scan import LidarScan
from pointdistill_ros.segmentation import Segmentation
from pointdistill_ros.segmenter import Segmenter

ProtocolName = Literal["p1", "p2", "p3"]
PROTOCOLS: tuple[ProtocolName, ...] = get_args(ProtocolName)
DESCRIPTIONS: dict[ProtocolName, str] = {
    "p1": "one pass; one point stands for a voxel, the others take its class",
    "p2": "one view; points thinned to half a voxel; the softmaxes of all fragments are summed",
    "p3": "P2 over all views: ten scales and flips for nuScenes, else four quarter turns",
}


class ManyPasses:
    """Scan → segmentation by the sum of softmaxes over views and fragments."""

    def __init__(
        self,
        segmenter: Segmenter,
        softmax: VoxelSoftmax,
        views: Sequence[View] = PLAIN,
        cell: float | None = None,
    ) -> None:
        """cell: edge in metres to which points are thinned first; default half a voxel."""
        self.segmenter, self.softmax, self.views = segmenter, softmax, tuple(views)
        self.cell = segmenter.meta.grid_size / 2 if cell is None else cell
        if self.cell <= 0:
            raise ConfigError(f"cells of the sub-sample must be above 0 m, got {self.cell:g}")

    @property
    def label_set(self) -> LabelSet:
        """Meaning of the labels."""
        return self.segmenter.label_set

    def __call__(self, scan: LidarScan) -> Segmentation:
        """Points that are not finite or out of reach in any view get 255."""
        meta = self.segmenter.meta
        reach = self.segmenter.max_range / max(1.0, *(view.scale for view in self.views))
        reach -= self.cell  # a thinned coordinate may lie a little further out
        valid = (np.abs(scan.xyz) <= reach).all(axis=1)
        labels = np.full(len(scan), UNLABELLED, np.uint8)
        probability, entropy = np.zeros((2, len(scan)), np.float32)
        if not valid.any():
            return Segmentation(labels, probability, entropy, self.label_set)
        xyz, intensity = scan.xyz[valid], self.segmenter.intensity(scan)[valid]
        point, inverse = sub_sample(xyz, intensity, self.cell)
        xyz, intensity = xyz[point], intensity[point]

        votes = np.zeros((len(xyz), len(self.label_set)), np.float32)  # [n, C] summed softmax
        rows = 0
        for view in self.views:
            seen = view.apply(xyz)
            voxels = voxelise(seen, meta.grid_size)
            forward = self.softmax.prepare(voxels.coords)
            for chosen in fragments(voxels):  # every point once per voxel: no collisions
                votes[chosen] += forward(np.column_stack([seen[chosen], intensity[chosen]]))
                rows += len(chosen)

        votes /= votes.sum(axis=1, keepdims=True)
        spread = -(votes * np.log(np.maximum(votes, 1e-12))).sum(axis=1)
        labels[valid] = votes.argmax(axis=1).astype(np.uint8)[inverse]
        probability[valid] = votes.max(axis=1)[inverse]
        entropy[valid] = (spread / np.log(max(2, votes.shape[1]))).clip(0, 1)[inverse]
        return Segmentation(labels, probability, entropy, self.label_set, voxels=rows)


class WithoutIntensity:
    """A labeller that is told no intensities, as by a lidar that measures none."""

    def __init__(self, labeller: Labeller) -> None:
        self._labeller = labeller

    @property
    def label_set(self) -> LabelSet:
        """Meaning of the labels."""
        return self._labeller.label_set

    def __call__(self, scan: LidarScan) -> Segmentation:
        """The labels of the bare points."""
        return self._labeller(replace(scan, intensity=None))


def labeller(
    protocol: ProtocolName,
    segmenter: Segmenter,
    dataset: str,
    *,
    threads: int | None = None,
    cell: float | None = None,
) -> Labeller:
    """A segmenter under a protocol; ``dataset`` decides the views. Raises ConfigError."""
    match protocol:
        case "p1":
            return segmenter
        case "p2":
            return ManyPasses(segmenter, voxel_softmax(segmenter, threads), PLAIN, cell)
        case "p3":
            views = views_for(dataset)
            return ManyPasses(segmenter, voxel_softmax(segmenter, threads), views, cell)
        case _:
            raise ConfigError(f"unknown protocol {protocol!r}; known: {', '.join(PROTOCOLS)}")
