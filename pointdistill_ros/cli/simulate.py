# SPDX-License-Identifier: Apache-2.0
"""pointdistill simulate."""


def simulate() -> None:
    """To be written."""
