# SPDX-License-Identifier: Apache-2.0
"""The real node with the GPU engine in its plain form on a CPU, and a device that can be full.

The file $SCARCE says what finds no memory: ``fast`` (a whole scan at once), ``chunked``, ``host``;
several words, or no file for plenty. $WEIGHTS is the checkpoint.
"""

import os
import sys
from pathlib import Path

import torch

from pointdistill_ros.checkpoint import load_checkpoint
from pointdistill_ros.engine.cuda import device_engine, fallback
from pointdistill_ros.engine.cuda.network import CudaEngine
from pointdistill_ros.nodes.segmentation_node import spin
from pointdistill_ros.segmenter import Segmenter
from tests.abuse.counted_node import CountedNode


def main() -> int:
    """Run until interrupted."""
    fallback.FIRST_BACK_OFF = 3  # scans; the default of 16 is the same thing later
    network, meta = load_checkpoint(Path(os.environ["WEIGHTS"]))
    segmenter = Segmenter(network, meta, engine="torch", threads=1)
    engine = CudaEngine(network, meta.grid_size, segmenter.max_range, "cpu", "float32")
    segmenter._engine = engine  # the door for devices is closed to a CPU
    rungs = {"fast": engine.network._fast, "chunked": engine.network._chunked}
    scarce, call = Path(os.environ["SCARCE"]), device_engine.DeviceNetwork.__call__

    def run(network, features, pyramid):
        words = scarce.read_text().split() if scarce.exists() else []
        rung = next((name for name, rung in rungs.items() if rung._network is network), "host")
        if rung in words:
            if rung == "host":
                raise MemoryError("host memory is full (a test)")
            raise torch.cuda.OutOfMemoryError("CUDA out of memory (a test)")
        return call(network, features, pyramid)

    device_engine.DeviceNetwork.__call__ = run
    return spin(lambda: CountedNode(segmenter))


if __name__ == "__main__":
    sys.exit(main())
