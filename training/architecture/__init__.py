# SPDX-License-Identifier: Apache-2.0
"""Search for network shapes that are fast here and label well: training/search.py."""
