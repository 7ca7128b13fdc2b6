# SPDX-License-Identifier: Apache-2.0
"""Soak: the segmentation node under a steady stream of clouds, for minutes to days.

``python -m tools.soak``; what counts as passed is in verdict.py.
"""
