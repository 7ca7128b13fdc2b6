# SPDX-License-Identifier: Apache-2.0
"""Procedural streets with exact labels, seen by ray-cast lidars."""

from pointdistill_ros.simulation.drive import Drive, LabelledScan

__all__ = ["Drive", "LabelledScan"]
