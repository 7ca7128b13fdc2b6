# SPDX-License-Identifier: Apache-2.0
"""pointdistill info: the networks with their exact sizes, and whether this machine can run them."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata, util
from pathlib import Path
from typing import Annotated, Any

import typer

from pointdistill_ros.cli.options import TargetFrame, Topic, Weights, ZOffset
from pointdistill_ros.errors import PointDistillError

NETWORKS = ("student", "teacher-cpu", "teacher")
"""Files of config/models/: the paper's, and a teacher for machines without a GPU."""
CLASS_COUNTS = (16, 19, 22)
"""Heads of nuScenes, SemanticKITTI and Waymo."""
_CPU_FLAGS = ("avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16", "asimd")


def info(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
    bag: Annotated[
        Path | None,
        typer.Option(
            "--check-bag",
            help="Say what of a bag fits the network and what does not: fields, rate, intensity, "
            "height, density. Exits with 1 where something is bad. All further options are for it.",
            show_default=False,
        ),
    ] = None,
    topic: Topic = None,
    weights: Weights = "student",
    z_offset: ZOffset = 0.0,
    target_frame: TargetFrame = "",
) -> None:
    """Networks, weights and environment; exits with 1 when something here is broken."""
    if bag is not None:
        from pointdistill_ros.cli.check_bag import check

        if not check(bag, topic, weights, z_offset, target_frame, as_json):
            raise typer.Exit(1)
        return
    report, problems = _report()
    if as_json:
        print(json.dumps(report | {"problems": problems}, indent=2, ensure_ascii=False))
    else:
        _print(report, problems)
    if problems:
        raise typer.Exit(1)


def _report() -> tuple[dict[str, Any], list[str]]:
    from pointdistill_ros import __version__
    from pointdistill_ros.nodes.environment import ros_environment
    from pointdistill_ros.resources import shipped_weights

    ros = ros_environment()
    problems = list(ros.problems)
    report: dict[str, Any] = {"version": __version__, "networks": {}, "weights": {}}
    for name in NETWORKS:
        with _noted(name, problems):
            report["networks"][name] = {n: count_parameters(name, n) for n in CLASS_COUNTS}
    for name in shipped_weights():
        with _noted(f"weights: {name}", problems):
            report["weights"][name] = _weights(name)
    if "student" not in shipped_weights():
        problems.append("the weights of the student are missing from this installation")
    report["environment"] = _machine(problems) | ros.facts
    return report, problems


@contextmanager
def _noted(what: str, problems: list[str]) -> Iterator[None]:
    """A failure inside is one more problem."""
    try:
        yield
    except (ImportError, OSError, PointDistillError) as error:
        problems.append(f"{what}: {error}")


def count_parameters(name: str, num_classes: int) -> int:
    """Exact number of trainable parameters of config/models/<name>.yaml with so many classes."""
    from dataclasses import replace

    import torch

    from pointdistill_ros.config import load_config
    from pointdistill_ros.model.ptv3 import PTv3, PTv3Config
    from pointdistill_ros.resources import config_path

    config = load_config(PTv3Config, config_path(f"models/{name}.yaml"))
    with torch.device("meta"):  # shapes only: no memory, no initialisation
        network = PTv3(replace(config, num_classes=num_classes))
    return sum(parameter.numel() for parameter in network.parameters())


def _weights(name: str) -> dict[str, Any]:
    """What a shipped checkpoint says of itself."""
    from pointdistill_ros.resources import weights_path
    from pointdistill_ros.segmenter import Segmenter

    segmenter = Segmenter.load(name)
    return {
        "model": segmenter.model_id,
        "parameters": segmenter.num_parameters,
        "label set": segmenter.label_set.name,
        "classes": list(segmenter.label_set.names),
        "device": segmenter.device,
        "engine": f"{segmenter.engine}: {segmenter.engine_detail}",
        "file": str(weights_path(name)),
        "sha256": segmenter.weights_sha256,
    }


def _machine(problems: list[str]) -> dict[str, str]:
    import numpy

    facts = {
        "Python": f"{platform.python_version()}, {sys.executable}",
        "CPU": ", ".join([platform.machine(), *_cpu_flags()]),
        "numpy": numpy.__version__,
    }
    try:
        import torch

        gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
        facts["torch"] = f"{torch.__version__}, {torch.get_num_threads()} CPU threads, {gpu}"
    except (ImportError, OSError) as error:
        problems.append(f"torch cannot be imported by {sys.executable}: {error}")
    facts["CPU engine"] = _cpu_engine()
    facts["spconv"] = _version_of("spconv", "not installed: plain torch convolutions")
    for name in ("gudhi", "rosbags", "safetensors"):
        facts[name] = _version_of(name, "")
        if not facts[name]:
            problems.append(f"{name} is not installed for {sys.executable}")
    return facts


def _cpu_engine() -> str:
    """The tiers this machine runs, the fastest last, or why there is none."""
    try:
        from pointdistill_ros.engine.cpu import available_tiers
        from pointdistill_ros.engine.library import EngineMissingError
    except ImportError as error:
        return f"none: {error}"
    try:
        exact, fast = available_tiers(), available_tiers("bfloat16")
    except EngineMissingError as error:
        return f"none, PyTorch does the same slower: {error}"
    return f"{', '.join(exact)}{'; bfloat16' if fast else ''}"


def _version_of(module: str, absent: str) -> str:
    if util.find_spec(module) is None:
        return absent
    names = metadata.packages_distributions().get(module, [])
    return ", ".join(f"{name} {metadata.version(name)}" for name in sorted(set(names))) or "?"


def _cpu_flags() -> list[str]:
    cpuinfo = Path("/proc/cpuinfo")
    flags = set(cpuinfo.read_text().split()) if cpuinfo.exists() else set()
    return [flag for flag in _CPU_FLAGS if flag in flags]


def _print(report: dict[str, Any], problems: list[str]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    networks = Table(title=f"PointDistill ROS {report['version']}: exact parameter counts")
    networks.add_column("network")
    for count in CLASS_COUNTS:
        networks.add_column(f"{count} classes", justify="right")
    for name, counts in report["networks"].items():
        networks.add_row(name, *(f"{counts[n]:,}".replace(",", " ") for n in CLASS_COUNTS))
    console.print(networks)

    facts = Table(show_header=False)
    facts.add_column(style="bold")
    facts.add_column(overflow="fold")
    for name, weights in report["weights"].items():
        parameters = f"{weights['parameters']:,}".replace(",", " ")
        facts.add_row(f"weights: {name}", f"{weights['model']}, {parameters} parameters")
        facts.add_row("  device, engine", f"{weights['device']}, {weights['engine']}")
        classes = ", ".join(weights["classes"])
        facts.add_row(
            "  label set", f"{weights['label set']} ({len(weights['classes'])}): {classes}"
        )
        facts.add_row("  sha256", weights["sha256"])
    facts.add_section()
    for name, fact in report["environment"].items():
        facts.add_row(name, fact)
    console.print(facts)
    for problem in problems:
        console.print(f"[bold red]broken:[/] {problem}", highlight=False)
    if not problems:
        console.print("[green]everything here works[/]")
