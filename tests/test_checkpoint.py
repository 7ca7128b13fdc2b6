# SPDX-License-Identifier: Apache-2.0
import json
import struct
from dataclasses import replace

import pytest
import torch

from pointdistill_ros.checkpoint import load_checkpoint, save_checkpoint
from pointdistill_ros.errors import CheckpointError
from pointdistill_ros.labels import LabelSet
from tests.tiny import tiny_meta, tiny_network


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "tiny.safetensors"
    network, meta = tiny_network(), tiny_meta()
    save_checkpoint(path, network, meta, dtype=torch.float32)
    return path, network, meta


def test_round_trip(saved):
    path, network, meta = saved
    loaded, header = load_checkpoint(path)
    assert header == meta
    assert not loaded.training
    for name, tensor in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)


def test_half_precision_halves_the_file(saved, tmp_path):
    path, network, meta = saved
    half = tmp_path / "half.safetensors"
    save_checkpoint(half, network, meta)
    assert half.stat().st_size < 0.7 * path.stat().st_size
    loaded, _ = load_checkpoint(half)
    for name, tensor in network.state_dict().items():
        assert loaded.state_dict()[name].dtype == tensor.dtype
        torch.testing.assert_close(loaded.state_dict()[name], tensor, atol=1e-3, rtol=1e-3)


def test_mode_and_permutation_travel(tmp_path):
    shuffled = ((2, 0, 1, 3), (3, 1, 0, 2))
    network = tiny_network(xcpe="legacy", permutation=shuffled)
    save_checkpoint(tmp_path / "a.safetensors", network, tiny_meta(network.config))
    _, header = load_checkpoint(tmp_path / "a.safetensors")
    assert header.config.xcpe == "legacy"
    assert header.config.permutation == shuffled


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.99])
def test_a_truncated_file_is_recognised(saved, share):
    path, _, _ = saved
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(CheckpointError, match=r"tiny\.safetensors"):
        load_checkpoint(path)


def edit_header(path, change):
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    ours = json.loads(header["__metadata__"]["pointdistill"])
    change(ours)
    header["__metadata__"]["pointdistill"] = json.dumps(ours)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda h: h.update(format=2), "format 2"),
        (lambda h: h.pop("grid_size"), "grid_size"),
        (lambda h: h.update(grid_size=-1), "grid size"),
        (lambda h: h["config"].update(num_classes=20), "classes"),
        (lambda h: h["config"].update(encoder_channels=[16, 64]), "misshapen"),
        (lambda h: h["config"].update(encoder_depths=[1, 3]), "missing encoder"),
        (lambda h: h["config"].update(typo=1), "typo"),
        (lambda h: h["label_set"].pop("classes"), "classes"),
    ],
)
def test_a_wrong_header_is_named(saved, change, complaint):
    path, _, _ = saved
    edit_header(path, change)
    with pytest.raises(CheckpointError, match=complaint):
        load_checkpoint(path)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="no such"):
        load_checkpoint(tmp_path / "nothing.safetensors")
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(CheckpointError, match="no PointDistill header"):
        load_checkpoint(tmp_path / "foreign.safetensors")


def test_nan_weights_are_refused(tmp_path):
    network = tiny_network()
    torch.nn.init.constant_(network.head.bias, float("nan"))
    save_checkpoint(tmp_path / "nan.safetensors", network, tiny_meta())
    with pytest.raises(CheckpointError, match="NaN"):
        load_checkpoint(tmp_path / "nan.safetensors")


def test_a_header_that_does_not_fit_is_not_written(tmp_path):
    wrong = replace(tiny_meta(), label_set=LabelSet.named("common7"))
    with pytest.raises(CheckpointError, match="disagree"):
        save_checkpoint(tmp_path / "wrong.safetensors", tiny_network(), wrong)
    assert list(tmp_path.iterdir()) == []
