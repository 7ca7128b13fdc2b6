# SPDX-License-Identifier: Apache-2.0
"""Reference values computed with the public PTv3 code (tests/data/ptv3_tiny.safetensors)."""

import json
from functools import cache
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file

from pointdistill_ros.model.ptv3 import PTv3, PTv3Config
from pointdistill_ros.public_weights import load_public

PATH = Path(__file__).parents[1] / "data" / "ptv3_tiny.safetensors"


@cache
def tensors() -> dict[str, torch.Tensor]:
    return load_file(PATH)


@cache
def info() -> dict:
    with safe_open(PATH, framework="pt") as file:
        return json.loads(file.metadata()["info"])


def case_config(case: str, **changes) -> PTv3Config:
    public = info()[case]["config"]
    values = {
        "num_classes": public["num_classes"],
        "encoder_depths": tuple(public["enc_depths"]),
        "encoder_channels": tuple(public["enc_channels"]),
        "encoder_heads": tuple(public["enc_num_head"]),
        "decoder_depths": tuple(public["dec_depths"]),
        "decoder_channels": tuple(public["dec_channels"]),
        "decoder_heads": tuple(public["dec_num_head"]),
        "strides": tuple(public["stride"]),
        "patch_sizes": tuple(public["enc_patch_size"]),
        "curves": tuple(public["order"]),
    }
    return PTv3Config(**(values | changes))


def case_state(case: str) -> dict[str, torch.Tensor]:
    prefix = f"{case}/state/"
    return {n.removeprefix(prefix): t for n, t in tensors().items() if n.startswith(prefix)}


def case_input(case: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features, coords, scan index."""
    t = tensors()
    sizes = torch.diff(t[f"{case}/in/offset"], prepend=torch.tensor([0], dtype=torch.int32))
    scan = torch.repeat_interleave(torch.arange(len(sizes)), sizes.long())
    return t[f"{case}/in/feat"], t[f"{case}/in/grid_coord"].long(), scan


def case_network(case: str, config: PTv3Config) -> PTv3:
    network = PTv3(config)
    load_public(network, case_state(case), "reference")
    return network.eval()
