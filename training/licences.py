# SPDX-License-Identifier: Apache-2.0
"""What may be done with trained weights: decided by the data they were trained on, never chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pointdistill_ros.errors import ConfigError


@dataclass(frozen=True)
class DataLicence:
    """Where training scans came from and on which terms."""

    title: str
    terms: str
    commercial: bool
    """Whether the terms let a product contain what was learned."""
    sensor: str = ""
    """What recorded it."""


SOURCES = {
    "semantic-kitti": DataLicence(
        "SemanticKITTI", "CC BY-NC-SA 4.0, its points CC BY-NC-SA 3.0", False, "Velodyne HDL-64E"
    ),
    "nuscenes": DataLicence(
        "nuScenes-lidarseg", "CC BY-NC-SA 4.0 and the nuScenes terms", False, "Velodyne HDL-32E"
    ),
    "waymo": DataLicence(
        "Waymo Open Dataset", "its own non-commercial licence", False, "the top lidar of Waymo"
    ),
    "pandaset": DataLicence("PandaSet", "CC BY 4.0", True, "Hesai Pandar64"),
    "ika-vlp32": DataLicence("ika drive", "MIT", True, "Velodyne VLP-32C, front sector"),
}
"""By the name of the sensor convention."""
PSEUDO = DataLicence(
    "pseudo-labels of a public network trained on SemanticKITTI, its validation sequences included",
    "CC BY-NC-SA 4.0",
    False,
    "Velodyne HDL-64E",
)
SIMULATED = DataLicence("simulated streets", "own work, Apache-2.0", True)


def sources_of(training: Mapping[str, Any]) -> list[DataLicence]:
    """The data named in the header of a checkpoint, as far as scans were drawn from it.

    That of the networks it learned from counts, too (lineage.py). Raises ConfigError where a header
    does not say, or names data without known terms.
    """
    try:
        sources = [s for s in training["config"]["sources"] if s.get("weight", 1.0) > 0]
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"the header does not name the training data ({error!r}), so no licence can be given"
        ) from error
    if not sources:
        raise ConfigError("the header names no training data, so no licence can be given")
    teachers = list(training.get("learned_from", ()))
    found = []
    for source in sources:
        pseudo = source.get("kind") == "pseudo"
        folder = source.get("folder") if pseudo else None
        labelled = [entry for entry in teachers if pseudo and entry.get("folder") == folder]
        found += [_labelled_by(labelled)] if labelled else [_licence(source)]
    for entry in teachers:
        named = {"config": {"sources": entry["sources"]}, "learned_from": entry["learned_from"]}
        found += sources_of(named)
    return list(dict.fromkeys(found))


def licence_text(sources: list[DataLicence]) -> str:
    """The terms of weights trained on ``sources``, in a few sentences."""
    data = "; ".join(f"{source.title} ({source.terms})" for source in sources)
    bound = [source.title for source in sources if not source.commercial]
    if bound:
        return (
            f"Trained on: {data}. Not for commercial use, share-alike, because of "
            f"{', '.join(bound)}: use the weights for research and evaluation under those terms; "
            "train your own for a product. The Apache licence of the code does not cover them."
        )
    attribution = [s.title for s in sources if s.terms.startswith("CC BY")]
    thanks = f" Name {', '.join(attribution)} where you name your data." if attribution else ""
    return (
        f"Trained on: {data}. None of it forbids commercial use; the weights are given under "
        f"CC BY 4.0.{thanks}"
    )


def _labelled_by(entries: Sequence[Mapping[str, Any]]) -> DataLicence:
    """Scans that networks of ours labelled; whose scans, only the trainer knows."""
    names = ", ".join(f"{entry['model']} ({entry['sha256'][:12]})" for entry in entries)
    return DataLicence(f"scans labelled by {names}", "the terms of those scans", False)


def _licence(source: Mapping[str, Any]) -> DataLicence:
    match source.get("kind"):
        case "simulated":
            return SIMULATED
        case "pseudo":
            return PSEUDO
    name = str(source.get("name", ""))
    if name not in SOURCES:
        raise ConfigError(
            f"training data {name!r} has no known terms; add it to training/licences.py"
        )
    return SOURCES[name]
