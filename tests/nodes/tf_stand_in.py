# SPDX-License-Identifier: Apache-2.0
"""The few names of tf2_ros that the node uses, for environments without it. This is not tf2."""

from types import ModuleType, SimpleNamespace
from typing import ClassVar


class TransformException(Exception):
    pass


class Buffer:
    """Knows the transforms of ``known``: (target, source) → ((x, y, z, w), (x, y, z))."""

    known: ClassVar[dict] = {}

    def __init__(self, cache_time=None, node=None):
        self.asked = []
        type(self).last = self

    def lookup_transform(self, target_frame, source_frame, time, timeout):
        self.asked.append((target_frame, source_frame, time.nanoseconds, timeout.nanoseconds))
        if (target_frame, source_frame) not in self.known:
            raise TransformException(f'"{target_frame}" does not exist')
        rotation, translation = self.known[target_frame, source_frame]
        return SimpleNamespace(
            transform=SimpleNamespace(
                rotation=SimpleNamespace(**dict(zip("xyzw", rotation, strict=True))),
                translation=SimpleNamespace(**dict(zip("xyz", translation, strict=True))),
            )
        )


class TransformListener:
    def __init__(self, buffer, node):
        self.listening = True
        type(self).last = self

    def unregister(self):
        self.listening = False


def tf2_ros(known):
    """The module, knowing these transforms."""
    module = ModuleType("tf2_ros")
    module.Buffer = type("Buffer", (Buffer,), {"known": known})
    module.TransformListener = type("TransformListener", (TransformListener,), {})
    module.TransformException = TransformException
    return module
