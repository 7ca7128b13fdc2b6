# SPDX-License-Identifier: Apache-2.0
"""pointdistill info."""


def info() -> None:
    """To be written."""
