# SPDX-License-Identifier: Apache-2.0
"""Scene: a street with everything that stands beside it and moves along it."""

from __future__ import annotations

import numpy as np

from pointdistill_ros.simulation import roadside, traffic
from pointdistill_ros.simulation.ground import ground
from pointdistill_ros.simulation.mesh import Mesh, merge
from pointdistill_ros.simulation.street import Street
from pointdistill_ros.simulation.styles import Style


class Scene:
    """Everything between two places of a street. Same generator state, same scene."""

    street: Street
    """The plan."""
    static: Mesh
    """World frame: ground, houses, plants, furniture, parked vehicles."""
    movers: tuple[traffic.Mover, ...]
    """What moves; ``ego_speed`` is the speed of who drives in the sensor's lane."""

    def __init__(
        self, rng: np.random.Generator, style: Style, start: float, end: float, ego_speed: float
    ) -> None:
        self.street = street = Street(rng, style, start, end)
        nursery = roadside.Nursery(rng)
        parts = [ground(street, rng)]
        for side in street.sides:
            parts += traffic.parked(street, side, rng)
            parts += traffic.standing(street, side, rng)
            parts += roadside.houses(street, side, rng)
            parts += roadside.boundary(street, side, rng)
            parts += roadside.posts(street, side, rng)
            parts += roadside.plants(street, side, nursery, rng)
        self.static = merge(parts)
        self.movers = tuple(traffic.moving(street, rng, ego_speed))
