# SPDX-License-Identifier: Apache-2.0
"""Labelled clouds over time for the Rerun viewer, an extra: into a file, a window or a browser.

- a view of its own for every labelling, coloured by class; another for every difference, points
  that differ in red; what the colours mean beside them; figures as curves over the same time
- classes are an annotation context: the viewer names them under the pointer, and can recolour them
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.errors import InputError
from pointdistill_ros.evaluation.legend import DIFFERENCE, class_entries, legend_png
from pointdistill_ros.evaluation.paint import EMPTY, RIGHT, WRONG
from pointdistill_ros.io.atomic import atomic_path
from pointdistill_ros.labels import UNLABELLED, LabelSet

if TYPE_CHECKING:
    from rerun import RecordingStream
    from rerun.blueprint import Blueprint

INSTALL = "pip install 'pointdistill-ros[viewer]'"
SENSOR, TRACK, FIGURES, LEGEND = "drive/sensor", "drive/track", "figures", "classes"
"""Entities: clouds in the sensor's frame, its way, curves, the legend."""
_POINT, _MARK = -1.3, -3.0
"""Radii; negative ones are the viewer's points, the same size at any distance."""
_SHADING: Final = "flat"
"""Points have the colours of the legend, not shades of them."""
_MEMORY = "50%"
"""Of the machine's, that a browser's recording may take before its oldest clouds go."""


def require_rerun(asked: str) -> None:
    """Raises InputError where Rerun is not installed. ``asked``: what needs it."""
    if util.find_spec("rerun") is None:
        raise InputError(
            f"{asked} needs the Rerun SDK; {INSTALL} (rerun-sdk, Python 3.11 or later)"
        )


@dataclass(frozen=True)
class Layout:
    """What a recording will hold, so that there is a view for each of it."""

    title: str
    labellings: Mapping[str, LabelSet]
    """Name → what its labels mean. Names are of letters, digits, ``_-.``."""
    differences: Mapping[str, str] = field(default_factory=dict)
    """Name → title of a view of points that differ."""
    figures: Sequence[str] = ()
    """Names of curves."""
    timeline: str = "stamp"
    """Name of the time that is shown first."""


