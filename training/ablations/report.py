# SPDX-License-Identifier: Apache-2.0
"""The report of an ablation: report.md for people, report.json with every number."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pointdistill_ros.evaluation.bootstrap import MIN_SCENES
from pointdistill_ros.io.atomic import atomic_path
from pointdistill_ros.protocols.labellers import DESCRIPTIONS, ProtocolName
from training.ablations.intervals import MIN_SEEDS, Interval, most_coverage
from training.ablations.measure import MAIN_FIGURE, SIMULATED
from training.ablations.plot import save_plot
from training.ablations.table import Difference, Results, RowResult, Spread

NONE = "–"


@dataclass(frozen=True)
class Facts:
    """What the figures were made with."""

    title: str
    command: str
    revision: str
    budget: str
    """Of every run, for people."""
    drives: int
    """Unseen simulated streets."""


def write_report(results: Results, facts: Facts, out: Path) -> None:
    """Write report.md, report.json and, where there is something to draw, report.png and .svg."""
    with atomic_path(out / "report.json") as temporary:
        temporary.write_text(json.dumps(as_json(results, facts), indent=1) + "\n")
    drawn = save_plot(results, facts.title, [out / "report.png", out / "report.svg"])
    with atomic_path(out / "report.md") as temporary:
        temporary.write_text(as_markdown(results, facts, "report.png" if drawn else None))


def as_json(results: Results, facts: Facts) -> dict[str, Any]:
    """Everything as plain data; figures are shares 0..1, rounded to six digits."""
    plain: dict[str, Any] = {"facts": asdict(facts), **asdict(results)}
    plain["rows"] = [asdict(row) for row in results.rows]
    plain["interval_over_seeds_covers_at_most"] = most_coverage(len(results.seeds))
    rounded: dict[str, Any] = _rounded(plain)
    return rounded


def as_markdown(results: Results, facts: Facts, picture: str | None = None) -> str:
    """Tables and what they mean."""
    lines = [f"# Ablation: {facts.title}", "", f"    {facts.command}", ""]
    lines += [
        f"Revision {facts.revision or 'unknown'}. Every run: {facts.budget}. Seeds "
        f"{', '.join(map(str, results.seeds))}; rows with the same seed share initial weights, "
        "data order and augmentation.",
        "",
    ]
    if picture:
        lines += [f"![Differences and costs]({picture})", ""]
    lines += list(_rows(results))
    for protocol in results.protocols:
        lines += list(_figures(results, protocol))
        lines += list(_differences(results, protocol))
        lines += list(_streets(results, protocol))
    lines += [*_costs(results), *_missing(results), *_meaning(results, facts)]
    return "\n".join(lines) + "\n"


def _rows(results: Results) -> Iterator[str]:
    noted = [(r.row.name, r.row.against or NONE, r.row.note) for r in results.rows]
    yield from _table(["row", "compared with", "what it is"], noted)


def _figures(results: Results, protocol: ProtocolName) -> Iterator[str]:
    """Mean ± deviation of every figure."""
    names = _names(results, protocol)
    yield from (f"## Figures, {protocol.upper()}", "")
    if not names:
        yield from ("Nothing measured yet.", "")
        return
    yield f"{protocol.upper()}: {DESCRIPTIONS[protocol]}. In %, mean ± standard deviation over the"
    yield f"seeds. {MAIN_FIGURE.capitalize()}: mean of the mIoUs of SemanticKITTI 07 and 10;"
    yield "accuracy: mean of their accuracies; else mIoU, of the classes with enough points."
    yield ""
    rows = [
        [r.row.name, str(_seeds(r, protocol)), *(_share(r.figures[protocol].get(n)) for n in names)]
        for r in results.rows
    ]
    yield from _table(["row", "seeds", *names], rows)


def _differences(results: Results, protocol: str) -> Iterator[str]:
    """Paired differences with the interval over seeds."""
    found = [r for r in results.rows if r.differences[protocol]]
    if not found:
        return
    names = _names(results, protocol)
    yield from (f"## Paired differences, {protocol.upper()}", "")
    yield "Points, row minus the row compared with, seed by seed: mean [95 % by bootstrap over"
    yield f"seeds]. Last column: {_main(names)}, Student's t."
    yield ""
    rows = []
    for r in found:
        cells = [_difference(r.differences[protocol].get(n)) for n in names]
        main = r.differences[protocol].get(_main(names))
        t = _points(main.t_interval) if main else NONE
        count = max(len(d.spread.values) for d in r.differences[protocol].values())
        rows.append([f"{r.row.name} − {r.row.against}", str(count), *cells, t])
    yield from _table(["rows", "seeds", *names, "95 % by t"], rows)


def _streets(results: Results, protocol: str) -> Iterator[str]:
    """The simulated streets, of which there are many."""
    found = [(r, d) for r in results.rows if (d := r.differences[protocol].get(SIMULATED))]
    if not found:
        return
    streets = found[0][1].streets
    yield from (f"## Simulated streets, {protocol.upper()}: {streets} streets", "")
    yield from ("Points of mIoU; 95 % intervals by what was drawn anew.", "")
    rows = [
        [
            f"{r.row.name} − {r.row.against}",
            _signed(d.spread.mean),
            _points(d.over_streets),
            _points(d.over_seeds_and_streets),
        ]
        for r, d in found
    ]
    yield from _table(["rows", "difference", "streets", "seeds and streets"], rows)


def _costs(results: Results) -> Iterator[str]:
    """Seconds per step."""
    yield from ("## Cost of a step", "")
    yield "Wall seconds per optimiser step, mean ± standard deviation over the seeds, checkpoints"
    yield "left out. Ratios mean something where runs had the machine alike."
    yield ""
    rows = [
        [
            r.row.name,
            _plus_minus(r.step_seconds, 1, 3),
            f"{_plus_minus(r.step_ratio, 1, 2)} × {r.row.against}" if r.step_ratio else NONE,
        ]
        for r in results.rows
    ]
    yield from _table(["row", "seconds", "ratio"], rows)


def _missing(results: Results) -> Iterator[str]:
    """What the tables lack."""
    yield from ("## What is missing", "")
    if not results.missing:
        yield from ("Nothing: every row has every seed.", "")
        return
    yield from (f"- {name}: {reason}" for name, reason in results.missing.items())
    yield from ("", "The same command goes on with these.", "")


def _meaning(results: Results, facts: Facts) -> Iterator[str]:
    """What the intervals cover."""
    n = len(results.seeds)
    yield from ("## What the intervals cover", "")
    if n < MIN_SEEDS:
        yield f"- Over seeds: {n} seeds; below {MIN_SEEDS} no interval can be given."
    else:
        yield (
            "- Over seeds: other initial weights and data orders, the same training data and the "
            f"same validation scans. A bootstrap never leaves the range of the {n} differences and "
            f"covers the true mean with at most {100 * most_coverage(n):.3g} %; Student's t covers "
            "95 % where differences are normally distributed. A row with fewer seeds in common "
            f"than {MIN_SEEDS} has none."
        )
    yield "- No interval covers other real places: the real scans show too few."
    if facts.drives >= MIN_SCENES:
        yield (
            "- Over streets: other streets of the simulator, the same for both rows; the networks "
            "stay. Over seeds and streets: both are drawn; with few seeds it is as narrow as the "
            "bootstrap over seeds."
        )
    elif facts.drives:
        yield f"- Over streets: {facts.drives} streets; below {MIN_SCENES} there is no interval."
    yield (
        "- Each interval is for one comparison. Among many, one in twenty lies beside its true "
        "value by chance alone."
    )


def _names(results: Results, protocol: str) -> list[str]:
    """Figures that any row has, in order."""
    return list(dict.fromkeys(n for r in results.rows for n in r.figures[protocol]))


def _main(names: Sequence[str]) -> str:
    """What rows are judged by."""
    return MAIN_FIGURE if MAIN_FIGURE in names else SIMULATED


def _seeds(row: RowResult, protocol: str) -> int:
    return max((len(spread.values) for spread in row.figures[protocol].values()), default=0)


def _share(spread: Spread | None) -> str:
    return _plus_minus(spread, 100, 2)


def _plus_minus(spread: Spread | None, unit: float, digits: int) -> str:
    if spread is None:
        return NONE
    mean = f"{unit * spread.mean:.{digits}f}"
    return mean if spread.std is None else f"{mean} ± {unit * spread.std:.{digits}f}"


def _difference(difference: Difference | None) -> str:
    if difference is None:
        return NONE
    return f"{_signed(difference.spread.mean)} {_points(difference.interval)}".removesuffix(
        f" {NONE}"
    )


def _signed(share: float) -> str:
    return f"{round(100 * share, 2) + 0.0:+.2f}"  # no −0.00


def _points(interval: Interval | None) -> str:
    return NONE if interval is None else f"[{_signed(interval[0])}, {_signed(interval[1])}]"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    yield from (f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows)
    yield ""


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {str(k): _rounded(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(v) for v in value]
    return value
