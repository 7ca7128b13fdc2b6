# SPDX-License-Identifier: Apache-2.0
"""multi_lidar_node with the fake network of fake_node.py: python fake_multi_node.py LIDARS."""

import os
import runpy
import sys
from functools import partial
from pathlib import Path

from pointdistill_ros.nodes.multi_config import read_lidars
from pointdistill_ros.nodes.multi_lidar_node import make_nodes
from pointdistill_ros.nodes.multi_model import SharedModel
from pointdistill_ros.nodes.run import spin

if __name__ == "__main__":
    kind = runpy.run_path(str(Path(__file__).with_name("fake_node.py")))["AboveOrBelow"]
    shared = SharedModel(lambda _: kind(float(os.environ.get("FAKE_MILLISECONDS", "0"))))
    lidars = read_lidars(sys.argv[1])
    sys.exit(spin(partial(make_nodes, lidars, shared=shared), program="multi_lidar_node"))
