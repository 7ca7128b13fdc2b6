# SPDX-License-Identifier: Apache-2.0
"""pointdistill benchmark: how fast every engine is here, and whether its labels are the same."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pointdistill_ros.errors import ConfigError, InputError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from pointdistill_ros.benchmark.report import Report
    from pointdistill_ros.benchmark.run import Options

_WIDTH = 132


def benchmark(
    scans: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Scans to measure on: files, folders, KITTI sequence folders, bags. Default: a "
            "64-beam and a 32-beam scan of a simulated street.",
            show_default=False,
        ),
    ] = None,
    models: Annotated[
        str,
        typer.Option(
            help="Networks, comma-separated: student and teacher (the paper's shapes, random "
            "weights) or other shapes of config/models/, shipped (the trained student), or "
            ".safetensors files."
        ),
    ] = "student,teacher,shipped",
    engines: Annotated[
        str,
        typer.Option(
            help="Engines, comma-separated: native, native-bf16, cuda, cuda-bf16, cuda-fp16, "
            "onnxruntime, openvino. torch, the plain form (P1), is always among them; what cannot "
            "run here is listed with the reason."
        ),
    ] = "all",
    only: Annotated[
        str,
        typer.Option(
            help="Sections, comma-separated: parity, timing, one-thread, memory, roofline, "
            "scaling, busy."
        ),
    ] = "all",
    runs: Annotated[int, typer.Option(min=1, help="Timed runs of each.")] = 50,
    warm_up: Annotated[int, typer.Option(min=0, help="Untimed runs before.")] = 5,
    minutes: Annotated[
        float,
        typer.Option(
            help="About how long it may take. Where that is too short for all runs, slow engines "
            "run fewer times; the column n says how often."
        ),
    ] = 30.0,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads; default: all usable cores.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 …")] = "cpu",
    take: Annotated[
        int, typer.Option(min=1, help="Scans from each folder or bag, evenly spread.")
    ] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Of the random weights.")] = 0,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write every figure to this file.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw times, parts and scaling: NAME.png or NAME.svg.")
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option(help="Write the tables as a page, as docs/performance.md.")
    ] = None,
    baseline: Annotated[
        Path | None,
        typer.Option(help="An earlier --json file; exit with 1 where a ratio became worse."),
    ] = None,
    max_slowdown: Annotated[
        float, typer.Option(min=0.0, max=100.0, help="Per cent a ratio may fall below --baseline.")
    ] = 10.0,
) -> None:
    """Measure all engines in turns, on the same scans, with the labels compared.

    Every ratio is against P1, the plain network in torch, measured in the same run: compare ratios
    between machines and days, not milliseconds. On a machine that others use, too, trust the column
    "1-thread CPU". Examples:

    pointdistill benchmark                               everything, about half an hour

    pointdistill benchmark --only parity,timing --models student --runs 10     a minute or two

    pointdistill benchmark scan.bin --json now.json --baseline before.json     a gate for CI
    """
    from rich.console import Console

    from pointdistill_ros.benchmark.baseline import read_baseline
    from pointdistill_ros.benchmark.page import markdown as page
    from pointdistill_ros.benchmark.plot import check_plot_path, save_plot
    from pointdistill_ros.benchmark.run import SECTIONS, Options
    from pointdistill_ros.benchmark.subjects import FORMS, forms_named

    # everything that can be refused is refused before anything is measured
    before = read_baseline(baseline) if baseline else None
    if plot:
        check_plot_path(plot)
    for path in (json_file, plot, markdown):
        if path is not None and path.is_dir():
            raise InputError(f"{path}: is a folder; name the file to write")
    _check_device(device)
    names = [form.name for form in FORMS] if engines == "all" else _split(engines)
    options = Options(
        models=tuple(_split(models)),
        forms=tuple(forms_named(names)),
        sections=SECTIONS if only == "all" else tuple(_split(only)),
        runs=runs,
        warm_up=warm_up,
        minutes=minutes,
        threads=threads,
        device=device,
        seed=seed,
    )
    report = _measure(options, scans or [], take)
    if json_file:
        report.save(json_file)
    if plot:
        save_plot(report, plot)
    if markdown:
        _write(markdown, page(report, _relative(plot, markdown)))
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    _print(console, report)
    if before is not None and not _gate(console, report, before, max_slowdown):
        raise typer.Exit(1)


def _measure(options: Options, paths: list[Path], take: int) -> Report:
    from pointdistill_ros.benchmark.run import run_benchmark
    from pointdistill_ros.benchmark.scans import Street, given_scans

    with _Bar() as bar:
        bar.begin("reading scans" if paths else "simulating scans")
        scans = given_scans(paths, take) if paths else Street().usual_scans()
        return run_benchmark(options, scans, bar)


class _Bar:
    """Progress on stderr, drawn between the runs only: a drawing thread would be measured, too."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        console = Console(stderr=True)
        self._progress: Progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            auto_refresh=False,
            disable=not console.is_terminal,
        )
        self._task: TaskID = self._progress.add_task("", total=None)

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def begin(self, title: str, seconds: float = 0.0) -> None:
        """See ``Progress`` of the benchmark."""
        self._progress.remove_task(self._task)
        self._task = self._progress.add_task(title, total=seconds or None)
        self._progress.refresh()

    def advance(self, seconds: float) -> None:
        """See ``Progress`` of the benchmark."""
        self._progress.advance(self._task, seconds)
        self._progress.refresh()


def _print(console: Console, report: Report) -> None:
    from rich.table import Table

    from pointdistill_ros.benchmark.tables import tables

    for text in tables(report):
        table = Table(title=text.title, title_justify="left", caption=text.note or None)
        table.caption_justify = "left"
        table.show_header = any(text.head)
        for i, head in enumerate(text.head):
            is_number = i >= text.left
            table.add_column(
                head,
                justify="right" if is_number else "left",
                overflow="fold",
                no_wrap=is_number or head in ("network", "engine", "part"),
            )
        for row in text.rows:
            table.add_row(*row)
        console.print(table, highlight=False, markup=False)
        console.print()


def _gate(console: Console, report: Report, before: dict[str, object], max_slowdown: float) -> bool:
    """Say which ratios became worse than the baseline; True where none did."""
    from pointdistill_ros.benchmark.baseline import gate_group, regressions

    now = report.to_dict()
    group = gate_group(now, before)
    worse = list(regressions(now, before, max_slowdown, group))
    for regression in worse:
        console.print(f"[bold red]worse:[/] {regression}", highlight=False)
    if not worse:
        console.print(
            f"[green]{group}: none fell by more than {max_slowdown:g} %[/]", highlight=False
        )
    return not worse


def _check_device(device: str) -> None:
    import torch

    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"device {device!r} cannot be used: {reason}") from error


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _relative(plot: Path | None, page: Path) -> str | None:
    """The plot as the page links to it."""
    return None if plot is None else os.path.relpath(plot, page.parent)


def _write(path: Path, text: str) -> None:
    from pointdistill_ros.io.atomic import atomic_path

    with atomic_path(path) as temporary:
        temporary.write_text(text)
