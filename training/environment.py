# SPDX-License-Identifier: Apache-2.0
"""Where a run happened: command, revision of the sources, versions, CPU and GPU."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("torch", "numpy", "lightning-fabric", "safetensors", "spconv-cu126", "triton")


def describe_start(facts: dict[str, Any]) -> dict[str, Any]:
    """One line of starts.jsonl; ``facts`` (data folders) are added."""
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": command(),
        "revision": revision(),
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        "system": platform.platform(),
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "gpus": gpus,
        **facts,
    }


def command() -> str:
    """The command line as it can be given again."""
    return shlex.join(["python", "-m", _module(), *sys.argv[1:]])


def anonymous_command() -> str:
    """The same with absolute paths cut to their last part: they mean nothing elsewhere."""
    words = [Path(word).name if Path(word).is_absolute() else word for word in sys.argv[1:]]
    return shlex.join(["python", "-m", _module(), *words])


def revision() -> str:
    """Commit of the sources, marked where the tree differs from it; empty outside a repository."""
    describe = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    folder = Path(__file__).parent
    try:
        result = subprocess.run(describe, capture_output=True, text=True, check=False, cwd=folder)
    except OSError:
        return ""
    return result.stdout.strip()


def _module() -> str:
    return f"training.{Path(sys.argv[0]).stem}"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
