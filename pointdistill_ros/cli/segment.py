# SPDX-License-Identifier: Apache-2.0
"""pointdistill segment."""


def segment() -> None:
    """To be written."""
