# SPDX-License-Identifier: Apache-2.0
"""A run of seconds: a tiny network learns which side of a plane a voxel lies on.

python -m tests.training.toy_run FOLDER '{"steps": 4, "devices": 2}' trains one (tests start it).
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch

from training.batch import collate
from training.config import TrainConfig
from training.device import open_device
from training.heads import logits_of
from training.interrupt import Interrupted, InterruptGuard
from training.loop import Run
from training.losses.segmentation import segmentation_loss
from training.run_folder import RunFolder
from training.schedule import Budget
from training.transforms import LabelledPoints

from ..tiny import tiny_config, tiny_network


def halves(k=0, n=200):
    """Batch k: a square whose class is the sign of x."""
    rng = np.random.default_rng(k)
    xyz = rng.uniform([-10, -10, 0], [10, 10, 0.1], (n, 3)).astype(np.float32)
    labels = (xyz[:, 0] > 0).astype(np.uint8)
    points = LabelledPoints(xyz, np.zeros(n, np.float32), labels)
    return collate([points], tiny_config(), 0.5, 10_000, rng)


def two_places(folder):
    """A folder of packed scans: two of two places, ground and trees."""
    entries = []
    for i in range(2):
        rng = np.random.default_rng(i)
        xyz = rng.uniform([-15, -15, -2], [15, 15, 1], (1500, 3))
        np.savez(
            folder / f"{i}.npz",
            xyz=np.round(xyz * 256).astype(np.int16),
            q=256,
            inten=rng.integers(0, 100, 1500).astype(np.uint8),
            label19=np.where(xyz[:, 2] < -1, 8, 14).astype(np.uint8),
            label7=np.zeros(1500, np.uint8),
        )
        entries.append(
            {"path": f"{i}.npz", "dataset": "SemanticKITTI", "sequence": str(i), "split": "train"}
        )
    (folder / "manifest.json").write_text(json.dumps({"files": entries}))
    return folder


def toy_loss(network, batch):
    return segmentation_loss(logits_of(network, batch), batch.targets)


def toy_run(folder, network=None, monitor=None, **changes):
    config = TrainConfig(**({"ema_decay": 0.5, "compiled": False, "device": "cpu"} | changes))
    network = tiny_network(drop_path=0.3) if network is None else network
    folder = RunFolder(Path(folder))
    folder.path.mkdir(parents=True, exist_ok=True)
    budget = Budget(config.steps, config.minutes)
    return Run(folder, network, toy_loss, config, budget, open_device(config), monitor)


def make_run(folder, changes):
    """A toy run; one that distils where ``changes`` say so."""
    changes = dict(changes)
    if changes.pop("distil", False):
        from .distillation.toy import toy_distillation

        return toy_distillation(folder, **changes)
    return toy_run(folder, **changes)


def main(folder, changes):
    """Train; the averaged weights end up in FOLDER/final.pt. Exits as a program would."""
    guard = InterruptGuard()
    try:
        with guard:
            run = make_run(folder, changes)
            final = run.fit(halves, guard)
    except Interrupted as signal:
        sys.exit(signal.exit_code)
    own = {n: b.clone() for n, b in run.state.network.named_buffers()}
    name = "final.pt" if run.first else "second.pt"
    teacher = getattr(run.state.unwrapped.loss, "teacher", None)
    kept = {} if teacher is None else teacher.network.state_dict()
    torch.save({"average": final, "own_buffers": own, "teacher": kept}, Path(folder) / name)


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
