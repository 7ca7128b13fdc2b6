# SPDX-License-Identifier: Apache-2.0
"""Local relations: neighbouring voxels are as alike to the student as they are to the teacher.

With a_ij the cosine of the features of voxel i and its neighbour j (3³ neighbourhood):

affinity     L = Σ_ij w_ij (a^S_ij − a^T_ij)² / Σ_ij w_ij

    what PVD (Hou et al., arXiv 2206.02099) and SRKD (arXiv 2506.17290) ask of all pairs of a patch
    or a scan, asked of touching voxels, where the boundaries of objects are.

structure    p_i· = softmax_j (a_ij / τ),   L = Σ_i w_i m_i KL(p^T_i ‖ p^S_i) / Σ_i w_i m_i

    the local graph of PointDistiller (Zhang et al., arXiv 2205.11098) with its reweighting: the
    importance of a voxel is the largest channel of the teacher's feature, and m the softmax of it
    over the sampled voxels. There, edges of both networks pass learned layers, which the loss
    itself can turn to 0; here the edges are cosines, compared as local distributions (local
    structure preserving, Yang et al., arXiv 2003.10477), and nothing is learned. It asks which
    neighbours are the alike ones, not how alike they are.

- the networks may differ in width; the teacher gets no gradient
- pairs count where both ends count (weight > 0, finite); a voxel without neighbours never does
- pairs or voxels are sampled: a fine stage has ten neighbours per voxel
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pointdistill_ros.errors import ConfigError
from pointdistill_ros.model.neighbours import NeighbourTable
from training.losses.voxel_weights import at_least_single, finite_rows, weighted_mean


def affinity_loss(
    student: Tensor,
    teacher: Tensor,
    neighbours: NeighbourTable,
    weights: Tensor | None = None,
    pairs: int | None = 8192,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Mean squared difference of the cosines of neighbouring voxels, a scalar.

    student: float [n, C_S], teacher: float [n, C_T] features of the same rows; neighbours: of their
    stage; weights: float [n] ≥ 0, None = equal, a pair weighs the mean of its ends; pairs: how many
    to draw (with replacement, by ``generator``) where there are more, None = all.
    Where nothing counts the loss is 0 and still part of the student's graph. Raises ConfigError for
    rows that do not match.

    >>> table = NeighbourTable(3, torch.tensor([0, 1]), torch.tensor([1, 0]), (1, *[0] * 25, 1))
    >>> alike, apart = torch.ones(2, 3), torch.eye(2)
    >>> round(affinity_loss(alike, apart, table).item(), 4)
    1.0
    """
    student, teacher, weight = _prepare(student, teacher, weights)
    rows, others = _each_pair_once(neighbours)
    if pairs is not None and len(rows) > pairs:
        drawn = torch.randint(len(rows), (pairs,), generator=generator, device=rows.device)
        rows, others = rows[drawn], others[drawn]
    difference = _cosines(student, rows, others) - _cosines(teacher, rows, others)
    first, second = weight[rows], weight[others]
    pair = (first + second) / 2 * (first > 0) * (second > 0)
    return weighted_mean(difference.square(), pair)


def structure_loss(
    student: Tensor,
    teacher: Tensor,
    neighbours: NeighbourTable,
    weights: Tensor | None = None,
    voxels: int | None = 1024,
    temperature: float = 0.1,
    focus: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Divergence of the local distributions over neighbours, important voxels first, a scalar ≥ 0.

    student: float [n, C_S], teacher: float [n, C_T] features of the same rows; neighbours: of their
    stage; weights: float [n] ≥ 0, None = equal; voxels: how many to draw (by ``generator``) where
    there are more, None = all, each with all its neighbours; temperature: τ of the distributions;
    focus: 0 = all voxels alike, else m = softmax(focus · importance), standardised.
    A voxel with fewer than two neighbours that count has no structure. Where nothing counts the
    loss is 0 and still part of the student's graph. Raises ConfigError for rows that do not match
    and a temperature ≤ 0.

    >>> rows, others = torch.tensor([0, 0, 1, 2]), torch.tensor([1, 2, 0, 0])
    >>> table = NeighbourTable(3, rows, others, (1, 1, *[0] * 23, 1, 1))
    >>> teacher = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])  # 0 is like 1, unlike 2
    >>> student = teacher[[0, 2, 1]].requires_grad_()  # the other way round
    >>> round(structure_loss(student, teacher, table, temperature=1.0).item(), 4)  # tanh 1/2
    0.4621
    """
    if not temperature > 0:
        raise ConfigError(f"the temperature of relations must be above 0, got {temperature}")
    student, teacher, weight = _prepare(student, teacher, weights)
    first, second = _each_pair_once(neighbours)
    centre = torch.ones(len(student), dtype=torch.bool, device=first.device)
    if voxels is not None and len(student) > voxels:
        drawn = torch.randperm(len(student), generator=generator, device=first.device)[:voxels]
        centre = torch.zeros_like(centre).index_fill(0, drawn, True)
        picked = (centre[first] | centre[second]).nonzero().squeeze(1)
        first, second = first[picked], second[picked]
    rows, others = torch.cat([first, second]), torch.cat([second, first])  # and back
    both = (centre & (weight > 0))[rows] & (weight > 0)[others]
    both = both.to(student.dtype)  # [P] 1 where the pair counts
    log_q, log_p = (
        _local_log_softmax(_cosines(x, first, second).repeat(2), rows, both, temperature, student)
        for x in (student, teacher)
    )
    zeros = student.new_zeros(len(student))
    divergence = zeros.index_add(0, rows, both * log_p.exp() * (log_p - log_q))
    counts = zeros.index_add(0, rows, both) > 1.5  # two neighbours
    return weighted_mean(divergence, weight * counts * _importance(teacher, counts, focus))


def _importance(teacher: Tensor, counts: Tensor, focus: float) -> Tensor:
    """[n] softmax over the rows that count of the teacher's largest channel, standardised."""
    if focus == 0:
        return torch.ones_like(teacher[:, 0])
    peak, share = teacher.amax(1), counts.to(teacher.dtype)
    mean = weighted_mean(peak, share)
    spread = weighted_mean((peak - mean).square(), share).sqrt().clamp(min=1e-6)
    return (focus * (peak - mean) / spread).masked_fill(~counts, -1e9).softmax(0)


