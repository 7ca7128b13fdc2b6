# SPDX-License-Identifier: Apache-2.0
"""--ray as a user meets it. Ray is a fake in this process, networks and bags are real and tiny."""

import importlib
import json
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from pointdistill_ros.checkpoint import save_checkpoint
from pointdistill_ros.cli import main
from pointdistill_ros.cluster.ray_cluster import Room
from pointdistill_ros.io.binfile import write_kitti
from tests.cluster.fake_ray import FakeRay
from tests.evaluation.bags.drive import scan, write_drive
from tests.tiny import tiny_meta, tiny_network

ROOM = [Room("a", 2, 0), Room("b", 1, 0)]
HOW = ("--device", "cpu", "--engine", "torch", "--threads", "1")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fleet")
    network = tiny_network()
    save_checkpoint(folder / "s.safetensors", network, tiny_meta(network.config))
    for i in range(3):
        write_drive(folder / f"in/{i}.mcap", frames=2 + i, points=150, labels="field")
    write_kitti(scan(0, 150)[0], folder / "in/scans/7.bin")
    return folder


@pytest.fixture
def run(monkeypatch, capsys, fleet):
    """Run a command over the fake; returns exit code, stdout, stderr. ``run.rays``: those used."""
    rays = []

    @contextmanager
    def connected(address):
        rays.append(FakeRay(run.dies))
        yield rays[-1]

    for name in ("segment", "evaluate"):
        module = importlib.import_module(f"pointdistill_ros.cli.over_ray.{name}")
        monkeypatch.setattr(module, "connected", connected)
        monkeypatch.setattr(module, "rooms", lambda ray: ROOM)
    monkeypatch.setattr("pointdistill_ros.cluster.run.rooms", lambda ray: ROOM)
    for size in ("SIZE", "MAP_SIZE"):
        monkeypatch.setattr(f"pointdistill_ros.evaluation.bags.gallery.{size}", 60)

    def run(command, *arguments, ray="local"):
        over = [] if ray is None else ["--ray", ray]
        option = "--weights" if command == "evaluate-bag" else "--model"
        words = [command, option, fleet / "s.safetensors", *HOW, *arguments, *over]
        monkeypatch.setattr(sys, "argv", ["pointdistill", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
            sys.exit(0)
        return (stop.value.code, *capsys.readouterr())

    run.rays, run.dies = rays, lambda actor, call: False
    return run


def files(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not any(part.startswith(".done") for part in path.parts)
    }


def jobs_done(ray):
    return sum(actor.jobs for actor in ray.actors)


def test_bags_in_bags_out(run, fleet, tmp_path):
    code, out, err = run("segment", fleet / "in", "-o", tmp_path / "out/{name}.mcap")
    assert (code, err) == (0, "")
    assert "4 of 4 inputs done" in out and "10 scans, 1500 points" in out
    assert len(run.rays[0].actors) == 3, "as many as there is room for"
    for i in range(3):
        alone = tmp_path / f"alone/{i}.mcap"
        assert run("segment", fleet / f"in/{i}.mcap", "-o", alone, ray=None)[0] == 0
        assert alone.read_bytes() == (tmp_path / f"out/{i}.mcap").read_bytes()
    code, again, err = run("segment", fleet / "in", "-o", tmp_path / "out/{name}.mcap")
    assert (code, err) == (0, "")
    assert "4 of 4 inputs done, 4 of them before" in again
    assert again.splitlines()[:5] == out.splitlines()[:5]
    assert not run.rays[-1].actors


def test_only_what_is_missing_is_done_again(run, fleet, tmp_path):
    options = ("segment", fleet / "in", "-o", tmp_path)
    assert run(*options)[0] == 0
    before = files(tmp_path)
    (tmp_path / "1/000002.label").unlink()
    (tmp_path / "1/.000002.label.77.tmp").write_text("half")
    code, out, _ = run(*options)
    assert "3 of them before" in out and jobs_done(run.rays[-1]) == 1
    assert files(tmp_path) == before
    code, out, _ = run(*options, "--z-offset", "0.5")
    assert code == 0 and "before" not in out, "other labels are other work"
    assert files(tmp_path) != before


def test_pictures_of_an_input_have_a_folder_of_their_own(run, fleet, tmp_path):
    options = ("segment", fleet / "in/scans", "-o", tmp_path / "out")
    assert run(*options)[0] == 0
    assert run(*options, "--pictures", tmp_path / "seen")[0] == 0, "not done: no pictures yet"
    assert (tmp_path / "seen/scans/scans_7_above.png").exists()


def test_bad_inputs_are_listed_and_the_others_done(run, fleet, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/broken.mcap").write_text("no bag")
    write_drive(tmp_path / "in/empty.mcap", frames=0)
    inputs = (fleet / "in/0.mcap", tmp_path / "in")
    code, out, err = run("segment", *inputs, "-o", tmp_path / "out")
    assert code == 1 and "1 of 3 inputs done" in out
    assert [line.split(":")[0] for line in err.splitlines()] == ["skipped"] * 2
    assert "broken.mcap: not a readable bag" in err and "empty.mcap: no PointCloud2" in err
    code, out, err = run("segment", *inputs, "-o", tmp_path / "out")
    assert code == 1 and jobs_done(run.rays[-1]) == 2, "what failed is tried again"
    code, out, err = run("segment", tmp_path / "in", "-o", tmp_path / "out")
    assert (code, out) == (2, "") and "(and 1 more)" in err


def test_scans_that_were_skipped_are_listed_again_by_the_next_run(run, fleet, tmp_path):
    write_kitti(scan(0, 90)[0], tmp_path / "in/good.bin")
    (tmp_path / "in/bad.bin").write_bytes(b"\xff" * 17)
    options = ("segment", tmp_path / "in", "-o", tmp_path / "out", "--keep-going")
    first, second = run(*options), run(*options)
    assert first[0] == second[0] == 1
    assert first[2] == second[2] and "bad.bin: 17 bytes" in first[2]
    assert len(run.rays) == 2 and not run.rays[1].actors


def test_a_process_dies_half_way(run, fleet, tmp_path):
    done = []

    def dies(actor, call):
        done.append(call.method)
        return done.count("do") == 2 and call.method == "do"

    run.dies = dies
    code, out, err = run("segment", fleet / "in", "-o", tmp_path, "--workers", "2")
    assert code == 0 and "4 of 4 inputs done" in out
    assert err.count("is done again") == 1
    assert len(run.rays[0].actors) == 3


def test_a_bug_in_one_job_is_told_with_its_traceback(run, fleet, tmp_path, monkeypatch):
    from pointdistill_ros.cli.over_ray import segment as module

    whole = module.label_inputs

    def label_inputs(inputs, *rest):
        if inputs[0].name == "1.mcap":
            raise KeyError("nobody thought of this")
        return whole(inputs, *rest)

    monkeypatch.setattr(module, "label_inputs", label_inputs)
    code, out, err = run("segment", fleet / "in", "-o", tmp_path)
    assert code == 1 and "3 of 4 inputs done" in out
    assert "Traceback" in err and "skipped: " in err
    assert "1.mcap: KeyError: 'nobody thought of this'" in err


def test_a_full_or_read_only_disk_is_one_line(run, fleet, tmp_path, monkeypatch):
    from pointdistill_ros.io import atomic

    def full(self, mode="r", *rest, **named):
        raise OSError(30, "Read-only file system", str(self))

    (tmp_path / "file").touch()
    code, _, err = run("segment", fleet / "in", "-o", tmp_path / "file/out")
    assert (code, err.count("\n")) == (2, 1) and "outputs cannot be written there" in err
    monkeypatch.setattr(atomic.Path, "replace", full)
    code, _, err = run("segment", fleet / "in", "-o", tmp_path / "out")
    assert code == 2 and "Read-only file system" in err and "Traceback" not in err


def test_a_node_without_the_file_system_or_the_weights_is_left_out(run, fleet, tmp_path):
    from pointdistill_ros.cluster import shared_folder

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shared_folder, "PATIENCE", 0.0)
        patch.setattr(shared_folder.SharedFolder, "_seen", lambda self: "of another file system")
        code, _, err = run("segment", fleet / "in", "-o", tmp_path / "out")
    assert code == 2 and "needs the same file system at the same path" in err
    assert not list((tmp_path / "out").glob("*.label"))
    from pointdistill_ros.cli.over_ray import network

    calls = []

    def load(*arguments):
        calls.append(arguments)
        if len(calls) == 1:
            raise network.CheckpointError(f"{arguments[0]}: no such checkpoint")
        return whole(*arguments)

    whole = network.load_segmenter
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "load_segmenter", load)
        code, out, err = run("segment", fleet / "in", "-o", tmp_path / "out")
    assert code == 0 and "4 of 4 inputs done" in out
    assert "is left out" in err and "no such checkpoint" in err


def test_other_weights_on_a_node_are_seen(fleet):
    from pointdistill_ros.cli.over_ray.network import settle
    from pointdistill_ros.errors import CheckpointError

    settled = settle(str(fleet / "s.safetensors"), "auto", "torch", "float32", None, ROOM)
    assert (settled.device, settled.threads) == ("cpu", 1)
    settled.load()
    other = type(settled)(**{**vars(settled), "sha256": "0" * 64})
    with pytest.raises(CheckpointError, match="other weights here"):
        other.load()
    gpus = [*ROOM, Room("c", 8, 1)]
    assert settle(settled.weights, "auto", "auto", "float32", 2, gpus).engine == "cuda"


@pytest.mark.parametrize(
    ("command", "options", "reason"),
    [
        ("segment", ["-o", "out.mcap", "--ray", "local"], "{name}.mcap"),
        ("segment", ["-o", "out", "--workers", "2"], "--workers goes with --ray"),
        ("segment", ["-o", "out", "--ray", "ray://x:1"], "Ray Client is not supported"),
        ("segment", ["-o", "out", "--ray", "local", "--device", "cuda:1"], "which GPU"),
        ("segment", ["-o", "out", "--ray", "local", "--threads", "9"], "no node of the cluster"),
        ("segment", ["-o", "out", "--ray", "local", "--model", "nowhere.safetensors"], "no such"),
        ("evaluate-bag", ["-o", "out"], "--ray local to take several"),
        ("evaluate-bag", ["-o", "out", "--ray", "local", "--labels", "."], "put {name} into"),
        ("evaluate-bag", ["-o", "out", "--ray", "local", "--label-set", "kitty"], "no label set"),
    ],
)
def test_refusals(run, fleet, tmp_path, monkeypatch, command, options, reason):
    if "ray://x:1" in options:
        monkeypatch.undo()
        pytest.importorskip("ray")
        monkeypatch.setattr(sys, "argv", ["pointdistill", command, str(fleet), *options])
        with pytest.raises(SystemExit, match="2"):
            main()
        return
    monkeypatch.chdir(tmp_path)
    bags = [fleet / "in/0.mcap", fleet / "in/1.mcap"]
    code, _, err = run(command, *bags, *options, ray=None)
    assert code == 2 and reason in err and "Traceback" not in err
    assert not Path("out").exists() or not list(Path("out").rglob("*.label"))


def test_ray_that_is_missing_says_what_to_install(monkeypatch):
    from pointdistill_ros.cluster import ray_cluster
    from pointdistill_ros.errors import ConfigError

    monkeypatch.setattr(ray_cluster.util, "find_spec", lambda _: None)
    with (
        pytest.raises(ConfigError, match=r"pip install 'pointdistill-ros\[ray\]'"),
        ray_cluster.connected("local"),
    ):
        pass


def test_evaluations_are_those_of_one_process(run, fleet, tmp_path):
    bags = [fleet / "in/1.mcap", fleet / "in/2.mcap"]
    options = ("evaluate-bag", *bags, "-o", tmp_path / "out", "--poses", "none")
    code, out, err = run(*options)
    assert (code, err) == (0, "")
    assert "2 of 2 inputs done" in out
    for bag in bags:
        alone = tmp_path / "alone" / bag.stem
        code, _, err = run("evaluate-bag", bag, "-o", alone, "--poses", "none", ray=None)
        assert (code, err) == (0, "")
        expected, found = (
            json.loads((place / "report.json").read_text())
            for place in (alone, tmp_path / "out" / bag.stem)
        )
        assert found["results"] == expected["results"] and found["check"] == expected["check"]
        assert "--ray local" in found["command"]
        assert (tmp_path / "out" / bag.stem / "report.html").exists()
    assert f"{expected['results']['points']:,}" in out
    assert f"{expected['results']['labels']['student']['miou']:.4g}" in out
    code, again, _ = run(*options)
    assert code == 0 and "2 of them before" in again and not run.rays[-1].actors


def test_labels_and_poses_of_many_bags_are_named_by_the_bag(run, fleet, tmp_path):
    truth = tmp_path / "truth/1"
    truth.mkdir(parents=True)
    bag = fleet / "in/1.mcap"
    run("segment", bag, "-o", truth, ray=None)
    options = ("-o", tmp_path / "out", "--poses", "none", "--labels", tmp_path / "truth/{name}")
    code, _, err = run("evaluate-bag", bag, fleet / "in/0.mcap", *options)
    assert code == 1 and "truth/0" in err, "only one of them has labels"
    found = json.loads((tmp_path / "out/1/report.json").read_text())["results"]
    assert found["labels"]["student"]["accuracy"] == 1.0
