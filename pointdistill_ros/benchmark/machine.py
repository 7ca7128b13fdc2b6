# SPDX-License-Identifier: Apache-2.0
"""Which machine, and how busy it was: without that, times mean nothing."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

import torch

from pointdistill_ros.engine import build, cpu
from pointdistill_ros.engine.library import EngineMissingError

_FLAGS = ("avx2", "fma", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "asimd", "bf16")
_CPU0 = Path("/sys/devices/system/cpu/cpu0")
_PACKAGE = Path(__file__).resolve().parents[1]


def describe_machine(device: str, threads: int) -> dict[str, str]:
    """Facts by name, for people."""
    facts = {
        "CPU": _cpu_model(),
        "flags": ", ".join(_flags()) or "none of those that matter here",
        "cores": f"{cpu.usable_threads()} usable of {os.cpu_count()}",
        "caches": _caches(),
        "memory": _memory(),
        "threads": f"{threads} thread{'s' if threads > 1 else ''}",
        "frequency governor": _read(_CPU0 / "cpufreq" / "scaling_governor", "not shown"),
        "OpenMP waiting": _waiting(),
        "CPU engine": _tier(),
        "torch": torch.__version__,
        "numpy": importlib.metadata.version("numpy"),
        "Python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "revision": _revision(),
    }
    if device != "cpu":
        facts["GPU"] = torch.cuda.get_device_name(device)
    return {name: fact for name, fact in facts.items() if fact}


@dataclass(frozen=True)
class Load:
    """How busy the machine is, at one moment."""

    average: float
    """Load average of the last minute."""
    busy: float
    """Seconds all cores together have worked since the system started; of it …"""
    own: float
    """… this process and its children."""
    passed: float
    """Seconds all cores together could have worked."""


def read_load() -> Load:
    """Now. Zeros where the system does not tell."""
    try:
        average = os.getloadavg()[0]
        ticks = [int(t) for t in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
    except (OSError, ValueError):
        return Load(0.0, 0.0, 0.0, 0.0)
    rate = os.sysconf("SC_CLK_TCK")
    idle, times = ticks[3] + ticks[4], os.times()
    own = times.user + times.system + times.children_user + times.children_system
    return Load(average, (sum(ticks) - idle) / rate, own, sum(ticks) / rate)


def used_by_others(begin: Load, end: Load) -> float:
    """Share of the cores' time that went to other processes in between, 0..1."""
    others = (end.busy - begin.busy) - (end.own - begin.own)
    return min(1.0, max(0.0, others / max(end.passed - begin.passed, 1e-9)))


def _cpuinfo(names: tuple[str, ...]) -> str:
    path = Path("/proc/cpuinfo")
    for line in path.read_text().splitlines() if path.exists() else ():
        name, _, value = line.partition(":")
        if name.strip() in names:
            return value.strip()
    return ""


def _cpu_model() -> str:
    model = _cpuinfo(("model name", "CPU part")) or platform.processor() or "unknown"
    family = [_cpuinfo((name,)) for name in ("cpu family", "model")]
    told = f" (family {family[0]}, model {family[1]})" if all(family) else ""
    return f"{model}{told}, {platform.machine()}"


def _flags() -> list[str]:
    present = set(_cpuinfo(("flags", "Features")).split())
    return [flag for flag in _FLAGS if flag in present]


def _caches() -> str:
    found = []
    for index in sorted(_CPU0.glob("cache/index*")):
        kind, level = _read(index / "type"), _read(index / "level")
        if kind != "Instruction":
            found.append(f"L{level} {_read(index / 'size')}")
    return ", ".join(found)


def _memory() -> str:
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return ""
    return f"{size / 2**30:.1f} GiB"


def _waiting() -> str:
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS", "KMP_BLOCKTIME")
    told = [f"{name}={os.environ[name]}" for name in names if name in os.environ]
    return ", ".join(told) or "default"


def _tier() -> str:
    try:
        return f"tiers {', '.join(cpu.available_tiers())}"
    except EngineMissingError as error:
        return f"missing: {error}".replace(f"{build.SOURCES}{os.sep}", "")


def _revision() -> str:
    """Commit of a source checkout; empty elsewhere."""
    if not (_PACKAGE.parent / ".git").exists():
        return ""
    command = ["git", "-C", str(_PACKAGE.parent), "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def _read(path: Path, absent: str = "") -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return absent
