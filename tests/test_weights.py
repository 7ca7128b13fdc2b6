# SPDX-License-Identifier: Apache-2.0
"""The shipped networks: what they are, and the labels the student gave when it was released.

`python -m tests.test_weights` records those labels anew after new weights.
"""

from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from pointdistill_ros import LidarScan, Segmenter
from pointdistill_ros.resources import weights_path

DATA = Path(__file__).parent / "data"
SCAN = DATA / "pandaset_003_00.npz"
RECORDED = DATA / "pandaset_003_00.student.npy"

SHIPPED = {
    "student": 2_777_539,
    "student-free": 2_777_539,
    "student-no-intensity": 2_777_539,
    "teacher": 9_014_227,
}
"""Name → parameters."""
LARGEST = {"teacher": 25e6}
"""Bytes; others 6e6."""


@pytest.fixture(scope="module")
def student():
    return Segmenter.load("student", device="cpu")


@pytest.fixture(scope="module", params=SHIPPED)
def shipped(request):
    return request.param, Segmenter.load(request.param, device="cpu")


def test_nothing_else_is_shipped():
    folder = weights_path("student").parent
    references = {f"{name}.drift.json" for name in SHIPPED}  # tests/robustness/test_shipped.py
    assert {path.name for path in folder.iterdir()} - references == {
        f"{name}{ending}" for name in SHIPPED for ending in (".safetensors", ".md")
    }


def test_it_is_small_and_says_what_it_is(shipped):
    name, network = shipped
    path = weights_path(name)
    assert path.stat().st_size <= LARGEST.get(name, 6e6)
    assert network.model_id == name and network.num_parameters == SHIPPED[name]
    assert network.label_set.name == "semantic-kitti"
    assert network.meta.config.xcpe == "stale_off"
    assert network.meta.intensity.missing is not None  # scans without intensity are allowed
    assert network.meta.intensity.used == ("no-intensity" not in name)
    assert ("Not for commercial use" in network.meta.training["licence"]) == ("free" not in name)
    with safe_open(path, framework="np") as file:
        assert {str(file.get_slice(k).get_dtype()) for k in file.keys()} == {"F16", "I64"}  # noqa: SIM118


def test_its_card_belongs_to_it(shipped):
    name, network = shipped
    card = weights_path(name).with_suffix(".md").read_text()
    assert network.weights_sha256 in card and network.meta.training["licence"] in card
    assert "Licence" in card and "semantic-kitti 07" in card


def test_labels_of_a_real_scan_are_the_recorded_ones(student):
    labels = student(LidarScan.read(SCAN)).labels
    recorded = np.load(RECORDED)
    # other processors round differently, which may turn a few points of two equal classes
    assert (labels == recorded).mean() > 0.999


def test_it_works_without_intensity(shipped):
    scan = LidarScan.read(SCAN)
    labels = shipped[1](LidarScan.from_arrays(scan.xyz)).labels
    assert len(labels) == len(scan) and labels.max() < 19


if __name__ == "__main__":
    np.save(RECORDED, Segmenter.load("student", device="cpu")(LidarScan.read(SCAN)).labels)
