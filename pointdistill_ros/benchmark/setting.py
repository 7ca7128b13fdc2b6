# SPDX-License-Identifier: Apache-2.0
"""What the sections of a benchmark share: networks that are loaded, forms that are open, scans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch

from pointdistill_ros.benchmark import parity as parity_of
from pointdistill_ros.benchmark.machine import describe_machine
from pointdistill_ros.benchmark.report import (
    Missing,
    Report,
    Row,
    ScanFacts,
)
from pointdistill_ros.benchmark.roofline import Geometry
from pointdistill_ros.benchmark.scans import NamedScan, reference
from pointdistill_ros.benchmark.subjects import (
    PLAIN,
    Form,
    Model,
    calibrate,
    compiled_engine,
    load_model,
    open_form,
)
from pointdistill_ros.benchmark.timing import (
    Clock,
    Progress,
    Rounds,
    Silent,
)
from pointdistill_ros.engine.cpu import usable_threads
from pointdistill_ros.errors import ConfigError
from pointdistill_ros.scan import LidarScan
from pointdistill_ros.segmenter import Segmenter

SECTIONS = ("parity", "timing", "one-thread", "memory", "roofline", "scaling", "busy")
"""In this order."""


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


class Setting:
    """Networks × forms × scans, ready to run."""

    def __init__(
        self,
        options: Options,
        scans: Sequence[NamedScan],
        progress: Progress | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Load and calibrate the networks, open every form that can run here."""
        self.options, self.scans = options, list(scans)
        self.progress, self.clock = progress or Silent(), clock or Clock()
        self.threads = options.threads or usable_threads()
        self.reference = reference(self.scans)
        self.report = Report(
            machine=describe_machine(options.device, self.threads),
            options={**asdict(options), "forms": [form.name for form in options.forms]},
            reference_scan=self.reference.name,
        )
        self.geometry: dict[tuple[str, str], Geometry] = {}
        self.models = [self._load_model(name) for name in options.models]
        self.segmenters = self.open_forms(self.threads)
        for model, form, segmenter in self.segmenters:
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

    def _load_model(self, name: str) -> Model:
        self.progress.begin(f"{name}: loading")
        model = load_model(name, self.options.seed)
        if model.name in self.report.models:
            raise ConfigError(f"model {model.name} is named twice")
        model.network.to(self.options.device)
        torch.set_num_threads(self.threads)
        for scan in self.scans:
            prepared = parity_of.prepare(model, scan.scan, self.options.device)
            self.geometry[model.name, scan.name] = geometry = prepared.geometry
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
            if scan is self.reference and not model.trained:
                self.progress.begin(f"{name}: calibrating random weights")
                features = torch.from_numpy(prepared.features).to(self.options.device)
                calibrate(model.network, features, prepared.pyramid)
        self.report.models[model.name] = {
            "parameters": model.parameters,
            "grid": model.meta.grid_size,
            "patch": model.config.patch_sizes[0],
            "weights": "trained" if model.trained else f"random, seed {self.options.seed}",
        }
        return model

    def open_forms(self, threads: int) -> list[tuple[Model, Form, Segmenter]]:
        """Every form of every network that can run; the others go into the report once."""
        found = []
        known = {(m.model, m.form) for m in self.report.missing}
        for model in self.models:
            for form in self.options.forms:
                self.progress.begin(f"{model.name}: opening {form.name}")
                segmenter = open_form(model, form, self.options.device, threads)
                if not isinstance(segmenter, str):
                    found.append((model, form, segmenter))
                elif (model.name, form.name) not in known:
                    self.report.missing.append(Missing(model.name, form.name, segmenter))
        torch.set_num_threads(threads)
        return found

    def rounds(
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
        return Rounds(calls, self.clock, self.progress)


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
