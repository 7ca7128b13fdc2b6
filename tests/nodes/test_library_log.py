# SPDX-License-Identifier: Apache-2.0
import logging

from pointdistill_ros.nodes.library_log import LIBRARY, library_log


class RosLogger:
    """rclpy's, as far as it is used."""

    def __init__(self):
        self.told = []

    def __getattr__(self, level):
        return lambda text: self.told.append((level, text))


def test_every_level_from_info_on_reaches_the_node_and_nothing_afterwards():
    ros, library = RosLogger(), logging.getLogger(f"{LIBRARY}.engine.somewhere")
    before = logging.getLogger(LIBRARY).level
    with library_log(ros):
        library.debug("no")
        library.info("memory is back: %s", "fast")
        library.warning("100 % full")
        library.critical("gone")
        logging.getLogger("somebody.else").warning("no")
    library.error("no")
    assert ros.told == [
        ("info", "memory is back: fast"),
        ("warning", "100 % full"),
        ("error", "gone"),
    ]
    assert logging.getLogger(LIBRARY).level == before
