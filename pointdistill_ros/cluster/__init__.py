# SPDX-License-Identifier: Apache-2.0
"""Many inputs over the nodes of a Ray cluster (an extra): one job an input, one network a process.

What a job does is the caller's; nothing here knows bags, labels or the network.
"""
