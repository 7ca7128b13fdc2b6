# SPDX-License-Identifier: Apache-2.0
"""The errors this package raises on purpose: one line each, naming what and what was expected.

The command line prints them without a traceback and exits with 2.
"""


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
