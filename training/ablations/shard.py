# SPDX-License-Identifier: Apache-2.0
"""What one of several processes has to itself, and what they do in turn."""

from __future__ import annotations

import fcntl
from collections.abc import Iterable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from training.config import TrainConfig
from training.opening import open_source
from training.validation import Part, validation_parts


def take_gpu(variables: MutableMapping[str, str], found: int) -> None:
    """Leave this process, and the runs it starts, one of the ``found`` GPUs, by LOCAL_RANK.

    More processes than GPUs share them. Call it before anything is on a GPU.
    """
    if "LOCAL_RANK" not in variables or found < 2:
        return
    named = variables.get("CUDA_VISIBLE_DEVICES")
    names = named.split(",") if named else [str(i) for i in range(found)]
    variables["CUDA_VISIBLE_DEVICES"] = names[int(variables["LOCAL_RANK"]) % found]


@contextmanager
def turn(path: Path) -> Iterator[None]:
    """Hold the lock of a file that one process at a time may hold; the others wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def prepare(
    configs: Iterable[TrainConfig], data: Path | None, cache: Path, drives: int, out: Path
) -> Sequence[Part]:
    """Open, and render, all that will be trained and measured on, before hours go into it.

    Returns the parts of the validation. Raises InputError, ConfigError naming what is missing.
    """
    sources = dict.fromkeys(source for config in configs for source in config.sources)
    with turn(out / ".streets"):
        for source in sources:
            open_source(source, data, cache)
        return validation_parts(data, cache, drives)
