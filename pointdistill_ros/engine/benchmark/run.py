# SPDX-License-Identifier: Apache-2.0
"""The benchmark, section after section. Each takes its share of the time that is left.

Everything that is timed in one section is timed in turns (``timing.py``), on the same scans.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch

from pointdistill_ros.engine.benchmark import parity as parity_of
from pointdistill_ros.engine.benchmark.busy import busy_machine
from pointdistill_ros.engine.benchmark.machine import describe_machine, read_load, used_by_others
from pointdistill_ros.engine.benchmark.memory import Memory, peak_memory
from pointdistill_ros.engine.benchmark.peaks import measure_peaks
from pointdistill_ros.engine.benchmark.report import (
    BusyRow,
    Missing,
    Report,
    RooflineRow,
    Row,
    ScalingPoint,
    ScanFacts,
)
from pointdistill_ros.engine.benchmark.roofline import Geometry, Peaks, count, limit_seconds, total
from pointdistill_ros.engine.benchmark.scans import NamedScan, reference, scaling_scans
from pointdistill_ros.engine.benchmark.subjects import (
    PLAIN,
    Form,
    Model,
    calibrate,
    compiled_engine,
    load_model,
    open_form,
)
from pointdistill_ros.engine.benchmark.timing import (
    Clock,
    Progress,
    Rounds,
    Silent,
    median_parts,
    spread,
)
from pointdistill_ros.engine.cpu import usable_threads
from pointdistill_ros.errors import ConfigError
from pointdistill_ros.scan import LidarScan
from pointdistill_ros.segmenter import Segmenter

SECTIONS = ("parity", "timing", "one-thread", "memory", "roofline", "scaling", "busy")
"""In this order."""
_SHARES = {"timing": 0.55, "one-thread": 0.15, "scaling": 0.15, "busy": 0.15}
"""Of the time; the others end by themselves within seconds or a minute."""
_ONE_THREAD_RUNS, _SCALING_RUNS, _FEW_WARM_UPS = 10, 10, 2
_ALONE_SHARE = 0.35
"""Of the busy section's time."""


@dataclass(frozen=True)
class Options:
    """What to measure."""

    models: tuple[str, ...] = ("student", "teacher", "shipped")
    forms: tuple[Form, ...] = (PLAIN,)
    sections: tuple[str, ...] = SECTIONS
    runs: int = 50
    warm_up: int = 5
    minutes: float = 30.0
    threads: int | None = None
    device: str = "cpu"
    seed: int = 0
    sizes: tuple[int, ...] = (10_000, 30_000, 100_000, 300_000, 1_000_000)
    """Points of the scaling scans."""

    def __post_init__(self) -> None:
        unknown = [name for name in self.sections if name not in SECTIONS]
        if unknown:
            raise ConfigError(f"unknown section {unknown[0]!r}; known: {', '.join(SECTIONS)}")
        if not self.models or not self.sections or PLAIN not in self.forms:
            raise ConfigError("a benchmark needs a model, a section and the plain form")
        if self.runs < 1 or self.warm_up < 0 or not self.minutes > 0:
            raise ConfigError("runs ≥ 1, warm-up ≥ 0 and minutes > 0 expected")


