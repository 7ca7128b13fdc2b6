# SPDX-License-Identifier: Apache-2.0
"""What the benchmark measures, one function a section; each writes into the report.

Everything that is timed in one section is timed in turns (``timing.py``), on the same scans.
"""

from __future__ import annotations

import time
from dataclasses import asdict

import torch

from pointdistill_ros.benchmark import parity as parity_of
from pointdistill_ros.benchmark.busy import busy_machine
from pointdistill_ros.benchmark.memory import Memory, peak_memory
from pointdistill_ros.benchmark.peaks import measure_peaks
from pointdistill_ros.benchmark.report import (
    BusyRow,
    RooflineRow,
    ScalingPoint,
)
from pointdistill_ros.benchmark.roofline import Peaks, count, limit_seconds, total
from pointdistill_ros.benchmark.scans import scaling_scans
from pointdistill_ros.benchmark.setting import Setting
from pointdistill_ros.benchmark.subjects import (
    PLAIN,
    Form,
    Model,
)
from pointdistill_ros.benchmark.timing import (
    median_parts,
    spread,
)
from pointdistill_ros.engine.cpu import usable_threads

_ONE_THREAD_RUNS, _SCALING_RUNS, _FEW_WARM_UPS = 10, 10, 2
_ALONE_SHARE = 0.35
"""Of the busy section's time."""


def parity(setting: Setting) -> None:
    """Labels and logits of every form against the plain one, on every scan."""
    for model in setting.models:
        forms = [(form, s) for m, form, s in setting.segmenters if m is model]
        for scan in setting.scans:
            setting.progress.begin(f"{model.name}: parity on {scan.name}")
            prepared = parity_of.prepare(model, scan.scan, setting.options.device)
            plain = next(segmenter for form, segmenter in forms if form == PLAIN)
            labels = plain(scan.scan)
            logits = parity_of.logits_of(plain, prepared, setting.options.device)
            for form, segmenter in forms:
                same = form == PLAIN
                row = setting.report.row(model.name, form.name, scan.name)
                row.parity = parity_of.compare(
                    labels,
                    labels if same else segmenter(scan.scan),
                    logits,
                    logits
                    if same
                    else parity_of.logits_of(segmenter, prepared, setting.options.device),
                    form.precision,
                    model.trained,
                )


def timing(setting: Setting, seconds: float) -> None:
    """Wall and CPU time of everything in turns."""
    rounds = setting.rounds(setting.segmenters, setting.scans)
    options = setting.options
    for (model, form, scan), samples in rounds.measure(
        "timing", options.runs, options.warm_up, seconds
    ).items():
        row = setting.report.row(model, form, scan)
        row.wall, row.parts = spread(samples), median_parts(samples)


def one_thread(setting: Setting, seconds: float) -> None:
    """The same with one thread."""
    runs = min(setting.options.runs, _ONE_THREAD_RUNS)
    rounds = setting.rounds(setting.open_forms(1), setting.scans)
    for (model, form, scan), samples in rounds.measure(
        "one thread", runs, min(setting.options.warm_up, _FEW_WARM_UPS), seconds
    ).items():
        setting.report.row(model, form, scan).one_thread = spread(samples)
    torch.set_num_threads(setting.threads)


def memory(setting: Setting) -> None:
    """Peak memory of every form on the reference scan, each in a process of its own."""
    scan, names = setting.reference, dict(zip(setting.options.models, setting.models, strict=True))
    for name, model in names.items():
        for form in (form for m, form, _ in setting.segmenters if m is model):
            setting.progress.begin(f"{model.name}: memory of {form.name}")
            answer = peak_memory(
                name,
                (form.engine, form.precision),
                setting.options.device,
                setting.threads,
                setting.options.seed,
                scan.scan,
            )
            row = setting.report.row(model.name, form.name, scan.name)
            if isinstance(answer, Memory):
                row.peak_memory, row.first_memory = answer.peak, answer.first
                row.arena = answer.arena
            else:
                row.memory_note = answer


def roofline(setting: Setting) -> None:
    """Work of our own forms and the plain one, against the peaks of this machine."""
    setting.progress.begin("peaks of this machine")
    peaks = measure_peaks(setting.options.device, setting.threads)
    setting.report.peaks = asdict(peaks)
    for model, form, _ in setting.segmenters:
        if form.own or form == PLAIN:
            _roofline_of(setting, model, form, peaks)


def _roofline_of(setting: Setting, model: Model, form: Form, peaks: Peaks) -> None:
    row = setting.report.row(model.name, form.name, setting.reference.name)
    element = 4 if form.precision == "float32" else 2
    geometry = setting.geometry[model.name, setting.reference.name]
    work = count(model.config, geometry, element)
    peak = peaks.flops.get(form.precision)
    limits = {
        part: 1e3 * limit_seconds(w, peak, peaks.bandwidth) if peak else None
        for part, w in work.items()
    }
    for part, of_part in (*work.items(), ("total", total(work))):
        ms = row.parts.get("network" if part == "total" else part)
        known = [limit for limit in limits.values() if limit is not None]
        setting.report.roofline.append(
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


def scaling(setting: Setting, seconds: float) -> None:
    """The first network on one street in ever more points."""
    model = setting.models[0]
    until = time.monotonic() + seconds
    scans = scaling_scans(setting.options.sizes, setting.progress.begin)
    segmenters = [(m, form, s) for m, form, s in setting.segmenters if m is model]
    voxels: dict[str, int] = {}
    rounds = setting.rounds(segmenters, scans, voxels)
    for (_, form_name, scan), samples in rounds.measure(
        "scaling",
        min(setting.options.runs, _SCALING_RUNS),
        1,
        max(0.0, until - time.monotonic()),
    ).items():
        points = next(len(named.scan) for named in scans if named.name == scan)
        timed = spread(samples)
        setting.report.scaling.append(
            ScalingPoint(form_name, points, voxels[scan], timed.n, timed.p50, timed.cpu)
        )


def busy(setting: Setting, seconds: float) -> None:
    """The first network on the reference scan, alone and beside one spinning process per core."""
    model = setting.models[0]
    segmenters = [(m, form, s) for m, form, s in setting.segmenters if m is model]
    until = time.monotonic() + seconds
    found = []
    for title, spinning in (("alone", 0), ("busy machine", usable_threads())):
        left = max(0.0, until - time.monotonic())
        with busy_machine(spinning):
            rounds = setting.rounds(segmenters, [setting.reference])
            found.append(
                rounds.measure(
                    title,
                    setting.options.runs,
                    min(setting.options.warm_up, _FEW_WARM_UPS),
                    left if spinning else left * _ALONE_SHARE,
                )
            )
    alone, beside = found
    for key in alone:
        setting.report.busy.append(BusyRow(key[1], spread(alone[key]), spread(beside[key])))
