# SPDX-License-Identifier: Apache-2.0
"""Who is benchmarked: networks, and the forms (engine and precision) each of them runs in.

A network without trained weights gets random ones, and norm statistics of a real scan: then its
activations and logits are spread as a trained network's are, and rounding errors mean something.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from pointdistill_ros.checkpoint import CheckpointMeta, IntensityStatistics, load_checkpoint
from pointdistill_ros.config import load_config
from pointdistill_ros.engine import build
from pointdistill_ros.engine.cpu import CpuEngine
from pointdistill_ros.engine.interface import EngineName, Precision
from pointdistill_ros.errors import ConfigError, PointDistillError
from pointdistill_ros.labels import LabelSet
from pointdistill_ros.model.ptv3 import PTv3, PTv3Config
from pointdistill_ros.model.pyramid import VoxelPyramid
from pointdistill_ros.resources import config_path, weights_path
from pointdistill_ros.segmenter import Segmenter

GRID = 0.05
"""Voxel edge of the paper's networks, metres."""
_SUFFIXES: dict[str, Precision] = {"bf16": "bfloat16", "fp16": "float16"}


@dataclass(frozen=True)
class Form:
    """One way to compute a network, e.g. ``native-bf16``."""

    engine: EngineName
    precision: Precision = "float32"

    @property
    def name(self) -> str:
        """Engine, and the precision where it is not float32."""
        short = {precision: suffix for suffix, precision in _SUFFIXES.items()}
        return f"{self.engine}-{short[self.precision]}" if self.precision in short else self.engine

    @property
    def own(self) -> bool:
        """Whether this is one of our compiled engines."""
        return self.engine in ("native", "cuda")


PLAIN = Form("torch")
"""P1: the plain network in torch, fused attention, float32. Every ratio is against it."""
FORMS = (
    PLAIN,
    Form("native"),
    Form("native", "bfloat16"),
    Form("cuda"),
    Form("cuda", "bfloat16"),
    Form("cuda", "float16"),
    Form("onnxruntime"),
    Form("openvino"),
)


def forms_named(names: list[str]) -> list[Form]:
    """Forms by name, the plain one first, always. Raises ConfigError."""
    known = {form.name: form for form in FORMS}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigError(f"unknown engine {unknown[0]!r}; known: {', '.join(known)}")
    return list(dict.fromkeys([PLAIN, *(known[name] for name in names)]))


@dataclass(frozen=True, eq=False)
class Model:
    """A network and its header."""

    name: str
    network: PTv3
    meta: CheckpointMeta
    trained: bool
    """Weights of a checkpoint; otherwise random."""

    @property
    def config(self) -> PTv3Config:
        """Shape."""
        return self.network.config

    @property
    def parameters(self) -> int:
        """Trainable parameters."""
        return sum(p.numel() for p in self.network.parameters())


def load_model(name: str, seed: int = 0) -> Model:
    """A shape of config/models/ with random weights, ``shipped``, or a checkpoint by its path.

    Raises ConfigError or CheckpointError.
    """
    shapes = sorted(path.stem for path in config_path("models").glob("*.yaml"))
    if name in shapes:
        # a benchmark never drops paths, and training mode is entered to calibrate the norms
        config = replace(load_config(PTv3Config, config_path(f"models/{name}.yaml")), drop_path=0.0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = PTv3(config).eval()
        meta = CheckpointMeta(
            model_id=name,
            config=config,
            label_set=LabelSet.named("semantic-kitti"),
            grid_size=GRID,
            intensity=IntensityStatistics(low=0.0, median=0.5, high=1.0, missing=0.0),
            training={"weights": f"random, seed {seed}"},
        )
        return Model(name, network, meta, trained=False)
    path = weights_path("student") if name == "shipped" else Path(name)
    if name != "shipped" and path.suffix != ".safetensors":
        raise ConfigError(
            f"unknown model {name!r}; known: {', '.join(shapes)}, shipped, or a .safetensors file"
        )
    network, meta = load_checkpoint(path)
    return Model(name if name == "shipped" else path.stem, network, meta, trained=True)


def open_form(model: Model, form: Form, device: str, threads: int | None) -> Segmenter | str:
    """The network in that form, or one sentence on why it cannot run here."""
    try:
        return Segmenter(
            model.network,
            model.meta,
            device,
            engine=form.engine,
            threads=threads,
            precision=form.precision,
        )
    except (PointDistillError, ImportError, OSError) as error:
        return str(error).splitlines()[0].replace(f"{build.SOURCES}{os.sep}", "")


def compiled_engine(segmenter: Segmenter) -> CpuEngine | None:
    """The CPU engine inside, which tells more of itself than the others do."""
    engine = segmenter._engine
    return engine if isinstance(engine, CpuEngine) else None


def calibrate(network: PTv3, features: torch.Tensor, pyramid: VoxelPyramid) -> None:
    """Give norms the statistics of a scan and scale the head so that logits have deviation 1.

    features: float32 [n, in]; pyramid: of the same voxels.
    """
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm1d)]
    momenta = [norm.momentum for norm in norms]
    with torch.no_grad():
        for norm in norms:
            norm.momentum = 1.0  # the running statistics become those of this one pass
        network.train()
        network(features, pyramid)
        network.eval()
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        sigma = network(features, pyramid).std().clamp(min=1e-6)
        network.head.weight.div_(sigma)
        network.head.bias.div_(sigma)
