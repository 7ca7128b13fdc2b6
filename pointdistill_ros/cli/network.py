# SPDX-License-Identifier: Apache-2.0
"""The network that a command runs, from the words of its options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from pointdistill_ros.segmenter import Segmenter


def load_segmenter(
    weights: str, device: str, engine: str, precision: str, threads: int | None
) -> Segmenter:
    """Load it. Raises CheckpointError, and ConfigError for words that are not known."""
    from pointdistill_ros.segmenter import Segmenter

    return Segmenter.load(
        weights,
        device,
        cast("Any", engine),  # names are checked where they are known
        threads,
        cast("Any", precision),
    )
