# SPDX-License-Identifier: Apache-2.0
"""What the colours of the classes mean, as a picture to stand beside the points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.evaluation.paint import EMPTY, RIGHT, WRONG, class_colours
from pointdistill_ros.labels import LabelSet

Entry = tuple[str, tuple[int, int, int]]
"""What it is called, and its red, green, blue."""
DIFFERENCE: tuple[Entry, ...] = (("same", RIGHT), ("different", WRONG))
"""The colours of ``paint.error_colours``."""
INK, FAINT = (230, 233, 238), (139, 147, 161)
"""Text on the background of pictures."""


def official_entries(label_set: LabelSet) -> list[Entry]:
    """The classes in the colours of the label set, as clouds with a field ``rgb`` have them."""
    return list(zip(label_set.names, label_set.colours, strict=True))


def class_entries(label_set: LabelSet, ids: Sequence[int] | None = None) -> list[Entry]:
    """The classes, or those of ``ids`` in their order, in the colours that pictures have."""
    table = class_colours(np.arange(256, dtype=np.uint8), label_set)
    names = (*label_set.names, "unlabelled")
    chosen = range(len(names)) if ids is None else ids
    return [
        (names[i], (int(r), int(g), int(b))) for i, (r, g, b) in ((i, table[i]) for i in chosen)
    ]


def legend_image(sections: Mapping[str, Sequence[Entry]], size: int = 22) -> NDArray[np.uint8]:
    """[h, w, 3] a column of swatches and names, section below section. ``size``: text, pixels."""
    from PIL import Image, ImageDraw

    line, edge = round(1.5 * size), size
    rows: list[tuple[str, tuple[int, int, int] | None]] = []
    for title, entries in sections.items():
        rows += [("", None)] if rows else []
        rows += [(title, None)] if title else []
        rows += list(entries)
    width = max((_font(size).getlength(name) for name, _ in rows), default=0)
    shape = (round(width) + 2 * edge + 2 * size, line * len(rows) + 2 * edge)
    image = Image.new("RGB", shape, EMPTY)
    draw = ImageDraw.Draw(image)
    for number, (name, colour) in enumerate(rows):
        middle = edge + line * (number + 0.5)
        if colour is None:
            draw.text((edge, middle), name, FAINT, _font(size), anchor="lm")
            continue
        box = (edge, middle - 0.4 * size, edge + 0.8 * size, middle + 0.4 * size)
        draw.rounded_rectangle(box, radius=size // 6, fill=colour)
        draw.text((edge + 1.4 * size, middle), name, INK, _font(size), anchor="lm")
    return np.asarray(image)


def legend_png(sections: Mapping[str, Sequence[Entry]]) -> bytes:
    """The same as a file."""
    from PIL import Image

    file = BytesIO()
    Image.fromarray(legend_image(sections)).save(file, "PNG", optimize=True)
    return file.getvalue()


@cache
def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size)
