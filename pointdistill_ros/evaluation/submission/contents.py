# SPDX-License-Identifier: Apache-2.0
"""What an archive or an unpacked folder holds, seen alike."""

from __future__ import annotations

import zipfile
from collections import Counter
from pathlib import Path

from pointdistill_ros.errors import InputError
from pointdistill_ros.evaluation.submission.writer import ORIGIN


class Contents:
    """Files with their sizes, folders, and the bytes of a file on demand."""

    def __init__(self, path: Path) -> None:
        """Open a .zip or a folder. Raises InputError on anything else, or a damaged archive."""
        self.path = path
        self._zip: zipfile.ZipFile | None = None
        if path.is_dir():
            found = [p for p in path.rglob("*") if p.name != ORIGIN]
            names = {p.relative_to(path).as_posix(): p for p in found}
            self.sizes = {name: p.stat().st_size for name, p in names.items() if not p.is_dir()}
            self.folders = {f"{name}/" for name, p in names.items() if p.is_dir()}
            self.repeated: list[str] = []
            return
        try:
            self._zip = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile) as error:
            raise InputError(f"{path}: not a whole zip archive ({error})") from error
        entries = self._zip.infolist()
        self.sizes = {e.filename: e.file_size for e in entries if not e.is_dir()}
        self.folders = {e.filename for e in entries if e.is_dir()}
        counts = Counter(e.filename for e in entries)
        self.repeated = sorted(name for name, number in counts.items() if number > 1)

    def has_folder(self, folder: str, *, as_entry: bool) -> bool:
        """Whether ``folder`` (with trailing slash) exists: as an entry, or because files are in."""
        if folder in self.folders:
            return True
        return not as_entry and any(name.startswith(folder) for name in self.sizes)

    def read(self, name: str) -> bytes:
        """Content of a file. Raises InputError where it is damaged."""
        try:
            if self._zip is None:
                return (self.path / name).read_bytes()
            return self._zip.read(name)
        except Exception as error:  # zipfile, zlib and the system each raise their own kinds
            raise InputError(f"{name}: cannot be unpacked ({error})") from error

    def close(self) -> None:
        """Close the archive."""
        if self._zip is not None:
            self._zip.close()
