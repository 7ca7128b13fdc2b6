# SPDX-License-Identifier: Apache-2.0
"""What programs that label scans beforehand share: networks from the command line, and Ctrl-C."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

from pointdistill_ros.checkpoint import find_weights
from pointdistill_ros.segmenter import Segmenter
from training.interrupt import Interrupted, InterruptGuard
from training.lineage import network_entry
from training.self_training import VIEWS


def add_options(parser: argparse.ArgumentParser, weights: str, soft: int) -> None:
    """Networks and how they look; ``weights`` and ``soft`` are the defaults of their options."""
    add = parser.add_argument
    help_text = "shipped names or checkpoint paths; what several say is averaged"
    add("--weights", nargs="+", default=[weights], help=help_text)
    add("--views", type=int, choices=list(VIEWS), default=4, help="test-time augmentation")
    help_text = f"keep the probabilities of the k likeliest classes (default {soft})"
    add("--soft", type=int, default=soft, help=help_text)
    add("--device", default="auto")
    add("--engine", default="auto", help="auto, native, torch")
    add("--precision", default="float32", help="float32 or bfloat16")
    add("--threads", type=int, help="CPU threads")


def networks(args: argparse.Namespace) -> list[Segmenter]:
    """The networks of ``--weights``. Raises CheckpointError, ConfigError."""
    return [
        Segmenter.load(weights, args.device, args.engine, args.threads, args.precision)
        for weights in args.weights
    ]


def entries(args: argparse.Namespace, role: str) -> list[dict[str, Any]]:
    """Who they are, for a manifest (lineage.py)."""
    return [network_entry(find_weights(weights), role) for weights in args.weights]


def interruptible(run: Callable[[argparse.Namespace], None], args: argparse.Namespace) -> None:
    """Run to the end, or to a signal, whose exit code the process then has."""
    try:
        with InterruptGuard():
            run(args)
    except Interrupted as signal:
        print(f"{signal}: the same command goes on from here", file=sys.stderr)
        sys.exit(signal.exit_code)
