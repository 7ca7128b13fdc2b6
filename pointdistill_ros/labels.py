# SPDX-License-Identifier: Apache-2.0
"""LabelSet: what the class numbers mean. Names, colours, raw ids, remaps are in config/labels/."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from pointdistill_ros.errors import ConfigError, LabelError
from pointdistill_ros.resources import config_path

UNLABELLED = 255
"""Train id of points without a class, in every label set."""
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_RAW_ID_MAX = 65535  # a .label file has 16 bits for it


@dataclass(frozen=True)
class LabelSet:
    """The classes of a dataset. Train id = position in ``names``; raw ids are the dataset's own."""

    name: str
    """File name under config/labels/, e.g. ``semantic-kitti``."""
    names: tuple[str, ...]
    """[C] class names."""
    colours: tuple[tuple[int, int, int], ...]
    """[C] red, green, blue in 0..255."""
    raw_ids: tuple[tuple[int, ...], ...]
    """[C] raw ids folded into each class; the first one is written back."""
    ignore: tuple[int, ...] = (0,)
    """Raw ids without a class; the first one is written for unlabelled points."""
    remaps: Mapping[str, Mapping[str, str]] = field(default_factory=dict, hash=False)
    """Other label set → {class here: class there}; classes left out become unlabelled."""

    def __post_init__(self) -> None:
        if not len(self.names) == len(self.colours) == len(self.raw_ids):
            raise LabelError(f"label set {self.name}: names, colours and raw ids differ in length")
        if len(self.names) > UNLABELLED:
            raise LabelError(f"label set {self.name}: at most {UNLABELLED} classes")
        if not all(0 <= channel <= 255 for colour in self.colours for channel in colour):
            raise LabelError(f"label set {self.name}: colours are red, green, blue in 0..255")
        raw = [r for ids in (*self.raw_ids, self.ignore) for r in ids]
        if not all(0 <= raw_id <= _RAW_ID_MAX for raw_id in raw):
            raise LabelError(f"label set {self.name}: raw ids are numbers in 0..{_RAW_ID_MAX}")
        if len(raw) != len(set(raw)):
            raise LabelError(f"label set {self.name}: a raw id stands in two places")

    @classmethod
    @lru_cache
    def named(cls, name: str) -> LabelSet:
        """A shipped label set. Raises LabelError listing what there is."""
        try:
            if not _NAME.fullmatch(name):  # names come from messages, too: no paths
                raise ConfigError(name)  # noqa: TRY301
            return cls.load(config_path(f"labels/{name}.yaml"))
        except ConfigError:
            known = sorted(path.stem for path in config_path("labels").glob("*.yaml"))
            raise LabelError(f"no label set {name!r}; known: {', '.join(known)}") from None

    @classmethod
    def load(cls, path: Path) -> LabelSet:
        """Read a label set from YAML (see config/labels/semantic-kitti.yaml for the layout)."""
        try:
            return cls.from_dict(yaml.safe_load(path.read_text()))
        except (
            *(OSError, KeyError, TypeError, ValueError, yaml.YAMLError),
            *(ArithmeticError, AttributeError, RecursionError),
        ) as error:
            raise LabelError(f"{path}: not a label set ({error})") from error

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> LabelSet:
        """Inverse of ``to_dict``."""
        classes = data["classes"]
        return cls(
            name=str(data["name"]),
            names=tuple(str(c["name"]) for c in classes),
            colours=tuple((int(r), int(g), int(b)) for r, g, b in (c["colour"] for c in classes)),
            raw_ids=tuple(tuple(int(i) for i in c["raw"]) for c in classes),
            ignore=tuple(int(i) for i in data["ignore"]),
            remaps={
                str(other): {str(here): str(there) for here, there in pairs.items()}
                for other, pairs in data.get("remaps", {}).items()
            },
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as in the YAML file; stored in checkpoints."""
        return {
            "name": self.name,
            "ignore": list(self.ignore),
            "classes": [
                {"name": n, "colour": list(c), "raw": list(r)}
                for n, c, r in zip(self.names, self.colours, self.raw_ids, strict=True)
            ],
            "remaps": {target: dict(pairs) for target, pairs in self.remaps.items()},
        }

    def __len__(self) -> int:
        return len(self.names)

    def index(self, name: str) -> int:
        """Train id of a class name. Raises LabelError."""
        if name not in self.names:
            raise LabelError(f"label set {self.name} has no class {name!r}")
        return self.names.index(name)

    @cached_property
    def palette(self) -> NDArray[np.uint8]:
        """[256, 3] colour per train id; black where unlabelled."""
        palette = np.zeros((256, 3), np.uint8)
        palette[: len(self)] = self.colours
        return palette

    def from_raw(self, raw: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
        """Raw ids [N] → train ids uint8 [N]. Raises LabelError naming ids the set does not know."""
        known_ids = [raw_id for ids in (*self.raw_ids, self.ignore) for raw_id in ids]
        table = np.full(1 + max(known_ids, default=0), -1)  # −1 = an id the set does not know
        for train_id, ids in enumerate(self.raw_ids):
            table[list(ids)] = train_id
        table[list(self.ignore)] = UNLABELLED
        inside = (raw >= 0) & (raw < len(table))
        labels = np.where(inside, table[np.where(inside, raw, 0)], -1)
        wrong = labels < 0
        if wrong.any():
            unknown = ", ".join(map(str, np.unique(raw[wrong])[:5]))
            raise LabelError(f"raw id {unknown} is not in label set {self.name}")
        return labels.astype(np.uint8)

    def to_raw(self, labels: NDArray[np.uint8]) -> NDArray[np.uint32]:
        """Train ids [N] → the raw id to write, uint32 [N]."""
        table = np.full(256, self.ignore[0], np.uint32)
        table[: len(self)] = [ids[0] for ids in self.raw_ids]
        return table[labels]

    def remap_to(self, other: LabelSet) -> NDArray[np.uint8]:
        """Lookup table uint8 [256]: train id here → train id there, 255 where it has none there.

        Raises LabelError where this set defines no remap to ``other``.
        """
        table = np.full(256, UNLABELLED, np.uint8)
        if other.name == self.name:
            table[: len(self)] = np.arange(len(self))
            return table
        if other.name not in self.remaps:
            raise LabelError(f"label set {self.name} has no remap to {other.name}")
        for here, there in self.remaps[other.name].items():
            table[self.index(here)] = other.index(there)
        return table
