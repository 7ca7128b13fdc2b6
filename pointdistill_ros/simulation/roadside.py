# SPDX-License-Identifier: Apache-2.0
"""Roadside: what stands beside a street and where. Houses, fences, hedges, trees, posts, signs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from pointdistill_ros.simulation import furniture
from pointdistill_ros.simulation.buildings import building
from pointdistill_ros.simulation.mesh import Mesh, box
from pointdistill_ros.simulation.street import REACH, Side, Street
from pointdistill_ros.simulation.vegetation import bush, hedge, thicket, tree, tufts


def houses(street: Street, side: Side, rng: np.random.Generator) -> Iterator[Mesh]:
    """Yield the houses of one side, fronts towards the road."""
    c = street.character
    if not side.built:
        return
    about = 0.0 if side.sign > 0 else np.pi  # houses are made for the left side
    s = street.start - 4 + float(rng.uniform(*c.house_gap))
    while s < street.end:
        width = float(rng.uniform(*c.house_width))
        floors = int(rng.integers(c.floors[0], c.floors[1] + 1))
        setback = side.front + float(rng.normal(0, 0.2 if street.style == "urban" else 1.2))
        setback = side.sign * max(setback, side.edge + 0.1)
        middle = s + width / 2
        mesh = building(rng, width, float(rng.uniform(7, 12)), floors).moved(-width / 2)
        if street.free(middle, side.sign, width / 2 + 1):
            yield street.place(mesh, middle, setback, about)
            if rng.random() < 0.3 and street.style != "urban":
                shed = box((-3, 1, -1), (3, 6, 2.5), "plaster")
                corner = middle + width / 2 + 1.0
                yield street.place(shed, corner, setback + side.sign * 2, about)
        terraced = rng.random() < 0.3 and street.style != "country"
        s += width + (0.05 if terraced else float(rng.uniform(*c.house_gap)))


def boundary(street: Street, side: Side, rng: np.random.Generator) -> Iterator[Mesh]:
    """Yield fences and hedges piece by piece along the edge, with gaps."""
    c = street.character
    if rng.random() < 0.15:
        return  # open gardens
    s = street.start + 2
    while s < street.end - 16:
        length = float(rng.uniform(4, 14))
        d = side.sign * (side.edge + 0.3)
        if rng.random() < c.barrier and _clear(street, s, d, length):
            if street.style == "highway":
                mesh = furniture.guard_rail(length)
            elif rng.random() < c.hedges:
                height, depth = float(rng.uniform(0.7, 2.6)), float(rng.uniform(0.5, 1.4))
                mesh = hedge(rng, length, height, depth)
            else:
                mesh = furniture.fence(rng, length)
            yield street.bend(mesh, s, d)
        s += length + (0.0 if rng.random() < 0.5 else float(rng.uniform(2, 6)))


def _clear(street: Street, s: float, d: float, length: float) -> bool:
    return all(street.free(s + part * length, d, 2) for part in (0, 0.5, 1))


def posts(street: Street, side: Side, rng: np.random.Generator) -> Iterator[Mesh]:
    """Yield lamp posts, signs, signals, bollards, delineators and direction boards."""
    c = street.character
    near = side.walk - 0.5 if side.walk and rng.random() < 0.6 else side.edge + 0.15
    d = side.sign * max(near, street.half_width + 0.4)
    for s in street.places(rng, c.post_every):
        if street.free(s, d, 1):
            yield street.place(furniture.lamp_post(rng), s, d, np.pi if side.sign > 0 else 0.0)
    towards = 0.0 if side.sign < 0 else np.pi  # plates face the traffic of their side
    for s in street.places(rng, c.post_every * 1.1):
        light = street.style == "urban" and rng.random() < 0.1
        mesh = furniture.traffic_light(rng) if light else furniture.traffic_sign(rng)
        turn = towards + float(rng.normal(0, 0.1)) + (np.pi / 2 if rng.random() < 0.15 else 0.0)
        if street.free(s, d, 0):
            yield street.place(mesh, s, d + 0.15 * side.sign, turn)
    if street.style == "urban" and rng.random() < 0.4:
        begin = float(rng.uniform(street.start, street.end - 20))
        for k in range(int(rng.integers(4, 14))):
            yield street.place(furniture.bollard(rng), begin + 1.6 * k, d)
    if street.style in ("country", "highway") and rng.random() < 0.6:  # delineators
        for s in np.arange(street.start + 5, street.end - 5, 25.0):
            aside = side.sign * (street.half_width + 0.8)
            yield street.place(furniture.bollard(rng), float(s), aside)
    if side.sign < 0:
        for s in street.places(rng, c.board_every):
            if street.free(s, d, 2):
                yield street.place(furniture.direction_board(rng), s, -(side.edge + 1.2))


class Nursery:
    """A stock of plants; every one in the street is one of these, turned and scaled."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.trees = [tree(rng, float(rng.uniform(4, 14))) for _ in range(5)]
        self.conifers = [tree(rng, float(rng.uniform(5, 15)), conifer=True) for _ in range(2)]
        self.bushes = [bush(rng, float(rng.uniform(0.5, 1.8))) for _ in range(5)]
        sizes = rng.uniform((1.5, 2.0), (7.0, 5.0), (4, 2))
        self.thickets = [thicket(rng, 8.0, float(h), float(depth)) for h, depth in sizes]


