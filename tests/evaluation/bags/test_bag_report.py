# SPDX-License-Identifier: Apache-2.0
"""The page of a bag: what it says, that it needs nothing else, and that a browser agrees."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from pointdistill_ros import LidarScan, Segmentation
from pointdistill_ros.evaluation.agreement import Labelling, compare
from pointdistill_ros.evaluation.bags.finding import BagCheck, Finding
from pointdistill_ros.evaluation.bags.frame_record import FrameRecord
from pointdistill_ros.evaluation.bags.gallery import BagExhibit, DriveMap, choose_frames
from pointdistill_ros.evaluation.bags.report import class_rows, render, write_bag_report
from pointdistill_ros.evaluation.bags.result import BagEvaluation, Network
from pointdistill_ros.evaluation.bags.stability import FrameStability
from pointdistill_ros.evaluation.bags.tables import tables
from pointdistill_ros.evaluation.distance import band_of
from pointdistill_ros.evaluation.figures import Figures
from pointdistill_ros.evaluation.gallery import data_uri
from pointdistill_ros.evaluation.tally import tally
from pointdistill_ros.labels import LabelSet
from tests.evaluation.test_report import WATCH, Outline, browser, open_page

KITTI = LabelSet.named("semantic-kitti")
__all__ = ["browser"]
POINTS = 400


def record(i, teacher=True, truth=True):
    rng = np.random.default_rng(i)
    xyz = rng.normal(0, 15, (POINTS, 3)).astype(np.float32)
    true = rng.choice([0, 8, 12], POINTS).astype(np.uint8)
    own = np.where(rng.random(POINTS) < 0.8 - 0.02 * i, true, 14).astype(np.uint8)
    other = np.where(rng.random(POINTS) < 0.9, true, 8).astype(np.uint8)
    p = np.full(POINTS, 0.7, np.float32)
    scan, result = LidarScan(xyz), Segmentation(own, p, p, KITTI)
    counts = np.bincount(own, minlength=20)[:20]
    return FrameRecord(
        i,
        i * 100_000_000 + 5,
        i * 100_000_000,
        POINTS,
        sha256=f"{i:064x}",
        counts=tuple(counts.tolist()),
        probability=0.7,
        entropy=0.2,
        voxels=300,
        milliseconds={"decode": 1.0, "network": 50.0 + i, "total": 60.0 + 10 * i},
        agreement=compare(Labelling(other, p), Labelling(own, p), 19, band_of(xyz))
        if teacher
        else None,
        scores={"student": tally(scan, result, true, KITTI)} if truth else {},
    )


def stable(i):
    rng = np.random.default_rng(i)
    before = rng.choice([0, 8], POINTS).astype(np.uint8)
    now = np.where(rng.random(POINTS) < 0.9, before, 12).astype(np.uint8)
    table = compare(Labelling(before), Labelling(now), 19)
    return FrameStability(i, POINTS, POINTS, POINTS, {"student": table}, before != now)


def evaluation(teacher=True, truth=True, temporal=True, frames=8):
    network = Network("student", "ab" * 32, 2_780_000, 0.15, "native: float32", KITTI)
    records = [record(i, teacher, truth) for i in range(frames)]
    scores = [r.scores["student"] for r in records if r.scores]
    return BagEvaluation(
        data={
            "bag": "/data/drive.mcap",
            "name": "drive.mcap",
            "topic": "/points",
            "labels": "topic /labels" if truth else None,
            "input": {
                "intensity_field": "auto",
                "intensity_scale": "auto",
                "zero_is_no_return": False,
                "z_offset": 0.42,
                "target_frame": "base_link",
                "classes": "model",
            },
            "workers": 1,
        },
        networks={"student": network}
        | ({"teacher": replace(network, name="teacher")} if teacher else {}),
        records=records,
        stabilities={i: stable(i) for i in range(5, frames)} if temporal else {},
        motion={
            "source": "tf, lidar in odom" if temporal else "none",
            "known": frames * temporal,
            "metres": 12.5 * temporal,
            "notes": [] if temporal else ["pip install something"],
        },
        poses=[np.eye(4)] * frames if temporal else [None] * frames,
        scores={"student": Figures(scores, KITTI)} if truth else {},
        agreement_set=KITTI if teacher else None,
        truth_set=KITTI if truth else None,
        check=BagCheck(
            (
                Finding("bad", "height", "ground at z = 0.1 m", "shift z by -1.83 m"),
                Finding("fits", "rate", "10.0 Hz"),
            ),
            {"clouds": frames},
        ),
        command="pointdistill evaluate-bag drive.mcap",
        version="1",
    )


def picture(n=4):
    image = np.zeros((120, 120, 3), np.uint8)
    images = tuple((f"picture {i}", data_uri(image)) for i in range(n))
    return BagExhibit(3, 0.3, "worst", ("accuracy 70 %",), images, (("car", "#6496f5", 0.4),))


MAP = DriveMap((("labels", data_uri(np.zeros((120, 120, 3), np.uint8))),), 80.0)
KINDS = [
    {},
    {"teacher": False},
    {"truth": False},
    {"temporal": False},
    {"teacher": False, "truth": False, "temporal": False},
    {"teacher": False, "truth": False, "frames": 1, "temporal": False},
]


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_is_whole_and_loads_nothing(kind):
    page = render(evaluation(**kind), [picture()], MAP)
    outline = Outline()
    outline.feed(page)
    assert outline.open == []
    assert all(load.startswith("data:") for load in outline.loads) and outline.loads
    assert len(set(outline.ids)) == len(outline.ids)
    assert not re.search(r"https?://|@import|url\(", page)
    assert not re.search(r"\bnan\b|\bNone\b|\binf\b", re.sub(r"base64,[^\"]*", "", page))
    assert ("Agreement with teacher" in page) == kind.get("teacher", True)
    assert ("mIoU against labels" in page) == kind.get("truth", True)
    assert ("Static points that flip" in page) == kind.get("temporal", True)
    assert ("pip install something" in page) == (not kind.get("temporal", True))


def test_figures_stand_in_the_page_in_the_json_and_in_the_tables(tmp_path):
    one = evaluation()
    page = render(one)
    agreement = one.agreement.agreement
    assert f'<p class="value">{100 * agreement:.1f}<small>%' in page
    assert "seen in base_link, z shifted by +0.42 m" in page
    assert "check height first" in page and "Shift z by -1.83 m." in page
    one.save(tmp_path / "report.json")
    data = json.loads((tmp_path / "report.json").read_text())
    assert data["results"]["agreement"]["agreement"] == pytest.approx(agreement, abs=1e-4)
    assert data["results"]["stability"]["student"]["flips"] == pytest.approx(0.1, abs=0.03)
    assert data["timing"]["milliseconds"]["total"]["p50"] == 95.0
    assert data["timing"]["of_the_sensors_pace"] == pytest.approx(1 / 0.095 / (8 / 0.7), abs=1e-3)
    console = Console(width=140, record=True, file=(tmp_path / "out").open("w"))
    for table in tables(one):
        console.print(table)
    console.file.close()
    text = console.export_text()
    assert f"{agreement:.1%} of 3,200 points" in text and "shift z by -1.83 m" in text


def test_flips_of_a_class_are_those_of_points_that_had_it():
    rows = {row["name"]: row for row in class_rows(evaluation())}
    assert rows["vegetation"]["static"] == 0 and rows["vegetation"]["flips"] is None
    assert rows["car"]["flips"] == pytest.approx(0.1, abs=0.04)
    assert sum(row["points"] for row in rows.values()) == 8 * POINTS


def test_shown_are_the_worst_and_the_best_and_not_neighbours():
    chosen = choose_frames(evaluation(frames=24))
    assert list(chosen.values()) == ["worst"] * 3 + ["best"]
    indices = sorted(chosen)
    assert min(np.diff(indices)) >= 4
    scores = {r.index: r.scores["student"].accuracy for r in evaluation(frames=24).records}
    assert next(iter(chosen)) == min(scores, key=scores.get)
    assert choose_frames(evaluation(False, False, False, 1)) == {0: "worst"}


def test_failed_frames_are_listed():
    one = evaluation()
    bad = FrameRecord(8, 8 * 10**8, 8 * 10**8, 0, "drive.mcap: cloud 8 is broken")
    one = replace(one, records=[*one.records, bad], poses=[*one.poses, None])
    page = render(one)
    assert "8 of 9 frames" in page and "cloud 8 is broken" in page
    assert one.to_dict()["results"]["failed"] == {8: "drive.mcap: cloud 8 is broken"}


def test_names_cannot_break_the_page():
    one = evaluation()
    one = replace(one, data={**one.data, "name": "<script>alert(1)</script>"})
    page = render(one)
    assert "<script>alert(1)" not in page and "&lt;script&gt;alert(1)" in page


PROBE = """
<script>{
const say = {};
const heads = document.querySelectorAll("table.classes thead button");
const rows = () => [...document.querySelectorAll("table.classes")[0].tBodies[0].rows];
heads[0].click(); say.names = rows().map((row) => row.cells[0].dataset.value);
say.plots = [...document.querySelectorAll("svg.plot")].map((plot) => plot.clientHeight);
say.wide = document.documentElement.scrollWidth <= innerWidth;
say.pictures = [...document.images].every((image) => image.naturalWidth > 100);
const boxes = [...document.querySelectorAll(".even .scroll")];
say.tables = boxes.map((box) => box.scrollWidth - box.clientWidth);
say.loaded = performance.getEntriesByType("resource").map((entry) => entry.name.slice(0, 30));
say.problems = problems;
const answer = document.createElement("pre");
answer.id = "answer"; answer.textContent = JSON.stringify(say);
document.body.append(answer);
}</script>
"""


def test_a_browser_renders_it_without_an_error(browser, tmp_path):
    path = tmp_path / "report.html"
    write_bag_report(evaluation(), [picture()], MAP, path)
    page = path.read_text()
    path.write_text(page.replace("<head>", WATCH).replace("</body>", PROBE + "</body>"))
    answer = open_page(browser, path)
    assert answer["problems"] == []
    assert answer["names"] == sorted(answer["names"]) and len(answer["names"]) >= 4
    assert len(answer["plots"]) == 5 and min(answer["plots"]) > 60
    assert answer["wide"] and answer["pictures"] and max(answer["tables"]) <= 0
    assert [name for name in answer["loaded"] if not name.startswith("data:")] == []
