# SPDX-License-Identifier: Apache-2.0
import sys

import numpy as np
import pytest

from pointdistill_ros.checkpoint import load_checkpoint, save_checkpoint
from pointdistill_ros.errors import ConfigError
from pointdistill_ros.evaluation.calibration import BINS
from pointdistill_ros.evaluation.distance import EDGES
from pointdistill_ros.evaluation.figures import Figures
from pointdistill_ros.evaluation.tally import ScanTally
from pointdistill_ros.labels import LabelSet
from pointdistill_ros.resources import weights_path
from training import release
from training.card import card
from training.licences import PSEUDO, SIMULATED, SOURCES, licence_text, sources_of

KITTI = LabelSet.named("semantic-kitti")
ROAD, SIDEWALK, CAR = (KITTI.index(n) for n in ("road", "sidewalk", "car"))


def header(*sources):
    return {"config": {"sources": [dict(zip(("kind", "name"), s, strict=True)) for s in sources]}}


def figures(road_as_sidewalk=0):
    bands = np.zeros((len(EDGES), 19, 20), np.int64)
    bands[0, ROAD, ROAD] = 1000 - road_as_sidewalk
    bands[0, ROAD, SIDEWALK] = road_as_sidewalk
    bands[0, SIDEWALK, SIDEWALK] = 500
    bands[0, CAR, CAR], bands[0, CAR, 12] = 10, 140
    return Figures([ScanTally("07", "x", bands, np.zeros((3, BINS)))], KITTI)


def test_licence_follows_the_data():
    bound = licence_text(sources_of(header(("packed", "pandaset"), ("packed", "semantic-kitti"))))
    assert "Not for commercial use" in bound and "because of SemanticKITTI" in bound
    free = licence_text(sources_of(header(("simulated", ""), ("official", "pandaset"))))
    assert "CC BY 4.0" in free and "Name PandaSet" in free and "Not for" not in free


def test_pseudo_labels_bind_as_their_teacher_was_bound():
    sources = sources_of(header(("simulated", ""), ("pseudo", "")))
    assert sources == [SIMULATED, PSEUDO]
    assert "Not for commercial use" in licence_text(sources)
    assert "validation sequences included" in licence_text(sources)


def entry(*sources, **more):
    known = {"model": "big", "sha256": "0123456789abcdef", "learned_from": [], **more}
    return {**header(*sources)["config"], **known}


def test_what_a_teacher_was_trained_on_binds_its_student():
    grandparent = entry(("packed", "nuscenes"), role="teacher")
    teacher = entry(("packed", "pandaset"), role="teacher", learned_from=[grandparent])
    training = header(("simulated", "")) | {"learned_from": [teacher]}
    assert sources_of(training) == [SIMULATED, SOURCES["pandaset"], SOURCES["nuscenes"]]
    assert "because of nuScenes-lidarseg" in licence_text(sources_of(training))


def test_labels_of_one_of_our_networks_bind_as_its_data_and_as_their_scans():
    training = header(("simulated", ""), ("pseudo", ""))
    training["config"]["sources"][1]["folder"] = "mine"
    training["learned_from"] = [entry(("packed", "pandaset"), role="labels", folder="mine")]
    first, scans, learned = sources_of(training)
    assert (first, learned) == (SIMULATED, SOURCES["pandaset"])
    assert "labelled by big (0123456789ab)" in scans.title and not scans.commercial


def test_no_licence_without_the_teacher_s_data():
    with pytest.raises(ConfigError):
        sources_of(header(("simulated", "")) | {"learned_from": [entry()]})


def test_sources_that_are_never_drawn_do_not_bind():
    training = header(("simulated", ""), ("packed", "nuscenes"))
    training["config"]["sources"][1]["weight"] = 0.0
    assert sources_of(training) == [SIMULATED]


@pytest.mark.parametrize("training", [{}, {"config": {"sources": []}}, header(("packed", "new"))])
def test_no_licence_without_known_data(training):
    with pytest.raises(ConfigError):
        sources_of(training)


def test_card_says_what_it_is_what_it_does_and_where_it_fails():
    _, meta = load_checkpoint(weights_path("student"))
    parts = {"semantic-kitti 07": figures(300), "semantic-kitti 10": figures()}
    results = {"p1": parts, "p3": {title: figures() for title in parts}}
    sources = [SOURCES["semantic-kitti"], SIMULATED]
    text = card("student", "ab12", 5_590_000, meta, results, sources, "## How\n\nslowly")
    assert "5.59 MB" in text and "ab12" in text and "## How\n\nslowly" in text
    assert "Velodyne HDL-64E, simulated hdl64e" in text and "1.73 m above the road" in text
    first = parts["semantic-kitti 07"]
    assert f"| 1650 | {first.accuracy:.3f} | {first.miou:.3f} |" in text
    assert f"| road | {first.matrix.iou()[ROAD]:.3f} / 1.000 (1000) |" in text
    assert "| road called sidewalk | 0.150 | 0.000 |" in text
    assert "hardly finds car (0.07)" in text and "93% of car building" in text
    assert "30% of road sidewalk" in text
    assert "| main figure |" in text
    assert text.endswith("does not cover them.\n")


def test_card_without_failures_says_that():
    _, meta = load_checkpoint(weights_path("student"))
    bands = np.zeros((len(EDGES), 19, 20), np.int64)
    bands[0, ROAD, ROAD] = 1000
    whole = Figures([ScanTally("0", "x", bands, np.zeros((3, BINS)))], KITTI)
    text = card("s", "", 1, meta, {"p1": {"simulated": whole}}, [SIMULATED])
    assert "no class with an IoU below 0.2" in text and "P3" not in text.split("per class")[0]


def test_release_writes_a_clean_header_and_a_card(tmp_path, monkeypatch, capsys):
    network, meta = load_checkpoint(weights_path("student"))
    run = tmp_path / "run.safetensors"
    meta.training["monitor"] = [1, 2, 3]
    save_checkpoint(run, network, meta)
    monkeypatch.setattr(release, "weights_path", lambda name: tmp_path / f"{name}.safetensors")
    monkeypatch.setattr(release.Segmenter, "load", lambda path: None)
    monkeypatch.setattr(release, "validation_parts", lambda *_: [])
    monkeypatch.setattr(release, "evaluate", lambda *_: {"semantic-kitti 07": figures()})
    monkeypatch.setattr(sys, "argv", ["release", str(run), "--name", "mine", "--curves", "2031"])
    release.main()
    _, found = load_checkpoint(tmp_path / "mine.safetensors")
    assert found.model_id == "mine" and "monitor" not in found.training
    assert "Not for commercial use" in found.training["licence"]
    assert found.config.permutation[0] == (2, 0, 3, 1)
    text = (tmp_path / "mine.md").read_text()
    assert text.startswith("# mine") and "mIoU P3" in text
    assert capsys.readouterr().out.startswith("# mine")
