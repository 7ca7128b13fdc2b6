# SPDX-License-Identifier: Apache-2.0
import pickle

import numpy as np
import pytest
import torch

from pointdistill_ros.errors import CheckpointError
from pointdistill_ros.model.ptv3 import PTv3
from pointdistill_ros.public_weights import load_public, read_public
from tests.model import reference


def fresh():
    return PTv3(reference.case_config("b"))


def as_layout(state, axes):
    return {n: t.permute(axes).contiguous() if t.dim() == 5 else t for n, t in state.items()}


def assert_equal_states(network):
    expected = reference.case_network("b", network.config).state_dict()
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


def test_a_pointcept_checkpoint_file_loads(tmp_path):
    path = tmp_path / "model_best.pth"
    state = {f"module.{n}": t for n, t in reference.case_state("b").items()}
    torch.save(
        {"epoch": 50, "state_dict": state, "optimizer": {}, "best_metric_value": np.float64(0.8)},
        path,
    )
    network = fresh()
    load_public(network, read_public(path), str(path))
    assert_equal_states(network)


def test_a_bare_state_dict_with_the_unused_embedding_loads(tmp_path):
    path = tmp_path / "student.pth"
    state = {n.removeprefix("backbone."): t for n, t in reference.case_state("b").items()}
    torch.save(state | {"embedding_table.weight": torch.zeros(3, 256)}, path)
    network = fresh()
    load_public(network, read_public(path), str(path))
    assert_equal_states(network)


@pytest.mark.parametrize("axes", [(1, 2, 3, 0, 4), (1, 2, 3, 4, 0)], ids=["kkkoi", "kkkio"])
def test_old_convolution_layouts_are_detected(axes):
    network = fresh()
    load_public(network, as_layout(reference.case_state("b"), axes), "old")
    assert_equal_states(network)


def test_an_ambiguous_layout_must_be_named():
    square = reference.case_config("b", in_channels=16)
    state = as_layout(PTv3(square).state_dict(), (1, 2, 3, 4, 0))
    with pytest.raises(CheckpointError, match="layout="):
        load_public(PTv3(square), state, "old")
    network = PTv3(square)
    load_public(network, state, "old", layout="kkkio")


def test_every_entry_that_does_not_fit_is_listed():
    state = reference.case_state("b")
    del state["seg_head.bias"]
    state["seg_head.extra"] = torch.zeros(1)
    state["backbone.enc.enc0.block0.mlp.0.fc1.bias"] = torch.zeros(3)
    network = fresh()
    before = {n: t.clone() for n, t in network.state_dict().items()}
    with pytest.raises(CheckpointError) as error:
        load_public(network, state, "broken.pth")
    for part in (
        "broken.pth: 3 entries",
        "missing head.bias",
        "surplus head.extra",
        "[3], expected [64]",
    ):
        assert part in str(error.value)
    assert all(torch.equal(t, before[n]) for n, t in network.state_dict().items())


class Evil:
    def __reduce__(self):
        return (print, ("code ran",))


def test_a_pickle_that_would_run_code_is_refused(tmp_path, capsys):
    path = tmp_path / "evil.pth"
    torch.save({"state_dict": Evil()}, path)
    with pytest.raises(CheckpointError, match=r"evil\.pth"):
        read_public(path)
    path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(CheckpointError, match=r"evil\.pth"):
        read_public(path)
    assert "code ran" not in capsys.readouterr().out
