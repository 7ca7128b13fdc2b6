# SPDX-License-Identifier: Apache-2.0
"""Traffic: who drives, rides and walks along a street, and who has parked or stands about."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pointdistill_ros.simulation import people, vehicles
from pointdistill_ros.simulation.mesh import Mesh
from pointdistill_ros.simulation.street import Side, Street


@dataclass(frozen=True)
class Mover:
    """Something that follows the street at constant speed."""

    mesh: Mesh
    s: float
    """Place along the street at time 0, metres."""
    d: float
    """Offset to the left of the centre line, metres."""
    speed: float
    """Metres per second along s, negative = oncoming."""

    def at(self, street: Street, time: float, near: float) -> Mesh | None:
        """Where it is at a time in seconds; None farther than 90 m from s = ``near``."""
        s = self.s + self.speed * time
        if abs(s - near) > 90 or not street.start + 5 < s < street.end - 5:
            return None
        return street.place(self.mesh, s, self.d, 0.0 if self.speed >= 0 else np.pi)


def moving(street: Street, rng: np.random.Generator, ego_speed: float) -> Iterator[Mover]:
    """Yield vehicles in all lanes and people on the sidewalks."""
    c = street.character
    # who shares the sensor's lane keeps its distance: same speed
    lanes = [(street.lane, ego_speed), (-street.lane, -c.traffic_speed)]
    if street.style == "highway":
        outer = 0.75 * street.half_width
        lanes = [(street.lane, ego_speed), (-street.lane, c.traffic_speed * 1.1)]
        lanes += [(-outer, c.traffic_speed * 0.8), (outer, c.traffic_speed * 1.2)]
    for d, speed in lanes:
        last = -np.inf
        for s in street.places(rng, c.car_every):
            if s - last < 18 or (d == street.lane and abs(s) < 14):
                continue  # no room, or the sensor's own place
            last = s
            yield _vehicle(street, rng, s, d, speed)
    for side in street.sides:
        for s in street.places(rng, c.walker_every) if side.walk else ():
            for _ in range(1 + int(rng.random() < 0.3)):
                d = (side.walk or 0.0) + float(rng.uniform(-0.6, 0.6))
                pace = float(rng.choice([-1, 1])) * float(rng.uniform(0.8, 1.7))
                mesh = people.person(rng, float(rng.uniform(-1, 1)))
                yield Mover(mesh, s + float(rng.uniform(-0.5, 0.5)), side.sign * d, pace)


def _vehicle(street: Street, rng: np.random.Generator, s: float, d: float, speed: float) -> Mover:
    pick = rng.random()
    if pick < 0.58:
        return Mover(vehicles.car(rng), s, d, speed)
    if pick < 0.67:
        return Mover(vehicles.truck(rng), s, d, speed)
    if pick < 0.76:
        return Mover(vehicles.coach(rng), s, d, speed)
    if pick < 0.87 or street.style == "highway":
        return Mover(people.motorcyclist(rng), s, d, speed)
    # cyclists keep to the edge
    aside = float(np.sign(d)) * (street.half_width - 0.35)
    pace = float(np.sign(speed)) * float(rng.uniform(3, 6))
    return Mover(people.bicyclist(rng), s, aside, pace)


def parked(street: Street, side: Side, rng: np.random.Generator) -> Iterator[Mesh]:
    """Yield vehicles at the kerb and in front of houses."""
    if side.parking is not None:
        density = float(rng.uniform(0.1, 0.8))
        s = street.start + 4
        while s < street.end - 8:
            mesh = _parked_vehicle(rng, car_only=side.across)
            axis = 1 if side.across else 0
            length = float(np.ptp(mesh.corners[..., axis]))
            s += length / 2
            if rng.random() < density and street.free(s, side.sign, 5):
                backwards = rng.random() < (0.5 if side.across else 0.2)
                turn = side.sign * np.pi / 2 if side.across else (0 if side.sign < 0 else np.pi)
                turn += float(rng.normal(0, 0.02)) + (np.pi if backwards else 0)
                d = side.sign * (side.parking + float(rng.normal(0, 0.1)))
                yield street.place(mesh, s, d, turn)
            s += length / 2 + float(rng.uniform(0.6, 1.6))
    if street.style in ("suburban", "country") and side.front > side.edge + 3:
        for s in street.places(rng, street.character.driveway_every * 1.3):
            d = side.sign * (side.edge + float(rng.uniform(3, 6)))
            mesh = vehicles.coach(rng) if rng.random() < 0.06 else vehicles.car(rng)
            if street.free(s, d, 6) and rng.random() < 0.6:
                yield street.place(mesh, s, d, np.pi / 2 + float(rng.normal(0, 0.1)))


def _parked_vehicle(rng: np.random.Generator, car_only: bool) -> Mesh:
    pick = rng.random()
    if car_only or pick < 0.93:
        return vehicles.car(rng)
    if pick < 0.96:
        return people.motorcycle(rng)
    return vehicles.coach(rng) if pick < 0.98 else vehicles.truck(rng)


def standing(street: Street, side: Side, rng: np.random.Generator) -> Iterator[Mesh]:
    """Yield people who stand about, and parked bicycles."""
    if side.walk is None:
        return
    for s in street.places(rng, street.character.standing_every):
        if rng.random() < 0.4:
            d = side.sign * (side.walk + float(rng.uniform(-0.5, 0.6)))
            yield street.place(people.person(rng), s, d, float(rng.uniform(0, 2 * np.pi)))
            continue
        turn = float(rng.choice([0.0, np.pi / 2])) + float(rng.normal(0, 0.1))
        for k in range(int(rng.integers(1, 4))):
            mesh = people.bicycle(rng) if rng.random() < 0.8 else people.motorcycle(rng)
            yield street.place(mesh, s + 0.7 * k, side.sign * (side.edge - 0.35), turn)
