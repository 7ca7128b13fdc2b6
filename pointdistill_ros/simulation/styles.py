# SPDX-License-Identifier: Apache-2.0
"""Styles of street: how wide, how curved, how built, how busy. One table; spacings in metres."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from pointdistill_ros.errors import ConfigError

Style = Literal["suburban", "urban", "country", "highway"]
STYLES: tuple[Style, ...] = get_args(Style)

Range = tuple[float, float]
NEVER = 1e9
"""Spacing of what does not occur."""


@dataclass(frozen=True)
class Character:
    """The numbers of one style. ``…_every`` are mean distances along one side of the street."""

    share: float
    """How often a drive gets this style when none is asked for."""
    road_width: Range
    """Between the kerbs."""
    radius: float
    """Of the sharpest curve."""
    ego_speed: Range
    """Of the sensor, metres per second."""
    traffic_speed: float
    """Of oncoming traffic, metres per second."""
    junction_every: float
    driveway_every: float
    parking: float
    """Probability that cars park along a side."""
    walk: float
    """Probability of a sidewalk on a side."""
    verge: float
    """Probability of grass between road and sidewalk."""
    built: float
    """Probability that houses stand on a side."""
    front: Range
    """From the end of public ground to the house fronts."""
    house_gap: Range
    house_width: Range
    floors: tuple[int, int]
    """Fewest, most."""
    barrier: float
    """Share of the edge behind a fence or hedge."""
    hedges: float
    """Share of barriers that are hedges."""
    thicket: float
    """Share of the edge with undergrowth behind it."""
    tree_every: float
    wood_every: float
    """Trees and bushes of gardens or woods farther away."""
    weeds_every: float
    post_every: float
    board_every: float
    bank: float
    """Standard deviation of the slope beside the street, metres per metre."""
    car_every: float
    walker_every: float
    standing_every: float
    marks: float
    """Probability of a painted centre line."""


CHARACTERS: dict[Style, Character] = {
    "suburban": Character(
        share=0.45, road_width=(5.5, 8.5), radius=90, ego_speed=(3, 9), traffic_speed=9,
        junction_every=100, driveway_every=30, parking=0.3, walk=0.9, verge=0.3, built=0.72,
        front=(2, 9), house_gap=(2, 14), house_width=(7, 16), floors=(1, 3), barrier=0.75,
        hedges=0.5, thicket=0.3, tree_every=10, wood_every=4, weeds_every=16, post_every=32,
        board_every=250, bank=0.04, car_every=90, walker_every=60, standing_every=90, marks=0.35,
    ),
    "urban": Character(
        share=0.22, road_width=(7, 13), radius=150, ego_speed=(2, 9), traffic_speed=8,
        junction_every=80, driveway_every=50, parking=0.45, walk=1.0, verge=0.08, built=0.85,
        front=(-4, 5), house_gap=(0, 4), house_width=(8, 26), floors=(3, 6), barrier=0.25,
        hedges=0.35, thicket=0.1, tree_every=16, wood_every=7, weeds_every=60, post_every=24,
        board_every=160, bank=0.01, car_every=50, walker_every=16, standing_every=32, marks=0.8,
    ),
    "country": Character(
        share=0.23, road_width=(5.5, 8), radius=90, ego_speed=(8, 17), traffic_speed=17,
        junction_every=200, driveway_every=90, parking=0.04, walk=0.3, verge=0.7, built=0.35,
        front=(8, 20), house_gap=(15, 120), house_width=(8, 18), floors=(1, 3), barrier=0.25,
        hedges=0.4, thicket=0.55, tree_every=12, wood_every=3, weeds_every=7, post_every=50,
        board_every=160, bank=0.12, car_every=100, walker_every=250, standing_every=250, marks=0.7,
    ),
    "highway": Character(
        share=0.10, road_width=(15, 22), radius=600, ego_speed=(18, 28), traffic_speed=27,
        junction_every=NEVER, driveway_every=NEVER, parking=0.0, walk=0.0, verge=0.0, built=0.0,
        front=(8, 20), house_gap=(NEVER, NEVER), house_width=(8, 18), floors=(1, 3), barrier=0.75,
        hedges=0.0, thicket=0.45, tree_every=22, wood_every=5, weeds_every=9, post_every=45,
        board_every=60, bank=0.15, car_every=55, walker_every=NEVER, standing_every=NEVER,
        marks=1.0,
    ),
}  # fmt: skip


def named_style(name: str) -> Style:
    """The style of that name. Raises ConfigError listing what there is."""
    for style in STYLES:
        if style == name:
            return style
    raise ConfigError(f"unknown street style {name!r}; known: {', '.join(STYLES)}")
