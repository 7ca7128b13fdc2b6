# SPDX-License-Identifier: Apache-2.0
"""Any labelled data set as a folder of packed scans: small, quick to read, in the order of before.

    OUT/manifest.json            written last: data set, split, label set, every file with sha256
    OUT/SEQUENCE/000000.scan     one scan, datasets/scan_codec.py; written whole or not at all

Packing that was interrupted goes on where it stopped; OUT/unfinished.json says of what it was.
"""

from __future__ import annotations

import hashlib
import json
import re
import signal
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.datasets.labelled import LabelledScans
from pointdistill_ros.datasets.scan_codec import LabelledScan, decode, encode
from pointdistill_ros.datasets.worker_pool import worker_pool
from pointdistill_ros.errors import InputError, LabelError, ScanError
from pointdistill_ros.io.atomic import atomic_path
from pointdistill_ros.labels import LabelSet
from pointdistill_ros.scan import LidarScan

FORMAT = "pointdistill packed scans 1"
EXTRAS = ("pose", "instances")
_MANIFEST, _UNFINISHED = "manifest.json", "unfinished.json"


class PackedCache:
    """The scans of a packed folder, in the sensor's frame as their data set gave them."""

    def __init__(self, root: str | Path, sequences: Collection[str] | None = None) -> None:
        """``sequences``: names to keep; None takes all. Raises InputError."""
        self.root = Path(root)
        manifest = _read_json(self.root / _MANIFEST)
        try:
            if manifest["format"] != FORMAT:
                raise InputError(f"{self.root}/{_MANIFEST}: {manifest['format']!r}, not {FORMAT!r}")
            self.dataset, self.split = str(manifest["dataset"]), str(manifest["split"])
            self.label_set = LabelSet.from_dict(manifest["label_set"])
            entries = manifest["scans"]
            known = {str(entry["sequence"]) for entry in entries}
            self.entries = [e for e in entries if sequences is None or e["sequence"] in sequences]
        except (LookupError, TypeError, ValueError, AttributeError, LabelError) as error:
            raise InputError(f"{self.root}/{_MANIFEST}: not a manifest ({error!r})") from error
        if missing := sorted(set(sequences or ()) - known):
            raise InputError(f"{self.root}: no sequence {', '.join(missing)}")
        self.sequences: Sequence[str] = [str(entry["sequence"]) for entry in self.entries]

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, i: int) -> tuple[LidarScan, NDArray[np.uint8]]:
        """Scan i and its train ids uint8 [N]. Raises InputError if the file is damaged."""
        packed = self.read(i)
        return packed.scan, packed.labels

    def read(self, i: int) -> LabelledScan:
        """Scan i with all that was packed of it. Raises InputError."""
        return _read_scan(self.root / self.entries[i]["path"])

    def pose(self, i: int) -> NDArray[np.float64] | None:
        """4×4 transform from the sensor to the world of the drive; None where it was not kept."""
        return self.read(i).pose

    def instances(self, i: int) -> NDArray[np.uint16]:
        """Number of the object each point belongs to, uint16 [N]. Raises InputError without."""
        if (instances := self.read(i).instances) is None:
            raise InputError(f"{self.root}: packed without instances")
        return instances


@dataclass(frozen=True)
class _Job:
    scans: LabelledScans
    root: Path
    paths: list[str]
    sha256: dict[str, str]
    """By path, of a folder that was finished before."""
    extras: frozenset[str]


def pack(
    scans: LabelledScans,
    root: Path,
    dataset: str,
    split: str,
    extras: Collection[str] = (),
    workers: int = 1,
    progress: Callable[[int], None] = lambda done: None,
) -> PackedCache:
    """Write every scan of ``scans`` below ``root`` except those that are there and undamaged.

    A finished folder is compared with its manifest, and what is missing or differs written again.
    ``workers`` processes (more than one: ``scans`` is sent to them pickled). ``progress`` is told
    how many scans are done. ``extras``: ``pose``, ``instances``, for data sets with such methods.
    Raises InputError naming the file or scan, also where ``root`` holds another data set.
    """
    for extra in extras:
        if extra not in EXTRAS or not hasattr(scans, extra):
            raise InputError(f"{dataset} gives no {extra} with its scans")
    paths = _paths(scans.sequences)
    identity = {
        "format": FORMAT,
        "dataset": dataset,
        "split": split,
        "extras": sorted(extras),
        "label_set": scans.label_set.to_dict(),
        "sequences": dict(Counter(scans.sequences)),
    }
    job, entries = _Job(scans, root, paths, _claim(root, identity), frozenset(extras)), []
    for entry in _packed_by(job, workers):
        entries.append(entry)
        progress(len(entries))
    _write_json(root / _MANIFEST, identity | {"scans": entries})
    (root / _UNFINISHED).unlink(missing_ok=True)
    return PackedCache(root)


