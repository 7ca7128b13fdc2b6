# SPDX-License-Identifier: Apache-2.0
"""Two Ray nodes on this machine, in a process of their own: python -m tests.cluster.ray_nodes

Prints a line of JSON (address, pids of the two raylets), ends the second node at a line "kill" and
everything at the end of stdin.
"""

import json
import os
import sys

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",
    "RAY_enable_worker_prestart": "0",
    "RAY_prestart_worker_first_driver": "0",
}


def raylet(node):
    from ray._private.ray_constants import PROCESS_TYPE_RAYLET

    return node.all_processes[PROCESS_TYPE_RAYLET][0].process.pid


def main():
    os.environ.update(QUIET)
    from ray.cluster_utils import Cluster

    options = {"num_cpus": 4, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=options)
    second = cluster.add_node(num_cpus=2, object_store_memory=80 * 2**20)
    pids = [raylet(cluster.head_node), raylet(second)]
    print(json.dumps({"address": cluster.address, "raylets": pids}), flush=True)
    for line in sys.stdin:
        if line == "kill\n":
            cluster.remove_node(second, allow_graceful=False)
            print("killed", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main()