class Benchmark:
    """Networks × forms × scans."""

    def __init__(
        self,
        options: Options,
        scans: Sequence[NamedScan],
        progress: Progress | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Load and calibrate the networks, open every form that can run here."""
        self.options, self.scans = options, list(scans)
        self._progress, self._clock = progress or Silent(), clock or Clock()
        self._end = time.monotonic() + 60 * options.minutes
        self._threads = options.threads or usable_threads()
        self._load = read_load()
        self._reference = reference(self.scans)
        self.report = Report(
            machine=describe_machine(options.device, self._threads),
            options={**asdict(options), "forms": [form.name for form in options.forms]},
            reference_scan=self._reference.name,
        )
        self._geometry: dict[tuple[str, str], Geometry] = {}
        self._prepared_on: str | None = None
        self.models = [self._load_model(name) for name in options.models]
        self._segmenters = self._open(self._threads)
        for model, form, segmenter in self._segmenters:
            for scan in self.scans:
                self.report.rows.append(
                    Row(
                        model.name,
                        form.name,
                        form.precision,
                        form.own,
                        segmenter.engine_detail,
                        scan.name,
                    )
                )

    def run(self) -> Report:
        """All wanted sections. Raises nothing for what cannot be measured: the report says so."""
        steps = {
            "parity": self._parity,
            "timing": self._timing,
            "one-thread": self._one_thread,
            "memory": self._memory,
            "roofline": self._roofline,
            "scaling": self._scaling,
            "busy": self._busy,
        }
        for name in SECTIONS:
            if name in self.options.sections:
                steps[name]()
        end = read_load()
        self.report.load = {
            "before": self._load.average,
            "after": end.average,
            "others": used_by_others(self._load, end),
        }
        return self.report

    # preparation

    def _load_model(self, name: str) -> Model:
        self._progress.begin(f"{name}: loading")
        model = load_model(name, self.options.seed)
        if model.name in self.report.models:
            raise ConfigError(f"model {model.name} is named twice")
        model.network.to(self.options.device)
        torch.set_num_threads(self._threads)
        for scan in self.scans:
            prepared = parity_of.prepare(model, scan.scan, self.options.device)
            self._geometry[model.name, scan.name] = geometry = prepared.geometry
            self.report.scans.append(
                ScanFacts(
                    scan.name,
                    len(scan.scan),
                    model.name,
                    model.meta.grid_size,
                    geometry.rows,
                    geometry.pairs,
                    geometry.stem_pairs,
                )
            )
            if scan is self._reference and not model.trained:
                self._progress.begin(f"{name}: calibrating random weights")
                features = torch.from_numpy(prepared.features).to(self.options.device)
                calibrate(model.network, features, prepared.pyramid)
        self.report.models[model.name] = {
            "parameters": model.parameters,
            "grid": model.meta.grid_size,
            "patch": model.config.patch_sizes[0],
            "weights": "trained" if model.trained else f"random, seed {self.options.seed}",
        }
        return model

    def _open(self, threads: int) -> list[tuple[Model, Form, Segmenter]]:
        """Every form of every network that can run; the others go into the report once."""
        found = []
        known = {(m.model, m.form) for m in self.report.missing}
        for model in self.models:
            for form in self.options.forms:
                self._progress.begin(f"{model.name}: opening {form.name}")
                segmenter = open_form(model, form, self.options.device, threads)
                if not isinstance(segmenter, str):
                    found.append((model, form, segmenter))
                elif (model.name, form.name) not in known:
                    self.report.missing.append(Missing(model.name, form.name, segmenter))
        torch.set_num_threads(threads)
        return found

    def _seconds(self, section: str) -> float:
        """The section's share of the time that is left."""
        wanted = [name for name in self.options.sections if name in _SHARES]
        ahead = [name for name in SECTIONS if name in wanted][self._order(wanted, section) :]
        left = max(0.0, self._end - time.monotonic())
        return left * _SHARES[section] / sum(_SHARES[name] for name in ahead)

    @staticmethod
    def _order(wanted: list[str], section: str) -> int:
        return [name for name in SECTIONS if name in wanted].index(section)

    # sections

    def _parity(self) -> None:
        for model in self.models:
            forms = [(form, s) for m, form, s in self._segmenters if m is model]
            for scan in self.scans:
                self._progress.begin(f"{model.name}: parity on {scan.name}")
                prepared = parity_of.prepare(model, scan.scan, self.options.device)
                plain = next(segmenter for form, segmenter in forms if form == PLAIN)
                labels = plain(scan.scan)
                logits = parity_of.logits_of(plain, prepared, self.options.device)
                for form, segmenter in forms:
                    same = form == PLAIN
                    row = self.report.row(model.name, form.name, scan.name)
                    row.parity = parity_of.compare(
                        labels,
                        labels if same else segmenter(scan.scan),
                        logits,
                        logits
                        if same
                        else parity_of.logits_of(segmenter, prepared, self.options.device),
                        form.precision,
                        model.trained,
                    )

    def _timing(self) -> None:
        rounds = self._rounds(self._segmenters, self.scans)
        options, seconds = self.options, self._seconds("timing")
        for (model, form, scan), samples in rounds.measure(
            "timing", options.runs, options.warm_up, seconds
        ).items():
            row = self.report.row(model, form, scan)
            row.wall, row.parts = spread(samples), median_parts(samples)

    def _one_thread(self) -> None:
        runs = min(self.options.runs, _ONE_THREAD_RUNS)
        seconds = self._seconds("one-thread")
        rounds = self._rounds(self._open(1), self.scans)
        for (model, form, scan), samples in rounds.measure(
            "one thread", runs, min(self.options.warm_up, _FEW_WARM_UPS), seconds
        ).items():
            self.report.row(model, form, scan).one_thread = spread(samples)
        torch.set_num_threads(self._threads)

    def _memory(self) -> None:
        scan, names = self._reference, dict(zip(self.options.models, self.models, strict=True))
        for name, model in names.items():
            for form in (form for m, form, _ in self._segmenters if m is model):
                self._progress.begin(f"{model.name}: memory of {form.name}")
                answer = peak_memory(
                    name,
                    (form.engine, form.precision),
                    self.options.device,
                    self._threads,
                    self.options.seed,
                    scan.scan,
                )
                row = self.report.row(model.name, form.name, scan.name)
                if isinstance(answer, Memory):
                    row.peak_memory, row.arena = answer.peak, answer.arena
                else:
                    row.memory_note = answer

    def _roofline(self) -> None:
        self._progress.begin("peaks of this machine")
        peaks = measure_peaks(self.options.device, self._threads)
        self.report.peaks = asdict(peaks)
        for model, form, _ in self._segmenters:
            if form.own or form == PLAIN:
                self._roofline_of(model, form, peaks)

    def _roofline_of(self, model: Model, form: Form, peaks: Peaks) -> None:
        row = self.report.row(model.name, form.name, self._reference.name)
        element = 4 if form.precision == "float32" else 2
        geometry = self._geometry[model.name, self._reference.name]
        work = count(model.config, geometry, element)
        peak = peaks.flops.get(form.precision)
        limits = {
            part: 1e3 * limit_seconds(w, peak, peaks.bandwidth) if peak else None
            for part, w in work.items()
        }
        for part, of_part in (*work.items(), ("total", total(work))):
            ms = row.parts.get("network" if part == "total" else part)
            known = [limit for limit in limits.values() if limit is not None]
            self.report.roofline.append(
                RooflineRow(
                    model.name,
                    form.name,
                    part,
                    of_part.flops / 1e9,
                    of_part.bytes / 1e6,
                    ms,
                    of_part.flops / (1e-3 * ms * peak) if ms and peak else None,
                    limits.get(part, sum(known) if known else None),
                )
            )

    def _scaling(self) -> None:
        model = self.models[0]
        seconds_until = time.monotonic() + self._seconds("scaling")
        scans = scaling_scans(self.options.sizes, self._progress.begin)
        segmenters = [(m, form, s) for m, form, s in self._segmenters if m is model]
        voxels: dict[str, int] = {}
        rounds = self._rounds(segmenters, scans, voxels)
        for (_, form_name, scan), samples in rounds.measure(
            "scaling",
            min(self.options.runs, _SCALING_RUNS),
            1,
            max(0.0, seconds_until - time.monotonic()),
        ).items():
            points = next(len(named.scan) for named in scans if named.name == scan)
            timed = spread(samples)
            self.report.scaling.append(
                ScalingPoint(form_name, points, voxels[scan], timed.n, timed.p50, timed.cpu)
            )

    def _busy(self) -> None:
        model, seconds = self.models[0], self._seconds("busy")
        segmenters = [(m, form, s) for m, form, s in self._segmenters if m is model]
        until = time.monotonic() + seconds
        found = []
        for title, spinning in (("alone", 0), ("busy machine", usable_threads())):
            left = max(0.0, until - time.monotonic())
            with busy_machine(spinning):
                rounds = self._rounds(segmenters, [self._reference])
                found.append(
                    rounds.measure(
                        title,
                        self.options.runs,
                        min(self.options.warm_up, _FEW_WARM_UPS),
                        left if spinning else left * _ALONE_SHARE,
                    )
                )
        alone, busy = found
        for key in alone:
            self.report.busy.append(BusyRow(key[1], spread(alone[key]), spread(busy[key])))

    def _rounds(
        self,
        segmenters: Sequence[tuple[Model, Form, Segmenter]],
        scans: Sequence[NamedScan],
        voxels: dict[str, int] | None = None,
    ) -> Rounds[tuple[str, str, str]]:
        """Scan by scan, every network in every form; ``voxels`` is told what each scan had."""
        calls = {
            (model.name, form.name, named.name): _Call(segmenter, named.scan, named.name, voxels)
            for named in scans
            for model, form, segmenter in segmenters
        }
        return Rounds(calls, self._clock, self._progress)


class _Call:
    """One run: the whole way from points to labels."""

    def __init__(
        self, segmenter: Segmenter, scan: LidarScan, name: str, voxels: dict[str, int] | None
    ) -> None:
        self._segmenter, self._scan, self._name, self._voxels = segmenter, scan, name, voxels
        self._compiled = compiled_engine(segmenter)

    def __call__(self) -> dict[str, float]:
        """Milliseconds by part."""
        result = self._segmenter(self._scan)
        if self._voxels is not None:
            self._voxels[self._name] = result.voxels
        parts = dict(result.timing)
        return parts | self._compiled.network.timing() if self._compiled else parts
