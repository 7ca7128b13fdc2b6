# SPDX-License-Identifier: Apache-2.0
"""When two engines agree, and the networks they are given."""

import numpy as np
import pytest
import torch

from pointdistill_ros.benchmark.parity import compare, prepare
from pointdistill_ros.benchmark.subjects import calibrate, forms_named, load_model
from pointdistill_ros.errors import ConfigError

from .doubles import cloud, segmentation


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
    with pytest.raises(ConfigError, match=r"unknown model 'studnet'; known: student, .*, teacher"):
        load_model("studnet")
