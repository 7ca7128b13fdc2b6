# SPDX-License-Identifier: Apache-2.0
"""`python -m pointdistill_ros.cli` = `pointdistill`."""

from pointdistill_ros.cli import main

main()
