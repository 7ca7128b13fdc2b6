# SPDX-License-Identifier: Apache-2.0
"""Scans labelled one after the other and shown as they come."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.cli.view_input import ViewFrame, ViewInput, named
from pointdistill_ros.evaluation.rerun_scene import Layout, Scene
from pointdistill_ros.evaluation.walk import shared_label_set
from pointdistill_ros.labels import UNLABELLED, LabelSet

if TYPE_CHECKING:
    from pointdistill_ros.evaluation.progress import Bar
    from pointdistill_ros.segmentation import Segmentation
    from pointdistill_ros.segmenter import Segmenter

STUDENT, LABELS = "student", "labels"
LATENCY, PROBABILITY = "latency_ms", "probability"


class Viewed:
    """An input and the networks that label it, ``student`` among them, or none."""

    def __init__(self, title: str, found: ViewInput, networks: Mapping[str, Segmenter]) -> None:
        """Raises LabelError where labels cannot be compared."""
        self._title, self._found, self._networks = title, found, networks
        self._sets: dict[str, LabelSet] = {n: net.label_set for n, net in networks.items()}
        if found.label_set is not None:
            self._sets[LABELS] = found.label_set
        self._judged = {
            name: shared_label_set(self._sets[STUDENT], label_set)
            for name, label_set in self._sets.items()
            if STUDENT in networks and name != STUDENT
        }

    def _layout(self) -> Layout:
        differences = {f"not_{name}": f"{STUDENT} ≠ {name}" for name in self._judged}
        figures = [f"agreement_{name}" for name in self._judged]
        if self._networks:
            figures = [LATENCY, PROBABILITY, *figures]
        return Layout(self._title, self._sets, differences, figures)

    def show(self, save: Path | None, web: bool, limit: int | None, bar: Bar) -> None:
        """Into a file, a browser until Ctrl-C, or a window. Raises InputError, LabelError."""
        scene = Scene(self._layout())
        total = min(len(self._found), limit or len(self._found))
        with self._way_out(scene, save, web):
            done = bar("view", total)
            for number, frame in enumerate(self._found.frames(limit)):
                with named(frame.name):
                    self._log(scene, number, frame)
                done(number + 1)

    @contextmanager
    def _way_out(self, scene: Scene, save: Path | None, web: bool) -> Iterator[None]:
        if save is not None:
            with scene.file(save):
                yield
        elif not web:
            with scene.window():
                yield
        else:
            with scene.browser() as address:
                print(f"{address} (Ctrl-C ends it)", flush=True)
                try:
                    yield
                    threading.Event().wait()
                except KeyboardInterrupt:
                    print()

    def _log(self, scene: Scene, number: int, frame: ViewFrame) -> None:
        """Label a scan and show what came out."""
        results = {name: network(frame.seen) for name, network in self._networks.items()}
        labels: dict[str, NDArray[np.uint8] | None] = {n: r.labels for n, r in results.items()}
        if LABELS in self._sets:
            labels[LABELS] = frame.labels
        xyz = frame.scan.xyz
        scene.at(number, frame.scan.stamp_ns)
        for name, ids in labels.items():
            scene.labels(name, xyz, ids)
        for name, judged in self._judged.items():
            mine, theirs = labels[STUDENT], labels[name]
            if mine is None or theirs is None:
                scene.difference(f"not_{name}", xyz, None)
                continue
            mine = self._sets[STUDENT].remap_to(judged)[mine]
            theirs = self._sets[name].remap_to(judged)[theirs]
            known = theirs != UNLABELLED
            scene.difference(f"not_{name}", xyz, known & (mine != theirs))
            if known.any():
                share = float((mine == theirs)[known].mean())
                scene.figure(f"agreement_{name}", share)
        if results:
            _figures(scene, results[STUDENT])


def _figures(scene: Scene, student: Segmentation) -> None:
    scene.figure(LATENCY, student.timing.get("total"))
    labelled = student.labels != UNLABELLED
    if labelled.any():
        scene.figure(PROBABILITY, float(student.probability[labelled].mean(dtype=np.float64)))
