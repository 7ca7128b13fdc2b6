# SPDX-License-Identifier: Apache-2.0
"""The folder that labels of a network lie in, with the clouds that they belong to.

    ROOT/pseudo/NAME.npz      pseudo19, conf: what datasets/pseudo.py reads, doubtful labels 255
    ROOT/unlabelled/NAME.npz  the cloud: a link, or packed where the source is of another format …
    ROOT/drives/DRIVE/NAME.npz    … or here, where it is one of a drive
    ROOT/scores/NAME.npz      all labels and confidences, soft targets if wanted, and who made them
    ROOT/alone/NAME.npz       the same before sweeps voted, where they did (pseudo_votes.py)
    ROOT/motion/DRIVE.npz     where the scans of a drive were taken (pseudo_motion.py)
    ROOT/semantic-kitti/      the same scans for other readers, if wanted (pseudo_kitti.py)
    ROOT/manifest.json, README.md

Every file appears whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.errors import InputError
from pointdistill_ros.io.atomic import atomic_path
from pointdistill_ros.scan import LidarScan
from training.self_training import SoftLabels, top_classes

SCORES, ALONE = "scores", "alone"
SINGLE, DRIVES = "unlabelled", "drives"
"""Folders of clouds: every file a place of its own, or every folder in it."""
_LIMIT = 32767
"""Largest stored coordinate; packed clouds are int16 steps of 1/q metres."""


@dataclass(frozen=True, eq=False)
class Scores:
    """What a network said about one scan."""

    labels: NDArray[np.uint8]
    """[N] train ids, 255 = none."""
    confidence: NDArray[np.uint8]
    """[N] 0..100."""
    settings: str
    """Digest of weights and views."""
    cloud: str
    """Digest of the points."""
    soft: tuple[NDArray[np.int32], NDArray[np.uint8], NDArray[np.float16]] | None = None
    """Row of each point ([N], −1 = none), classes [n, k] and their probabilities [n, k]."""


def digest(value: Any) -> str:
    """Of anything JSON can hold, or of an array's bytes."""
    data = value if isinstance(value, bytes) else json.dumps(value, sort_keys=True).encode()
    return hashlib.sha256(data).hexdigest()[:24]


def cloud_digest(scan: LidarScan) -> str:
    """Of position and intensity of all points."""
    intensity = b"" if scan.intensity is None else scan.intensity.tobytes()
    return digest(scan.xyz.tobytes() + intensity)


def packable(scan: LidarScan) -> LidarScan:
    """The points that a packed cloud can hold: finite, within 255.9 m, intensity 0..1."""
    bounded = np.abs(np.nan_to_num(scan.xyz, nan=np.inf)) <= _LIMIT / 128
    near: NDArray[np.bool_] = np.logical_and.reduce(bounded, axis=1)
    return scan.select(near)


def packed_cloud(scan: LidarScan) -> dict[str, NDArray[Any]]:
    """Members of the packed file of a packable scan, intensity in hundredths as KITTI's."""
    reach = float(np.abs(scan.xyz).max(initial=0))
    q = 256 if reach * 256 <= _LIMIT else 128
    intensity = np.zeros(len(scan)) if scan.intensity is None else scan.intensity
    return {
        "xyz": np.round(scan.xyz.astype(np.float64) * q).astype(np.int16),
        "inten": np.round(np.nan_to_num(intensity).clip(0, 1) * 100).astype(np.uint8),
        "q": np.array(q, np.int32),
    }


def unpacked_cloud(arrays: dict[str, NDArray[Any]]) -> LidarScan:
    """The scan as datasets/pseudo.py will give it."""
    xyz = arrays["xyz"].astype(np.float32) / np.float32(arrays["q"])
    return LidarScan(xyz, arrays["inten"].astype(np.float32) / np.float32(100))


