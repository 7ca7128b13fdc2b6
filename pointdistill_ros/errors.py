# SPDX-License-Identifier: Apache-2.0
"""The errors this package raises on purpose: one line each, naming what and what was expected.

Programs print them without a traceback and exit with 2 (``one_line_errors``).
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class PointDistillError(Exception):
    """Base of every error caused by input, configuration or environment rather than by a bug."""


class InputError(PointDistillError):
    """A file, folder, bag or topic cannot be read as what it should be."""


class ScanError(PointDistillError):
    """Arrays do not form a scan (shape, dtype, length)."""


class CloudError(PointDistillError):
    """A PointCloud2 message contradicts itself or lacks a needed field."""


class LabelError(PointDistillError):
    """A raw id or class name is not part of the label set."""


class ConfigError(PointDistillError):
    """A configuration value is unknown, of the wrong type or out of range."""


class CheckpointError(PointDistillError):
    """A weight file is damaged, incomplete or does not fit the model."""


@contextmanager
def one_line_errors(program: str) -> Iterator[None]:
    """End the process with one line on stderr and exit code 2 on an error of this module."""
    try:
        yield
    except PointDistillError as error:
        print(f"{program}: {error}", file=sys.stderr)
        sys.exit(2)
