# SPDX-License-Identifier: Apache-2.0
"""Where the files that travel with the code lie (config/, weights/).

Three faces: source tree, pip wheel (config/ becomes pointdistill_ros/config/), colcon (share/).
"""

from pathlib import Path

from pointdistill_ros.errors import ConfigError

_PACKAGE = Path(__file__).resolve().parent


def config_path(relative: str) -> Path:
    """Path of a shipped configuration file, e.g. ``labels/semantic-kitti.yaml``.

    Raises ConfigError naming every place that was searched.
    """
    roots = [_PACKAGE / "config", _PACKAGE.parent / "config"]
    # lib/pythonX/site-packages/pointdistill_ros → share/pointdistill_ros/config of the same prefix
    roots += [parent / "share" / _PACKAGE.name / "config" for parent in list(_PACKAGE.parents)[2:5]]
    for root in roots:
        if (root / relative).exists():
            return root / relative
    raise ConfigError(f"config/{relative} not found; looked in {', '.join(map(str, roots))}")


def weights_path(name: str) -> Path:
    """Path of a shipped network, e.g. ``student``; the file may not exist."""
    return _PACKAGE / "weights" / f"{name}.safetensors"


def shipped_weights() -> list[str]:
    """Names of the shipped networks, sorted."""
    return sorted(path.stem for path in (_PACKAGE / "weights").glob("*.safetensors"))
