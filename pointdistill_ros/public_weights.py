# SPDX-License-Identifier: Apache-2.0
"""Weights of the public PTv3 and PointDistill code → our network, strictly.

- names: Pointcept checkpoints (``module.``, ``backbone.``, ``seg_head.``) and bare PTv3 state dicts
- convolution layout found by the position of the three kernel axes
- unpickling is weights-only; missing, surplus and misshapen entries are listed, never skipped
"""

from __future__ import annotations

import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from pointdistill_ros.errors import CheckpointError
from pointdistill_ros.io.regular import why_no_file
from pointdistill_ros.model.ptv3 import PTv3

ConvLayout = Literal["okkki", "kkkoi", "kkkio"]
"""Axes of a convolution weight: spconv ≥ 2.2; spconv 2.0–2.1 native; spconv 1.x."""

_RENAMES = (
    (r"^module\.", ""),
    (r"^backbone\.", ""),
    (r"^seg_head\.", "head."),
    (r"^embedding\.stem\.", "stem."),
    (r"^enc\.enc(\d+)\.down\.proj\.", r"encoder.\1.pooling.proj."),
    (r"^enc\.enc(\d+)\.down\.norm\.0\.", r"encoder.\1.pooling.norm."),
    (r"^enc\.enc(\d+)\.block(\d+)\.", r"encoder.\1.blocks.\2."),
    (r"^dec\.dec(\d+)\.up\.proj\.0\.", r"decoder.\1.unpooling.proj."),
    (r"^dec\.dec(\d+)\.up\.proj\.1\.", r"decoder.\1.unpooling.norm."),
    (r"^dec\.dec(\d+)\.up\.proj_skip\.0\.", r"decoder.\1.unpooling.skip_proj."),
    (r"^dec\.dec(\d+)\.up\.proj_skip\.1\.", r"decoder.\1.unpooling.skip_norm."),
    (r"^dec\.dec(\d+)\.block(\d+)\.", r"decoder.\1.blocks.\2."),
    (r"\.cpe\.0\.", ".conv."),
    (r"\.cpe\.1\.", ".conv_linear."),
    (r"\.cpe\.2\.", ".conv_norm."),
    (r"\.norm1\.0\.", ".attention_norm."),
    (r"\.attn\.", ".attention."),
    (r"\.norm2\.0\.", ".mlp_norm."),
    (r"\.mlp\.0\.", "."),
)
# HySonLab's class carries an Embedding(3, 256) that nothing reads.
_UNUSED = {"embedding_table.weight"}


def our_name(public: str) -> str:
    """Name of a public state-dict entry in our network."""
    for pattern, replacement in _RENAMES:
        public = re.sub(pattern, replacement, public)
    return public


def read_public(path: Path) -> dict[str, Tensor]:
    """State dict of a public checkpoint file. Raises CheckpointError; runs no code of the file."""
    from numpy import dtype, float64

    if problem := why_no_file(path):
        raise CheckpointError(f"{path}: {problem}")

    core = "numpy._core.multiarray" if find_spec("numpy._core") else "numpy.core.multiarray"
    scalar = import_module(core).scalar
    # Pointcept stores best_metric_value as a numpy scalar; nothing else beyond tensors is allowed.
    with torch.serialization.safe_globals([scalar, dtype, type(dtype(float64)), float64]):
        try:
            data = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise CheckpointError(f"{path}: not a weights-only checkpoint ({reason})") from error
    state = data.get("state_dict", data) if isinstance(data, dict) else None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise CheckpointError(f"{path}: holds no state dict")
    return state


def load_public(
    network: PTv3, state: dict[str, Tensor], source: str, layout: ConvLayout | None = None
) -> None:
    """Copy public weights into ``network``; all or nothing.

    The mode the weights were trained in is the caller's to know: build the network with it (for
    the published files of 2023-12 and 2024-02 it is ``legacy``); shapes cannot tell.
    layout: needed only where the two old layouts cannot be told apart (square convolutions).
    Raises CheckpointError that lists every missing, surplus and misshapen entry.
    """
    found = {our_name(n): t for n, t in state.items() if n.rsplit("backbone.")[-1] not in _UNUSED}
    expected = network.state_dict()
    problems = [f"missing {name}" for name in sorted(expected.keys() - found.keys())]
    problems += [f"surplus {name}" for name in sorted(found.keys() - expected.keys())]
    layout = layout or _detect_layout(found, expected, source)
    for name in sorted(expected.keys() & found.keys()):
        if expected[name].dim() == 5:
            found[name] = _to_okkki(found[name], layout)
        if found[name].shape != expected[name].shape:
            got, want = list(found[name].shape), list(expected[name].shape)
            problems.append(f"misshapen {name}: {got}, expected {want}")
    if problems:
        raise CheckpointError(
            f"{source}: {len(problems)} entries do not fit: " + "; ".join(problems)
        )
    network.load_state_dict({name: found[name] for name in expected})


def _detect_layout(
    found: dict[str, Tensor], expected: dict[str, Tensor], source: str
) -> ConvLayout:
    """Layout of all convolutions, from the first one whose shape fits only one layout."""
    layouts: tuple[ConvLayout, ...] = ("okkki", "kkkoi", "kkkio")
    possible = set(layouts)
    for name, weight in found.items():
        if name in expected and expected[name].dim() == 5 and weight.dim() == 5:
            want = expected[name].shape
            possible &= {x for x in layouts if _to_okkki(weight, x).shape == want}
    if len(possible) == 1:
        return possible.pop()
    if not possible:
        return "okkki"  # the misshapen entries are listed by the caller
    raise CheckpointError(
        f"{source}: convolution layout is one of {sorted(possible)}; name it with layout="
    )


def _to_okkki(weight: Tensor, layout: ConvLayout) -> Tensor:
    if weight.dim() != 5 or layout == "okkki":
        return weight
    return weight.permute(3, 0, 1, 2, 4) if layout == "kkkoi" else weight.permute(4, 0, 1, 2, 3)
