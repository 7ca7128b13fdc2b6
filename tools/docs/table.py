# SPDX-License-Identifier: Apache-2.0
"""Tables of Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table with a row for each of ``rows``; bars inside cells are escaped."""
    lines = [_row(head), "|" + "---|" * len(head)]
    lines += [_row([cell.replace("|", "\\|") for cell in row]) for row in rows]
    return "\n".join(lines)


def code(value: object) -> str:
    """A value as code, or nothing where there is none."""
    return f"`{value}`" if str(value) else ""


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
