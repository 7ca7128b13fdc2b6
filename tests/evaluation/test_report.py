# SPDX-License-Identifier: Apache-2.0
"""The page: what it says, that it needs nothing else, and that a browser agrees."""

import json
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
from rich.console import Console

from pointdistill_ros.evaluation.figures import Figures
from pointdistill_ros.evaluation.gallery import exhibit
from pointdistill_ros.evaluation.report import grouped, matrix_rows, percent, render, write_report
from pointdistill_ros.evaluation.result import Evaluation
from pointdistill_ros.evaluation.tables import class_table, drive_table, figure_table
from pointdistill_ros.evaluation.tally import tally
from pointdistill_ros.labels import LabelSet
from pointdistill_ros.scan import LidarScan
from pointdistill_ros.segmentation import Segmentation

KITTI = LabelSet.named("semantic-kitti")
VOID = {"meta", "link", "img", "br"}
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def measured(drives, seed, skill=0.8):
    """Tallies of two scans a drive: ``skill`` of the points are right."""
    rng = np.random.default_rng(seed)
    tallies = []
    for drive in range(drives):
        for number in range(2):
            n = 3000
            scan = LidarScan(rng.normal(0, 20, (n, 3)).astype(np.float32))
            truth = rng.choice([0, 8, 10, 12, 14, 255], n, p=[0.1, 0.4, 0.2, 0.2, 0.09, 0.01])
            right = rng.random(n) < skill - 0.02 * drive
            labels = np.where(right, np.minimum(truth, 18), rng.choice([0, 8, 10, 18], n))
            p = np.where(right, 0.9, 0.5).astype(np.float32)
            result = Segmentation(labels.astype(np.uint8), p, p, KITTI, voxels=n)
            tallies.append(
                tally(
                    scan,
                    result,
                    truth.astype(np.uint8),
                    KITTI,
                    sequence=f"{drive:02d}",
                    name=str(number),
                )
            )
    return tallies


def evaluation(drives=3, protocols=("P1", "P3"), name="student"):
    weights = {
        "name": name,
        "sha256": "ab" * 32,
        "parameters": 2780000,
        "grid_size": 0.1,
        "engine": "native",
        "version": "1",
    }
    data = {"dataset": "semantic-kitti", "split": "val", "path": "/data", "intensity": True}
    figures = {
        p: Figures(measured(drives, 0, 0.7 + 0.05 * i), KITTI) for i, p in enumerate(protocols)
    }
    return Evaluation(weights, data, figures, {"P1": "one pass"}, "pointdistill evaluate")


def picture():
    rng = np.random.default_rng(0)
    xyz = rng.normal(0, 15, (2000, 3)).astype(np.float32)
    truth = rng.choice([0, 8], 2000).astype(np.uint8)
    return exhibit(xyz, truth[::-1].copy(), truth, KITTI, measured(1, 0)[0], "worst")


class Outline(HTMLParser):
    """Checks nesting; collects what a page would load, and the text of rows."""

    def __init__(self):
        super().__init__()
        self.open, self.loads, self.ids = [], [], []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.loads += [v for k, v in attrs.items() if k in ("src", "href", "srcset", "action")]
        self.ids += [attrs["id"]] if "id" in attrs else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_and_loads_nothing():
    page = render(evaluation(), [picture()])
    outline = Outline()
    outline.feed(page)
    assert outline.open == []
    assert all(load.startswith("data:") for load in outline.loads) and outline.loads
    assert len(set(outline.ids)) == len(outline.ids)
    assert not re.search(r"https?://|@import|url\(", page)
    assert "nan" not in re.sub(r"base64,[^\"]*", "", page).lower()


def test_figures_stand_in_the_page():
    one = evaluation()
    page = render(one)
    first = one.first
    assert f'<p class="value">{percent(first.miou)}' in page
    assert f"{grouped(int(first.matrix.points().sum()))} labelled points" in page
    share = first.matrix.share(KITTI.index("car"), KITTI.index("road"))
    assert f"car called road: {percent(share, 2)} %" in page
    assert "bicycle, motorcycle" in page  # in no mean
    assert "No intervals: 3 drives" in page
    assert "95 %" in render(evaluation(drives=8))


def test_names_cannot_break_the_page():
    page = render(evaluation(name="<script>alert(1)</script>"))
    assert "<script>alert(1)" not in page and "&lt;script&gt;alert(1)" in page


def test_one_protocol_needs_no_tabs():
    assert 'role="tab"' in render(evaluation())
    assert 'role="tab"' not in render(evaluation(protocols=("P2",)))