def _packed_by(job: _Job, workers: int) -> Iterator[dict[str, Any]]:
    if workers == 1:
        yield from (_pack_one(job, i) for i in range(len(job.paths)))
        return
    with worker_pool(workers, _set_job, (job,)) as pool:
        try:
            yield from pool.map(_pack_mine, range(len(job.paths)), chunksize=8)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


_mine: list[_Job] = []


def _set_job(job: _Job) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that waits for us
    _mine[:] = [job]


def _pack_mine(i: int) -> dict[str, Any]:
    return _pack_one(_mine[0], i)


def _pack_one(job: _Job, i: int) -> dict[str, Any]:
    """Write scan i unless it is there; its entry of the manifest."""
    path = job.root / job.paths[i]
    data = path.read_bytes() if path.is_file() else b""
    if not _is_whole(data, job.sha256.get(job.paths[i])):
        scan, labels = job.scans[i]
        extras = {name: getattr(job.scans, name)(i) for name in job.extras}
        try:
            data = encode(LabelledScan(scan, labels, **extras))
        except ScanError as error:
            raise InputError(f"scan {i} ({scan.frame}): {error}") from error
        with atomic_path(path) as temporary:
            temporary.write_bytes(data)
    scan = decode(data).scan
    return {
        "path": job.paths[i],
        "sequence": job.scans.sequences[i],
        "frame": scan.frame,
        "points": len(scan),
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }


def _is_whole(data: bytes, sha256: str | None) -> bool:
    if sha256 is not None:
        return hashlib.sha256(data).hexdigest() == sha256
    try:
        decode(data)
    except ValueError:
        return False
    return True


def _claim(root: Path, identity: dict[str, Any]) -> dict[str, str]:
    """Make sure that ``root`` is empty or holds the same; sha256 by path if it was finished."""
    for name in (_MANIFEST, _UNFINISHED):
        if (root / name).exists():
            found = _read_json(root / name)
            if differing := [k for k, v in identity.items() if found.get(k) != v]:
                raise InputError(
                    f"{root / name}: packed from something else ({', '.join(differing)} differ); "
                    "name another folder or remove this one"
                )
            return {entry["path"]: entry["sha256"] for entry in found.get("scans", [])}
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise InputError(f"{root}: neither empty nor packed scans; name another folder")
    _write_json(root / _UNFINISHED, identity)
    return {}


def _paths(sequences: Sequence[str]) -> list[str]:
    """Relative path of each scan: a folder per sequence, numbered in order."""
    folders: dict[str, str] = {}
    for name in sequences:
        if name not in folders:
            safe = re.sub(r"[^\w.-]+", "_", name).strip("._") or "sequence"
            taken = sum(re.sub(r"~\d+$", "", folder) == safe for folder in folders.values())
            folders[name] = f"{safe}~{taken}" if taken else safe
    counts: Counter[str] = Counter()
    paths = []
    for name in sequences:
        paths.append(f"{folders[name]}/{counts[name]:06d}.scan")
        counts[name] += 1
    return paths


def _read_scan(path: Path) -> LabelledScan:
    try:
        return decode(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise InputError(
            f"{path}: damaged or cut off ({error}); remove it and pack again"
        ) from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a manifest of packed scans ({error})") from error
    if not isinstance(data, dict):
        raise InputError(f"{path}: not a manifest of packed scans")
    return data


def _write_json(path: Path, data: dict[str, Any]) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(data, indent=1))
