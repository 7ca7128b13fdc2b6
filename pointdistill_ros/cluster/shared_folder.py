# SPDX-License-Identifier: Apache-2.0
"""Whether a node sees the inputs and the very folder that the outputs go to."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pointdistill_ros.errors import InputError

PATIENCE = 3.0
"""Seconds that a new file may take to show on another node."""


@dataclass(frozen=True)
class SharedFolder:
    """What the command's own node wrote and what others must find. Picklable."""

    token: Path
    secret: str
    inputs: tuple[Path, ...]
    """Folders that must be there."""

    def check(self, node: str) -> None:
        """On another node. Raises InputError saying what it does not see or may not write."""
        folder = self.token.parent
        seen, until = self._seen(), time.monotonic() + PATIENCE
        while seen != self.secret and time.monotonic() < until:
            time.sleep(0.2)
            seen = self._seen()
        if seen != self.secret:
            raise InputError(
                f"{node} does not see {folder} of the node that runs the command; every node needs "
                "the same file system at the same path (NFS, Lustre …)"
            )
        for path in self.inputs:
            if not os.access(path, os.R_OK):
                raise InputError(
                    f"{node} cannot read {path}; every node needs the inputs at the same path"
                )
        trial = folder / f".write-{secrets.token_hex(8)}"
        try:
            trial.touch()
            trial.unlink()
        except OSError as error:
            raise InputError(f"{node} cannot write to {folder}: {error.strerror}") from error

    def _seen(self) -> str:
        try:
            return self.token.read_text()
        except OSError:
            return ""


@contextmanager
def shared_folder(root: Path, inputs: Sequence[Path]) -> Iterator[SharedFolder]:
    """Write the token below ``root`` for as long as it is needed. Raises InputError."""
    token = root / f".shared-{secrets.token_hex(8)}"
    secret = secrets.token_hex(16)
    try:
        root.mkdir(parents=True, exist_ok=True)
        token.write_text(secret)
    except OSError as error:
        raise InputError(f"{root}: outputs cannot be written there: {error.strerror}") from error
    try:
        yield SharedFolder(token, secret, tuple(sorted({path.parent for path in inputs})))
    finally:
        token.unlink(missing_ok=True)
