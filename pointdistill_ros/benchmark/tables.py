# SPDX-License-Identifier: Apache-2.0
"""A report as tables of text; what was not measured has none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pointdistill_ros.benchmark.report import RATIOS, Report, Row, ScanFacts
from pointdistill_ros.benchmark.subjects import PLAIN
from pointdistill_ros.benchmark.text_table import (
    DASH,
    TextTable,
    grouped,
    levels,
    number,
    times,
)
from pointdistill_ros.benchmark.timing import Spread


def tables(report: Report) -> list[TextTable]:
    """Everything that was measured."""
    found = [_ratios(report), *(_scan(report, scan) for scan in _scans(report))]
    found += [_breakdown(report), _pyramids(report), _roofline(report), _scaling(report)]
    found += [_busy(report), _missing(report), _machine(report)]
    return [table for table in found if table is not None and table.rows]


def _scans(report: Report) -> list[str]:
    return list(dict.fromkeys(row.scan for row in report.rows))


def _ratios(report: Report) -> TextTable | None:
    precisions = sorted({row.precision for row in report.rows if row.own}, reverse=True)
    groups: list[tuple[str, dict[str, float | None]]] = []
    for title, one_thread in ((", wall", False), (", 1-thread CPU", True)):
        groups.append((f"best{title}", report.ratios(one_thread=one_thread)))
        groups += [
            (f"{p}{title}", report.ratios(precision=p, one_thread=one_thread)) for p in precisions
        ]
    for scan in _scans(report):
        if scan != report.reference_scan:
            groups.append((f"best, wall, {scan}", report.ratios(scan)))
    names = [n for n in RATIOS if any(values[n] is not None for _, values in groups)]
    rows = [
        (title, *(times(values[name]) for name in names))
        for title, values in groups
        if any(value is not None for value in values.values())
    ]
    found = report.exponent()
    return TextTable(
        f"Times as fast as P1 on {report.reference_scan}",
        ("", *(name.replace("_", " ") for name in names)),
        tuple(rows),
        left=1,
        note="Medians. Only forms that keep parity count."
        + ("" if found is None else f" Scaling exponent in voxels: {number(found)}."),
    )


def _scan(report: Report, scan: str) -> TextTable:
    facts = [f for f in report.scans if f.scan == scan]
    points = facts[0].points if facts else 0
    rows = [
        (row.model, row.form, *_figures(report, row)) for row in report.rows if row.scan == scan
    ]
    return TextTable(
        f"{scan}: {grouped(points)} points",
        (
            "network",
            "engine",
            "n",
            "p50",
            "p90",
            "p99",
            "min",
            "CPU",
            "1-thread CPU",
            "peak MB",
            "labels =",
            "Δlogit/σ",
            "× P1",
        ),
        tuple(rows),
        note=_scan_note(report, scan),
    )


def _figures(report: Report, row: Row) -> Iterable[str]:
    wall, plain = row.wall, report.row(row.model, PLAIN.name, row.scan).wall
    yield from _spread(wall)
    yield number(row.one_thread.cpu if row.one_thread else None)
    yield number(row.peak_memory / 1e6 if row.peak_memory is not None else None)
    parity = row.parity
    if parity is None or row.form == PLAIN.name:
        yield from (DASH, DASH)
    else:
        yield f"{100 * parity.equal_labels:.2f} %{'' if parity.kept else ' (not kept)'}"
        yield DASH if parity.max_logit_error is None else f"{parity.max_logit_error:.1e}"
    yield times(plain.p50 / wall.p50 if plain and wall else None)


def _spread(wall: Spread | None) -> tuple[str, ...]:
    if wall is None:
        return (DASH,) * 6
    times = (wall.p50, wall.p90, wall.p99, wall.min, wall.cpu)
    return (str(wall.n), *(number(value) for value in times))


def _scan_note(report: Report, scan: str) -> str:
    notes = {
        f"{row.form}: no memory figure, {row.memory_note}."
        for row in report.rows
        if row.memory_note and row.scan == scan
    }
    return " ".join(sorted(notes))


def _breakdown(report: Report) -> TextTable | None:
    """Milliseconds of the parts, on the reference scan."""
    names = ("geometry", "stem", "convolution", "attention", "mlp", "pooling", "head", "points")
    rows = []
    for row in report.rows:
        if row.scan != report.reference_scan or not row.parts:
            continue
        parts = dict(row.parts)
        parts["geometry"] = parts.get("geometry", 0.0) + parts.get("voxels", 0.0)
        inside = [parts[name] for name in names[1:-1] if name in parts]
        network = parts.get("network", 0.0)
        rest = parts["total"] - parts["geometry"] - network - parts.get("points", 0.0)
        cells = [number(parts.get(name)) for name in names]
        cells.insert(7, number(network) if not inside else number(sum(inside)))
        rows.append((row.model, row.form, *cells, number(max(rest, 0.0)), number(parts["total"])))
    head = ("network", "engine", *names[:7], "network ms", "points", "rest", "total")
    return TextTable(
        f"Where the time goes on {report.reference_scan}",
        head,
        tuple(rows),
        note="Medians of the parts, milliseconds; `network ms` is stem to head, `points` the way "
        "back to every point, `rest` what Python adds.",
    )


def _pyramids(report: Report) -> TextTable:
    rows: list[tuple[str, ...]] = []
    for f in report.scans:
        shape = f"{f.grid:g} m, patch {report.models[f.model]['patch']}"
        rows.append(
            (
                f.scan,
                f"{f.model} ({shape})",
                levels(f.rows),
                levels(f.pairs),
                grouped(f.stem_pairs),
            )
        )
    head = ("scan", "seen by", "voxels per level", "3³ pairs per level", "5³ pairs")
    return TextTable("Voxels and pairs", head, _distinct(rows, report.scans))


def _distinct(
    rows: Sequence[tuple[str, ...]], facts: Sequence[ScanFacts]
) -> tuple[tuple[str, ...], ...]:
    """Networks of the same geometry share a row."""
    seen: dict[tuple[object, ...], list[str]] = {}
    for row, fact in zip(rows, facts, strict=True):
        key = (fact.scan, fact.grid, fact.rows, fact.pairs)
        if key in seen:
            seen[key][1] = f"{fact.model}, {seen[key][1]}"
        else:
            seen[key] = list(row)
    return tuple(tuple(row) for row in seen.values())


def _roofline(report: Report) -> TextTable | None:
    if not report.roofline:
        return None
    rows = [
        (
            f"{r.model} {r.form}",
            r.part,
            number(r.gflop),
            number(r.megabytes),
            number(r.milliseconds),
            number(r.gflop / r.milliseconds * 1e3) if r.milliseconds else DASH,
            f"{100 * r.share:.0f} %" if r.share is not None else DASH,
            number(r.limit),
        )
        for r in report.roofline
    ]
    flops = ", ".join(f"{n} {v / 1e9:.0f} GFLOP/s" for n, v in report.peaks["flops"].items())
    return TextTable(
        f"Roofline on {report.reference_scan}",
        ("network", "part", "GFLOP", "MB", "ms", "GFLOP/s", "of peak", "limit ms"),
        tuple(rows),
        note=f"Peaks of this machine with {report.machine['threads']}: {flops}, "
        f"{report.peaks['bandwidth'] / 1e9:.0f} GB/s ({report.peaks['method']}). The limit of a "
        "part is the larger of FLOP over peak and bytes over bandwidth; `total` is the sum, "
        "without geometry.",
    )


def _scaling(report: Report) -> TextTable | None:
    sizes = dict.fromkeys((p.points, p.voxels) for p in report.scaling)
    forms = dict.fromkeys(p.form for p in report.scaling)
    at = {(p.form, p.points): p for p in report.scaling}
    rows = []
    for points, voxels in sizes:
        cells = [grouped(points), grouped(voxels)]
        for form in forms:
            point = at.get((form, points))
            cells.append(f"{number(point.p50)} (n {point.n})" if point else DASH)
        rows.append(tuple(cells))
    exponents = report.exponents()
    if rows and exponents:
        rows.append(("exponent", "in voxels", *(number(exponents.get(f)) for f in forms)))
    return TextTable(
        f"Scaling of {next(iter(report.models))}",
        ("points", "voxels", *forms),
        tuple(rows),
        note="One simulated street, seen by lidars of ever more beams and columns. Medians; the "
        "exponent is the slope of log time over log voxels by least squares.",
    )


def _busy(report: Report) -> TextTable | None:
    rows = [
        (
            row.form,
            f"{row.idle.n} / {row.busy.n}",
            number(row.idle.p50),
            number(row.idle.p99),
            number(row.idle.p99 / row.idle.p50),
            number(row.busy.p50),
            number(row.busy.p99),
            number(row.busy.p99 / row.busy.p50),
        )
        for row in report.busy
    ]
    return TextTable(
        f"{next(iter(report.models))} beside one spinning process per core",
        (
            "engine",
            "n",
            "alone p50",
            "p99",
            "p99 / p50",
            "busy p50",
            "p99",
            "p99 / p50",
        ),
        tuple(rows),
        left=1,
    )


def _missing(report: Report) -> TextTable:
    reasons: dict[tuple[str, str], list[str]] = {}
    for missing in report.missing:
        reasons.setdefault((missing.form, missing.reason), []).append(missing.model)
    rows = tuple((form, ", ".join(models), why) for (form, why), models in reasons.items())
    return TextTable("Not measured here", ("engine", "network", "reason"), rows, left=3)


def _machine(report: Report) -> TextTable:
    facts = dict(report.machine)
    if report.load:
        by_section = ", ".join(
            f"{name} {100 * share:.0f} %"
            for name, share in report.load["others_by_section"].items()
        )
        facts["load average"] = (
            f"{report.load['before']:.2f} before, {report.load['after']:.2f} after; others used "
            f"{100 * report.load['others']:.0f} % of the cores' time meanwhile ({by_section})"
        )
    for name, model in report.models.items():
        facts[f"network {name}"] = (
            f"{grouped(model['parameters'])} parameters, {model['grid']:g} m, patch "
            f"{model['patch']}, {model['weights']} weights"
        )
    asked = report.options
    facts["asked for"] = (
        f"sections {', '.join(asked['sections'])}; {asked['warm_up']} warm-ups, "
        f"{asked['runs']} runs, {asked['minutes']:g} minutes"
    )
    details = dict.fromkeys(f"{row.form}: {row.detail}" for row in report.rows)
    facts["engines"] = "; ".join(details)
    return TextTable("Machine", ("", ""), tuple(facts.items()), left=2)
