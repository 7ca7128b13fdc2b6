# SPDX-License-Identifier: Apache-2.0
"""Target: a function of some bytes that may only succeed or raise one of our own errors.

The same functions run under a coverage-guided fuzzer (run.py) and, with the committed inputs and
mutations of them, in the tests (test_fuzz.py).
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pointdistill_ros.errors import PointDistillError

CORPUS = Path(__file__).parent / "corpus"
_MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class Target:
    """What is fuzzed, and with what."""

    name: str
    check: Callable[[bytes], None]
    """Returns where the input is legal; raises PointDistillError where it is not; else a bug."""
    seeds: Callable[[], dict[str, bytes]]
    """Names and contents of the committed inputs, made anew; equal on every call."""
    share: int
    """Of the executions of a long run, in percent; slow ones get fewer."""
    max_len: int = 4096

    def accepts(self, data: bytes) -> bool:
        """Whether the input was legal. Anything but success or our own errors goes through."""
        try:
            self.check(data)
        except PointDistillError as error:
            text = str(error)
            assert text, "an error without a reason"
            assert len(text) < 4000, f"{len(text)} characters are no sentence"
            return False
        return True

    @property
    def folder(self) -> Path:
        """Where the committed inputs lie."""
        return CORPUS / self.name

    def corpus(self) -> list[Path]:
        """The committed inputs."""
        return sorted(path for path in self.folder.iterdir() if path.is_file())


class Choices:
    """Bytes as a sequence of decisions; zeros where they end."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, count: int) -> bytes:
        piece = self._data[self._at : self._at + count]
        self._at += count
        return piece.ljust(count, b"\0")

    def rest(self) -> bytes:
        return self._data[self._at :]

    def number(self, size: int = 1) -> int:
        return int.from_bytes(self.take(size), "little")

    def below(self, limit: int) -> int:
        return self.number() % limit

    def pick(self, *options):
        return options[self.below(len(options))]


_FOLDER = tempfile.TemporaryDirectory(prefix="fuzz-", dir=_MEMORY if _MEMORY.is_dir() else None)


def holding(name: str, data: bytes) -> Path:
    """A file with this content; the next one of the name replaces it."""
    path = Path(_FOLDER.name) / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return path