def _prepare(
    student: Tensor, teacher: Tensor, weights: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Features in float32 with 0 in rows that are not finite, and the weight of every row."""
    if len(student) != len(teacher):
        raise ConfigError(
            f"features of {len(student)} (student) and {len(teacher)} (teacher) rows; relations "
            "are compared row by row"
        )
    finite = finite_rows(student, teacher)
    x = at_least_single(student).where(finite[:, None], 0)
    y = at_least_single(teacher.detach()).where(finite[:, None], 0).to(x.dtype)
    weight = finite.to(x.dtype)
    return x, y, weight if weights is None else weight * weights


def _each_pair_once(neighbours: NeighbourTable) -> tuple[Tensor, Tensor]:
    """[P / 2] rows of both ends: the second half of a table mirrors the first."""
    half = sum(neighbours.counts[: neighbours.size**3 // 2])
    return neighbours.output_rows[:half], neighbours.input_rows[:half]


def _cosines(x: Tensor, rows: Tensor, others: Tensor) -> Tensor:
    """[P] cosine of rows of x [n, C]; towards 0 for rows shorter than 0.001."""
    inverse = x.square().sum(1).clamp(min=1e-6).rsqrt()
    product: Tensor = _PairProducts.apply(x, rows, others)  # type: ignore[no-untyped-call]
    return product * inverse.index_select(0, rows) * inverse.index_select(0, others)


class _PairProducts(torch.autograd.Function):
    """[P] inner products of pairs of rows of x [n, C], with nothing of size P · C kept.

    On a CPU a piece of pairs is gathered at a time and stays in the cache, in both directions.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor, others: Tensor) -> Tensor:
        """The products."""
        ctx.save_for_backward(x, rows, others)
        out = x.new_empty(len(rows))
        for part in _pieces(x, rows):
            a, b = x.index_select(0, rows[part]), x.index_select(0, others[part])
            out[part] = (a * b).sum(1)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """Each row gets its partners' rows."""
        x, rows, others = ctx.saved_tensors
        out = torch.zeros_like(x)
        for part in _pieces(x, rows):
            i, j, g = rows[part], others[part], gradient[part, None]
            out.index_add_(0, i, g * x.index_select(0, j))
            out.index_add_(0, j, g * x.index_select(0, i))
        return out, None, None


def _pieces(x: Tensor, rows: Tensor) -> list[slice]:
    """Slices of the pairs whose rows take 256 KiB together; a GPU takes all at once."""
    size = max(1, 2**16 // max(1, x.shape[1])) if x.device.type == "cpu" else max(1, len(rows))
    return [slice(start, start + size) for start in range(0, len(rows), size)]


def _local_log_softmax(
    cosines: Tensor, rows: Tensor, both: Tensor, temperature: float, like: Tensor
) -> Tensor:
    """[P] log of the softmax of cosines / τ over the neighbours of each row that count."""
    scaled = (cosines - 1) / temperature  # ≤ 0, so that no exponential overflows
    total = like.new_zeros(len(like)).index_add(0, rows, both * scaled.exp())
    return scaled - total.clamp(min=torch.finfo(torch.float32).tiny).log().index_select(0, rows)
