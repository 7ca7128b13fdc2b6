# SPDX-License-Identifier: Apache-2.0
"""The connection to a Ray cluster, or a small one on this machine for as long as it is needed.

Ray reports nothing to anybody (usage statistics are switched off here; those of a cluster that runs
already are its owner's choice) and starts no dashboard.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import util
from typing import Any

from pointdistill_ros.errors import ConfigError

LOCAL = "local"
SECONDS = 5.0
"""That a head node may take to answer."""
_STORE_BYTES = 80 * 1024 * 1024
"""Ray's smallest object store: nothing large travels."""


@dataclass(frozen=True)
class Room:
    """What one node has in all."""

    node: str
    cpus: int
    gpus: int


def require_ray() -> None:
    """Raises ConfigError where Ray is not installed."""
    if util.find_spec("ray") is None:
        raise ConfigError("--ray needs Ray; pip install 'pointdistill-ros[ray]'")


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """The module ``ray``, connected. ``address``: local, auto or HOST:PORT. Raises ConfigError."""
    require_ray()
    if address.startswith("ray://"):
        raise ConfigError(
            f"--ray {address}: Ray Client is not supported; run the command on a node of the "
            "cluster with --ray auto or --ray HOST:PORT"
        )
    _knock(address)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray

    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address == LOCAL:
        for idle in ("RAY_enable_worker_prestart", "RAY_prestart_worker_first_driver"):
            os.environ.setdefault(idle, "0")  # processes that ours, with their threads, are not
        options |= {
            "num_cpus": len(os.sched_getaffinity(0)),
            "include_dashboard": False,
            "object_store_memory": _STORE_BYTES,
        }
    try:
        ray.init(address=address, **options)
    except (ConnectionError, RuntimeError, ValueError, OSError, ray.exceptions.RayError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ConfigError(
            f"--ray {address}: no Ray cluster can be reached there ({reason}); expected local, "
            "auto or HOST:PORT of `ray start --head`, with this Ray and Python on every node"
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Raises ConfigError where nobody listens at HOST:PORT, which Ray takes minutes to find out."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"--ray {address}: nobody answers there ({error}); expected the address that "
            "`ray start --head` printed"
        ) from error


def rooms(ray: Any) -> list[Room]:
    """Of every node that is alive."""
    return [
        Room(
            node["NodeManagerHostname"],
            int(node["Resources"].get("CPU", 0)),
            int(node["Resources"].get("GPU", 0)),
        )
        for node in ray.nodes()
        if node["Alive"]
    ]


def places(rooms: list[Room], cpus: int, gpus: int) -> int:
    """How many processes of that many CPUs and GPUs fit at once. Raises ConfigError for none."""
    found = sum(min(r.cpus // cpus, r.gpus // gpus if gpus else r.cpus) for r in rooms)
    if not found:
        held = ", ".join(f"{r.node} {r.cpus} CPUs and {r.gpus} GPUs" for r in rooms) or "no nodes"
        wanted = f"{cpus} CPUs" + (f" and {gpus} GPU" if gpus else "")
        raise ConfigError(
            f"no node of the cluster has {wanted} for a process (--threads, --device); it has "
            f"{held}"
        )
    return found
