# SPDX-License-Identifier: Apache-2.0
"""The journal of a search: JSON lines, one per thing done, from which an interrupted one goes on.

The first line says what is searched; every other one what was measured of one candidate. A line
that a kill cut short is dropped when the next is written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pointdistill_ros.errors import ConfigError, InputError


class Journal:
    """One file that only grows."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self, setting: Mapping[str, Any]) -> None:
        """Write the first line, or compare it. Raises ConfigError where it is another search's."""
        entries = self._entries()
        new = json.loads(json.dumps(setting))  # as it reads
        if not entries:
            self.append("search", new)
            return
        old = {name: value for name, value in entries[0].items() if name != "kind"}
        changed = [name for name in {**new, **old} if old.get(name) != new.get(name)]
        if entries[0].get("kind") != "search" or changed:
            raise ConfigError(
                f"{self.path}: holds another search (differs in {', '.join(changed) or 'kind'}); "
                "name another folder with --out"
            )

    def append(self, kind: str, content: Mapping[str, Any]) -> None:
        """One line, on the disk when this returns."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps({"kind": kind, **content}) + "\n"
        with self.path.open("ab") as file:
            file.truncate(len(self._whole()))
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        """All entries of a kind, in order."""
        return [entry for entry in self._entries() if entry.get("kind") == kind]

    def _whole(self) -> bytes:
        """The content up to the last whole line."""
        content = self.path.read_bytes() if self.path.exists() else b""
        return content[: content.rfind(b"\n") + 1]

    def _entries(self) -> list[dict[str, Any]]:
        entries = []
        for number, line in enumerate(self._whole().splitlines(), 1):
            try:
                entry = json.loads(line)
            except ValueError as error:
                raise InputError(f"{self.path}:{number}: not a line of a search") from error
            if not isinstance(entry, dict):
                raise InputError(f"{self.path}:{number}: not a line of a search")
            entries.append(entry)
        return entries
