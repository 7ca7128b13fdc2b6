# SPDX-License-Identifier: Apache-2.0
"""What a label of one data set says in the classes of another: a class, one of several, or nothing.

A data set may know less than the common label set: nuScenes "vegetation" is vegetation or trunk.
Its points are not forced into one of the two and not thrown away either; their target is the union,
and the loss asks only that the probability lies inside it (losses/segmentation.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from torch import Tensor

from pointdistill_ros.errors import ConfigError, LabelError
from pointdistill_ros.labels import UNLABELLED, LabelSet
from pointdistill_ros.resources import config_path


@dataclass(frozen=True, eq=False)
class TargetSets:
    """Target ids of a run: 0..C-1 are the classes, C..T-1 unions of classes, 255 = ignore."""

    label_set: LabelSet
    """The C classes that the network tells apart."""
    names: tuple[str, ...]
    """[T] class names, and unions as ``vegetation|trunk``."""
    members: Tensor
    """bool [T, C]: the classes that a target allows; row c < C holds class c alone."""
    tables: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)
    """Source label set → uint8 [256], train id there → target id here."""

    def __post_init__(self) -> None:
        classes = len(self.label_set)
        if self.members.shape != (len(self.names), classes) or self.members.dtype != torch.bool:
            raise ConfigError(f"targets of {self.label_set.name}: members must be bool [T, C]")
        if not self.members[:classes].equal(torch.eye(classes, dtype=torch.bool)):
            raise ConfigError(f"targets of {self.label_set.name}: the classes must come first")
        if not bool(self.members.any(1).all()) or len(self.names) > UNLABELLED:
            raise ConfigError(f"targets of {self.label_set.name}: a union is empty, or too many")

    @classmethod
    def of(cls, label_set: LabelSet, sources: Sequence[LabelSet] = ()) -> TargetSets:
        """Targets for data labelled in ``sources``: config/targets/, else the sources' own remaps.

        Unions that several sources share get one id. Raises ConfigError where a table is incomplete
        or names unknown classes, LabelError where there is none.
        """
        unions: dict[frozenset[int], int] = {
            frozenset([c]): c for c in range(len(label_set))
        }  # in order of their ids
        tables = {}
        for source in sources:
            table = np.full(256, UNLABELLED, np.uint8)
            for i, allowed in enumerate(_allowed(source, label_set)):
                if allowed:
                    table[i] = unions.setdefault(allowed, len(unions))
            table.setflags(write=False)
            tables[source.name] = table
        members = torch.zeros(len(unions), len(label_set), dtype=torch.bool)
        for allowed, i in unions.items():
            members[i, sorted(allowed)] = True
        names = tuple("|".join(label_set.names[c] for c in sorted(a)) for a in unions)
        return cls(label_set, names, members, tables)

    def __len__(self) -> int:
        return len(self.names)

    def __reduce__(self) -> Any:
        parts = (self.label_set, self.names, self.members, dict(self.tables))
        return TargetSets, parts

    def table(self, source: LabelSet) -> NDArray[np.uint8]:
        """uint8 [256]: train id of ``source`` → target id. Raises LabelError if not given."""
        if source.name not in self.tables:
            known = ", ".join(self.tables) or "none"
            raise LabelError(f"no targets for labels of {source.name}; known: {known}")
        return self.tables[source.name]

    def within(self, names: Sequence[str]) -> list[int]:
        """Ids of all targets, unions included, that allow only classes of ``names``.

        Names that the label set does not have count for nothing.
        """
        inside = torch.tensor([name in names for name in self.label_set.names])
        ids = (~self.members | inside).all(1).nonzero().flatten()
        return [int(i) for i in ids]

    def to(self, device: torch.device | str) -> TargetSets:
        """The same with ``members`` on a device, as the loss needs them."""
        return replace(self, members=self.members.to(device))


def _allowed(source: LabelSet, target: LabelSet) -> list[frozenset[int]]:
    """[classes of source] which classes of ``target`` each may be; empty = ignore."""
    if source.name == target.name:
        return [frozenset([c]) for c in range(len(target))]
    rules = _rules(target.name).get(source.name)
    if rules is None:
        table = source.remap_to(target)
        return [
            frozenset([int(c)]) if c != UNLABELLED else frozenset() for c in table[: len(source)]
        ]
    where = f"config/targets/{target.name}.yaml: {source.name}"
    if missing := [name for name in source.names if name not in rules]:
        raise ConfigError(f"{where}: no line for {', '.join(missing)}; [] means ignore")
    if unknown := [name for name in rules if name not in source.names]:
        raise ConfigError(f"{where}: {source.name} has no class {', '.join(unknown)}")
    wrong = {n for allowed in rules.values() for n in allowed if n not in target.names}
    if wrong:
        raise ConfigError(f"{where}: {target.name} has no class {', '.join(sorted(wrong))}")
    return [frozenset(target.index(n) for n in rules[name]) for name in source.names]


@lru_cache
def _rules(target: str) -> Mapping[str, Mapping[str, Sequence[str]]]:
    """config/targets/TARGET.yaml: source label set → class → classes; empty where there is none."""
    try:
        path = config_path(f"targets/{target}.yaml")
    except ConfigError:
        return MappingProxyType({})
    try:
        data = yaml.safe_load(path.read_text())
        return {
            str(source): {str(name): [str(n) for n in allowed] for name, allowed in rules.items()}
            for source, rules in data.items()
        }
    except (OSError, AttributeError, TypeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: not a table of targets ({error})") from error
