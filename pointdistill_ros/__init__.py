# SPDX-License-Identifier: Apache-2.0
"""Every point of a lidar scan gets a class: library and ROS 2 nodes.

The whole public API is the names below; everything else is private.
Importing this package costs nothing: no torch, no ROS, until a name is used.
"""

import pkgutil
from typing import TYPE_CHECKING, Any

# Source tree and generated messages (pointdistill_ros.msg, installed elsewhere) are one package.
__path__ = pkgutil.extend_path(__path__, __name__)

__version__ = "0.1.0"
__all__ = ["LabelSet", "LidarScan", "Segmentation", "Segmenter", "__version__"]

if TYPE_CHECKING:
    from pointdistill_ros.labels import LabelSet
    from pointdistill_ros.scan import LidarScan
    from pointdistill_ros.segmentation import Segmentation
    from pointdistill_ros.segmenter import Segmenter

_HOME = {
    "LabelSet": "labels",
    "LidarScan": "scan",
    "Segmentation": "segmentation",
    "Segmenter": "segmenter",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
