# SPDX-License-Identifier: Apache-2.0
"""Results of frames on disk: one file a frame and kind, written whole or not at all.

Any process may write any frame, in any order, and be killed at any time: what is there is complete,
what is missing is computed again. A file that belongs to another measurement counts as missing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.io.atomic import atomic_path


@dataclass(frozen=True)
class StoredFrame:
    """What is known of one frame."""

    record: Mapping[str, Any]
    """Plain data."""
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """By name."""


class FrameStore:
    """A folder of files ``KIND-000000.npz``."""

    def __init__(self, folder: Path, kind: str, measured: Mapping[str, Any]) -> None:
        """``measured``: plain data that says all that decides the results."""
        self.folder, self.kind = folder, kind
        text = json.dumps({"kind": kind, **measured}, sort_keys=True)
        self._mark = hashlib.sha256(text.encode()).hexdigest()

    def path(self, index: int) -> Path:
        """The file of a frame."""
        return self.folder / f"{self.kind}-{index:06d}.npz"

    def has(self, index: int) -> bool:
        """Whether a frame is known."""
        return self.load(index) is not None

    def load(self, index: int) -> StoredFrame | None:
        """A frame; None where there is none, or a damaged one, or one of other measurements."""
        try:
            with self.path(index).open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                if str(file["mark"]) != self._mark:
                    return None
                record = json.loads(str(file["record"]))
                arrays = {name: file[name] for name in file.files if name not in _OWN}
        except Exception:  # a dozen types, from zip, deflate and numpy's header
            return None
        return StoredFrame(record, arrays)

    def save(self, index: int, record: Mapping[str, Any], **arrays: NDArray[Any]) -> None:
        """Keep a frame."""
        with atomic_path(self.path(index)) as temporary, temporary.open("wb") as file:
            np.savez_compressed(
                file,
                mark=np.array(self._mark),
                record=np.array(json.dumps(record)),
                **arrays,  # type: ignore[arg-type]  # numpy's stub sees allow_pickle here
            )


_OWN = ("mark", "record")
