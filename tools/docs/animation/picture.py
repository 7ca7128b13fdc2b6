# SPDX-License-Identifier: Apache-2.0
"""Frames of the moving picture: what comes in, the classes, and which of them are wrong.

The three take turns; a bright line wipes from one to the next, and at the end back to the first, so
that the picture can run for ever. Beside them stands what the colours mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from pointdistill_ros import LabelSet
from pointdistill_ros.evaluation.legend import FAINT, INK, Entry
from pointdistill_ros.evaluation.paint import EMPTY, WRONG, class_colours, error_colours
from pointdistill_ros.labels import UNLABELLED
from tools.docs.animation.camera import NOTHING, Camera, View, shade
from tools.docs.animation.drive import Shown

SIZE = (720, 405)
"""Of the picture, pixels."""
PANEL = 140
"""Width of the legend."""
_FINER = 2
"""Points are painted so many times larger, then averaged."""
_FOG = 85.0
"""Metres over which colours fade to a third."""
_CAR = ((2.3, -1.9), (0.95, -0.95), (-1.65, -0.25))
"""Metres from the sensor: rear and front, right and left, bottom and top of what carries it."""


class Act(NamedTuple):
    """What is shown from a moment on, until the next act has wiped it away."""

    mode: str
    """``input``, ``classes`` or ``errors``."""
    begins: float
    """Share of the whole, 0..1."""
    caption: str


ACTS = (
    Act("input", 0.0, "what comes in: {points} points a scan, ten scans a second"),
    Act("classes", 0.13, "what comes out: a class for every point"),
    Act("errors", 0.80, "what is wrong: {wrong} of the points so far"),
    Act("input", 0.965, "what comes in: {points} points a scan, ten scans a second"),
)
WIPE = 0.035
"""Share of the whole that a change takes."""


@dataclass
class Painter:
    """Paints frames in order, without words; counts what there is to say."""

    label_set: LabelSet
    frames: int
    right: int = 0
    judged: int = 0
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))
    """[256] points of each class so far."""

    def __call__(self, number: int, shown: Shown) -> Image.Image:
        """Frame ``number`` of ``frames``: the points, left of the place for the legend."""
        moment = number / self.frames
        camera = self._camera(moment, shown.pose)
        view = camera.look(shown.xyz)
        canvas = self._wiped(moment, view, self._colours(shown))
        image = Image.fromarray(canvas.clip(0, 255).astype(np.uint8))
        _draw_car(image, camera, shown.pose)
        self._count(shown)
        frame = Image.new("RGB", SIZE, EMPTY)
        frame.paste(image.resize((SIZE[0] - PANEL, SIZE[1]), Image.Resampling.BOX))
        return frame

    @property
    def wrong(self) -> float:
        """Share of the points so far, 0..1."""
        return 1 - self.right / max(self.judged, 1)

    def frequent(self, share: float = 0.001) -> list[int]:
        """Train ids of at least so many of the points, in the order of the label set."""
        counts = self.counts[: len(self.label_set)]
        return np.flatnonzero(counts >= share * counts.sum()).tolist()

    def _camera(self, moment: float, pose: NDArray[np.float64]) -> Camera:
        """Behind and above the sensor; sways once while the picture runs."""
        sway = np.sin(2 * np.pi * moment)
        yaw = np.arctan2(pose[1, 0], pose[0, 0]) + 0.32 * sway
        ahead = np.array([np.cos(yaw), np.sin(yaw), 0.0])
        height = 6.2 - 0.8 * np.cos(2 * np.pi * moment)
        sensor = pose[:3, 3]
        eye = sensor - 11.5 * ahead + (0, 0, height)
        target = sensor + 11.0 * ahead - (0, 0, 2.6)
        return Camera(eye, target, _FINER * (SIZE[0] - PANEL), _FINER * SIZE[1])

    def _colours(self, shown: Shown) -> dict[str, NDArray[np.float32]]:
        """[N, 3] for each mode; the trail is dimmer."""
        table = (np.asarray(mpl.colormaps["bone"](np.linspace(0.35, 1, 256)))[:, :3] * 255).astype(
            np.float32
        )
        grey = table[(np.clip(shown.intensity * 2, 0, 1) * 255).astype(np.uint8)]
        errors, _ = error_colours(shown.labels, shown.truth)
        modes = {
            "input": grey,
            "classes": class_colours(shown.labels, self.label_set).astype(np.float32),
            "errors": errors.astype(np.float32),
        }
        dim = (1 - 0.3 * np.minimum(1, 4 * shown.age))[:, None]
        return {name: colours * dim for name, colours in modes.items()}

    def _wiped(
        self, moment: float, view: View, modes: dict[str, NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        """[h, w, 3] the act, or two of them with a line between."""
        index = ACTS.index(act_at(moment))
        canvas = _paint(view, modes[ACTS[index].mode])
        done = (moment - ACTS[index].begins) / WIPE
        if index and done < 1:
            column = round(done * canvas.shape[1])
            canvas[:, column:] = _paint(view, modes[ACTS[index - 1].mode])[:, column:]
            glow = np.abs(np.arange(canvas.shape[1]) - column)[None, :, None]
            canvas = canvas + 200 * np.exp(-glow / 2.5).astype(np.float32)
        return canvas

    def _count(self, shown: Shown) -> None:
        labels, truth = shown.labels[: shown.points], shown.truth[: shown.points]
        known = truth != UNLABELLED
        self.judged += int(known.sum())
        self.right += int((labels == truth)[known].sum())
        self.counts += np.bincount(labels, minlength=256)


def write(
    frame: Image.Image, moment: float, words: dict[str, str], title: str, legend: Sequence[Entry]
) -> None:
    """Title, caption and legend, onto a frame. ``words``: for the captions of the acts."""
    draw = ImageDraw.Draw(frame)
    act = act_at(moment)
    draw.text((14, 12), title, INK, _font(15, True))
    draw.text((14, 34), act.caption.format(**words), FAINT, _font(12))
    shown = {"input": (), "classes": legend, "errors": (("wrong", WRONG),)}[act.mode]
    left, step = SIZE[0] - PANEL + 16, 22
    top = (SIZE[1] - step * len(shown)) / 2
    for number, (name, colour) in enumerate(shown):
        middle = top + step * (number + 0.5)
        draw.rounded_rectangle((left, middle - 6, left + 12, middle + 6), 3, fill=colour)
        draw.text((left + 20, middle), name, INK, _font(12), anchor="lm")


def act_at(moment: float) -> Act:
    """The act that has begun last."""
    return max((act for act in ACTS if moment >= act.begins), key=lambda act: act.begins)


def _paint(view: View, colours: NDArray[np.float32]) -> NDArray[np.float32]:
    """[h, w, 3] of points' colours [N, 3], shaded and fading with distance."""
    seen = view.point != NOTHING
    canvas = np.full((*seen.shape, 3), EMPTY, np.float32)
    clear = np.exp(-view.depth[seen] / _FOG)[:, None]
    lit = shade(view.depth)[seen][:, None]
    canvas[seen] = colours[view.point[seen]] * lit * clear + canvas[seen] * (1 - clear)
    return canvas


def _draw_car(image: Image.Image, camera: Camera, pose: NDArray[np.float64]) -> None:
    """The edges of a box where the vehicle is, which its own lidar does not see."""
    corners = np.array([(x, y, z) for x in _CAR[0] for y in _CAR[1] for z in _CAR[2]])
    places = camera.project(corners @ pose[:3, :3].T + pose[:3, 3])[:, :2]
    draw = ImageDraw.Draw(image)
    for a in range(8):
        for b in range(a + 1, 8):
            if (corners[a] != corners[b]).sum() == 1:
                draw.line([*map(tuple, places[[a, b]])], (235, 238, 242), 2)


@cache
def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """The one that comes with matplotlib."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(f"{mpl.get_data_path()}/fonts/ttf/{name}", size)
