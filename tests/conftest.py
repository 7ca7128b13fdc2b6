# SPDX-License-Identifier: Apache-2.0
"""What every test process gets: one thread, a DDS domain and a log folder of its own, real data."""

import os
import random
import tempfile
from pathlib import Path

# Before numpy, torch and rclpy are imported anywhere.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"
os.environ["MPLBACKEND"] = "Agg"
# Another domain per process: parallel runs, and other people's robots, never hear each other.
os.environ["ROS_DOMAIN_ID"] = str(random.SystemRandom().randint(1, 101))
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
