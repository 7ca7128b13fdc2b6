# SPDX-License-Identifier: Apache-2.0
"""Training of a camera teacher: cross entropy at the pixels that have a class.

    L = − Σ_p log softmax(logits of the cell of p)[class of p] · b / Σ_p b,   b = (1 / share)^½

over the pixels p that have one, b the weight of its class (rare ones count more, bounded), with
AdamW and a one-cycle learning rate (Smith and Topin, arXiv 1708.07120). Step k sees what (seed, k)
draws, so a resumed run sees the same images. Cells are the network's own, as a point will find
them (pairing.py): nothing is interpolated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from pointdistill_ros.errors import ConfigError
from pointdistill_ros.evaluation.confusion import ConfusionMatrix
from pointdistill_ros.labels import UNLABELLED
from training.camera.atlas import as_batch
from training.camera.samples import CameraSample, CameraSamples, crop
from training.camera.teacher import ImageTeacher, checked_answer
from training.checkpoints import Checkpoints, read_state


@dataclass(frozen=True)
class FitConfig:
    """How a camera teacher is trained."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    steps: int = 1200
    """Optimiser steps."""
    batch: int = 4
    """Images per step."""
    width: int = 320
    """Columns of an image that a step sees."""
    learning_rate: float = 4e-3
    """At its highest."""
    weight_decay: float = 0.01
    """Of AdamW."""
    rendered: float = 0.5
    """Share of rendered images, where there are real ones, too."""
    save_every: int = 100
    """Steps between checkpoints."""
    seed: int = 0
    """Of weights, images and augmentation."""

    def __post_init__(self) -> None:
        if min(self.steps, self.batch, self.width, self.save_every) < 1:
            raise ConfigError("camera teacher: steps, batch, width and save_every must be ≥ 1")
        if not self.learning_rate > 0 or not 0 <= self.rendered <= 1 or self.seed < 0:
            raise ConfigError(
                "camera teacher: learning_rate above 0, rendered in 0 .. 1 and seed ≥ 0 expected"
            )


def pixel_loss(
    logits: Tensor, labels: Tensor, stride: int, class_weights: Tensor | None = None
) -> Tensor:
    """Weighted cross entropy of pixels at the logits of their cells, a scalar.

    logits: float [B, C, h, w]; labels: uint8 [B, H, W], 255 = not known; class_weights: [C].
    Without a known pixel it is 0 and still part of the graph.
    """
    b, i, j = (labels != UNLABELLED).nonzero(as_tuple=True)
    cells = logits.permute(0, 2, 3, 1)[b, i // stride, j // stride]  # [P, C]
    classes = labels[b, i, j].long()
    cost = F.cross_entropy(cells.float(), classes, reduction="none")
    weight = torch.ones_like(cost) if class_weights is None else class_weights[classes]
    return (cost * weight).sum() / weight.sum().clamp(min=torch.finfo(torch.float32).tiny)


def fit(
    network: nn.Module,
    sources: Sequence[tuple[CameraSamples, float]],
    config: FitConfig,
    checkpoints: Checkpoints | None = None,
    report: Callable[[int, float], None] = lambda step, loss: None,
    device: torch.device | str = "cpu",
) -> None:
    """Train a network (an ImageTeacher) in place; goes on from ``checkpoints`` if it holds any.

    ``sources``: images and the share of each kind; ``report``: called with step and loss.
    """
    weights = class_weights(sources, network.num_classes, config.seed).to(device)  # type: ignore[arg-type]
    network.to(device).train()
    optimizer = torch.optim.AdamW(
        network.parameters(), config.learning_rate, weight_decay=config.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.learning_rate, total_steps=config.steps + 1, pct_start=0.15
    )
    parts = {"network": network, "optimizer": optimizer, "schedule": schedule}
    begin = 0
    if checkpoints is not None and (path := checkpoints.find(print)) is not None:
        state = read_state(path)
        begin = int(state["step"])
        for name, part in parts.items():
            part.load_state_dict(state[name])  # type: ignore[attr-defined]
    for step in range(begin, config.steps):
        pixels, labels = _batch(sources, config, step)
        logits = network(pixels.to(device)).logits
        loss = pixel_loss(logits, labels.to(device), network.stride, weights)  # type: ignore[arg-type]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        report(step + 1, float(loss.detach()))
        done = step + 1
        if checkpoints is not None and (done % config.save_every == 0 or done == config.steps):
            state = {name: part.state_dict() for name, part in parts.items()}  # type: ignore[attr-defined]
            checkpoints.save(done, state | {"step": done})
    network.eval()


def class_weights(
    sources: Sequence[tuple[CameraSamples, float]], classes: int, seed: int, counted: int = 24
) -> Tensor:
    """Float32 [C] (1 / share)^½ with mean 1 over the classes seen, at most 5; unseen ones 1.

    Shares are those of up to ``counted`` images of each source, drawn by ``seed``.
    """
    rng = np.random.default_rng([seed, 1])
    shares = np.zeros(classes)
    for samples, share in sources:
        chosen = rng.permutation(len(samples))[:counted]
        counts = np.sum([_count(samples[int(i)].labels, classes) for i in chosen], axis=0)
        shares += share * counts / max(counts.sum(), 1)
    shares = shares / max(shares.sum(), 1e-9)
    weights = np.ones(classes)
    seen = shares > 0
    weights[seen] = shares[seen] ** -0.5
    weights[seen] = (weights[seen] / (weights[seen] * shares[seen]).sum()).clip(max=5)
    return torch.from_numpy(weights).float()


def measure(teacher: ImageTeacher, samples: CameraSamples) -> ConfusionMatrix:
    """Pixels with a class, and what the teacher says of their cells."""
    matrix = ConfusionMatrix(teacher.num_classes)
    for i in range(len(samples)):
        sample = samples[i]
        answer = checked_answer(teacher, as_batch(sample.pixels))
        said = answer.logits[0].argmax(0).to(torch.uint8).numpy()  # [h, w]
        row, column = np.nonzero(sample.labels != UNLABELLED)
        s = teacher.stride
        matrix.update(said[row // s, column // s], sample.labels[row, column])
    return matrix


def _batch(
    sources: Sequence[tuple[CameraSamples, float]], config: FitConfig, step: int
) -> tuple[Tensor, Tensor]:
    """Images float32 [B, 3, H, width] and classes uint8 [B, H, width] of a step."""
    rng = np.random.default_rng([config.seed, 2, step])
    share = np.array([weight for _, weight in sources], np.float64)
    drawn: list[CameraSample] = []
    for _ in range(config.batch):
        samples = sources[int(rng.choice(len(sources), p=share / share.sum()))][0]
        drawn.append(crop(samples[int(rng.integers(len(samples)))], config.width, rng))
    height = max(len(s.labels) for s in drawn)
    pixels = torch.zeros(len(drawn), 3, height, config.width)
    labels = torch.full((len(drawn), height, config.width), UNLABELLED, dtype=torch.uint8)
    for k, sample in enumerate(drawn):
        rows = len(sample.labels)
        pixels[k, :, :rows] = as_batch(sample.pixels)[0]
        labels[k, :rows] = torch.from_numpy(sample.labels)
    return pixels, labels


def _count(labels: NDArray[np.uint8], classes: int) -> NDArray[np.int64]:
    counts: NDArray[np.int64] = np.bincount(labels.ravel(), minlength=256)[:classes]
    return counts
