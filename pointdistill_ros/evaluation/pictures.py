# SPDX-License-Identifier: Apache-2.0
"""Pictures of a labelled scan: from above and as the sensor sees it, with a legend of class shares.

- points are painted into an image array, matplotlib adds only titles, axes and legend: well under
  a second for 120 000 points
- NaN and Inf points are not drawn and count as unlabelled
Not here: interactive views, camera images.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.errors import ScanError
from pointdistill_ros.evaluation.paint import (
    EMPTY,
    class_colours,
    error_colours,
    paint_from_above,
)
from pointdistill_ros.io.atomic import atomic_path
from pointdistill_ros.labels import UNLABELLED, LabelSet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BACKGROUND = "#0e1116"
_TEXT = "#e6e9ee"
_FAINT = "#8b93a1"
_ROWS, _COLUMNS = 64, 1200


def birds_eye(
    xyz: NDArray[np.float32],
    labels: NDArray[np.uint8],
    label_set: LabelSet,
    path: Path,
    *,
    title: str = "Seen from above",
    reach: float = 50.0,
) -> None:
    """Write a PNG of the scan from above, x to the right, ``reach`` metres around the sensor.

    ``xyz`` [N, 3] metres, ``labels`` [N] train ids of ``label_set``. Raises ScanError where the
    lengths differ.
    """
    _check(xyz, labels)
    figure = _figure(11.6, 8.8)
    axes = figure.add_axes((0.055, 0.06, 0.68, 0.86))
    _show_from_above(
        axes, paint_from_above(xyz, class_colours(labels, label_set), reach, 757), reach
    )
    _title(figure, title, f"{len(xyz):,} points")
    _legend(figure, labels, label_set, x=0.76, top=0.92)
    _save(figure, path)


def range_view(
    xyz: NDArray[np.float32],
    labels: NDArray[np.uint8],
    label_set: LabelSet,
    path: Path,
    *,
    title: str = "Seen by the sensor",
) -> None:
    """Write a PNG of the scan as range image: labels above, distance below, front in the middle.

    Arguments and errors as in ``birds_eye``.
    """
    _check(xyz, labels)
    figure = _figure(15.0, 5.6)
    distance = np.sqrt((xyz**2).sum(1))
    image, span = _panorama(xyz, class_colours(labels, label_set))
    with np.errstate(divide="ignore", invalid="ignore"):  # 2.5 m is brightest, 80 m darkest
        near = np.nan_to_num(np.clip(np.log(80 / distance) / np.log(80 / 2.5), 0, 1))
    shade, _ = _panorama(xyz, _viridis(near))
    for panel, bottom in ((image, 0.60), (shade, 0.27)):
        axes = figure.add_axes((0.045, bottom, 0.94, 0.29))
        _show_panorama(axes, panel, span)
    axes.set_xlabel("azimuth in degrees, left is positive", color=_FAINT, fontsize=9)
    _title(figure, title, f"{len(xyz):,} points · labels above, distance below")
    _legend(figure, labels, label_set, x=0.045, top=0.145, columns=7)
    _save(figure, path)


def comparison(
    xyz: NDArray[np.float32],
    labels: NDArray[np.uint8],
    truth: NDArray[np.uint8],
    label_set: LabelSet,
    path: Path,
    *,
    title: str = "Prediction and truth",
    reach: float = 40.0,
) -> None:
    """Write a PNG with prediction, truth and difference side by side, from above.

    ``truth`` [N]: 255 where unknown; such points are grey and count neither right nor wrong. The
    legend gives the shares of the truth. Other arguments and errors as in ``birds_eye``.
    """
    _check(xyz, labels)
    _check(xyz, truth)
    judged = truth != UNLABELLED
    right = judged & (labels == truth)
    difference, wrong = error_colours(labels, truth)
    accuracy = right.sum() / judged.sum() if judged.any() else float("nan")
    panels = (
        ("prediction", paint_from_above(xyz, class_colours(labels, label_set), reach, 488)),
        ("truth", paint_from_above(xyz, class_colours(truth, label_set), reach, 488)),
        # mistakes on top, so that none hides
        ("difference", paint_from_above(xyz, difference, reach, 488, order=wrong)),
    )
    figure = _figure(16.0, 7.0)
    for k, (name, image) in enumerate(panels):
        axes = figure.add_axes((0.03 + 0.325 * k, 0.20, 0.305, 0.697))
        _show_from_above(axes, image, reach)
        axes.set_title(name, color=_TEXT, fontsize=11, loc="left")
    _title(
        figure, title, f"{accuracy:.1%} of {int(judged.sum()):,} points right, wrong ones in red"
    )
    _legend(figure, truth, label_set, x=0.03, top=0.125, columns=7)
    _save(figure, path)


def _check(xyz: NDArray[np.float32], labels: NDArray[np.uint8]) -> None:
    if xyz.ndim != 2 or xyz.shape[1] != 3 or labels.shape != (len(xyz),):
        raise ScanError(
            "a picture needs xyz [N, 3] and labels [N], "
            f"got {list(xyz.shape)} and {list(labels.shape)}"
        )


def _viridis(values: NDArray[Any]) -> NDArray[np.uint8]:
    from matplotlib import colormaps

    table = (np.asarray(colormaps["viridis"](np.linspace(0, 1, 256)))[:, :3] * 255).astype(np.uint8)
    return table[(values * 255).astype(np.uint8)]


def _panorama(
    xyz: NDArray[np.float32], colours: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], tuple[float, float]]:
    """[rows, columns, 3] range image and its lowest and highest elevation in degrees."""
    image = np.full((_ROWS, _COLUMNS, 3), EMPTY, np.uint8)
    distance = np.sqrt((xyz.astype(float) ** 2).sum(1))
    use = np.isfinite(distance) & (distance > 0.1)
    if not use.any():
        return image, (-25.0, 3.0)
    xyz, colours, distance = xyz[use], colours[use], distance[use]
    elevation = np.degrees(np.arcsin(xyz[:, 2] / distance))
    low, high = (float(v) for v in np.percentile(elevation, (0.1, 99.9)))
    high = max(high, low + 1)
    row = np.clip((high - elevation) / (high - low) * _ROWS, 0, _ROWS - 1).astype(np.int64)
    azimuth = np.arctan2(xyz[:, 1], xyz[:, 0])
    column = np.clip((0.5 - azimuth / (2 * np.pi)) * _COLUMNS, 0, _COLUMNS - 1).astype(np.int64)
    far = np.argsort(-distance, kind="stable")
    filled = np.zeros((_ROWS, _COLUMNS), bool)
    image[row[far], column[far]], filled[row, column] = colours[far], True
    # rows that no beam falls into, between two that have points, take the colour above
    gap = ~filled[1:-1] & filled[:-2] & filled[2:]
    image[1:-1][gap] = image[:-2][gap]
    return image, (low, high)


def _figure(width: float, height: float) -> Figure:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=100, facecolor=_BACKGROUND)


def _show_from_above(axes: Axes, image: NDArray[np.uint8], reach: float) -> None:
    axes.imshow(image, extent=(-reach, reach, -reach, reach), interpolation="nearest")
    axes.plot([0], [0], marker=(3, 0, -90), color="white", markersize=7)
    for radius in range(20, int(reach) + 1, 20):
        angle = np.linspace(0, 2 * np.pi, 120)
        axes.plot(
            radius * np.cos(angle), radius * np.sin(angle), color="white", alpha=0.16, linewidth=0.7
        )
    axes.set_xlim(-reach, reach)
    axes.set_ylim(-reach, reach)
    _plain(axes)


def _show_panorama(axes: Axes, image: NDArray[np.uint8], span: tuple[float, float]) -> None:
    axes.imshow(image, extent=(180, -180, *span), aspect="auto", interpolation="nearest")
    axes.set_xticks(range(180, -181, -45))
    _plain(axes)


def _plain(axes: Axes) -> None:
    axes.set_facecolor(_BACKGROUND)
    axes.tick_params(colors=_FAINT, labelsize=8, length=2)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _title(figure: Figure, title: str, remark: str) -> None:
    figure.text(0.03, 0.955, title, color=_TEXT, fontsize=15, weight="bold")
    figure.text(0.985, 0.955, remark, color=_FAINT, fontsize=10, ha="right")


def _legend(
    figure: Figure,
    labels: NDArray[np.uint8],
    label_set: LabelSet,
    x: float,
    top: float,
    columns: int = 1,
) -> None:
    """Classes that occur, most frequent first, with their share of the points."""
    count = np.bincount(labels, minlength=256).astype(float)
    share = count / max(count.sum(), 1)
    present = [i for i in np.argsort(-share, kind="stable") if count[i]]
    swatch = class_colours(np.arange(256, dtype=np.uint8), label_set) / 255
    width, height = figure.get_size_inches()
    step, line = 0.135, 0.28 / height
    for k, i in enumerate(present):
        row, column = (k // columns, k % columns) if columns > 1 else (k, 0)
        left, y = x + column * step, top - 0.02 - row * line * (1.0 if columns > 1 else 1.25)
        name = label_set.names[i] if i < len(label_set) else "unlabelled"
        colour = tuple(float(c) for c in swatch[i])
        figure.text(left, y, "■", color=colour, fontsize=13, va="center")
        figure.text(left + 0.25 / width, y, name, color=_TEXT, fontsize=10, va="center")
        figure.text(
            left + 1.9 / width,
            y,
            _percent(share[i]),
            color=_FAINT,
            fontsize=10,
            va="center",
            ha="right",
        )


def _percent(share: float) -> str:
    return f"{share:.1%}" if share >= 0.001 else "< 0.1%"


def _save(figure: Figure, path: Path) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", facecolor=_BACKGROUND)
