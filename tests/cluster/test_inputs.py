# SPDX-License-Identifier: Apache-2.0
"""Which jobs come of paths, and which of them are done."""

import os

import pytest

from pointdistill_ros.cluster.inputs import find_jobs, output_root
from pointdistill_ros.cluster.ledger import Ledger
from pointdistill_ros.cluster.outputs import remove_halves
from pointdistill_ros.errors import InputError


@pytest.fixture
def fleet(tmp_path):
    """Bags of two cars, one of them a folder; scans; things that are neither."""
    root = tmp_path / "fleet"
    for name in ("a/1.mcap", "a/2.db3", "b/3/metadata.yaml", "b/3/3_0.db3", "b/3/3_1.db3"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    for name in ("c/0.bin", "c/1.bin", "d/velodyne/0.bin", ".trash/4.mcap", "b/notes.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


def found(jobs, root):
    return {job.name: str(job.source.relative_to(root)) for job in jobs}


def test_folders_are_searched_in_depth(fleet, tmp_path):
    bags = {"a/1": "a/1.mcap", "a/2": "a/2.db3", "b/3": "b/3"}
    jobs = find_jobs([fleet], str(tmp_path / "out"), scans=False)
    assert found(jobs, fleet) == bags
    assert [job.output for job in jobs] == [tmp_path / "out" / name for name in bags]
    jobs = find_jobs([fleet], str(tmp_path / "out"), scans=True)
    assert found(jobs, fleet) == bags | {"c": "c", "d": "d"}
    assert jobs[0].size == len("a/1.mcap")


def test_inputs_one_by_one_keep_their_own_names(fleet, tmp_path):
    paths = [fleet / "a/1.mcap", fleet / "b/3", fleet / "c", fleet / "c/0.bin", fleet / "a/1.mcap"]
    jobs = find_jobs(paths, str(tmp_path / "{name}" / "x.mcap"), scans=True)
    assert [job.name for job in jobs] == ["1", "3", "c", "0"]
    assert jobs[1].output == tmp_path / "3" / "x.mcap"


def test_a_link_and_its_target_are_one_input(fleet, tmp_path):
    (tmp_path / "link.mcap").symlink_to(fleet / "a/1.mcap")
    jobs = find_jobs([tmp_path / "link.mcap", fleet / "a"], str(tmp_path / "o"), scans=False)
    assert len(jobs) == 2


@pytest.mark.parametrize(
    ("inputs", "output", "reason"),
    [
        (["none.mcap"], "out", "no such file or folder"),
        (["fleet/c"], "out", "no inputs in this folder; known: .mcap"),
        (["fleet/a/1.mcap", "copy/1.mcap"], "out", "would both be written there"),
        (["fleet/a/1.mcap", "fleet/a/2.db3"], "out.mcap/fixed-{name}", ""),
        (["fleet/a/1.mcap"], "fleet/a/{name}.mcap", "input and output are the same"),
        (["fleet"], "fleet", "searched for inputs"),
        (["fleet/a"], "fleet", "searched for inputs"),
        (["fleet"], "fleet/out", ""),
    ],
)
def test_refusals(fleet, tmp_path, inputs, output, reason):
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy/1.mcap").touch()
    paths = [tmp_path / path for path in inputs]
    if not reason:
        assert find_jobs(paths, str(tmp_path / output), scans=False)
        return
    with pytest.raises(InputError, match=reason):
        find_jobs(paths, str(tmp_path / output), scans=False)


def test_outputs_below_the_inputs_are_no_inputs_next_time(fleet):
    first = find_jobs([fleet], str(fleet / "out/{name}.mcap"), scans=False)
    for job in first:
        job.output.parent.mkdir(parents=True, exist_ok=True)
        job.output.write_text("labelled")
    assert find_jobs([fleet], str(fleet / "out/{name}.mcap"), scans=False) == first


@pytest.mark.parametrize(
    ("output", "root"), [("/o", "/o"), ("/o/{name}.mcap", "/o"), ("/o/x-{name}/y/{name}", "/o")]
)
def test_root_of_the_outputs(output, root):
    assert str(output_root(output)) == root


@pytest.fixture
def job(fleet, tmp_path):
    (one,) = find_jobs([fleet / "b/3"], str(tmp_path / "out"), scans=False)
    return one


def do(ledger, job):
    mark = ledger.begin(job)
    job.output.mkdir(parents=True, exist_ok=True)
    (job.output / "0.label").write_text("abc")
    (job.output / "1.label").write_text("def")
    ledger.finish(job, mark, {"scans": 2})


def test_what_is_done_stays_done_and_nothing_else_does(job, fleet, tmp_path):
    ledger = Ledger(tmp_path / "out", {"engine": "native"})
    assert ledger.done(job) is None
    do(ledger, job)
    assert ledger.done(job) == {"scans": 2}
    assert Ledger(tmp_path / "out", {"engine": "torch"}).done(job) is None
    (job.output / "frames").mkdir()  # what is below may come and go
    assert ledger.done(job) == {"scans": 2}
    mtime = (fleet / "b/3/3_0.db3").stat().st_mtime_ns
    os.utime(fleet / "b/3/3_0.db3", ns=(mtime, mtime + 1))
    assert ledger.done(job) is None, "the input changed"
    do(ledger, job)
    (job.output / "1.label").unlink()
    assert ledger.done(job) is None, "an output is gone"
    do(ledger, job)
    ledger.begin(job)
    assert ledger.done(job) is None, "it was begun anew"


def test_an_input_that_changes_meanwhile_is_not_done(job, fleet, tmp_path):
    ledger = Ledger(tmp_path / "out", {})
    mark = ledger.begin(job)
    job.output.mkdir(parents=True)
    (fleet / "b/3/3_1.db3").write_text("longer than before")
    ledger.finish(job, mark, {})
    assert ledger.done(job) is None


@pytest.mark.parametrize("content", ["", "[]", "{", '{"mark": 1}', "[1", "\x00"])
def test_damaged_notes_count_as_not_done(job, tmp_path, content):
    ledger = Ledger(tmp_path / "out", {})
    do(ledger, job)
    (file,) = (path for path in (tmp_path / "out/.done").rglob("*.json"))
    file.write_text(content)
    assert ledger.done(job) is None


def test_halves_go_and_everything_else_stays(tmp_path):
    place = tmp_path / "a[1].mcap"
    half = tmp_path / ".a[1].mcap.x7f/a[1]"
    half.mkdir(parents=True)
    others = [tmp_path / ".a1.mcap.77.tmp", tmp_path / "b.mcap", tmp_path / ".done/a[1].mcap.json"]
    for path in (half / "a[1].mcap", place, *others):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    remove_halves(place)
    assert sorted(tmp_path.iterdir()) == sorted([place, others[0], others[1], others[2].parent])
    folder = tmp_path / "labels"
    folder.mkdir()
    (folder / ".0.label.7.tmp").touch()
    (folder / "0.label").touch()
    remove_halves(folder)
    assert [path.name for path in folder.iterdir()] == ["0.label"]
