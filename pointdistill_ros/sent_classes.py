# SPDX-License-Identifier: Apache-2.0
"""SentClasses: the classes that go out, the network's own or those of another label set.

A point whose class has no counterpart there is unlabelled. Probability and entropy stay those of
the network's class: of a class merged from several the probability is a lower bound.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.errors import LabelError
from pointdistill_ros.labels import UNLABELLED, LabelSet
from pointdistill_ros.segmentation import Segmentation


class SentClasses:
    """``name``: ``model``, or a label set to which that of the network has a remap."""

    def __init__(self, network: LabelSet, name: str = "model") -> None:
        """Raises LabelError where there is no such label set or no remap to it."""
        self.label_set = network
        self._table: NDArray[np.uint8] | None = None
        if name not in ("model", network.name):
            self.label_set = LabelSet.named(name)
            self._table = network.remap_to(self.label_set)

    def __call__(self, segmentation: Segmentation) -> Segmentation:
        """The segmentation in these classes."""
        if self._table is None:
            return segmentation
        labels = self._table[segmentation.labels]
        known = labels != UNLABELLED
        return replace(
            segmentation,
            labels=labels,
            probability=np.where(known, segmentation.probability, np.float32(0)),
            entropy=np.where(known, segmentation.entropy, np.float32(0)),
            label_set=self.label_set,
        )

    def members(self, names: Iterable[str]) -> NDArray[np.bool_]:
        """Table [256] that is true for the ids of these classes.

        Raises LabelError naming a class that the label set does not have, and what it has.
        """
        members = np.zeros(256, np.bool_)
        for name in names:
            if name not in self.label_set.names:
                known = ", ".join(self.label_set.names)
                raise LabelError(
                    f"label set {self.label_set.name} has no class {name!r}; known: {known}"
                )
            members[self.label_set.index(name)] = True
        return members
