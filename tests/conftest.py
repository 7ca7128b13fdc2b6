# SPDX-License-Identifier: Apache-2.0
"""What every test process gets: one thread, a DDS domain and a log folder of its own, real data."""

import os
import random
import re
import tempfile
from contextlib import suppress
from pathlib import Path

# Before numpy, torch and rclpy are imported anywhere.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"
os.environ["MPLBACKEND"] = "Agg"


def free_domain() -> int:
    """A DDS domain that nobody on this machine uses, and no killed process left anything of.

    Parallel runs, other people's robots and what is left of an earlier test never hear each other.
    """
    ports = set()
    for table in ("udp", "udp6"):
        with suppress(OSError):
            for line in Path("/proc/net", table).read_text().splitlines()[1:]:
                ports.add(int(line.split()[1].rpartition(":")[2], 16))
    for left in Path("/dev/shm").glob("*fastrtps_port*"):
        if found := re.search(r"port(\d+)", left.name):
            ports.add(int(found[1]))
    domains = range(1, 102)  # beyond these the ports are those of outgoing connections
    free = set(domains) - {(port - 7400) // 250 for port in ports}
    return random.SystemRandom().choice(sorted(free) or domains)


os.environ["ROS_DOMAIN_ID"] = str(free_domain())
_logs = tempfile.TemporaryDirectory(prefix="ros-log-", ignore_cleanup_errors=True)
os.environ["ROS_LOG_DIR"] = _logs.name
# The fastest engine is remembered there; tests leave what this machine remembers alone.
os.environ["XDG_CACHE_HOME"] = _logs.name

import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

# Shared machines stall: deadlines would make failures out of that.
settings.register_profile("quick", deadline=None, max_examples=50)
settings.register_profile("thorough", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

ROOT = Path(__file__).resolve().parents[1]
ROS_TIMEOUT = 600
"""Seconds for a test that starts processes which find each other, on a machine that is busy."""


def pytest_collection_modifyitems(items):
    for item in items:
        if item.get_closest_marker("ros") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(ROS_TIMEOUT))


@pytest.fixture(autouse=True)
def own_domain(request, monkeypatch):
    """Each test with DDS has a domain of its own; the processes that it starts inherit it."""
    if request.node.get_closest_marker("ros"):
        monkeypatch.setenv("ROS_DOMAIN_ID", str(free_domain()))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Real recordings, which cannot be shipped: $POINTDISTILL_DATA or ../shared/data."""
    named = os.environ.get("POINTDISTILL_DATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        if named:
            pytest.fail(f"POINTDISTILL_DATA={named} is not a folder")
        pytest.skip("no real recordings here; name their folder in POINTDISTILL_DATA")
    return folder
