# SPDX-License-Identifier: Apache-2.0
"""A table of a data set, stored as one JSON list of objects, read row by row.

- memory is that of a few rows: tables of gigabytes are filtered while they pass
Not here: lists of anything else, and indices. A table is read from its beginning each time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pointdistill_ros.errors import InputError

_CHUNK = 1 << 20
"""Characters read at once."""
_LONGEST_ROW = 1 << 24
"""Characters after which a row that does not end counts as damage."""
_BETWEEN_ROWS = re.compile(r"[\s,]*")


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a table in order. Raises InputError where it is missing or damaged."""
    try:
        with path.open(encoding="utf-8") as file:
            yield from _rows(file, path)
    except FileNotFoundError as error:
        raise InputError(f"{path}: missing; the tables of a data set belong together") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error


def _rows(file: Any, path: Path) -> Iterator[dict[str, Any]]:
    decode = json.JSONDecoder().raw_decode
    text = file.read(_CHUNK).lstrip()
    if not text.startswith("["):
        raise InputError(f"{path}: not a table; expected a JSON list of objects")
    at = 1
    while True:
        at = _end_of_gap(text, at)
        if text.startswith("]", at):
            return
        try:
            row, at = decode(text, at)
        except ValueError as error:  # the row may go on in the next chunk
            more = file.read(_CHUNK)
            text, at = text[at:] + more, 0
            if not more or len(text) > _LONGEST_ROW:
                reason = error if more else "it breaks off"
                raise InputError(f"{path}: damaged table ({reason})") from error
            continue
        if not isinstance(row, dict):
            raise InputError(f"{path}: not a table; expected a JSON list of objects")
        yield row


def _end_of_gap(text: str, start: int) -> int:
    match = _BETWEEN_ROWS.match(text, start)
    assert match is not None  # it matches the empty string
    return match.end()
