# SPDX-License-Identifier: Apache-2.0
"""Shapes beyond the paper's: what they hold, and that files remember them."""

import json
from dataclasses import asdict, replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from pointdistill_ros.checkpoint import load_checkpoint, save_checkpoint
from pointdistill_ros.config import load_config
from pointdistill_ros.errors import ConfigError
from pointdistill_ros.model.ptv3 import PTv3, PTv3Config
from pointdistill_ros.resources import config_path
from tests.tiny import tiny_config, tiny_meta

PAPER = 2_777_539
STARTS = {"student-rt-g": 2_692_227, "student-rt-d": 2_300_755, "student-rt-litept": 2_523_379}


def shipped(name):
    return load_config(PTv3Config, config_path(f"models/{name}.yaml"))


@pytest.mark.parametrize(("name", "parameters"), STARTS.items())
def test_the_starting_shapes_are_no_larger_than_the_papers_student(name, parameters):
    config = shipped(name)
    with torch.device("meta"):
        network = PTv3(config)
    assert sum(p.numel() for p in network.parameters()) == parameters <= PAPER
    blocks = [block for stage in network.encoder for block in stage.blocks]
    assert [block.attention is not None for block in blocks] == [
        heads > 0
        for heads, depth in zip(config.encoder_heads, config.encoder_depths, strict=True)
        for _ in range(depth)
    ]
    assert not any(len(stage.blocks) for stage in network.decoder)


def test_a_block_without_heads_has_no_weights_of_attention():
    names = set(PTv3(tiny_config(encoder_heads=(0, 2))).state_dict())
    assert not any(n.startswith("encoder.0") and "attention" in n for n in names)
    assert any(n.startswith("encoder.1") and "attention" in n for n in names)


def test_deep_blocks_may_lack_the_convolution():
    config = tiny_config(
        encoder_depths=(2, 3), encoder_heads=(0, 2), decoder_depths=(2,), deep_xcpe=False
    )
    network = PTv3(config)
    found = [[b.conv is not None for b in s.blocks] for s in (*network.encoder, *network.decoder)]
    assert found == [[True, True], [True, False, False], [True, False]]
    assert not any(n.startswith("encoder.1.blocks.1.conv") for n in network.state_dict())


def test_a_file_remembers_its_shape(tmp_path):
    config = tiny_config(
        encoder_heads=(0, 2), decoder_heads=(0,), stem_size=3, mlp_ratio=2, deep_xcpe=False
    )
    network = PTv3(config).eval()
    save_checkpoint(tmp_path / "rt.safetensors", network, tiny_meta(config), torch.float32)
    loaded, meta = load_checkpoint(tmp_path / "rt.safetensors")
    assert meta.config == loaded.config == config
    assert all(torch.equal(v, network.state_dict()[n]) for n, v in loaded.state_dict().items())


def test_a_file_of_before_reads_as_ever(tmp_path):
    network, path = PTv3(tiny_config()).eval(), tmp_path / "old.safetensors"
    save_checkpoint(path, network, tiny_meta())
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["pointdistill"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    del header["config"]["stem_size"], header["config"]["deep_xcpe"]  # younger than the format
    save_file(tensors, path, metadata={"pointdistill": json.dumps(header)})
    assert load_checkpoint(path)[1].config == tiny_config()


def test_walks_count_what_attends():
    config = tiny_config(encoder_depths=(3, 6), decoder_depths=(2,))
    assert config.walks == (3, 4)
    assert replace(config, encoder_heads=(0, 2)).walks == (2, 4)
    assert replace(config, encoder_heads=(0, 0), decoder_heads=(0,)).walks == (0, 0)
    assert replace(config, encoder_heads=(0, 2), decoder_depths=(0,)).walks == (0, 4)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"stem_size": 4}, "stem_size"),
        ({"encoder_heads": (-1, 2)}, "multiple of heads"),
        ({"decoder_depths": (-1,)}, "decoder depths"),
    ],
)
def test_impossible_shapes_are_refused(tmp_path, change, complaint):
    path = tmp_path / "model.yaml"
    path.write_text(json.dumps(asdict(tiny_config()) | change))
    with pytest.raises(ConfigError, match=complaint):
        load_config(PTv3Config, path)