def plants(
    street: Street, side: Side, nursery: Nursery, rng: np.random.Generator
) -> Iterator[Mesh]:
    """Yield trees, bushes, undergrowth and weeds of one side."""
    c, all_trees = street.character, nursery.trees + nursery.conifers

    def plant(stock: Sequence[Mesh], s: float, distance: float) -> Iterator[Mesh]:
        d = side.sign * distance
        turn, size, tall = rng.uniform((0, 0.75, 0.85), (2 * np.pi, 1.25, 1.2))
        mesh = stock[int(rng.integers(len(stock)))]
        if distance < REACH - 3 and street.free(s, d, 2):
            yield street.place(mesh.moved(scale=(size, size, size * tall)), s, d, float(turn))

    garden = side.front - side.edge if side.built else 12.0
    if garden > 1.5:
        for s in street.places(rng, c.tree_every):
            distance = side.edge + float(rng.uniform(1.0, garden + 1))
            yield from plant(all_trees if rng.random() < 0.45 else nursery.bushes, s, distance)
    if street.style == "urban" and side.walk and rng.random() < 0.5:  # avenue
        for s in street.places(rng, 11.0):
            yield from plant(nursery.trees, s, side.walk - 0.4)
    behind = side.front + 13 if side.built else side.edge + float(rng.uniform(3, 20))
    for s in street.places(rng, c.wood_every):
        distance = behind + float(rng.gamma(1.5, 7.0))
        yield from plant(all_trees if rng.random() < 0.55 else nursery.bushes, s, distance)
    yield from _undergrowth(street, side, nursery, rng)
    for s in street.places(rng, c.weeds_every):
        d = side.sign * (side.edge + float(rng.uniform(0.1, 3)))
        length, width, height = (float(v) for v in rng.uniform((2, 0.6, 0.25), (8, 3, 0.9)))
        if _clear(street, s, d, length):
            yield street.bend(tufts(rng, length, width, height), s, d, side.sign)


def _undergrowth(
    street: Street, side: Side, nursery: Nursery, rng: np.random.Generator
) -> Iterator[Mesh]:
    """Yield pieces of wood edge: near the road where nothing is built, behind houses elsewhere."""
    near = side.edge + float(rng.uniform(0.8, 9.0))
    behind = side.front + 14 if side.built else near + 13
    rows = [
        # distance, share of the length, factor on the height
        (near, street.character.thicket * (0.45 if side.built else 1.3), (0.6, 1.3)),
        (behind, 0.7, (1.0, 2.0)),
        (behind + 13, 0.8, (1.6, 2.8)),
    ]
    for distance, share, heights in rows:
        if distance > REACH - 7:
            continue
        s = street.start
        while s < street.end - 10:
            d = side.sign * (distance + float(rng.normal(0, 1.2)))
            if rng.random() < share:
                mesh = nursery.thickets[int(rng.integers(len(nursery.thickets)))]
                tall = float(rng.uniform(*heights))
                for _ in range(int(rng.integers(1, 4))):
                    if s < street.end - 10 and _clear(street, s, d, 8.0):
                        yield street.bend(mesh.moved(scale=(1, 1, tall)), s, d, side.sign)
                    s += 7.6
            else:
                s += float(rng.uniform(4, 16))
