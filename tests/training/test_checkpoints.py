# SPDX-License-Identifier: Apache-2.0
"""A state is whole or recognised as damaged, whatever happened to the file."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pointdistill_ros.errors import CheckpointError
from training.checkpoints import Checkpoints, read_state


def saved(folder, steps=(1, 2)):
    checkpoints = Checkpoints(folder)
    for step in steps:
        checkpoints.save(step, {"step": step, "weights": torch.full((50,), float(step))})
    return checkpoints


def test_the_last_two_stay(tmp_path):
    checkpoints = saved(tmp_path, range(5))
    assert [read_state(path)["step"] for path in checkpoints.paths()] == [3, 4]
    assert read_state(checkpoints.find(print))["weights"].equal(torch.full((50,), 4.0))


def test_an_empty_or_missing_folder_has_none(tmp_path):
    assert Checkpoints(tmp_path / "none").find(print) is None


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_a_damaged_one_is_said_aloud_and_the_one_before_used(tmp_path, damage):
    checkpoints = saved(tmp_path)
    newest = checkpoints.paths()[-1]
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes({"cut": content[:-100], "flip": content, "empty": b""}[damage])
    said = []
    assert read_state(checkpoints.find(said.append))["step"] == 1
    assert len(said) == 1 and newest.name in said[0] and "damaged" in said[0]


def test_all_damaged_is_an_error(tmp_path):
    checkpoints = saved(tmp_path)
    for path in checkpoints.paths():
        path.write_bytes(path.read_bytes()[:10])
    with pytest.raises(CheckpointError, match="all 2"):
        checkpoints.find(print)


@settings(max_examples=30)
@given(st.data())
def test_every_truncation_is_recognised(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("c")
    path = saved(folder, [1]).paths()[0]
    content = path.read_bytes()
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(CheckpointError):
        read_state(path)


def test_objects_are_refused_even_with_a_right_checksum(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    path = checkpoints.save(1, {"evil": CheckpointError})
    with pytest.raises(CheckpointError, match="plain values"):
        read_state(path)


def test_what_a_kill_left_behind_is_removed(tmp_path):
    leftover = tmp_path / ".step_00000003-0123456789abcdef.pt.99.tmp"
    checkpoints = saved(tmp_path)
    leftover.write_bytes(b"half")
    assert checkpoints.find(print) == checkpoints.paths()[-1]
    assert not leftover.exists()


def test_a_repeated_step_replaces_the_older_file(tmp_path):
    checkpoints = saved(tmp_path, [1, 2])
    again = checkpoints.save(2, {"step": 2, "again": True})
    assert checkpoints.find(print) == again
    assert len(checkpoints.paths()) == 2
