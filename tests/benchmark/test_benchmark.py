# SPDX-License-Identifier: Apache-2.0
"""The benchmark's arithmetic on engines and clocks that are known, and what it leaves behind."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pointdistill_ros.benchmark import memory, peaks, scans, sections, setting
from pointdistill_ros.benchmark.baseline import gate_group, read_baseline, regressions
from pointdistill_ros.benchmark.busy import busy_machine
from pointdistill_ros.benchmark.machine import Load, read_load, used_by_others
from pointdistill_ros.benchmark.page import markdown
from pointdistill_ros.benchmark.parity import compare, prepare
from pointdistill_ros.benchmark.report import ScalingPoint, exponent
from pointdistill_ros.benchmark.roofline import Geometry, Work, count, limit_seconds, total
from pointdistill_ros.benchmark.run import SECTIONS, Options, run_benchmark
from pointdistill_ros.benchmark.scans import NamedScan, Street, given_scans
from pointdistill_ros.benchmark.subjects import (
    PLAIN,
    Form,
    Model,
    calibrate,
    forms_named,
    load_model,
)
from pointdistill_ros.benchmark.tables import tables
from pointdistill_ros.benchmark.text_table import number
from pointdistill_ros.benchmark.timing import Clock, Rounds, plan_runs, spread
from pointdistill_ros.checkpoint import save_checkpoint
from pointdistill_ros.errors import ConfigError, InputError
from pointdistill_ros.io.binfile import write_kitti
from pointdistill_ros.model import attention
from pointdistill_ros.model.sparse_conv import SubmanifoldConv
from pointdistill_ros.scan import LidarScan
from pointdistill_ros.segmentation import Segmentation
from tests.tiny import tiny_config, tiny_meta, tiny_network

NATIVE, BF16 = Form("native"), Form("native", "bfloat16")
FORMS = (PLAIN, NATIVE, BF16)


class FakeTime:
    """A clock that only calls move."""

    def __init__(self):
        self.wall = self.cpu = 0.0
        self.log = []

    @property
    def clock(self):
        return Clock(lambda: self.wall, lambda: self.cpu)

    def call(self, name, *costs):
        """A call that takes these seconds, one after the other and then again; CPU twice that."""

        def work():
            seconds = costs[self.log.count(name) % len(costs)]
            self.log.append(name)
            self.wall += seconds
            self.cpu += 2 * seconds
            return {"total": 1e3 * seconds}

        return work


def cloud(points=800, seed=0):
    rng = np.random.default_rng(seed)
    xyz = rng.uniform((-6, -6, -0.4), (6, 6, 0.4), (points, 3)).astype(np.float32)
    return LidarScan(xyz, rng.random(points).astype(np.float32))


# timing


def test_percentiles_of_known_times():
    fake = FakeTime()
    rounds = Rounds({"a": fake.call("a", *(i / 1000 for i in range(1, 102)))}, fake.clock)
    samples = rounds.measure("", runs=101, warm_up=0, seconds=1e9)["a"]
    # the first call is always untimed
    assert sorted(samples.wall) == pytest.approx([*range(1, 102)])
    found = spread(samples)
    assert (found.p50, found.p90, found.p99, found.min) == pytest.approx((51, 91, 100, 1))
    assert found.cpu == pytest.approx(102)
    assert (found.n, found.warm_up) == (101, 1)


def test_a_median_is_not_moved_by_one_stall():
    fake = FakeTime()
    rounds = Rounds({"a": fake.call("a", 0.01, 0.01, 0.01, 9.0)}, fake.clock)
    assert spread(rounds.measure("", 40, 5, 1e9)["a"]).p50 == pytest.approx(10)


def test_calls_take_turns():
    fake = FakeTime()
    rounds = Rounds({name: fake.call(name, 0.01) for name in "abc"}, fake.clock)
    rounds.measure("", runs=20, warm_up=2, seconds=1e9)
    timed = fake.log[6:]
    for begin in range(0, len(timed), 3):
        assert sorted(timed[begin : begin + 3]) == ["a", "b", "c"]
    # and none is always first, where caches are whatever the last round left
    assert {timed[begin] for begin in range(0, len(timed), 3)} == {"a", "b", "c"}


def test_slow_calls_run_less_often_all_along_and_say_so():
    fake = FakeTime()
    calls = {"slow": fake.call("slow", 5.0), "fast": fake.call("fast", 0.1)}
    samples = Rounds(calls, fake.clock).measure("", runs=50, warm_up=1, seconds=60)
    assert len(samples["fast"].wall) == 50
    assert 3 <= len(samples["slow"].wall) <= 11
    assert fake.wall <= 60 + 5
    timed = fake.log[2:]
    first, last = timed.index("slow"), len(timed) - 1 - timed[::-1].index("slow")
    assert first < len(timed) / 4 and last > len(timed) * 3 / 4
    assert spread(samples["slow"]).n == len(samples["slow"].wall)


def test_time_that_is_long_over_still_gives_three_runs_each():
    fake = FakeTime()
    calls = {name: fake.call(name, 10.0) for name in "ab"}
    samples = Rounds(calls, fake.clock).measure("", runs=50, warm_up=5, seconds=1)
    assert [len(s.wall) for s in samples.values()] == [3, 3]


def test_a_machine_that_becomes_slow_does_not_make_it_endless():
    fake = FakeTime()
    calls = {"a": fake.call("a", *[0.1] * 6, *[100.0] * 94)}
    samples = Rounds(calls, fake.clock).measure("", runs=50, warm_up=5, seconds=20)
    assert len(samples["a"].wall) < 6


@given(
    st.lists(st.floats(1e-4, 30), min_size=1, max_size=12),
    st.integers(1, 80),
    st.floats(0, 500),
    st.integers(0, 3),
)
def test_plans_fit_the_time_or_are_the_least(costs, runs, budget, least):
    planned = plan_runs(costs, runs, budget, least)
    least = min(least, runs)
    assert all(least <= n <= runs for n in planned)
    spare = [c for c, n in zip(costs, planned, strict=True) if n > least]
    at_least = sum(c * least for c, n in zip(costs, planned, strict=True) if n == least)
    extra = sum(c * n for c, n in zip(costs, planned, strict=True) if n > least)
    assert not spare or extra <= budget * (1 + 1e-9) + at_least
    if sum(costs) * runs <= budget * (1 - 1e-9):
        assert planned == [runs] * len(costs)
    by_cost = [n for _, n in sorted(zip(costs, planned, strict=True))]
    assert all(n >= m for n, m in pairwise(by_cost)) or len(set(costs)) < len(costs)


# work and exponent


@given(st.floats(0.1, 2), st.floats(0.01, 100))
def test_exponent_of_a_power_law(power, factor):
    points = [(x, factor * x**power) for x in (1e4, 3e4, 1e5, 3e5)]
    assert exponent(points) == pytest.approx(power, abs=1e-6)


def test_one_size_has_no_exponent():
    assert exponent([]) is None
    assert exponent([(10, 1), (10, 2)]) is None


def test_work_of_a_network_counted_by_hand():
    config = tiny_config(
        num_classes=5,
        encoder_depths=(1, 1),
        decoder_depths=(1,),
        patch_sizes=(4, 1024),
        in_channels=4,
        mlp_ratio=2,
    )
    geometry = Geometry(rows=(10, 3), pairs=(30, 5), stem_pairs=40)
    work = count(config, geometry)
    assert work["stem"].flops == 2 * 40 * 4 * 16
    # two blocks of 16 channels at 10 rows (encoder, decoder), one of 32 at 3 rows
    assert work["convolution"].flops == 2 * (2 * 30 * 16 * 16 + 2 * 10 * 16 * 48) + (
        2 * 5 * 32 * 32 + 2 * 3 * 32 * 96
    )
    # patches of 4 at the fine stage; the coarse one has only 3 rows for its patch
    assert work["attention"].flops == 2 * (4 * 10 * 4 * 16) + 4 * 3 * 3 * 32
    assert work["mlp"].flops == 2 * (10 * 2 * (16 * 16 + 2 * 16 * 32)) + 3 * 2 * (
        32 * 32 + 2 * 32 * 64
    )
    assert work["pooling"].flops == 2 * (10 * 16 * 32 + 3 * 32 * 16 + 10 * 16 * 16)
    assert work["head"].flops == 2 * 10 * 16 * 5
    assert work["head"].bytes == 4 * (16 * 5 + 10 * (16 + 5))
    assert work["stem"].bytes == 4 * (10 * 4 + 10 * 16 + 125 * 4 * 16) + 5 * 40
    assert count(config, geometry, 2)["attention"].bytes * 2 == work["attention"].bytes
    assert total(work).flops == sum(w.flops for w in work.values())


def test_work_equals_what_the_torch_form_does(monkeypatch):
    network, done = tiny_network(), []

    def linear(layer, inputs, _):
        done.append(2 * len(inputs[0]) * layer.weight.numel())

    def convolution(layer, inputs, _):
        x, _, table = inputs
        pairs = len(x) + len(table.output_rows)
        done.append(2 * pairs * layer.weight.shape[0] * layer.weight.shape[-1])

    def attend(q, k, v):
        done.append(4 * q.numel() * k.shape[-2])
        return real_attend(q, k, v)

    real_attend = attention.attend
    monkeypatch.setattr(attention, "attend", attend)
    for layer in network.modules():
        if isinstance(layer, torch.nn.Linear):
            layer.register_forward_hook(linear)
        elif isinstance(layer, SubmanifoldConv):
            layer.register_forward_hook(convolution)
    prepared = prepare(Model("tiny", network, tiny_meta(), trained=True), cloud(), "cpu")
    with torch.inference_mode():
        network(torch.from_numpy(prepared.features), prepared.pyramid)
    rows, width = prepared.geometry.rows, network.config.decoder_channels[0]
    folded = sum(2 * n * c * c * d for n, c, d in zip(rows, (16, 32), (1, 2), strict=True))
    folded += 2 * rows[0] * width**2  # the linears behind the convolutions
    assert sum(done) == total(count(network.config, prepared.geometry)).flops + folded


def test_the_limit_is_the_scarcer_of_two():
    assert limit_seconds(Work(100, 10), flops=50, bandwidth=10) == 2
    assert limit_seconds(Work(100, 50), flops=50, bandwidth=10) == 5


def test_peaks_are_measured_with_and_without_the_library(monkeypatch):
    monkeypatch.setattr(peaks, "_SQUARE", 96)
    monkeypatch.setattr(peaks, "_COPY_BYTES", 1 << 20)
    monkeypatch.setattr(peaks, "_native_probe", lambda: None)
    found = peaks.measure_peaks("cpu", 1)
    assert "torch" in found.method
    assert found.flops["float32"] > 1e8 and found.bandwidth > 1e8
    turns = iter([[1e9, 0.0, 7e9], [3e9, 0.0, 2e9]] * peaks._TURNS)
    monkeypatch.setattr(peaks, "_native_probe", lambda: lambda threads: next(turns))
    found = peaks.measure_peaks("cpu", 1)
    assert found.flops == {"float32": 3e9}  # a CPU without bfloat16 has no peak of it
    assert found.bandwidth == 7e9


def test_the_probe_of_the_library_takes_what_makes_sense():
    probe = peaks._native_probe()
    if probe is None:
        pytest.skip("no compiled library here")
    flops, _, copied = probe(1)
    assert flops > 1e8 and copied > 1e8
    assert probe(0) == probe(257) == [0, 0, 0]
    assert probe._probe(3, 1) == probe._probe(-1, 1) == 0


# parity and weights


def segmentation(labels, probability=0.5):
    labels = np.asarray(labels, np.uint8)
    share = np.full(len(labels), probability, np.float32)
    return Segmentation(labels, share, share, tiny_meta().label_set)


def test_parity_is_judged_by_labels_and_logits():
    plain, logits = segmentation([1] * 1000), np.array([[0.0, 1.0], [1.0, 0.0]], np.float32)
    same = compare(plain, segmentation([1] * 1000), logits, logits + 4e-5, "float32", True)
    assert same.kept and same.equal_labels == 1
    assert same.max_logit_error == pytest.approx(8e-5, rel=1e-2)  # σ = 0.5
    assert not compare(plain, plain, logits, logits + 6e-5, "float32", True).kept
    assert compare(plain, plain, logits, logits + 6e-5, "bfloat16", True).kept
    off = segmentation([1] * 993 + [2] * 7)
    assert not compare(plain, off, None, None, "float32", True).kept
    assert not compare(plain, off, None, None, "bfloat16", True).kept
    assert compare(plain, off, None, None, "bfloat16", False).kept
    assert not compare(plain, plain, logits, logits * np.nan, "float32", True).kept
    shaky = compare(plain, segmentation([1] * 1000, 0.75), None, None, "bfloat16", True)
    assert shaky.max_probability_error == pytest.approx(0.25)


def test_random_weights_are_the_same_each_time_and_calibrated():
    first, second = load_model("student", seed=3), load_model("student", seed=3)
    for a, b in zip(first.network.parameters(), second.network.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(load_model("student", seed=4).network.head.weight, b)
    assert first.parameters == 2_777_539 and not first.trained
    prepared = prepare(first, cloud(), "cpu")
    features = torch.from_numpy(prepared.features)
    calibrate(first.network, features, prepared.pyramid)
    with torch.no_grad():
        assert first.network(features, prepared.pyramid).std() == pytest.approx(1, rel=1e-3)
    norm = first.network.stem.norm
    assert norm.momentum == 0.01 and not norm.training
    assert not torch.equal(norm.running_mean, torch.zeros_like(norm.running_mean))


def test_names_of_engines_and_models():
    assert [f.name for f in forms_named(["native-bf16", "torch"])] == ["torch", "native-bf16"]
    with pytest.raises(ConfigError, match="nativ'; known: torch, native, native-bf16"):
        forms_named(["nativ"])
    with pytest.raises(ConfigError, match="unknown model 'studnet'; known: student, teacher"):
        load_model("studnet")


# the whole, with engines and clocks that are known


class FakeSegmenter:
    """Labels 1 everywhere; takes the time it is told on the fake clock."""

    _engine = None

    def __init__(self, fake, name, seconds, wrong=0.0):
        self.call, self.wrong, self.engine_detail = fake.call(name, seconds), wrong, name

    def __call__(self, scan):
        parts = self.call()
        labels = np.ones(len(scan), np.uint8)
        labels[: round(self.wrong * len(scan))] = 2
        result = segmentation(labels)
        timing = {"geometry": 1.0, "network": parts["total"] - 2, "points": 1.0, **parts}
        return replace(result, timing=timing, voxels=len(scan) // 2)


@pytest.fixture
def checkpoints(tmp_path):
    """Tiny networks by the names that ratios are made of."""
    for name in ("student", "teacher"):
        save_checkpoint(tmp_path / f"{name}.safetensors", tiny_network(), tiny_meta())
    return tuple(str(tmp_path / f"{name}.safetensors") for name in ("student", "teacher"))


@pytest.fixture
def fakes(monkeypatch):
    """Open fake forms instead of real ones; returns the clock and the seconds they take."""
    fake = FakeTime()
    seconds = {
        ("student", "torch"): 0.4,
        ("student", "native"): 0.1,
        ("student", "native-bf16"): 0.05,
        ("teacher", "torch"): 2.0,
        ("teacher", "native"): 0.5,
    }
    wrong = {}

    def open_form(model, form, device, threads):
        key = (model.name, form.name)
        if key not in seconds:
            return "needs a better CPU"
        cost = seconds[key] * (1.5 if threads == 1 else 1)
        return FakeSegmenter(fake, "/".join(key), cost, wrong.get(key, 0.0))

    monkeypatch.setattr(setting, "open_form", open_form)
    monkeypatch.setattr(
        setting, "describe_machine", lambda *_: {"CPU": "fake", "threads": "2 threads"}
    )
    fake.wrong = wrong
    return fake


def options(checkpoints, *sections, **changes):
    values = {"models": checkpoints, "forms": FORMS, "threads": 2, "minutes": 1e6, "runs": 20}
    return Options(**(values | {"sections": sections or ("parity", "timing")} | changes))


def nearly(ratios):
    return {k: None if v is None else pytest.approx(v) for k, v in ratios.items()}


TWO_SCANS = [NamedScan("small", cloud(200)), NamedScan("large", cloud(600, 1))]


def test_ratios_are_of_medians_on_the_largest_scan(checkpoints, fakes):
    chosen = options(checkpoints, "parity", "timing", "one-thread")
    report = run_benchmark(chosen, TWO_SCANS, clock=fakes.clock)
    assert report.reference_scan == "large"
    assert set(report.load["others_by_section"]) == {"parity", "timing", "one-thread"}
    found = report.to_dict()
    assert found["ratios"] == nearly(
        {
            "student_vs_plain_student": 8,
            "student_vs_plain_teacher": 40,
            "teacher_vs_plain_teacher": 4,
            "shipped_vs_plain_shipped": None,
        }
    )
    assert found["ratios_float32"]["student_vs_plain_student"] == pytest.approx(4)
    assert found["ratios_bfloat16"]["teacher_vs_plain_teacher"] is None
    assert found["ratios_one_thread"] == nearly(found["ratios"])
    assert [(m.model, m.form, m.reason) for m in report.missing] == [
        ("teacher", "native-bf16", "needs a better CPU")
    ]
    row = report.row("student", "torch", "small")
    assert row.wall.n == 20 and row.wall.p50 == pytest.approx(400)
    assert row.one_thread.cpu == pytest.approx(1200)


def test_a_form_that_lost_parity_makes_no_ratio(checkpoints, fakes):
    fakes.wrong["student", "native-bf16"] = 0.2
    report = run_benchmark(options(checkpoints), TWO_SCANS, clock=fakes.clock)
    assert report.ratios()["student_vs_plain_student"] == pytest.approx(4)
    assert report.parity()["student native-bf16"] == {
        "equal_labels": pytest.approx(0.8),
        "max_logit_error": None,
        "kept": False,
    }
    assert report.ratios(precision="bfloat16")["student_vs_plain_student"] is None


def test_the_tables_show_what_was_measured(checkpoints, fakes, monkeypatch):
    monkeypatch.setattr(
        sections, "scaling_scans", lambda sizes, tell: [NamedScan(str(n), cloud(n)) for n in sizes]
    )
    chosen = options(checkpoints, *(s for s in SECTIONS if s != "memory"), sizes=(200, 400))
    monkeypatch.setattr(sections, "measure_peaks", lambda device, threads: FAKE_PEAKS)
    monkeypatch.setattr(sections, "usable_threads", lambda: 0)  # nobody spins
    report = run_benchmark(chosen, TWO_SCANS, clock=fakes.clock)
    titles = [table.title for table in tables(report)]
    assert "Times as fast as P1 on large" in titles and "small: 200 points" in titles
    assert "Not measured here" in titles and "Machine" in titles
    page = markdown(report, "plot.svg")
    assert "![Times, scaling and roofline](plot.svg)" in page
    assert "| student | native | 20 | 100 | 100 | 100 | 100 | 200 |" in page
    assert "| best, wall | 8.00 × | 40.0 × | 4.00 × |" in page
    for table in tables(report):
        assert all(len(row) == len(table.head) for row in table.rows), table.title
    # equal times at both sizes: the exponent of something that does not grow
    assert report.exponent() == pytest.approx(0, abs=1e-9)
    (attention,) = (
        r for r in report.roofline if (r.model, r.form, r.part) == ("student", "torch", "attention")
    )
    assert attention.limit == pytest.approx(
        1e3 * max(attention.gflop * 1e9 / 1e9, attention.megabytes * 1e6 / 1e12)
    )
    json.dumps(report.to_dict(), allow_nan=False)


FAKE_PEAKS = peaks.Peaks({"float32": 1e9}, 1e12, "by decree")


def test_exponent_is_that_of_the_fastest_own_form(checkpoints, fakes):
    report = run_benchmark(options(checkpoints), TWO_SCANS, clock=fakes.clock)
    for form, power in (("torch", 1.0), ("native", 0.5), ("native-bf16", 0.75)):
        factor = {"torch": 1.0, "native": 10.0, "native-bf16": 0.1}[form]
        for size in (1000, 10_000, 100_000):
            time_ms = factor * size**power
            report.scaling.append(ScalingPoint(form, size, size, 5, time_ms, time_ms))
    assert report.exponent() == pytest.approx(0.75)
    assert report.exponents()["torch"] == pytest.approx(1)


@pytest.mark.parametrize(
    "changes", [{"runs": 0}, {"minutes": 0.0}, {"sections": ("speed",)}, {"forms": (NATIVE,)}]
)
def test_options_that_make_no_sense_are_refused(changes):
    with pytest.raises(ConfigError):
        Options(**changes)


# comparison with an earlier run


def test_a_ratio_that_fell_too_far_is_found():
    before = {"ratios": {"a": 4.0, "b": 8.0, "c": None, "d": 2.0}}
    now = {"ratios": {"a": 3.7, "b": 7.1, "c": 1.0, "d": None}}
    found = list(regressions(now, before, 10, "ratios"))
    assert [r.name for r in found] == ["ratios.b", "ratios.d"]
    assert "8.00 before, 7.10 now (11 % slower)" in str(found[0])
    assert "not measured" in str(found[1])
    assert not list(regressions(now, before | {"ratios": {"b": 8.0}}, 12, "ratios"))


def test_a_loaded_machine_is_judged_by_cpu_time():
    report = {"load": {"before": 3.0}, "ratios_one_thread": {"a": 4.0}}
    assert gate_group(report, report) == "ratios_one_thread"
    assert gate_group(report | {"load": {"before": 0.3}}, report) == "ratios"
    assert gate_group(report, {"ratios": {"a": 1.0}}) == "ratios"


@pytest.mark.parametrize("text", ["", "[]", '{"ratios": 3}'])
def test_a_baseline_that_is_none_is_refused(tmp_path, text):
    (tmp_path / "before.json").write_text(text)
    with pytest.raises(InputError, match="before"):
        read_baseline(tmp_path / "before.json")


# scans


def test_scans_of_a_folder_are_evenly_spread(tmp_path):
    for i in range(6):
        write_kitti(cloud(50 + i), tmp_path / f"{i:06}.bin")
    found = given_scans([tmp_path, tmp_path / "000003.bin", tmp_path / "000003.bin"], take=2)
    assert [named.name for named in found] == [
        f"{tmp_path.name}/000000",
        f"{tmp_path.name}/000003",
        "000003",
        "000003 (2)",
    ]
    assert len(found[1].scan) == 53


def test_a_scan_without_points_is_refused(tmp_path):
    np.savez(tmp_path / "empty.npz", xyz=np.full((4, 3), np.nan, np.float32))
    with pytest.raises(InputError, match="no finite point"):
        given_scans([tmp_path / "empty.npz"], take=1)


def test_a_simulated_street_in_any_density():
    street = Street()
    dense, usual = street.scan_of(10_000), street.usual_scans()
    assert len(dense) == pytest.approx(10_000, rel=0.1)
    assert [len(named.scan) for named in usual] == [
        pytest.approx(120_000, rel=0.1),
        pytest.approx(35_000, rel=0.1),
    ]
    # more points of the same street fall into more voxels, as copies of points would not
    cells = [len(np.unique(np.floor(s.xyz / 0.05), axis=0)) for s in (dense, usual[0].scan)]
    assert cells[1] > 2 * cells[0]
    assert np.isfinite(dense.xyz).all() and dense.intensity.max() <= 1
    assert scans.reference(usual).name == "simulated, 64 beams"


# the machine


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # a zombie that nobody waits for is no process that burns a core
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"


def test_a_busy_machine_is_quiet_again_whatever_happens():
    with pytest.raises(KeyboardInterrupt), busy_machine(2) as pids:
        before = read_load()
        while read_load().busy - before.busy < 0.1:  # they do work
            time.sleep(0.02)
        raise KeyboardInterrupt
    assert len(pids) == 2 and not any(alive(pid) for pid in pids)


def test_spinning_processes_do_not_outlive_a_killed_benchmark():
    program = (
        "import time\n"
        "from pointdistill_ros.benchmark.busy import busy_machine\n"
        "with busy_machine(1) as pids:\n"
        "    print(pids[0], flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        pid = int(process.stdout.readline())
        assert alive(pid)
        process.send_signal(signal.SIGKILL)
        process.wait()
    while alive(pid):  # the test's own time limit ends this
        time.sleep(0.02)


def test_interrupted_measurements_leave_nobody_spinning(checkpoints, fakes, monkeypatch):
    monkeypatch.setattr(sections, "usable_threads", lambda: 1)
    spinning = []

    @contextmanager
    def noticed(processes):
        with busy_machine(processes) as pids:
            spinning.extend(pids)
            yield pids

    def interrupted(self, scan):
        if spinning:
            raise KeyboardInterrupt
        return segmentation([1] * len(scan))

    monkeypatch.setattr(sections, "busy_machine", noticed)
    monkeypatch.setattr(FakeSegmenter, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_benchmark(options(checkpoints, "busy"), TWO_SCANS, clock=fakes.clock)
    assert len(spinning) == 1 and not alive(spinning[0])


def test_the_share_of_others_is_what_was_not_ours():
    begin = Load(average=0, busy=10, own=1, passed=100)
    assert used_by_others(begin, Load(0, busy=16, own=3, passed=110)) == pytest.approx(0.4)
    assert used_by_others(begin, begin) == 0


def test_peak_memory_counts_what_a_scan_needs(monkeypatch, tmp_path):
    size = 96 << 20

    class Greedy(FakeSegmenter):
        def __call__(self, scan):
            held = np.ones(size if len(scan) > 100 else 8, np.uint8)
            return segmentation(held[: len(scan)])

    from pointdistill_ros.benchmark import subjects

    monkeypatch.setattr(subjects, "load_model", lambda *_: None)
    monkeypatch.setattr(subjects, "open_form", lambda *_: Greedy(FakeTime(), "greedy", 0.0))
    scan = cloud(2000)
    np.savez(tmp_path / "scan.npz", xyz=scan.xyz, intensity=scan.intensity)
    job = memory.Job("tiny", "torch", "float32", "cpu", 1, 0, str(tmp_path / "scan.npz"))
    found = memory.measure(job)
    assert found.arena is None and found.first == pytest.approx(found.peak, rel=0.05)
    # the kernel counts resident pages in batches per thread
    assert size - (1 << 20) <= found.peak <= size + (8 << 20)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (99.96, "100"), (0.01234, "0.012"), (1.5, "1.50"), (12345.6, "12346"), (None, "–")],
)
def test_numbers_have_three_digits_that_matter(value, text):
    assert number(value) == text