class Scene:
    """A recording. Clouds go in one after the other; open it by one of the three ways out."""

    def __init__(self, layout: Layout) -> None:
        import rerun as rr

        self._layout = layout
        self._recording: RecordingStream = rr.RecordingStream("pointdistill_ros")
        self._recording.send_recording_name(layout.title)

    @contextmanager
    def file(self, path: Path) -> Iterator[None]:
        """Into an .rrd file, which appears whole or not at all."""
        with atomic_path(path) as temporary:
            self._recording.save(temporary, default_blueprint=_blueprint(self._layout))
            self._describe()
            try:
                yield
            finally:
                self._recording.flush()
                self._recording.disconnect()

    @contextmanager
    def window(self) -> Iterator[None]:
        """To a viewer on this machine, which is started, and stays. Raises InputError."""
        blueprint = _blueprint(self._layout)
        try:
            self._recording.spawn(default_blueprint=blueprint)
        except (RuntimeError, OSError) as error:
            raise InputError(
                f"the Rerun viewer does not start ({error}); --save FILE.rrd and --web do without"
            ) from error
        self._recording.send_blueprint(blueprint)  # one that runs may show another recording's
        self._describe()
        yield
        self._recording.flush()

    @contextmanager
    def browser(self) -> Iterator[str]:
        """To browsers, as long as the block runs; gives the address."""
        import rerun as rr

        data, page = _free_port(), _free_port()
        served = self._recording.serve_grpc(
            grpc_port=data,
            default_blueprint=_blueprint(self._layout),
            server_memory_limit=_MEMORY,
        )
        rr.serve_web_viewer(web_port=page, open_browser=True, connect_to=served)
        self._describe()
        try:
            yield f"http://localhost:{page}?url={quote(served, safe='')}"
        finally:
            self._recording.disconnect()

    def _describe(self) -> None:
        """Names and colours of the classes, for the viewer and for people."""
        import rerun as rr

        for name, label_set in self._layout.labellings.items():
            entries = class_entries(label_set)
            ids = (*range(len(label_set)), UNLABELLED)
            context = [rr.AnnotationInfo(i, *entry) for i, entry in zip(ids, entries, strict=True)]
            self._recording.log(f"{SENSOR}/{name}", rr.AnnotationContext(context), static=True)
        sets = {label_set.name: label_set for label_set in self._layout.labellings.values()}
        sections = {name: class_entries(label_set) for name, label_set in sets.items()}
        if self._layout.differences:
            sections["difference"] = list(DIFFERENCE)
        legend = legend_png(sections)
        picture = rr.EncodedImage(contents=legend, media_type="image/png")
        self._recording.log(LEGEND, picture, static=True)

    def track(self, poses: NDArray[np.float64]) -> None:
        """The way of the sensor, [T, 4, 4] in the frame of the first cloud."""
        import rerun as rr

        self._recording.log(TRACK, rr.LineStrips3D([poses[:, :3, 3]]), static=True)

    def at(self, frame: int, time_ns: int) -> None:
        """What follows is of this frame. Times before 2001 are durations: files have no clock."""
        self._recording.set_time("frame", sequence=frame)
        name = self._layout.timeline
        if time_ns < 10**18:
            self._recording.set_time(name, duration=np.timedelta64(time_ns, "ns"))
        else:
            self._recording.set_time(name, timestamp=np.datetime64(time_ns, "ns"))

    def place(self, pose: NDArray[np.float64]) -> None:
        """Where the sensor is, [4, 4]; without, clouds stand in its frame."""
        import rerun as rr

        transform = rr.Transform3D(translation=pose[:3, 3], mat3x3=pose[:3, :3])
        self._recording.log(SENSOR, transform)

    def labels(self, name: str, xyz: NDArray[np.float32], labels: NDArray[np.uint8] | None) -> None:
        """A labelling of a cloud, [N, 3] metres and [N] train ids; None: this frame has none."""
        import rerun as rr

        if labels is None:
            self._recording.log(f"{SENSOR}/{name}", rr.Clear(recursive=False))
            return
        valid = np.isfinite(xyz).all(axis=1)
        points = rr.Points3D(
            xyz[valid],
            class_ids=labels[valid].astype(np.uint16),
            radii=_POINT,
            point_shading=_SHADING,
        )
        self._recording.log(f"{SENSOR}/{name}", points)

    def difference(
        self, name: str, xyz: NDArray[np.float32], differs: NDArray[np.bool_] | None
    ) -> None:
        """A cloud whose differing points are red, and larger; None: nothing to compare with."""
        import rerun as rr

        if differs is None:
            self._recording.log(f"{SENSOR}/{name}", rr.Clear(recursive=False))
            return
        valid = np.isfinite(xyz).all(axis=1)
        where = differs[valid]
        colours = np.array([RIGHT, WRONG], np.uint8)[where.astype(np.intp)]
        radii = np.where(where, np.float32(2 * _POINT), np.float32(_POINT))
        points = rr.Points3D(xyz[valid], colors=colours, radii=radii, point_shading=_SHADING)
        self._recording.log(f"{SENSOR}/{name}", points)

    def marks(self, name: str, xyz: NDArray[np.float32]) -> None:
        """Some points [K, 3], red and large, shown with every labelling."""
        import rerun as rr

        valid = np.isfinite(xyz).all(axis=1)
        points = rr.Points3D(xyz[valid], colors=WRONG, radii=_MARK, point_shading=_SHADING)
        self._recording.log(f"{SENSOR}/{name}", points)

    def figure(self, name: str, value: float | None) -> None:
        """The next point of a curve; nothing where there is no value."""
        import rerun as rr

        if value is not None and np.isfinite(value):
            self._recording.log(f"{FIGURES}/{name}", rr.Scalars(value))


def _blueprint(layout: Layout) -> Blueprint:
    """Clouds above curves, the legend on the right, everything else folded away."""
    import rerun.blueprint as rrb

    titles = {name: name for name in layout.labellings} | dict(layout.differences)
    clouds = [
        rrb.Spatial3DView(
            origin="/",
            name=title,
            background=EMPTY,
            contents=["+ /drive/**", *(f"- /{SENSOR}/{o}/**" for o in titles if o != name)],
        )
        for name, title in titles.items()
    ]
    grid = rrb.Grid(*clouds) if len(clouds) > 1 else clouds[0]
    curves = [rrb.TimeSeriesView(origin=f"/{FIGURES}/{f}", name=f) for f in layout.figures]
    left = rrb.Vertical(grid, rrb.Horizontal(*curves), row_shares=[4, 1]) if curves else grid
    legend = rrb.Spatial2DView(origin=f"/{LEGEND}", name="classes")
    return rrb.Blueprint(
        rrb.Horizontal(left, legend, column_shares=[6, 1]),
        rrb.BlueprintPanel(state="collapsed"),
        rrb.SelectionPanel(state="collapsed"),
        rrb.TimePanel(state="collapsed", timeline=layout.timeline),
    )


def _free_port() -> int:
    """One that nobody listens on; Rerun's own is often rosbridge's."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])
