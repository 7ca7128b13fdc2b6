# SPDX-License-Identifier: Apache-2.0
"""Scene: a street with everything that stands in it, and what moves along it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pointdistill_ros.simulation import furniture, people, vehicles
from pointdistill_ros.simulation.buildings import building
from pointdistill_ros.simulation.ground import ground
from pointdistill_ros.simulation.mesh import Mesh, box, merge
from pointdistill_ros.simulation.street import REACH, Side, Street, Style
from pointdistill_ros.simulation.vegetation import bush, hedge, tree, tufts


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

    def at(self, street: Street, time: float) -> Mesh | None:
        """Where it is at a time in seconds; None beyond the ends of the street."""
        s = self.s + self.speed * time
        if not street.start + 5 < s < street.end - 5:
            return None
        return street.place(self.mesh, s, self.d, 0.0 if self.speed >= 0 else np.pi)


class Scene:
    """Everything between two places of a street. Same generator state, same scene."""

    def __init__(self, rng: np.random.Generator, style: Style, start: float, end: float) -> None:
        self.street = Street(rng, style, start, end)
        self._rng = rng
        self._trees = [tree(rng, float(rng.uniform(4, 14))) for _ in range(5)]
        self._trees += [tree(rng, float(rng.uniform(5, 15)), conifer=True) for _ in range(2)]
        self._bushes = [bush(rng, float(rng.uniform(0.5, 1.6))) for _ in range(5)]
        parts = [ground(self.street, rng)]
        for side in self.street.sides:
            parts += self._parked(side) + self._boundary(side) + self._furniture(side)
            parts += self._houses(side) + self._nature(side) + self._standing(side)
        parts += self._boards()
        self.static = merge(parts)
        self.movers = tuple(self._traffic() + self._walkers())

    def _places(self, every: float, start: float | None = None) -> list[float]:
        """Irregular places along the street, ``every`` metres on average."""
        rng, street = self._rng, self.street
        s = (street.start if start is None else start) + float(rng.uniform(0, every))
        places = []
        while s < street.end - 2:
            places.append(s)
            s += every * float(rng.uniform(0.4, 1.6))
        return places

    def _parked(self, side: Side) -> list[Mesh]:
        rng, street = self._rng, self.street
        parts: list[Mesh] = []
        if side.parking is not None:
            density = float(rng.uniform(0.3, 0.9))
            s = street.start + 4
            while s < street.end - 8:
                pick = rng.random()
                mesh = vehicles.car(rng)
                if pick > 0.98:
                    mesh = vehicles.truck(rng)
                elif pick > 0.96:
                    mesh = vehicles.coach(rng)
                elif pick > 0.93:
                    mesh = people.motorcycle(rng)
                length = float(np.ptp(mesh.corners[..., 0]))
                s += length / 2
                if rng.random() < density and street.free(s, side.sign, 5):
                    turn = rng.normal(0, 0.02) + (
                        0.0 if side.sign < 0 or rng.random() < 0.2 else np.pi
                    )
                    d = side.sign * (side.parking + float(rng.normal(0, 0.1)))
                    parts.append(street.place(mesh, s, d, float(turn)))
                s += length / 2 + float(rng.uniform(0.6, 1.6))
        if street.style in ("suburban", "country"):  # in front of houses
            for s in self._places(28.0 if street.style == "suburban" else 80.0):
                d = side.sign * (side.edge + float(rng.uniform(3, 6)))
                if side.front > side.edge + 3 and street.free(s, d, 6) and rng.random() < 0.6:
                    mesh = vehicles.coach(rng) if rng.random() < 0.06 else vehicles.car(rng)
                    parts.append(
                        street.place(mesh, s, d, side.sign * np.pi / 2 + float(rng.normal(0, 0.1)))
                    )
        return parts

    def _boundary(self, side: Side) -> list[Mesh]:
        """Fences and hedges piece by piece along the edge, with gaps."""
        rng, street = self._rng, self.street
        parts: list[Mesh] = []
        share = {"suburban": 0.7, "urban": 0.15, "country": 0.2, "highway": 0.75}[street.style]
        s = street.start + 2
        while s < street.end - 12:
            length = float(rng.uniform(4, 14))
            d = side.sign * (side.edge + 0.3)
            if rng.random() < share and street.free(s, d, 2) and street.free(s + length, d, 2):
                mesh = self._barrier(length)
                # short pieces follow the curve and the slope
                x = mesh.corners[..., 0] + s
                y = mesh.corners[..., 1] + d
                z = mesh.corners[..., 2] + street.step(d)
                parts.append(street.bend(Mesh(np.stack([x, y, z], -1), mesh.material, mesh.tint)))
            s += length + (0.0 if rng.random() < 0.5 else float(rng.uniform(2, 6)))
        return parts

    def _barrier(self, length: float) -> Mesh:
        rng = self._rng
        if self.street.style == "highway":
            return furniture.guard_rail(length)
        if rng.random() < 0.45:
            return hedge(rng, length, float(rng.uniform(0.7, 2.2)), float(rng.uniform(0.5, 1.2)))
        return furniture.fence(rng, length)

    def _furniture(self, side: Side) -> list[Mesh]:
        rng, street = self._rng, self.street
        every = {"suburban": 32.0, "urban": 24.0, "country": 55.0, "highway": 45.0}[street.style]
        parts = []
        near = side.walk - 0.5 if side.walk else side.edge + 0.2
        d = side.sign * max(near, street.half_width + 0.4)
        for s in self._places(every):
            if street.free(s, d, 1):
                mesh = furniture.lamp_post(rng)
                parts.append(street.place(mesh, s, d, np.pi if side.sign > 0 else 0.0))
        for s in self._places(every * 1.1):
            mesh = furniture.traffic_sign(rng)
            if rng.random() < 0.1 and street.style == "urban":
                mesh = furniture.traffic_light(rng)
            facing = (0.0 if side.sign < 0 else np.pi) + (np.pi / 2 if rng.random() < 0.15 else 0.0)
            if street.free(s, d, 0):
                parts.append(
                    street.place(mesh, s, d + 0.15 * side.sign, facing + float(rng.normal(0, 0.1)))
                )
        if street.style == "urban" and rng.random() < 0.4:
            begin = float(rng.uniform(street.start, street.end - 20))
            for k in range(int(rng.integers(4, 14))):
                parts.append(street.place(furniture.bollard(rng), begin + 1.6 * k, d))
        if street.style == "country" and rng.random() < 0.6:  # delineators
            for s in np.arange(street.start + 5, street.end - 5, 25.0):
                parts.append(
                    street.place(
                        furniture.bollard(rng), float(s), side.sign * (street.half_width + 0.8)
                    )
                )
        return parts

    def _boards(self) -> list[Mesh]:
        rng, street = self._rng, self.street
        every = {"suburban": 250.0, "urban": 160.0, "country": 160.0, "highway": 60.0}[street.style]
        d = -(street.right.edge + 1.2)
        return [
            street.place(furniture.direction_board(rng), s, d)
            for s in self._places(every)
            if street.free(s, d, 2)
        ]

    def _houses(self, side: Side) -> list[Mesh]:
        rng, street = self._rng, self.street
        parts: list[Mesh] = []
        if street.style == "highway":
            return parts
        gap = {"suburban": (2.0, 14.0), "urban": (0.0, 3.0), "country": (20.0, 160.0)}[street.style]
        s = street.start - 4 + float(rng.uniform(*gap))
        while s < street.end:
            width = float(rng.uniform(7, 16 if street.style != "urban" else 26))
            floors = int(rng.integers(3, 6)) if street.style == "urban" else int(rng.integers(1, 4))
            setback = side.front + float(rng.normal(0, 0.2 if street.style == "urban" else 1.2))
            setback = max(setback, side.edge + 0.1)
            middle = s + width / 2
            if street.free(middle, side.sign, width / 2 + 1):
                mesh = building(rng, width, float(rng.uniform(7, 12)), floors).moved(-width / 2)
                # built facing −y: as it stands for the left side, turned about for the right
                parts.append(
                    street.place(mesh, middle, side.sign * setback, 0.0 if side.sign > 0 else np.pi)
                )
                if rng.random() < 0.3 and street.style == "suburban":
                    shed = box((-3, 1, -1), (3, 6, 2.5), "plaster")
                    parts.append(
                        street.place(
                            shed,
                            middle + width / 2 + 1.0,
                            side.sign * (setback + 2),
                            0.0 if side.sign > 0 else np.pi,
                        )
                    )
            s += width + (
                float(rng.uniform(*gap))
                if rng.random() < 0.7 or street.style == "country"
                else 0.05
            )
        return parts

    def _nature(self, side: Side) -> list[Mesh]:
        rng, street = self._rng, self.street
        parts: list[Mesh] = []

        def plant(stock: list[Mesh], s: float, d: float) -> None:
            if not street.free(s, d, 2):
                return
            mesh = stock[int(rng.integers(len(stock)))]
            scale = float(rng.uniform(0.75, 1.25)) * np.array([1, 1, float(rng.uniform(0.85, 1.2))])
            parts.append(street.place(mesh.moved(scale=scale), s, d, float(rng.uniform(0, 6.28))))

        inside = max(side.front - side.edge, 0.0)
        every = {"suburban": 14.0, "urban": 40.0, "country": 14.0, "highway": 22.0}[street.style]
        if inside > 1.5:
            for s in self._places(every):
                d = side.sign * (side.edge + float(rng.uniform(1.2, inside + 1)))
                plant(self._trees if rng.random() < 0.45 else self._bushes, s, d)
        if street.style == "urban" and side.walk and rng.random() < 0.5:  # avenue
            for s in self._places(11.0):
                plant(self._trees[:5], s, side.sign * (side.walk - 0.4))
        if street.style in ("country", "highway"):
            wood = float(rng.uniform(6, 30))
            for s in self._places(2.6 if rng.random() < 0.5 else 9.0):
                d = side.edge + wood + float(rng.gamma(1.5, 6.0))
                if d < REACH - 3:
                    plant(self._trees if rng.random() < 0.55 else self._bushes, s, side.sign * d)
        else:  # back gardens
            for s in self._places(6.0):
                d = side.front + 14 + float(rng.uniform(0, 25))
                if d < REACH - 3:
                    plant(self._trees if rng.random() < 0.6 else self._bushes, s, side.sign * d)
        for s in self._places(
            {"suburban": 18.0, "urban": 60.0, "country": 9.0, "highway": 12.0}[street.style]
        ):
            d0, width = side.edge + float(rng.uniform(0.1, 3)), float(rng.uniform(0.6, 3.0))
            length = float(rng.uniform(2, 8))
            if street.free(s, side.sign, 3) and street.free(s + length, side.sign, 3):
                mesh = tufts(rng, length, width, float(rng.uniform(0.25, 0.9)))
                y = side.sign * (mesh.corners[..., 1] + d0)
                z = mesh.corners[..., 2] + street.step(side.sign * d0)
                xyz = np.stack([mesh.corners[..., 0] + s, y, z], -1)
                parts.append(street.bend(Mesh(xyz, mesh.material, mesh.tint)))
        return parts

    def _standing(self, side: Side) -> list[Mesh]:
        """Parked bicycles and people who do not move."""
        rng, street = self._rng, self.street
        parts: list[Mesh] = []
        if side.walk is None or street.style == "highway":
            return parts
        busy = {"suburban": 60.0, "urban": 22.0, "country": 200.0, "highway": 1e9}[street.style]
        for s in self._places(busy):
            d = side.sign * (side.walk + float(rng.uniform(-0.5, 0.6)))
            if rng.random() < 0.4:
                parts.append(street.place(people.person(rng), s, d, float(rng.uniform(0, 6.28))))
            else:
                turn = float(rng.choice([0.0, np.pi / 2])) + float(rng.normal(0, 0.1))
                for k in range(int(rng.integers(1, 4))):
                    mesh = people.bicycle(rng) if rng.random() < 0.8 else people.motorcycle(rng)
                    parts.append(
                        street.place(mesh, s + 0.7 * k, side.sign * (side.edge - 0.35), turn)
                    )
        return parts

    def _traffic(self) -> list[Mover]:
        rng, street = self._rng, self.street
        speed = {"suburban": 9.0, "urban": 8.0, "country": 17.0, "highway": 27.0}[street.style]
        every = {"suburban": 55.0, "urban": 30.0, "country": 80.0, "highway": 35.0}[street.style]
        movers: list[Mover] = []
        lanes = [(street.lane, speed * 0.9), (-street.lane, -speed)]
        if street.style == "highway":
            lanes = [
                (-street.half_width * 0.75, speed * 0.8),
                (street.lane, speed),
                (-street.lane, speed * 1.1),
            ]
            lanes.append((street.half_width * 0.75, speed * 1.2))
        for d, v in lanes:
            for s in self._places(every):
                if abs(d - street.lane) < 1.5 and abs(s) < 16:
                    continue  # the sensor's own place
                pick = rng.random()
                bike = float(np.sign(d)) * (street.half_width - 0.6)
                if pick < 0.70:
                    movers.append(Mover(vehicles.car(rng), s, d, v))
                elif pick < 0.79:
                    movers.append(Mover(vehicles.truck(rng), s, d, v * 0.9))
                elif pick < 0.86:
                    movers.append(Mover(vehicles.coach(rng), s, d, v * 0.9))
                elif pick < 0.92:
                    movers.append(Mover(people.motorcyclist(rng), s, d, v))
                elif street.style != "highway":
                    movers.append(
                        Mover(
                            people.bicyclist(rng),
                            s,
                            bike,
                            float(np.sign(v)) * float(rng.uniform(3, 6)),
                        )
                    )
        return movers

    def _walkers(self) -> list[Mover]:
        rng, street = self._rng, self.street
        movers: list[Mover] = []
        every = {"suburban": 45.0, "urban": 12.0, "country": 250.0, "highway": 1e9}[street.style]
        for side in street.sides:
            if side.walk is None:
                continue
            for s in self._places(every):
                for _ in range(1 + int(rng.random() < 0.3)):
                    d = side.sign * (side.walk + float(rng.uniform(-0.6, 0.6)))
                    v = float(rng.choice([-1, 1])) * float(rng.uniform(0.8, 1.7))
                    movers.append(
                        Mover(
                            people.person(rng, float(rng.uniform(-1, 1))),
                            s + float(rng.uniform(-0.5, 0.5)),
                            d,
                            v,
                        )
                    )
        return movers
