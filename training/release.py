# SPDX-License-Identifier: Apache-2.0
r"""Make trained weights ready to ship: a clean header, a card with figures measured on the file.

python -m training.release runs/first/student.safetensors --data DATA --notes notes.md

Writes pointdistill_ros/weights/NAME.safetensors and NAME.md, NAME being the model id. ``--notes``
(Markdown: how the run went, what to know) becomes part of the card.
"""

from __future__ import annotations

import argparse
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

from pointdistill_ros.checkpoint import (
    CheckpointMeta,
    file_sha256,
    load_checkpoint,
    save_checkpoint,
)
from pointdistill_ros.errors import one_line_errors
from pointdistill_ros.evaluation.figures import MIN_POINTS
from pointdistill_ros.io.atomic import atomic_path
from pointdistill_ros.model.config import Permutation
from pointdistill_ros.resources import weights_path
from pointdistill_ros.segmenter import Segmenter
from training.evaluate import evaluate
from training.validation import validation_parts

LICENCE = (
    "The weights were trained on data under non-commercial, share-alike licences (SemanticKITTI: "
    "CC BY-NC-SA 4.0, KITTI: CC BY-NC-SA 3.0, nuScenes-lidarseg: CC BY-NC-SA 4.0; PandaSet: CC BY "
    "4.0; ika drive: MIT). Use them for research and evaluation under those terms; train your own "
    "for a product. The Apache licence of the code does not cover them."
)


def release(weights: Path, target: Path, permutation: Permutation | None = None) -> CheckpointMeta:
    """Copy a run's weights to ``target`` with licence and revision in the header.

    ``permutation`` replaces the curve permutation used at evaluation.
    """
    network, meta = load_checkpoint(weights)
    config = meta.config if permutation is None else replace(meta.config, permutation=permutation)
    network.config = config
    training = {**meta.training, "licence": LICENCE, "revision": _revision()}
    training.pop("monitor", None)
    meta = replace(meta, config=config, training=training)
    save_checkpoint(target, network, meta)
    target.chmod(0o644)  # safetensors writes for the owner alone
    return meta


def card(name: str, sha256: str, size: int, meta: CheckpointMeta, results: dict[str, Any]) -> str:
    """Markdown: what the network is, what it was measured to do, and under which licence."""
    config, steps = meta.config, meta.training.get("steps", "?")
    lines = [
        f"# {name}",
        "",
        f"Point Transformer V3, {len(meta.label_set)} classes of {meta.label_set.name}, grid "
        f"{meta.grid_size:g} m, patches of {config.patch_sizes[0]} voxels, xCPE mode "
        f"`{config.xcpe}`. {size / 1e6:.2f} MB in float16.",
        "",
        f"- sha256 `{sha256}`",
        f"- {steps} optimiser steps, recipe and command in the header "
        "(`safetensors` metadata, key `pointdistill`)",
        f"- intensity it was trained on: {meta.intensity.low:.3f} to {meta.intensity.high:.3f} "
        f"(5 and 95 %), median {meta.intensity.median:.3f}; scans without intensity are fed "
        f"{meta.intensity.missing}",
        "",
        "## Figures",
        "",
        "Protocol P1: one pass, one point represents a voxel, every raw point counted. Mean IoU "
        f"over classes with at least {MIN_POINTS} points in that part.",
        "",
        "| part | points | accuracy | mIoU |",
        "|---|---:|---:|---:|",
    ]
    parts = {title: part for title, part in results.items() if isinstance(part, dict)}
    lines += [
        f"| {title} | {part['points']} | {part['accuracy']:.3f} | {part['miou']:.3f} |"
        for title, part in parts.items()
    ]
    lines += [f"| {t} | | | {v:.3f} |" for t, v in results.items() if t not in parts]
    lines += ["", "IoU, and the number of points, per class:", ""]
    lines += ["| class | " + " | ".join(parts) + " |", "|---|" + "---:|" * len(parts)]
    for class_name in dict.fromkeys(c for part in parts.values() for c in part["classes"]):
        cells = [part["classes"].get(class_name) for part in parts.values()]
        text = [f"{c['iou']:.3f} ({c['points']})" if c else "" for c in cells]
        lines.append(f"| {class_name} | " + " | ".join(text) + " |")
    return "\n".join([*lines, "", "## Licence", "", LICENCE, ""])


def _revision() -> str:
    """Commit of the sources, marked where the tree differs from it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def main() -> None:
    """Parse the command line, release, measure, write the card."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("weights", type=Path, help="checkpoint of a run")
    parser.add_argument("--data", type=Path, help="folder of packed scans to measure on")
    parser.add_argument("--cache", type=Path, default=Path("runs/streets"), help="rendered streets")
    parser.add_argument("--drives", type=int, default=8, help="unseen simulated streets")
    parser.add_argument("--notes", type=Path, help="Markdown for the card")
    parser.add_argument(
        "--curves", help="order of the curves at evaluation, e.g. 2031; default: as in the run"
    )
    args = parser.parse_args()
    name = load_checkpoint(args.weights)[1].model_id
    target = weights_path(name)
    permutation = None
    if args.curves:
        stages = len(load_checkpoint(args.weights)[1].config.encoder_depths)
        permutation = (tuple(int(c) for c in args.curves),) * stages
    meta = release(args.weights, target, permutation)
    parts = validation_parts(args.data, args.cache, args.drives)
    figures = evaluate(Segmenter.load(target), parts)
    results = {title: part.to_dict() for title, part in figures.items()}
    text = card(name, file_sha256(target), target.stat().st_size, meta, results)
    if args.notes:
        text = text.replace("\n## Figures\n", f"\n{args.notes.read_text().strip()}\n\n## Figures\n")
    with atomic_path(target.with_suffix(".md")) as temporary:
        temporary.write_text(text)
    print(text)


if __name__ == "__main__":
    with one_line_errors("release"):
        main()
