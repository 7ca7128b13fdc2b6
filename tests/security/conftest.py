# SPDX-License-Identifier: Apache-2.0
"""The client and the node processes of the nodes' tests."""

from tests.nodes.conftest import client, start_node, transport

__all__ = ["client", "start_node", "transport"]
