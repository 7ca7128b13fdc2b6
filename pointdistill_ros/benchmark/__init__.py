# SPDX-License-Identifier: Apache-2.0
"""`pointdistill benchmark`: engines × networks × scans, measured in turns in one process.

timing → parity → one thread → memory → roofline → scaling → busy; ``run.py`` puts them together.
"""
