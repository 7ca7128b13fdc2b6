# SPDX-License-Identifier: Apache-2.0
"""Labels of a network in the layout of SemanticKITTI, for its readers, ours among them.

    ROOT/semantic-kitti/sequences/00/velodyne/000000.bin   x y z intensity, float32
                                     labels/000000.label   raw ids; 0 where the label is doubtful
                                     confidence/000000.npy uint8 [N], 0..100, of every label
                                     times.txt, names.txt  seconds since the first scan, and what
                                                           each scan was called
                                     poses.txt, calib.txt  where all poses are known; ``Tr`` is the
                                                           identity: they are the lidar's own
    ROOT/semantic-kitti/README.md                          which sequence is which drive

One sequence per drive and one for all single places. Sequences get the numbers of the official
train split, so that a reader that goes by splits takes them for training scans, and those from 22
on when these are used up. Every file appears whole or not at all; writing again changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.datasets.convention import SensorConvention
from pointdistill_ros.datasets.pseudo import PseudoScans
from pointdistill_ros.io.atomic import atomic_path
from pointdistill_ros.io.binfile import write_kitti, write_labels
from pointdistill_ros.io.source import PERIOD_NS
from training.pseudo_files import PseudoFolder
from training.pseudo_motion import Taken

LAYOUT = "semantic-kitti"
_AFTER = 22
"""The first number that no official split uses."""
_KINDS = {"velodyne": ".bin", "labels": ".label", "confidence": ".npy"}


def write_layout(folder: PseudoFolder, taken: Mapping[str, Taken]) -> Path:
    """Write all labelled scans of a folder; ``taken``: by name, where it is known.

    Returns the root that readers are given. Raises InputError where a file is damaged.
    """
    root = folder.root / LAYOUT
    scans = PseudoScans(folder.root, 0)
    drives: dict[str, list[int]] = {}
    for i, path in enumerate(scans.paths):
        alone = scans.sequences[i] == path.stem
        drives.setdefault("" if alone else scans.sequences[i], []).append(i)
    rows = []
    for number, (drive, members) in zip(numbers(len(drives)), sorted(drives.items()), strict=True):
        names = {i: scans.label_paths[i].stem for i in members}
        if all(name in taken for name in names.values()):
            members.sort(key=lambda i: taken[names[i]].time_ns)
        sequence = root / "sequences" / number
        for row, i in enumerate(members):
            scan, labels = scans[i]
            write_kitti(scan, sequence / "velodyne" / f"{row:06d}.bin")
            raw = scans.label_set.to_raw(labels)
            write_labels(raw, sequence / "labels" / f"{row:06d}.label")
            confidence = folder.read_scores(names[i]).confidence
            path = sequence / "confidence" / f"{row:06d}.npy"
            with atomic_path(path) as temporary, temporary.open("wb") as file:
                np.save(file, confidence)
        _remove_surplus(sequence, len(members))
        known = _write_lists(sequence, [names[i] for i in members], taken)
        title = f"drive {drive}" if drive else "places of one scan each"
        rows.append(f"| {number} | {title} | {len(members)} | {'yes' if known else 'no'} |")
    _write_text(root / "README.md", "\n".join([*_README, *rows]) + "\n")
    return root


def numbers(many: int) -> list[str]:
    """Names for so many sequences: the official train split's, then those after all splits."""
    train = SensorConvention.named(LAYOUT).splits["train"]
    return [*train[:many], *(f"{n:02d}" for n in islice(count(_AFTER), max(many - len(train), 0)))]


def _write_lists(sequence: Path, names: Sequence[str], taken: Mapping[str, Taken]) -> bool:
    """times.txt, names.txt and, where all poses are known, poses.txt. Whether they are."""
    found = [taken.get(name) for name in names]
    times = [i * PERIOD_NS if t is None else t.time_ns for i, t in enumerate(found)]
    if any(t is None for t in found):
        times = [i * PERIOD_NS for i in range(len(names))]
    _write_text(sequence / "times.txt", "".join(f"{(t - times[0]) / 1e9:e}\n" for t in times))
    _write_text(sequence / "names.txt", "".join(f"{name}\n" for name in names))
    poses = [t.pose for t in found if t is not None and t.pose is not None]
    if len(poses) < len(names):
        (sequence / "poses.txt").unlink(missing_ok=True)
        return False
    here = np.linalg.inv(poses[0])
    lines = (_twelve(here @ pose) for pose in poses)
    _write_text(sequence / "calib.txt", f"Tr: {_twelve(np.eye(4))}\n")
    _write_text(sequence / "poses.txt", "".join(f"{line}\n" for line in lines))
    return True


def _twelve(pose: NDArray[np.float64]) -> str:
    return " ".join(f"{value:.9g}" for value in pose[:3].reshape(-1))


def _remove_surplus(sequence: Path, kept: int) -> None:
    """Scans beyond those that are there now, of an earlier, longer list."""
    for kind, suffix in _KINDS.items():
        for path in (sequence / kind).glob(f"[0-9]*{suffix}"):
            if path.stem.isdigit() and int(path.stem) >= kept:
                path.unlink()


def _write_text(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text)


_README = (
    "# Labels of a network in the layout of SemanticKITTI",
    "",
    "Not measured against any truth; who gave them, and their terms, is in ../README.md. Points in",
    "steps of 1/256 m and 1/100 of the intensity, in the convention x forward, y left, z up, road",
    "1.75 m below. `confidence/*.npy` holds uint8 0..100 of every point, also of those whose label",
    "was too doubtful to be written.",
    "",
    "| sequence | what | scans | poses |",
    "|---|---|---:|---|",
)
