# SPDX-License-Identifier: Apache-2.0
"""Work counted by hand, peaks of the machine, and how times grow."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pointdistill_ros.benchmark import peaks
from pointdistill_ros.benchmark.parity import prepare
from pointdistill_ros.benchmark.report import exponent
from pointdistill_ros.benchmark.roofline import Geometry, Work, count, limit_seconds, total
from pointdistill_ros.benchmark.subjects import Model
from pointdistill_ros.model import attention
from pointdistill_ros.model.sparse_conv import SubmanifoldConv
from tests.tiny import tiny_config, tiny_meta, tiny_network

from .doubles import cloud


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
