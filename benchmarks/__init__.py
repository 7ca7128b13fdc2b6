# SPDX-License-Identifier: Apache-2.0
"""Measurements, one a file: ``python -m benchmarks.NAME``."""
