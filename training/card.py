# SPDX-License-Identifier: Apache-2.0
"""The card of shipped weights: what they are, what they were measured to do, where they fail."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from pointdistill_ros.checkpoint import CheckpointMeta
from pointdistill_ros.evaluation.bags.reference import ROAD_HEIGHT
from pointdistill_ros.evaluation.confusion import ConfusionMatrix
from pointdistill_ros.evaluation.figures import Figures
from pointdistill_ros.protocols.labellers import DESCRIPTIONS
from training.licences import DataLicence, licence_text
from training.lineage import INITIAL
from training.validation import MAIN, summary

_WEAK, _CONFUSED = 0.2, 0.2

Results = Mapping[str, Mapping[str, Figures]]
"""Protocol (p1, p3) → part → figures."""


def card(
    name: str,
    sha256: str,
    size: int,
    meta: CheckpointMeta,
    results: Results,
    sources: Sequence[DataLicence],
    notes: str = "",
) -> str:
    """Markdown; ``size`` in bytes, ``notes`` is Markdown about how the run went."""
    return "\n".join(
        [
            f"# {name}",
            "",
            *_facts(sha256, size, meta),
            "",
            "## What it expects",
            "",
            *_expects(meta, sources),
            "",
            *([notes.strip(), ""] if notes.strip() else []),
            "## Figures",
            "",
            *_figures(results),
            "",
            "## Known failures",
            "",
            *_failures(next(iter(results.values()))),
            "",
            "## Licence",
            "",
            licence_text(list(sources)),
            "",
        ]
    )


def _facts(sha256: str, size: int, meta: CheckpointMeta) -> Iterator[str]:
    config = meta.config
    yield (
        f"Point Transformer V3, {len(meta.label_set)} classes of {meta.label_set.name}, grid "
        f"{meta.grid_size:g} m, patches of {config.patch_sizes[0]} voxels, xCPE mode "
        f"`{config.xcpe}`. {size / 1e6:.2f} MB in float16."
    )
    yield ""
    yield f"- sha256 `{sha256}`"
    for entry in meta.training.get("learned_from", ()):
        if entry.get("role") == INITIAL:
            yield f"- started from `{entry['model']}`, sha256 `{entry['sha256'][:12]}`"
    yield (
        f"- {meta.training.get('steps', '?')} optimiser steps, by `{_command(meta)}`; recipe in "
        "the header (`safetensors` metadata, key `pointdistill`)"
    )


def _command(meta: CheckpointMeta) -> str:
    return str(meta.training.get("command", "unknown command"))


def _expects(meta: CheckpointMeta, sources: Sequence[DataLicence]) -> Iterator[str]:
    sensors = list(dict.fromkeys(s.sensor for s in sources if s.sensor))
    config = meta.training.get("config", {})
    simulated = [
        lidar
        for source in config.get("sources", ())
        if source.get("kind") == "simulated"
        for lidar in source.get("lidars", ())
    ]
    seen = [*sensors, *(f"simulated {lidar}" for lidar in dict.fromkeys(simulated))]
    yield f"- sensors it was trained on: {', '.join(seen)}"
    augment = config.get("augment", {})
    moved = augment.get("height", 0.0)
    tilt = augment.get("tilt_degrees", 0.0)
    yield (
        f"- x forward, y left, z up, metres; the sensor {-ROAD_HEIGHT:g} m above the road "
        f"(training moved it by up to {moved:g} m and tilted it by up to {tilt:g}°); shift z where "
        "yours is mounted otherwise"
    )
    if not meta.intensity.used:
        yield "- no intensity: it was trained without, and that of your scans is not looked at"
        return
    if meta.intensity.missing is None:
        without = "it needs intensity"
    else:
        without = f"scans without intensity are fed {meta.intensity.missing:g}"
    yield (
        f"- intensity between {meta.intensity.low:.3f} and {meta.intensity.high:.3f} (5 and 95 % "
        f"of training), median {meta.intensity.median:.3f}; {without}"
    )


def _figures(results: Results) -> Iterator[str]:
    first = next(iter(results.values()))
    least = next(iter(first.values())).min_points
    for protocol in results:
        yield f"- {protocol.upper()}: {DESCRIPTIONS[protocol]}"  # type: ignore[index]
    yield ""
    yield (
        "Every raw point counts, in one matrix per part. mIoU: mean over the classes with at "
        f"least {least} points in that part."
    )
    yield ""
    heads = [f"{figure} {p.upper()}" for p in results for figure in ("accuracy", "mIoU")]
    yield f"| part | classes of | points | {' | '.join(heads)} |"
    yield "|---|---|---:|" + "---:|" * len(heads)
    for title, part in first.items():
        cells = [
            f"{value:.3f}"
            for parts in results.values()
            for value in (parts[title].accuracy, parts[title].miou)
        ]
        points = int(part.matrix.points().sum())
        yield f"| {title} | {part.label_set.name} | {points} | {' | '.join(cells)} |"
    sums = {protocol: summary(dict(parts)) for protocol, parts in results.items()}
    if all(sums.values()):
        yield ""
        yield f"| {MAIN} | " + " | ".join(p.upper() for p in sums) + " |"
        yield "|---|" + "---:|" * len(sums)
        for name in next(iter(sums.values())):
            if name not in first:
                yield f"| {name} | " + " | ".join(_cell(s.get(name)) for s in sums.values()) + " |"
    yield ""
    yield "IoU, and the number of points, per class (P1 / P3 …, in the order above):"
    yield ""
    yield "| class | " + " | ".join(first) + " |"
    yield "|---|" + "---:|" * len(first)
    for name in dict.fromkeys(n for part in first.values() for n in part.label_set.names):
        cells = [_class_cell(name, [parts[title] for parts in results.values()]) for title in first]
        if any(cells):
            yield f"| {name} | " + " | ".join(cells) + " |"


def _class_cell(name: str, parts: Sequence[Figures]) -> str:
    names = parts[0].label_set.names
    points = parts[0].matrix.points()
    if name not in names or not points[names.index(name)]:
        return ""
    i = names.index(name)
    ious = " / ".join(f"{part.matrix.iou()[i]:.3f}" for part in parts)
    return f"{ious} ({points[i]})"


def _failures(parts: Mapping[str, Figures]) -> Iterator[str]:
    """Classes that are hardly found and confusions of many points, part by part."""
    found = False
    for title, part in parts.items():
        names, matrix = part.label_set.names, part.matrix
        counted = matrix.present(part.min_points)
        weak = [f"{names[i]} ({matrix.iou()[i]:.2f})" for i in _low(matrix.iou(), counted)]
        confused = list(_confusions(matrix, counted, names))
        if weak:
            yield f"- {title}: hardly finds {', '.join(weak)}"
        if confused:
            yield f"- {title}: calls {'; '.join(confused)}"
        found = found or bool(weak or confused)
    if not found:
        yield f"- no class with an IoU below {_WEAK:g}, no confusion of {_CONFUSED:.0%} of a class"


def _low(iou: Any, counted: Any) -> list[int]:
    return [int(i) for i in np.argsort(iou) if counted[i] and iou[i] < _WEAK]


def _confusions(matrix: ConfusionMatrix, counted: Any, names: Sequence[str]) -> Iterator[str]:
    """The largest shares of a class that get one other name, at most five."""
    classes = matrix.num_classes
    shares = matrix.counts[:, :classes] / np.maximum(matrix.points(), 1)[:, None]
    shares[np.arange(classes), np.arange(classes)] = 0
    shares[~counted] = 0
    for cell in np.argsort(-shares, axis=None, kind="stable")[:5]:
        truth, other = np.unravel_index(cell, shares.shape)
        if shares[truth, other] >= _CONFUSED:
            yield f"{shares[truth, other]:.0%} of {names[truth]} {names[other]}"


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
