# SPDX-License-Identifier: Apache-2.0
"""pointdistill play."""


def play() -> None:
    """To be written."""
