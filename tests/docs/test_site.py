# SPDX-License-Identifier: Apache-2.0
"""The site builds without a warning, and its pages ask no other host for anything."""

import os
import re
import shutil
import subprocess
import sys

import pytest
import yaml

from tests.docs.blocks import ROOT

pytest.importorskip("mkdocs")
pytest.importorskip("material")


class Loader(yaml.SafeLoader):
    """mkdocs.yml may name Python objects; the words are enough here."""


Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)
CONFIG = yaml.load((ROOT / "mkdocs.yml").read_text(), Loader)


def build(folder, config=ROOT / "mkdocs.yml"):
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", config, "-d", folder],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    done = build(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stderr
    return folder


def pages_in(nav):
    if isinstance(nav, str):
        yield nav
    elif isinstance(nav, dict):
        yield from pages_in(list(nav.values()))
    else:
        for entry in nav:
            yield from pages_in(entry)


def test_every_page_is_in_the_navigation():
    assert set(pages_in(CONFIG["nav"])) == {p.name for p in (ROOT / "docs").glob("*.md")}


def test_links_out_of_docs_lead_to_what_they_name(site):
    page = (site / "integration.html").read_text()
    assert 'href="files/config/stacks/nav2/costmaps.yaml.html"' in page
    shown = (site / "files/config/stacks/nav2/costmaps.yaml.html").read_text()
    assert "obstacle_layer" in shown
    cards = (site / "files/pointdistill_ros/weights/index.html").read_text()
    assert 'href="student.html"' in cards


def test_no_page_loads_anything_from_another_host(site):
    for page in site.rglob("*.html"):
        text = page.read_text()
        loaded = re.findall(
            r'<(?:script|link|img|iframe)[^>]+(?:src|href)="(https?://[^"]+)"', text
        )
        assert not loaded, (page.name, loaded)


def test_commands_are_shown_as_commands_and_yaml_is_not(site):
    page = (site / "node.html").read_text()
    assert "language-bash highlight" in page
    assert "<code>filter:" in page


@pytest.mark.slow
def test_a_broken_link_fails_the_build(tmp_path):
    for name in ("docs", "tools", "config", "pointdistill_ros/weights"):
        ignored = shutil.ignore_patterns("__pycache__", "*.safetensors")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    page = tmp_path / "docs" / "quickstart.md"
    page.write_text(page.read_text().replace("](training.md)", "](trainig.md)"))
    done = build(tmp_path / "site", tmp_path / "mkdocs.yml")
    assert done.returncode != 0 and "trainig.md" in done.stdout + done.stderr
