# SPDX-License-Identifier: Apache-2.0
"""Tiny networks in files, and fake engines in the place of real ones."""

import pytest

from pointdistill_ros.benchmark import setting
from pointdistill_ros.checkpoint import save_checkpoint
from tests.tiny import tiny_meta, tiny_network

from .doubles import FakeSegmenter, FakeTime


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
