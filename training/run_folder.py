# SPDX-License-Identifier: Apache-2.0
"""The folder of a run: configuration, where and how it ran, metrics, checkpoints, weights.

    config.yaml      the recipe as it ran, usable as one
    starts.jsonl     one line per start: command, revision, versions, CPU and GPU, data folders
    metrics.jsonl    one line per optimiser step and per checkpoint
    tensorboard/     the same for TensorBoard, where it is installed
    checkpoints/     the last two states
One process at a time: a lock says so.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from pointdistill_ros.config import load_config
from pointdistill_ros.errors import ConfigError, InputError
from pointdistill_ros.io.atomic import atomic_path
from training.checkpoints import Checkpoints
from training.config import TrainConfig


class RunFolder:
    """Paths and files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = Checkpoints(path / "checkpoints")

    @property
    def config_path(self) -> Path:
        """The recipe as it ran."""
        return self.path / "config.yaml"

    @property
    def metrics_path(self) -> Path:
        """JSON lines."""
        return self.path / "metrics.jsonl"

    def exists(self) -> bool:
        """Whether a run was started here."""
        return self.config_path.exists()

    def last_start(self) -> dict[str, Any]:
        """The last line of starts.jsonl; empty where there is none."""
        path = self.path / "starts.jsonl"
        whole = path.read_text().rpartition("\n")[0].splitlines() if path.exists() else []
        return dict(json.loads(whole[-1])) if whole else {}

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder. Raises InputError where another process does, or it cannot be made."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            file = (self.path / ".lock").open("w")
        except OSError as error:
            raise InputError(f"{self.path}: cannot be the folder of a run ({error})") from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise InputError(f"{self.path}: another process is training there") from error
            yield

    def begin(self, config: TrainConfig, start: dict[str, Any]) -> None:
        """Write config.yaml, where it is new, and add a line about this start.

        Raises ConfigError where the folder holds a run of another configuration.
        """
        if self.exists():
            self._check_same(config)
        else:
            with atomic_path(self.config_path) as temporary:
                temporary.write_text(yaml.safe_dump(asdict(config), sort_keys=False))
        with (self.path / "starts.jsonl").open("a") as file:
            file.write(json.dumps(start) + "\n")

    def _check_same(self, config: TrainConfig) -> None:
        old, new = asdict(load_config(type(config), self.config_path)), asdict(config)
        changed = [name for name in new if json.dumps(old[name]) != json.dumps(new[name])]
        if changed:
            raise ConfigError(
                f"{self.config_path}: the run differs in {', '.join(changed)}; "
                "continue it with --run and --resume alone, or name another folder"
            )


class Metrics:
    """metrics.jsonl and, where it is installed, TensorBoard."""

    def __init__(self, folder: RunFolder, after_step: int) -> None:
        """Lines after step number ``after_step``, of a process that was killed, are dropped."""
        path = folder.metrics_path
        if path.exists():
            kept = [line for line in path.read_text().splitlines() if _step(line) <= after_step]
            with atomic_path(path) as temporary:
                temporary.write_text("".join(line + "\n" for line in kept))
        self._file = path.open("a", buffering=1)
        self._board = _board(folder.path / "tensorboard", after_step)

    @property
    def has_board(self) -> bool:
        """Whether TensorBoard events are written."""
        return self._board is not None

    def write(self, step: int, values: dict[str, Any]) -> None:
        """One line; numbers also as TensorBoard scalars."""
        self._file.write(json.dumps({"step": step} | values) + "\n")
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Write out everything."""
        self._file.close()
        if self._board is not None:
            self._board.close()


def _step(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):  # cut short by a kill
        return float("inf")


def _board(folder: Path, after_step: int) -> Any:
    """A SummaryWriter of TensorBoard or tensorboardX; None where neither is installed."""
    try:
        writers: Any = import_module("torch.utils.tensorboard.writer")
    except ImportError:
        try:
            writers = import_module("tensorboardX")
        except ImportError:
            return None
    purge = after_step + 1 if after_step else None
    return writers.SummaryWriter(str(folder), purge_step=purge, flush_secs=30)
