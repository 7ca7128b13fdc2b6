# SPDX-License-Identifier: Apache-2.0
"""The argument parsers of programs that are started with ``python -m``, without starting them.

A program is run up to the moment at which it parses its command line.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Any, NoReturn
from unittest import mock


class _Reached(Exception):  # noqa: N818 - no error
    """The program has come to its command line."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.parser = parser


def parser_of(module: str) -> argparse.ArgumentParser:
    """The parser with which ``python -m module`` reads its arguments.

    Raises LookupError where its ``main`` comes to an end without one.
    """
    main = getattr(importlib.import_module(_entry(module)), "main", None)
    if main is None:
        raise LookupError(f"{module} has no function main")

    def reached(self: argparse.ArgumentParser, *_: Any, **__: Any) -> NoReturn:
        raise _Reached(self)

    with (
        mock.patch.object(argparse.ArgumentParser, "parse_args", reached),
        mock.patch.object(argparse.ArgumentParser, "parse_known_args", reached),
        mock.patch.object(sys, "argv", [module]),
    ):
        try:
            main()
        except _Reached as stop:
            return stop.parser
    raise LookupError(f"{module} reads no arguments")


def parse(module: str, words: Sequence[str]) -> argparse.Namespace:
    """What ``python -m module words`` would run with. Raises ValueError with the refusal.

    Options must be written out.
    """
    parser = parser_of(module)
    parser.allow_abbrev = False

    def refuse(message: str) -> NoReturn:
        raise ValueError(f"{parser.prog}: {message}")

    parser.error = refuse  # type: ignore[method-assign]
    return parser.parse_args(list(words))


def _entry(module: str) -> str:
    """A package is run by its ``__main__``."""
    found = importlib.import_module(module)
    return f"{module}.__main__" if hasattr(found, "__path__") else module
