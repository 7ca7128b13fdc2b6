# SPDX-License-Identifier: Apache-2.0
"""Test process: counts best-effort clouds on /large until something comes on /end; prints them.

Each is answered with the count on /heard; those of one point are not counted.
"""

import sys

import rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Empty, UInt32

from pointdistill_ros.nodes.transport import prepare_transport

if __name__ == "__main__":
    prepare_transport()
    rclpy.init()
    node = rclpy.create_node("receiver")
    sizes, ended = [], []
    answer = node.create_publisher(UInt32, "/heard", 10)

    def hear(cloud):
        if cloud.width > 1:
            sizes.append(len(cloud.data))
        answer.publish(UInt32(data=len(sizes)))

    best_effort = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
    node.create_subscription(PointCloud2, "/large", hear, best_effort)
    node.create_subscription(Empty, "/end", ended.append, 1)
    while not ended:
        rclpy.spin_once(node, timeout_sec=0.2)
    print(len(sizes), set(sizes))
    node.destroy_node()
    rclpy.shutdown()
    sys.exit(0)
