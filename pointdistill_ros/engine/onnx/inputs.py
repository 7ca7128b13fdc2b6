# SPDX-License-Identifier: Apache-2.0
"""What an exported network reads: features of one scan and its geometry as indices.

``input_specs`` is the contract (docs/export.md prints it), ``onnx_inputs`` fills it in from a
pyramid. One scan at a time: patches of a batch would have different lengths.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pointdistill_ros.errors import ScanError
from pointdistill_ros.model.config import PTv3Config
from pointdistill_ros.model.neighbours import NeighbourTable
from pointdistill_ros.model.pyramid import CurveOrder, VoxelPyramid

Target = Literal["cpu", "gpu"]


@dataclass(frozen=True)
class InputSpec:
    """One input of an exported network."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    """Sizes; a name stands for a size that changes from scan to scan."""
    meaning: str


def stem_table(config: PTv3Config) -> str:
    """Ending of the names of the stem's tables; a stem of 3³ reads those of the blocks."""
    return "0" if config.stem_size == 3 else "_stem"


def input_specs(config: PTv3Config, target: Target = "cpu") -> list[InputSpec]:
    """Every input in order, for any network of this shape."""
    specs = [
        InputSpec(
            "features",
            "float32",
            ("n0", config.in_channels),
            "one row per voxel, as the network was trained: x, y, z in metres and intensity",
        ),
        *(_neighbour_specs("_stem", "0", 5, target) if config.stem_size == 5 else ()),
    ]
    for s in range(len(config.encoder_depths)):
        specs += _stage_specs(config, target, s)
    return specs


def _stage_specs(config: PTv3Config, target: Target, s: int) -> list[InputSpec]:
    n, specs = f"n{s}", []
    if s:
        meaning = f"rows of stage {s - 1} inside each voxel; shorter lists repeat one of theirs"
        specs.append(InputSpec(f"children{s}", "int32", (n, f"c{s}"), meaning))
    for slot in range(config.walks[s]):
        curve = config.curves[config.permutation[s][slot]]
        rows = (
            f"rows along the {curve} curve in patches of k{s} = min(n{s}, {config.patch_sizes[s]});"
            f" the last patch is the last k{s} positions"
        )
        place = f"place of each row in walk{s}_{slot}, counted patch after patch"
        if slot == 0:
            place += (
                "; a row that stands twice is taken from the last patch only if no other has it"
            )
        specs.append(InputSpec(f"walk{s}_{slot}", "int32", (f"p{s}", f"k{s}"), rows))
        specs.append(InputSpec(f"place{s}_{slot}", "int32", (n,), place))
    specs += _neighbour_specs(str(s), str(s), 3, target)
    if s + 1 < len(config.encoder_depths):
        meaning = f"row of stage {s + 1} that encloses each voxel"
        specs.append(InputSpec(f"parent{s}", "int32", (n,), meaning))
    return specs


def _neighbour_specs(table: str, s: str, size: int, target: Target) -> list[InputSpec]:
    """Who touches whom in a kernel of size³ over the voxels of stage s."""
    half = size // 2
    offset = f"(dx, dy, dz) − {half}"
    if target == "gpu":
        meaning = f"row of the voxel at {offset} of each voxel; n{s} where there is none. Column "
        meaning += f"{size * size}·dx + {size}·dy + dz; the centre is the voxel itself"
        return [InputSpec(f"neighbours{table}", "int32", (f"n{s}", size**3), meaning)]
    lists = size**3 // 2
    order = f"{size * size}·dx + {size}·dy + dz"
    return [
        InputSpec(
            f"pair_counts{table}",
            "int64",
            (lists,),
            f"pairs of each offset k = {order} < {lists}; offset {size**3 - 1} − k is its mirror",
        ),
        InputSpec(
            f"pair_rows{table}", "int64", (f"m{table}", 1), "row of a voxel, grouped by offset"
        ),
        InputSpec(
            f"pair_mates{table}",
            "int64",
            (f"m{table}", 1),
            f"row of the voxel at {offset} of that voxel",
        ),
    ]


def onnx_inputs(
    features: Tensor, pyramid: VoxelPyramid, config: PTv3Config, target: Target = "cpu"
) -> dict[str, NDArray[Any]]:
    """The inputs of one scan. features: float [n, in]; raises ScanError for a batch of scans."""
    stages = pyramid.stages
    if len(stages[0].offsets) != 2:
        raise ScanError(
            f"exported networks run one scan at a time, got {len(stages[0].offsets) - 1}"
        )
    inputs: dict[str, NDArray[Any]] = {
        "features": features.detach().cpu().float().contiguous().numpy()
    }
    if config.stem_size == 5:
        inputs |= _neighbours("_stem", pyramid.stem, len(pyramid), target)
    for s, stage in enumerate(stages):
        if s:
            inputs[f"children{s}"] = _children(_rows(stages[s - 1].parent), len(stage))
        for slot in range(config.walks[s]):
            walk = stage.orders[slot % len(stage.orders)]
            rows, place = _patches(walk, config.patch_sizes[s])
            inputs[f"walk{s}_{slot}"], inputs[f"place{s}_{slot}"] = rows, place
        inputs |= _neighbours(str(s), stage.neighbours, len(stage), target)
        if stage.parent is not None:
            inputs[f"parent{s}"] = _rows(stage.parent)
    return inputs


def _rows(index: Tensor | None) -> NDArray[np.int32]:
    assert index is not None
    return index.cpu().numpy().astype(np.int32)


def _patches(walk: CurveOrder, patch_size: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Rows [patches, K] and the place of every row among them, [n]."""
    order, position = _rows(walk.order), _rows(walk.inverse)
    n = len(order)
    size = min(patch_size, n)
    full = n - n % size
    if full == n:
        return order.reshape(-1, size), position
    rows = np.concatenate([order[:full], order[n - size :]]).reshape(-1, size)
    return rows, np.where(position < full, position, position + (rows.size - n)).astype(np.int32)


def _children(parent: NDArray[np.int32], parents: int) -> NDArray[np.int32]:
    """[parents, largest number of children]; shorter lists repeat their first child."""
    order = np.argsort(parent, kind="stable").astype(np.int32)
    counts = np.bincount(parent, minlength=parents)
    first = np.cumsum(counts) - counts
    column = np.arange(counts.max())
    column = np.where(column < counts[:, None], column, 0)
    children: NDArray[np.int32] = order[first[:, None] + column]
    return children


def _neighbours(
    name: str, table: NeighbourTable, n: int, target: Target
) -> dict[str, NDArray[Any]]:
    offsets = table.size**3
    rows, mates = table.output_rows.cpu().numpy(), table.input_rows.cpu().numpy()
    if target == "cpu":
        counts = np.array(table.counts[: offsets // 2], np.int64)
        half = int(counts.sum())
        return {
            f"pair_counts{name}": counts,
            f"pair_rows{name}": rows[:half, None],
            f"pair_mates{name}": mates[:half, None],
        }
    dense = np.full((n, offsets), n, np.int32)
    dense[:, offsets // 2] = np.arange(n)
    dense[rows, np.repeat(np.arange(offsets), table.counts)] = mates
    return {f"neighbours{name}": dense}