def test_matrix_rows_are_shares_of_the_true_points():
    rows = matrix_rows(evaluation().first.matrix, KITTI)
    for row in rows["rows"]:
        assert sum(cell["share"] for cell in row["cells"]) == pytest.approx(1)
        assert sum(cell["hit"] for cell in row["cells"]) == 1
    assert rows["columns"] == ["car", "road", "sidewalk", "building", "vegetation", "traffic-sign"]


def test_json_and_tables_agree_with_the_figures(tmp_path):
    one = evaluation(drives=8)
    one.save(tmp_path / "report.json")
    data = json.loads((tmp_path / "report.json").read_text())
    p1 = data["protocols"]["P1"]
    assert p1["miou"] == pytest.approx(one.first.miou, abs=1e-4)
    assert sum(d["points"] for d in p1["by_sequence"].values()) == p1["points"]
    assert np.array_equal(p1["confusion"], one.first.matrix.counts)
    console = Console(width=160)
    with console.capture() as capture:
        for table in (figure_table(one), class_table(one), drive_table(one)):
            console.print(table)
    text = capture.get()
    for value in (one.first.miou, one.first.accuracy, one.first.of_sequence("07").miou):
        assert f"{value:.4f}" in text
    assert "in no mean: bicycle" in text


PROBE = """
<script>{
const say = {};
const table = document.querySelector("table.classes");
const column = (i) => [...table.tBodies[0].rows].map((row) => row.cells[i].dataset.value);
const heads = [...table.tHead.rows[0].cells];
say.before = column(0);
heads[0].querySelector("button").click(); say.byName = column(0);
heads[1].querySelector("button").click(); say.byPoints = column(1).map(Number);
heads[1].querySelector("button").click(); say.rising = column(1).map(Number);
say.sorted = heads[1].getAttribute("aria-sort");
const tabs = document.querySelectorAll("[role=tab]");
tabs[1].click();
say.hidden = [...document.querySelectorAll(".panel")].map((panel) => panel.hidden);
const cell = document.querySelectorAll(".panel")[1].querySelector("td.hit");
cell.dispatchEvent(new MouseEvent("mouseover", { bubbles: true }));
say.said = document.querySelectorAll(".say")[1].textContent;
const paper = () => getComputedStyle(document.body).backgroundColor;
const light = paper(); document.getElementById("theme").click();
say.themes = light !== paper();
say.wide = document.documentElement.scrollWidth <= innerWidth;
say.pictures = [...document.images].every((image) => image.naturalWidth > 100);
say.bars = [...document.querySelectorAll(".classes .fill")].map((bar) => bar.clientWidth);
say.loaded = performance.getEntriesByType("resource").map((entry) => entry.name.slice(0, 30));
say.problems = problems;
const answer = document.createElement("pre");
answer.id = "answer"; answer.textContent = JSON.stringify(say);
document.body.append(answer);
}</script>
"""
WATCH = """<head><script>
const problems = [];
addEventListener("error", (event) => problems.push(String(event.message)));
for (const kind of ["error", "warn"]) console[kind] = (...words) => problems.push(words.join(" "));
</script>"""


@pytest.fixture(scope="module")
def browser():
    named = os.environ.get("CHROMIUM")
    found = named or next(filter(None, map(shutil.which, BROWSERS)), None)
    if not found:
        pytest.skip("no Chromium here; name one in CHROMIUM")
    return found


def open_page(browser, path):
    """What the script of a page says of it, after a browser has run it."""
    run = subprocess.run(
        [
            browser,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            f"--user-data-dir={path.parent / 'profile'}",
            "--window-size=1200,900",
            "--timeout=20000",
            "--dump-dom",
            path.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert '<pre id="answer">' in run.stdout, run.stderr[-2000:]
    return json.loads(run.stdout.split('<pre id="answer">')[1].split("</pre>")[0])


def test_a_browser_renders_and_sorts_it_without_an_error(browser, tmp_path):
    path = tmp_path / "report.html"
    write_report(evaluation(), [picture()], path)
    assert path.stat().st_size < 5_000_000
    page = path.read_text()
    path.write_text(page.replace("<head>", WATCH).replace("</body>", PROBE + "</body>"))
    answer = open_page(browser, path)
    assert answer["problems"] == []
    assert answer["byName"] == sorted(answer["before"]) != answer["before"]
    assert answer["byPoints"] == sorted(answer["rising"], reverse=True) != answer["rising"]
    assert answer["sorted"] == "ascending"
    assert answer["hidden"] == [True, False]
    assert answer["said"].startswith("car called car: ")
    assert answer["themes"] and answer["wide"] and answer["pictures"]
    assert max(answer["bars"]) > 100
    assert [name for name in answer["loaded"] if not name.startswith("data:")] == []
