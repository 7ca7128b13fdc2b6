# SPDX-License-Identifier: Apache-2.0
"""Cameras in simulated streets: pictures with the exact class and depth of every pixel."""

from pointdistill_ros.simulation.camera.filmed import FilmedDrive, kitti_camera
from pointdistill_ros.simulation.camera.render import Light, Picture, render

__all__ = ["FilmedDrive", "Light", "Picture", "kitti_camera", "render"]
