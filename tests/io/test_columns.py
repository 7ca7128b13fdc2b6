# SPDX-License-Identifier: Apache-2.0
"""Units: intensity of any scale to 0..1, times to seconds, rings to uint16."""

import numpy as np
import pytest

from pointdistill_ros.io.columns import (
    INTENSITY_SCALES,
    relative_seconds,
    ring_index,
    scale_intensity,
)

F32 = np.float32


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        ("none", [-1, 0, 0.5, 255, 510]),
        ("unit", [0, 0, 0.5, 1, 1]),
        ("div255", [0, 0, 0.5 / 255, 1, 1]),
        ("div_max", [0, 0, 0.5 / 510, 0.5, 1]),
        ("log", [0, 0, *np.log1p([0.5, 255, 510]) / np.log(65536)]),
        ("tanh", [0, 0, np.tanh(0.5), 1, 1]),
        ("percentile", [0, 0, 0.5 / 510, 0.5, 1]),  # the 99th of five values, rounded up: 510
        ("auto", [0, 0, 0.5 / 510, 0.5, 1]),  # above 255: percentile
    ],
)
def test_scales(scale, expected):
    values = np.array([-1, 0, 0.5, 255, 510], F32)
    np.testing.assert_allclose(scale_intensity(values, scale), expected, atol=1e-6)


def test_auto_goes_by_type_then_by_the_largest_value():
    assert scale_intensity(np.array([0, 1], np.uint8), "auto")[1] == F32(1 / 255)
    assert scale_intensity(np.array([0, 1], F32), "auto").tolist() == [0, 1]
    assert scale_intensity(np.array([0, 1], np.uint16), "auto").tolist() == [0, 1]
    assert scale_intensity(np.array([51, 255], np.uint16), "auto")[0] == pytest.approx(0.2)
    signal = np.arange(1, 3001).astype(np.uint16)
    assert scale_intensity(signal, "auto")[1484] == pytest.approx(0.5, abs=1e-3)


def test_percentile_is_no_slave_of_one_reflector():
    values = np.append(np.linspace(0, 100, 999), 60_000)
    assert scale_intensity(values, "percentile")[500] == pytest.approx(0.505, abs=0.01)
    assert scale_intensity(values, "div_max")[500] < 0.001


@pytest.mark.parametrize("scale", INTENSITY_SCALES)
def test_one_bad_value_spoils_nothing(scale):
    values = np.array([np.nan, np.inf, -np.inf, 0.5, 1e300])
    intensity = scale_intensity(values, scale)
    assert intensity.dtype == F32
    assert intensity[[0, 1, 2, 4]].tolist() == [0, 0, 0, 0]  # 1e300 is no float32 either
    assert 0 < intensity[3] <= 1


@pytest.mark.parametrize("scale", INTENSITY_SCALES)
@pytest.mark.parametrize("values", [[], [0, 0, 0], [1e-40, 0]])
def test_nothing_to_scale_by(scale, values):
    intensity = scale_intensity(np.array(values, F32), scale)
    assert len(intensity) == len(values)
    assert np.isfinite(intensity).all()


def test_input_is_left_alone():
    values = np.array([0, 255], F32)
    scale_intensity(values, "div255")
    assert values.tolist() == [0, 255]


def test_integers_are_nanoseconds():
    times = np.array([0, 100_000_000, 2**32 - 1], np.uint32)
    np.testing.assert_allclose(relative_seconds(times, 123), [0, 0.1, 4.294967295], rtol=1e-6)
    assert relative_seconds(np.array([-50_000_000], np.int32), 0)[0] == F32(-0.05)


def test_floats_are_seconds_unless_they_must_be_absolute():
    stamp_ns = 1_700_000_000_500_000_000
    for offset in (0, 1.7e9 + 0.5):
        times = offset + np.array([-0.1, 0, np.nan, 0.05])
        expected = [-0.1, 0, np.nan, 0.05]
        np.testing.assert_allclose(relative_seconds(times, stamp_ns), expected, atol=1e-6)
    times = 1.7000000005e18 + np.array([0, 1e8])
    np.testing.assert_allclose(relative_seconds(times, stamp_ns), [0, 0.1], atol=1e-6)


def test_rings():
    assert ring_index(np.array([0, 255], np.uint8)).tolist() == [0, 255]
    assert ring_index(np.array([-3, 70_000], np.int32)).tolist() == [0, 65535]
    assert ring_index(np.array([np.nan, np.inf, 3.7, -np.inf])).tolist() == [0, 65535, 3, 0]


def test_rings_of_half_precision():
    half = np.array([0, 63, np.inf, np.nan, -1], np.float16)
    assert ring_index(half).tolist() == [0, 63, 65535, 0, 0]
