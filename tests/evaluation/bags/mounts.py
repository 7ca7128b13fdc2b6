# SPDX-License-Identifier: Apache-2.0
"""Transforms of any attitude in a bag, and what tf2 makes of a chain of them, in its arithmetic."""

import numpy as np

from tests.evaluation.bags.drive import TYPES, header, vector


def turn(roll, pitch, yaw):
    """Unit quaternion x y z w of angles in degrees, about x, then y, then z."""
    x, y, z = (
        np.eye(4)[axis] * np.sin(half) + np.eye(4)[3] * np.cos(half)
        for axis, half in enumerate(np.radians((roll, pitch, yaw)) / 2)
    )
    return product(z, product(y, x))


def product(a, b):
    """Hamilton's, of quaternions x y z w."""
    (ax, ay, az, aw), (bx, by, bz, bw) = a, b
    return np.array(
        [
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by + ay * bw + az * bx - ax * bz,
            aw * bz + az * bw + ax * by - ay * bx,
            aw * bw - ax * bx - ay * by - az * bz,
        ]
    )


def inverse(q):
    return q * [-1, -1, -1, 1]


def rotated(q, v):
    return product(product(q, np.array([*v, 0.0])), inverse(q))[:3]


def chained(source, target=()):
    """Edges (quaternion, translation) from the common ancestor down to source and to target →

    quaternion and translation of source in target, link by link as tf2 does.
    """
    tops = []
    for edges in (source, target):
        q, t = np.array([0.0, 0, 0, 1]), np.zeros(3)
        for turned, moved in reversed(edges):
            q, t = product(turned, q), rotated(turned, t) + moved
        tops.append((q, t))
    (up, above), (down, below) = tops
    back = inverse(down)
    return product(back, up), rotated(back, above) + rotated(back, -below)


def message(parent, child, quaternion, translation, time_ns=0):
    """A serialised TFMessage."""
    kinds = TYPES.types
    transform = kinds["geometry_msgs/msg/Transform"](
        vector("Vector3", translation), vector("Quaternion", quaternion)
    )
    stamped = kinds["geometry_msgs/msg/TransformStamped"](header(time_ns, parent), child, transform)
    return TYPES.serialize_cdr(kinds["tf2_msgs/msg/TFMessage"]([stamped]), "tf2_msgs/msg/TFMessage")


def write_mount(bag, edges, topic="/tf_static", time_ns=1):
    """``edges``: child → (parent, quaternion, translation)."""
    for child, (parent, quaternion, translation) in edges.items():
        cdr = message(parent, child, quaternion, translation, time_ns)
        bag.write(topic, "tf2_msgs/msg/TFMessage", time_ns, cdr, latched=topic == "/tf_static")
