# SPDX-License-Identifier: Apache-2.0
"""The command line that all training programs share."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import torch

from pointdistill_ros.checkpoint import find_weights
from pointdistill_ros.errors import ConfigError, InputError, PointDistillError
from training.config import TrainConfig
from training.device import is_first_process
from training.interrupt import Interrupted, InterruptGuard
from training.recipes import Role, load_recipe, recipe_names, recipe_path
from training.run import Places, TaskMaker, train_run
from training.run_folder import RunFolder
from training.summary import SMALLER

EXAMPLES = """\
examples:
  {first}
  python -m training.{name} --recipe cpu --minutes 2 --run runs/quick
      the same for two minutes, in a folder of its own
  python -m training.{name} --run runs/quick --resume
      go on after Ctrl-C, kill -9 or a power cut; recipe and folders are remembered
  python -m training.{name} --recipe my.yaml --data DATA --devices 2
      a recipe of your own (start from a file of config/training/{role}/), two processes
  torchrun --nnodes 2 --nproc-per-node 8 -m training.{name} --recipe eight-gpus --data DATA
      several machines; give torchrun its --rdzv options

recipes: {recipes}

Ctrl-C or SIGTERM ends after the step, with a checkpoint. The folder of the run holds config.yaml,
starts.jsonl (command, revision, versions), metrics.jsonl, TensorBoard events, the last two
checkpoints and MODEL.safetensors, which `pointdistill segment --model` takes.
"""


C = TypeVar("C", bound=TrainConfig)
TEACHER = "teacher"
"""Shipped network that students learn from, unless told otherwise."""
LOST_PEER = ("Connection closed by peer", "Connection reset by peer", "NCCL error")


class PeerLostError(PointDistillError):
    """A process that others waited for is gone."""


@dataclass(frozen=True)
class Program(Generic[C]):
    """What tells one training program from another."""

    name: str
    """Of its module in training/."""
    role: Role
    """Folder of its recipes."""
    config: type[C]
    """What a recipe is."""
    make_task: TaskMaker[C]
    """What it trains."""
    purpose: str
    """The first line of its help."""
    first: str
    """The first of its examples."""
    teacher: bool = False
    """Whether it takes the weights of a teacher."""


def train(program: Program[C]) -> None:
    """Parse the command line and train; ends the process with the code of a signal received."""
    args = _parser(program).parse_args()
    guard = InterruptGuard()
    run: Path | None = None
    try:
        with guard:
            config, places = _setting(program, args)
            run = places.run
            train_run(config, places, program.make_task, guard)
    except torch.OutOfMemoryError as error:
        raise ConfigError(
            f"out of GPU memory; {SMALLER}. {_how_to_resume(program, run)}"
        ) from error
    except RuntimeError as error:
        if not any(words in str(error) for words in LOST_PEER):
            raise
        others = "another process of this run ended; what it said comes first"
        raise PeerLostError(f"{others}. {_how_to_resume(program, run)}") from error
    except OSError as error:  # a full disk, a folder that may not be written
        raise InputError(f"{error}. {_how_to_resume(program, run)}") from error
    except Interrupted as signal:
        if is_first_process():
            print(f"{signal}: {_how_to_resume(program, run)}", file=sys.stderr, flush=True)
        sys.exit(signal.exit_code)


def _parser(program: Program[C]) -> argparse.ArgumentParser:
    name, role = program.name, program.role
    parser = argparse.ArgumentParser(
        prog=f"python -m training.{name}",
        description=program.purpose,
        epilog=EXAMPLES.format(
            name=name, role=role, first=program.first, recipes=", ".join(recipe_names(role))
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--recipe", help="name of a recipe, or a file like those; see below")
    if program.teacher:
        help_text = f"weights to learn from: a shipped name or a file (default {TEACHER})"
        parser.add_argument("--teacher", help=help_text)
        help_text = "weights of train_camera_teacher, for recipes with a camera"
        parser.add_argument("--camera", type=Path, help=help_text)
    help_text = "weights to start from, not from new ones: a shipped name or a file"
    parser.add_argument("--initial", help=help_text)
    parser.add_argument("--data", type=Path, help="folder that the recipe's data sets lie in")
    parser.add_argument("--cache", type=Path, help="rendered streets (default runs/streets)")
    parser.add_argument("--run", type=Path, help=f"folder of this run (default runs/{role}-RECIPE)")
    parser.add_argument("--resume", action="store_true", help="continue the run in that folder")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int, help="length in optimiser steps")
    length.add_argument("--epochs", type=float, help="length in epochs")
    length.add_argument("--minutes", type=float, help="length in minutes of training")
    parser.add_argument("--seed", type=int, help="of weights, data order and augmentation")
    parser.add_argument(
        "--devices", type=int, help="processes, each with a GPU or share of the CPU"
    )
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], help="where to compute")
    parser.add_argument("--workers", type=int, help="processes that prepare batches")
    return parser


def _setting(program: Program[C], args: argparse.Namespace) -> tuple[C, Places]:
    """Configuration and places from the command line or, resuming, from the folder."""
    fields = ("steps", "epochs", "minutes", "seed", "devices", "device", "workers")
    changes = {name: getattr(args, name) for name in fields}
    if "WORLD_SIZE" in os.environ and "TORCHELASTIC_RUN_ID" in os.environ:
        changes["devices"] = int(os.environ["WORLD_SIZE"])
    recipe = None if args.recipe is None else recipe_path(program.role, args.recipe)
    run = args.run
    if run is None:
        if recipe is None:
            raise ConfigError("name a --recipe, or a --run to --resume; --help shows examples")
        run = Path("runs") / f"{program.role}-{recipe.stem}"
    folder = RunFolder(run)
    remembered = {}
    if folder.exists() and args.resume:
        remembered = folder.last_start()
        recipe = recipe or folder.config_path
    elif folder.exists() and is_first_process():  # others find what it has begun
        raise InputError(
            f"{run}: holds a run; continue it with --resume or name another folder with --run"
        )
    elif args.resume and recipe is None:
        raise InputError(f"{run}: no run to resume; start one with --recipe")
    if recipe is None:
        raise ConfigError(f"name a --recipe: {', '.join(recipe_names(program.role))}, or a file")
    config = load_recipe(recipe, changes, program.config)
    if all(getattr(config, name) is None for name in ("steps", "epochs", "minutes")):
        raise ConfigError(f"{recipe}: no length; give --steps, --epochs or --minutes")
    data = args.data or (Path(remembered["data"]) if remembered.get("data") else None)
    cache = args.cache or Path(remembered.get("cache", "runs/streets"))
    teacher = Path(remembered["teacher"]) if remembered.get("teacher") else None
    if program.teacher and (args.teacher or teacher is None):
        teacher = find_weights(args.teacher or TEACHER)
    camera = Path(remembered["camera"]) if remembered.get("camera") else None
    if program.teacher and args.camera:
        camera = args.camera
    initial = Path(remembered["initial"]) if remembered.get("initial") else None
    if args.initial:
        initial = find_weights(args.initial)
    return config, Places(run, data, cache, teacher, camera, initial)


def _how_to_resume(program: Program[C], run: Path | None) -> str:
    if run is None or not RunFolder(run).exists():
        return "nothing had begun; run the same command again"
    return f"continue with: python -m training.{program.name} --run {run} --resume"
