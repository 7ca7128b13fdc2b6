# SPDX-License-Identifier: Apache-2.0
"""The pip face of the package. The ROS face is CMakeLists.txt and package.xml.

Ranges here, pins in requirements/. ROS itself (rclpy, messages, launch) is never listed: it comes
from a ROS installation or from requirements/ros-kilted.txt, and the package index knows other,
unrelated projects under some of those names.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py
from setuptools.dist import Distribution

ROOT = Path(__file__).resolve().parent
VERSION = re.search(
    r'^__version__ = "(.+)"', (ROOT / "pointdistill_ros/__init__.py").read_text(), re.MULTILINE
)[1]


class BuildWithConfig(build_py):
    """A wheel carries config/ and the compiled CPU engine inside the package."""

    def run(self) -> None:
        """Build as always, then copy the folder and compile; no compiler costs speed only."""
        super().run()
        package = ROOT if self.editable_mode else Path(self.build_lib)
        if not self.editable_mode:
            target = package / "pointdistill_ros" / "config"
            shutil.copytree(ROOT / "config", target, dirs_exist_ok=True)
        engine = package / "pointdistill_ros" / "engine"
        script, library = ROOT / "pointdistill_ros" / "engine" / "build.py", engine / "native"
        subprocess.run([sys.executable, script, "--optional", "--output", library], check=True)


class PlatformWheel(Distribution):
    """The wheel holds compiled code: it is for one platform."""

    def has_ext_modules(self) -> bool:
        """Whether compiled code is inside."""
        return True


# Networks as ONNX files, and the runtimes that serve as engines.
EXPORT = [
    "onnx>=1.18",
    "onnxruntime>=1.20",
    "openvino>=2024.6",
]

# What training/ needs beside the package itself.
TRAIN = [
    "lightning-fabric>=2.4",
    "tensorboard>=2.17",
]

# The Waymo reader: Parquet files.
WAYMO = ["pyarrow>=17"]

# Bags: ego-motion from the clouds alone, and recordings for the Rerun viewer.
ODOMETRY = ["kiss-icp>=1.2"]
VIEWER = ["rerun-sdk>=0.41; python_version >= '3.11'"]

# Many inputs over the machines of a cluster.
RAY = ["ray>=2.60"]

# The site of docs/.
DOCS = ["mkdocs>=1.6", "mkdocs-material>=9.5"]

TEST = [
    "pytest>=8",
    "pytest-xdist>=3.6",
    "pytest-timeout>=2.3",
    "hypothesis>=6.100",
    "mcap>=1.2",  # a second, independent reader for the bags we write
    "mcap-ros2-support>=0.5",
    "pandas>=2.2",  # writes the pickles that the PandaSet reader is tested on
    *TRAIN,
    *WAYMO,
]

setup(
    name="pointdistill-ros",
    version=VERSION,
    description="A class for every point of a lidar scan: distilled Point Transformer V3 for ROS 2",
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.10",
    # One plain path entry for editable installs, so that the messages that CMake puts into
    # site-packages/pointdistill_ros/msg and the sources here form one package.
    package_dir={"": "."},
    packages=find_packages(include=["pointdistill_ros*", "training*"]),
    package_data={
        "pointdistill_ros": ["weights/*", "py.typed"],
        "pointdistill_ros.engine": ["native/**/*.cpp", "native/**/*.h"],
        "pointdistill_ros.evaluation": ["templates/*"],
    },
    cmdclass={"build_py": BuildWithConfig},
    distclass=PlatformWheel,
    install_requires=[
        "torch>=2.4",
        "numpy>=1.26",  # ROS Jazzy and Kilted on Ubuntu 24.04 carry 1.26
        "gudhi>=3.13,<3.14",
        "safetensors>=0.4.5",
        "PyYAML>=6",
        "pydantic>=2.7",
        "typer>=0.12",
        "rich>=13",
        "rosbags>=0.11.9",
        "apsw>=3.46",  # rosbags' own; bag_limits.py holds back what bags make them do
        "lz4>=4.3",
        "matplotlib>=3.8",
        "Jinja2>=3.1",  # reports
        "pillow>=10.1",  # pictures in reports, legends
        "backports.zstd>=1.0; python_version < '3.14'",  # packed scans; in the library from 3.14 on
        "trimesh>=4.5",  # simulation: meshes
        "embreex>=2.17.7.post5; platform_machine == 'x86_64'",  # simulation: ray casting
    ],
    extras_require={
        # Sparse convolution on NVIDIA GPUs; without it plain torch does the same, slower.
        "gpu-cu120": ["spconv-cu120; python_version <= '3.11'"],  # 2.3.6 has no wheels above 3.11
        "gpu-cu126": ["spconv-cu126"],
        "train": TRAIN,
        "waymo": WAYMO,
        "export": EXPORT,
        "odometry": ODOMETRY,
        "viewer": VIEWER,
        "ray": RAY,
        "docs": DOCS,
        "test": [*TEST, *EXPORT],
        "dev": [
            *TEST,
            *EXPORT,
            *ODOMETRY,
            *VIEWER,
            *RAY,
            *DOCS,
            "ruff",
            "mypy",
            "import-linter",
            "types-PyYAML",
            "cmake",
            "ninja",
        ],
    },
    # The same list as EXECUTABLES in CMakeLists.txt; tests/test_build.py compares them.
    entry_points={
        "console_scripts": [
            "pointdistill=pointdistill_ros.cli:main",
            "segmentation_node=pointdistill_ros.nodes.segmentation_node:main",
            "comparison_node=pointdistill_ros.nodes.comparison_node:main",
            "multi_lidar_node=pointdistill_ros.nodes.multi_lidar_node:main",
        ]
    },
)
