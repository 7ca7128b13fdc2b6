# SPDX-License-Identifier: Apache-2.0
"""The report of a search: report.md for people, report.json with every number, a picture."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pointdistill_ros.io.atomic import atomic_path
from training.architecture.plot import save_plot
from training.architecture.search import Result

NONE = "–"


def write_report(result: Result, facts: Mapping[str, str], out: Path) -> None:
    """Write report.md, report.json and, once something is scored, report.png and .svg."""
    with atomic_path(out / "report.json") as temporary:
        temporary.write_text(json.dumps(as_json(result, facts), indent=1) + "\n")
    drawn = save_plot(result, [out / "report.png", out / "report.svg"])
    with atomic_path(out / "report.md") as temporary:
        temporary.write_text(as_markdown(result, facts, "report.png" if drawn else None))


def as_json(result: Result, facts: Mapping[str, str]) -> dict[str, Any]:
    """Everything as plain data; scores are shares 0..1."""
    return {
        "facts": dict(facts),
        "reference": result.reference,
        "front": result.front,
        "winner": result.winner,
        "candidates": [
            {
                **candidate.to_plain(),
                "latency": asdict(result.latencies[name]),
                "scores": [
                    asdict(rung.scores[name]) if name in rung.scores else None
                    for rung in result.rungs
                ],
            }
            for name, candidate in result.candidates.items()
        ],
        "rungs": [
            {
                "steps": rung.steps,
                "rank_correlation": rung.correlation,
                "missing": dict(rung.missing),
            }
            for rung in result.rungs
        ],
    }


def as_markdown(result: Result, facts: Mapping[str, str], picture: str | None = None) -> str:
    """Tables and what they mean."""
    lines = ["# Search for a shape", ""]
    lines += [f"- {name}: {value}" for name, value in facts.items() if value]
    lines += [
        "",
        f"Latency is CPU time with one thread over that of `{result.reference}`, both measured in "
        "turns. A score is the mean of the mIoUs named; every rung trains from new weights, so "
        "scores of different rungs are not comparable.",
        "",
        *([f"![mIoU over latency, Pareto fronts as lines]({picture})", ""] if picture else []),
        *_front(result),
        *_all(result),
        *_rungs(result),
    ]
    return "\n".join(lines) + "\n"


def _front(result: Result) -> Iterator[str]:
    if not result.front:
        return
    steps = result.rungs[-1].steps
    yield f"## Pareto front after {steps} steps"
    yield ""
    names = list(dict.fromkeys(n for s in result.rungs[-1].scores.values() for n in s.figures))
    yield f"| shape | latency | parameters | score | {' | '.join(names)} | layout |"
    yield "|---|---|---|---|" + "---|" * len(names) + "---|"
    for name in dict.fromkeys([*result.front, result.reference]):
        score = result.rungs[-1].scores.get(name)
        if score is None:
            continue
        candidate, latency = result.candidates[name], result.latencies[name]
        mark = "" if name in result.front else " (not on the front)"
        figures = " | ".join(_share(score.figures.get(n)) for n in names)
        yield (
            f"| {name}{mark} | {latency.ratio:.3f} | {candidate.parameters:,} | "
            f"{_share(score.value)} | {figures} | {candidate.describe()} |"
        )
    yield ""
    if result.winner:
        ratio = result.latencies[result.winner].ratio
        yield (
            f"**{result.winner}** is the fastest that scores at least what {result.reference} "
            f"does: {1 / ratio:.1f} times as fast. One seed; confirm it with several."
        )
    else:
        yield f"No faster shape scores what {result.reference} does."
    yield ""


def _all(result: Result) -> Iterator[str]:
    yield "## Every shape timed"
    yield ""
    steps = [f"after {rung.steps}" for rung in result.rungs]
    yield "| " + " | ".join(["shape", "latency", "ms", "voxels", "parameters", *steps]) + " |"
    yield "|---" * (5 + len(steps)) + "|"
    for name in sorted(result.candidates, key=lambda n: result.latencies[n].ratio):
        latency = result.latencies[name]
        scores = [
            _share(rung.scores[name].value if name in rung.scores else None)
            for rung in result.rungs
        ]
        row = [name, f"{latency.ratio:.3f}", f"{latency.cpu_ms:.0f}", f"{latency.voxels:,}"]
        row += [f"{result.candidates[name].parameters:,}", *scores]
        yield "| " + " | ".join(row) + " |"
    yield ""


def _rungs(result: Result) -> Iterator[str]:
    for before, rung in zip(result.rungs, result.rungs[1:], strict=False):
        if rung.correlation is not None:
            yield (
                f"Rank correlation of the scores after {before.steps} and {rung.steps} steps: "
                f"{rung.correlation:.2f}."
            )
    for rung in result.rungs:
        for name, why in rung.missing.items():
            yield f"- {name}, {rung.steps} steps: {why}"


def _share(value: float | None) -> str:
    return NONE if value is None else f"{100 * value:.1f}"