class PseudoFolder:
    """Reading and writing of such a folder."""

    def __init__(self, root: Path, kind: str = SCORES) -> None:
        """``kind``: whose scores, those that count or those before sweeps voted."""
        self.root, self.kind = root, kind

    def scores_path(self, name: str) -> Path:
        """File with everything that was said about a scan."""
        return self.root / self.kind / f"{name}.npz"

    def scored(self) -> list[str]:
        """Names of all scans with scores."""
        return sorted(path.stem for path in (self.root / self.kind).glob("*.npz"))

    def origin(self, name: str) -> tuple[str, str] | None:
        """Digests of settings and cloud of a scan's scores; None without or where damaged."""
        try:
            with np.load(self.scores_path(name), allow_pickle=False) as data:
                return str(data["settings"]), str(data["cloud"])
        except Exception:  # numpy and zipfile each raise their own kinds; it is made anew
            return None

    def read_scores(self, name: str) -> Scores:
        """Raises InputError where the file is missing or damaged."""
        path = self.scores_path(name)
        try:
            with np.load(path, allow_pickle=False) as data:
                soft = None
                if "soft_row" in data.files:
                    soft = (data["soft_row"], data["soft_class"], data["soft_value"])
                settings, cloud = str(data["settings"]), str(data["cloud"])
                return Scores(data["label"], data["conf"], settings, cloud, soft)
        except Exception as error:
            raise InputError(f"{path}: not a file of scores ({error}); label it again") from error

    def soft_columns(self, name: str) -> dict[str, NDArray[Any]]:
        """Soft targets as columns of LabelledPoints, in the order of the cloud's points.

        ``soft_class`` uint8 [N, k] and ``soft_value`` float16 [N, k], falling; ``dense`` of
        self_training.py makes probabilities of them. A first value of 0 means that there are none.
        Raises InputError where the scan was labelled without.
        """
        scores = self.read_scores(name)
        if scores.soft is None:
            path = self.scores_path(name)
            raise InputError(
                f"{path}: holds no soft targets; label with --soft 4 or another number"
            )
        row, classes, values = scores.soft
        none = np.zeros((1, classes.shape[1]))  # row −1
        return {
            "soft_class": np.append(classes, none.astype(classes.dtype), axis=0)[row],
            "soft_value": np.append(values, none.astype(values.dtype), axis=0)[row],
        }

    def write_scores(
        self, name: str, found: SoftLabels, settings: str, cloud: str, top: int
    ) -> None:
        """Keep labels and confidences, and the ``top`` likeliest classes of each cell (0 = no)."""
        arrays: dict[str, Any] = {
            "label": found.labels(),
            "conf": found.confidence(),
            "settings": settings,
            "cloud": cloud,
        }
        if top:
            classes, values = top_classes(found.probability, top)
            arrays |= {"soft_row": found.row, "soft_class": classes, "soft_value": values}
        write_arrays(self.scores_path(name), arrays)

    def write_labels(
        self, name: str, labels: NDArray[np.uint8], confidence: NDArray[np.uint8]
    ) -> None:
        """What training reads; labels are 255 where they are doubtful."""
        path = self.root / "pseudo" / f"{name}.npz"
        write_arrays(path, {"pseudo19": labels, "conf": confidence})

    def read_cloud(self, name: str, folder: str) -> LidarScan:
        """A cloud that was written. Raises InputError where it is missing or damaged."""
        path = self.root / folder / f"{name}.npz"
        try:
            with np.load(path, allow_pickle=False) as data:
                return unpacked_cloud({key: data[key] for key in ("xyz", "inten", "q")})
        except Exception as error:
            raise InputError(f"{path}: not a packed cloud ({error}); label it again") from error

    def write_cloud(self, name: str, folder: str, cloud: Path | dict[str, NDArray[Any]]) -> None:
        """Link a packed file, or write the members of one."""
        path = self.root / folder / f"{name}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        for other in (*self.root.glob(f"*/{path.name}"), *self.root.glob(f"*/*/{path.name}")):
            if other.is_symlink() and other != path:  # where an earlier command put it
                other.unlink()
        if isinstance(cloud, dict):
            write_arrays(path, cloud)
        elif not (path.exists() and path.samefile(cloud)):
            path.unlink(missing_ok=True)
            path.symlink_to(cloud.resolve())


def is_packed(path: Path, scan: LidarScan) -> bool:
    """Whether datasets/pseudo.py would read this file as ``scan``: packed, in hundredths."""
    if path.suffix != ".npz" or scan.intensity is None:
        return False
    with np.load(path, allow_pickle=False) as data:
        if not {"xyz", "inten", "q"} <= set(data.files) or data["xyz"].dtype != np.int16:
            return False
        return np.array_equal(data["inten"], np.round(scan.intensity * 100))


def write_arrays(path: Path, arrays: dict[str, Any]) -> None:
    """An ``.npz``, whole or not at all."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)
