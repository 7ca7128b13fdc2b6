# SPDX-License-Identifier: Apache-2.0
"""Judge a network on a split under several protocols, and picture its best and worst scans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pointdistill_ros import __version__
from pointdistill_ros.datasets.labelled import LabelledScans
from pointdistill_ros.errors import ConfigError
from pointdistill_ros.evaluation.figures import MIN_POINTS, Figures
from pointdistill_ros.evaluation.gallery import Exhibit, choose, exhibit
from pointdistill_ros.evaluation.progress import Bar
from pointdistill_ros.evaluation.result import Evaluation
from pointdistill_ros.evaluation.walk import Journal, Labeller, walk
from pointdistill_ros.labels import LabelSet
from pointdistill_ros.protocols.labellers import (
    DESCRIPTIONS,
    ProtocolName,
    WithoutIntensity,
    labeller,
)
from pointdistill_ros.segmenter import Segmenter


@dataclass(frozen=True)
class Options:
    """How to measure."""

    protocols: tuple[ProtocolName, ...] = ("p1",)
    dataset: str = "semantic-kitti"
    """Decides the views of P3."""
    intensity: bool = True
    """False: scans are stripped of it."""
    cell: float | None = None
    """Metres, sub-sample of P2 and P3; None = half a voxel."""
    min_points: int = MIN_POINTS
    """Classes with fewer true points enter no mean."""
    threads: int | None = None
    """CPU threads; None = all."""

    def __post_init__(self) -> None:
        if not self.protocols or len(set(self.protocols)) < len(self.protocols):
            raise ConfigError("name each protocol once, at least one")
        if self.min_points < 1:
            raise ConfigError(f"min_points must be ≥ 1, got {self.min_points}")

    def labeller(self, protocol: ProtocolName, segmenter: Segmenter) -> Labeller:
        """The segmenter under one of the protocols."""
        chosen = labeller(protocol, segmenter, self.dataset, threads=self.threads, cell=self.cell)
        return chosen if self.intensity else WithoutIntensity(chosen)


def judge(
    segmenter: Segmenter,
    scans: LabelledScans,
    label_set: LabelSet,
    options: Options,
    bar: Bar,
    folder: Path | None = None,
    measured: dict[str, Any] | None = None,
) -> dict[str, Figures]:
    """Figures by protocol (P1, P2, P3), judged in ``label_set``.

    folder: keeps the tally of every scan, so that the same measurement goes on after an
    interruption; ``measured`` says what beside the weights and options decides them.
    """
    figures = {}
    for protocol in options.protocols:
        journal = None
        if folder:
            what = {
                **(measured or {}),
                "protocol": protocol,
                "weights": segmenter.weights_sha256,
                "engine": segmenter.engine_detail,
                "label_set": label_set.name,
                "scans": len(scans),
                **{k: v for k, v in asdict(options).items() if k in ("intensity", "cell")},
            }
            journal = Journal(folder / f"scans-{protocol}.jsonl", what)
        title = protocol.upper()
        tallies = walk(
            options.labeller(protocol, segmenter),
            scans,
            label_set,
            journal=journal,
            on_scan=bar(title, len(scans)),
        )
        figures[title] = Figures(tallies, label_set, options.min_points)
    return figures


def evaluation_of(
    segmenter: Segmenter,
    figures: dict[str, Figures],
    data: dict[str, Any],
    options: Options,
    command: str = "",
) -> Evaluation:
    """The figures with everything a reader must know about them."""
    weights = {
        "name": segmenter.model_id,
        "sha256": segmenter.weights_sha256,
        "parameters": segmenter.num_parameters,
        "grid_size": segmenter.meta.grid_size,
        "engine": f"{segmenter.engine}: {segmenter.engine_detail}",
        "version": __version__,
    }
    descriptions = {p.upper(): DESCRIPTIONS[p] for p in options.protocols}
    notes = []
    if options.cell is not None:
        notes.append(f"P2 and P3 thin the points to {options.cell:g} m first.")
    if not options.intensity:
        notes.append("The scans were stripped of their intensity.")
    if next(iter(figures.values())).label_set.name != segmenter.label_set.name:
        notes.append(
            "Judged in other classes than the network's own; a point's probability is that of the "
            "network's class, which is less than that of the folded one."
        )
    return Evaluation(weights, data, figures, descriptions, command, tuple(notes))


def exhibits(
    labeller: Labeller, scans: LabelledScans, figures: Figures, bar: Bar
) -> Sequence[Exhibit]:
    """Pictures of the best and worst scans of ``figures``, labelled once more."""
    label_set = figures.label_set
    truth_table = scans.label_set.remap_to(label_set)
    table = labeller.label_set.remap_to(label_set)
    shown = []
    chosen = choose(figures.tallies)
    done = bar("pictures", len(chosen))
    for i, verdict in chosen.items():
        scan, truth = scans[i]
        labels = table[labeller(scan).labels]
        shown.append(
            exhibit(scan.xyz, labels, truth_table[truth], label_set, figures.tallies[i], verdict)
        )
        done(len(shown))
    return shown
