# SPDX-License-Identifier: Apache-2.0
"""A process whose memory is really limited: python scarce_host.py CHECKPOINT MIB [MIB …].

Labels a large cloud with so many MiB of address space left, then a small one without the limit, and
prints what came of both: labelled, or the name of the error; same, or other.
"""

import resource
import sys
from pathlib import Path

import numpy as np

from pointdistill_ros.scan import LidarScan
from pointdistill_ros.segmenter import Segmenter


def outcome(segmenter, scan, mebibytes):
    """What becomes of a scan with so much memory left."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    unlimited = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + mebibytes * 2**20, unlimited[1]))
    try:
        segmenter(scan)
    except MemoryError:
        return "MemoryError"
    finally:
        resource.setrlimit(resource.RLIMIT_AS, unlimited)
    return "labelled"


def main() -> None:
    """See the module."""
    segmenter = Segmenter.load(sys.argv[1], device="cpu", engine="native", threads=2)
    random = np.random.default_rng(0)
    small, large = (
        LidarScan.from_arrays(random.uniform(-100, 100, (count, 3)), random.random(count))
        for count in (2000, 200_000)
    )
    first = segmenter(small).labels
    for mebibytes in map(int, sys.argv[2:]):
        became = outcome(segmenter, large, mebibytes)
        same = np.array_equal(segmenter(small).labels, first)
        print(became, "same" if same else "other")


if __name__ == "__main__":
    main()
