# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: whole files, safetensors headers over true bytes, our own header over true weights.

Where a network comes out, it has exactly the file's entries.
"""

import json
import struct
import warnings

import torch
from safetensors.torch import load, save

from pointdistill_ros.checkpoint import load_checkpoint, save_checkpoint
from pointdistill_ros.model.ptv3 import PTv3, PTv3Config
from tests.fuzz.target import Target, holding
from tests.tiny import tiny_meta

_FILE, _ENTRIES, _HEADER = b"f", b"e", b"h"
_CONFIG = PTv3Config(
    num_classes=19,
    encoder_depths=(1,),
    encoder_channels=(1,),
    encoder_heads=(1,),
    decoder_depths=(),
    decoder_channels=(),
    decoder_heads=(),
    strides=(),
    patch_sizes=(8,),
    mlp_ratio=1,
)


def _whole() -> bytes:
    torch.manual_seed(0)
    path = holding("seed.safetensors", b"")
    save_checkpoint(path, PTv3(_CONFIG), tiny_meta(_CONFIG))
    return path.read_bytes()


WHOLE = _whole()
_LENGTH = struct.unpack("<Q", WHOLE[:8])[0]
ENTRIES, BODY = WHOLE[8 : 8 + _LENGTH], WHOLE[8 + _LENGTH :]
HEADER = json.loads(ENTRIES)["__metadata__"]["pointdistill"].encode()
TENSORS = load(WHOLE)


def check(data: bytes) -> None:
    kind, content = data[:1], data[1:]
    if kind == _HEADER:
        text = content.decode("utf-8", "replace")
        content = save(TENSORS, metadata={"pointdistill": text})
    elif kind == _ENTRIES:
        content = struct.pack("<Q", len(content)) + content + BODY
    network, meta = load_checkpoint(holding("a.safetensors", content))
    assert network.config == meta.config
    assert len(meta.label_set) == meta.config.num_classes
    held = sum(tensor.numel() for tensor in network.state_dict().values())
    assert held <= 8 * len(content)
    json.dumps([meta.model_id, *meta.label_set.names]).encode("utf-8")
    assert meta.label_set.palette.shape == (256, 3)


def seeds() -> dict[str, bytes]:
    return {"file": _FILE + WHOLE, "entries": _ENTRIES + ENTRIES, "header": _HEADER + HEADER}


warnings.filterwarnings("ignore", "Initializing zero-element tensors", UserWarning)
TARGET = Target("checkpoint", check, seeds, share=4, max_len=8192)
