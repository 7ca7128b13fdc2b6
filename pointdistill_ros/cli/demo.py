# SPDX-License-Identifier: Apache-2.0
"""pointdistill demo."""


def demo() -> None:
    """To be written."""
