# SPDX-License-Identifier: Apache-2.0
"""Archives are read back here as the servers read them, and broken in every way they refuse."""

import json
import zipfile

import numpy as np
import pytest

from pointdistill_ros.datasets.convention import SensorConvention
from pointdistill_ros.errors import InputError
from pointdistill_ros.evaluation.submission.nuscenes import NuScenesBenchmark
from pointdistill_ros.evaluation.submission.open import open_benchmark
from pointdistill_ros.evaluation.submission.semantic_kitti import SemanticKittiBenchmark
from pointdistill_ros.evaluation.submission.validator import validate
from pointdistill_ros.evaluation.submission.writer import write_archive, write_predictions
from tests.official_trees import write_nuscenes, write_semantic_kitti

# learning_map_inv of the official configuration, without 0
INVERSE = (10, 11, 15, 18, 20, 30, 31, 32, 40, 44, 48, 49, 50, 51, 70, 71, 72, 80, 81)
ORIGIN = {"weights": "ab12"}


def predict(scan):
    """A class that depends on the point, different ones in each scan."""
    return (np.abs(scan.xyz).sum(1) * 100 % 16).astype(np.uint8)


@pytest.fixture(scope="module")
def kitti(tmp_path_factory):
    root = tmp_path_factory.mktemp("kitti")
    return write_semantic_kitti(root, [f"{n:02d}" for n in range(11, 22)])


@pytest.fixture(scope="module")
def nuscenes(tmp_path_factory):
    root = tmp_path_factory.mktemp("nuscenes")
    return write_nuscenes(root, {"v1.0-mini": ("scene-0916", "scene-0103")})


@pytest.fixture(scope="module", params=["kitti", "nuscenes"])
def written(request, tmp_path_factory):
    """A benchmark and its valid folder and archive, not to be changed."""
    root = request.getfixturevalue(request.param)
    benchmark = open_benchmark(root, "test" if request.param == "kitti" else "mini_val")
    folder = tmp_path_factory.mktemp(request.param) / "out"
    write_predictions(benchmark, predict, folder, ORIGIN)
    write_archive(benchmark, folder, folder.with_suffix(".zip"))
    return benchmark, folder, folder.with_suffix(".zip")


def findings(benchmark, path):
    return [line for check in validate(benchmark, path) for line in check.findings]


def rezip(source, target, change=lambda name, content: content, add=()):
    """Copy an archive; ``change`` returns the new content of an entry, None to leave it out."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for entry in old.infolist():
            content = change(entry.filename, old.read(entry))
            if content is not None:
                new.writestr(entry, content)
        for name, content in add:
            new.writestr(name, content)
    return target


def test_what_is_written_is_valid(written):
    benchmark, folder, archive = written
    checks = list(validate(benchmark, archive))
    assert len(checks) >= 6
    assert [check for check in checks if check.findings] == []
    assert all(check.detail for check in checks)
    if benchmark.accepts_folder:
        assert findings(benchmark, folder) == []
    else:
        assert findings(benchmark, folder) == ["out: must end in .zip"]


def test_semantic_kitti_archive_as_its_server_reads_it(kitti, tmp_path):
    benchmark = SemanticKittiBenchmark(kitti)
    write_predictions(benchmark, predict, tmp_path / "out", ORIGIN)
    write_archive(benchmark, tmp_path / "out", tmp_path / "out.zip")
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        folders = {name for name in archive.namelist() if name.endswith("/")}
        assert folders == {
            "sequences/",
            *(f"sequences/{n}/" for n in range(11, 22)),
            *(f"sequences/{n}/predictions/" for n in range(11, 22)),
        }
        for i, scan_path in enumerate(benchmark.data.paths):
            name = f"sequences/{scan_path.parts[-3]}/predictions/{scan_path.stem}.label"
            raw = np.frombuffer(archive.read(name), "<u4")
            assert raw.tolist() == [INVERSE[k] for k in predict(benchmark.scans[i][0])]


def test_every_class_of_semantic_kitti_is_written_as_the_official_map_says(kitti):
    benchmark = SemanticKittiBenchmark(kitti)
    labels = np.array([*range(19), 255], np.uint8)
    content = benchmark.encode(labels)
    assert np.frombuffer(content, "<u4").tolist() == [*INVERSE, 0]
    assert benchmark.wrong_values(content) is None


def test_nuscenes_archive_as_its_tools_read_it(nuscenes, tmp_path):
    benchmark = NuScenesBenchmark(nuscenes, "mini_val", external_data=True)
    write_predictions(benchmark, predict, tmp_path / "out", ORIGIN)
    write_archive(benchmark, tmp_path / "out", tmp_path / "out.zip")
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        archive.extractall(tmp_path / "server")
    meta = json.loads((tmp_path / "server/mini_val/submission.json").read_text())
    assert meta == {
        "meta": {
            "use_camera": False,
            "use_lidar": True,
            "use_radar": False,
            "use_map": False,
            "use_external": True,
        }
    }
    forward = SensorConvention.named("nuscenes")
    for i, frame in enumerate(benchmark.data.frames):
        ids = np.fromfile(
            tmp_path / f"server/lidarseg/mini_val/{frame.token}_lidarseg.bin", np.uint8
        )
        seen, _ = forward.apply(*benchmark.scans[i])  # networks see the reference convention
        np.testing.assert_array_equal(ids, predict(seen) + 1)


def test_an_incomplete_test_split_is_refused(tmp_path):
    root = write_nuscenes(tmp_path, {"v1.0-test": ("scene-0001",)})
    with pytest.raises(InputError, match="150 scenes are missing"):
        open_benchmark(root, "test")


def test_an_interrupted_run_goes_on_and_ends_in_the_same_archive(written, tmp_path):
    benchmark, _, archive = written
    calls = []

    def break_off(scan):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(scan)
        return predict(scan)

    with pytest.raises(KeyboardInterrupt):
        write_predictions(benchmark, break_off, tmp_path / "out", ORIGIN)
    first = tmp_path / "out" / benchmark.members[0]
    first.write_bytes(first.read_bytes()[:-1])  # another one lost its end
    first.with_name(f".{first.name}.1.tmp").write_bytes(b"half")  # killed while writing
    labelled = write_predictions(benchmark, predict, tmp_path / "out", ORIGIN)
    assert labelled == len(benchmark.members) - 1
    assert write_predictions(benchmark, predict, tmp_path / "out", ORIGIN) == 0
    write_archive(benchmark, tmp_path / "out", tmp_path / "out.zip")
    assert (tmp_path / "out.zip").read_bytes() == archive.read_bytes()
    with zipfile.ZipFile(archive) as packed:  # nor does the date decide the bytes
        assert {entry.date_time[:3] for entry in packed.infolist()} == {(1980, 1, 1)}
    if benchmark.accepts_folder:
        assert findings(benchmark, tmp_path / "out") == []


def test_predictions_of_two_networks_are_not_mixed(written, tmp_path):
    benchmark, folder, _ = written
    with pytest.raises(InputError, match=r"predictions of something else.*ab12"):
        write_predictions(benchmark, predict, folder, {"weights": "cd34"})
    (tmp_path / "mine.txt").write_text("not predictions")
    with pytest.raises(InputError, match="in the way"):
        write_predictions(benchmark, predict, tmp_path, ORIGIN)


def test_no_archive_of_a_folder_that_is_not_complete(written, tmp_path):
    benchmark, folder, _ = written
    with pytest.raises(InputError, match=r"No such file"):
        write_archive(benchmark, tmp_path, tmp_path / "out.zip")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match=r"must be named \*\.zip"):
        write_archive(benchmark, folder, tmp_path / "out.tar")


def test_a_network_that_leaves_points_out_is_told_which_scan(nuscenes, kitti, tmp_path):
    benchmark = NuScenesBenchmark(nuscenes, "mini_val")
    with pytest.raises(InputError, match=r"LIDAR_TOP__.*: 4 points have no class"):
        write_predictions(benchmark, lambda s: np.full(len(s), 255, np.uint8), tmp_path, ORIGIN)
    with pytest.raises(InputError, match=r"000000\.bin: 1 labels for 5 points"):
        write_predictions(
            SemanticKittiBenchmark(kitti), lambda s: np.zeros(1, np.uint8), tmp_path / "k", ORIGIN
        )


def test_a_missing_frame_is_named(written, tmp_path):
    benchmark, _, archive = written
    gone = benchmark.members[1]
    broken = rezip(archive, tmp_path / "a.zip", lambda n, c: None if n == gone else c)
    assert findings(benchmark, broken) == [f"{gone}: missing"]


def test_a_wrong_length_is_named(written, tmp_path):
    benchmark, _, archive = written
    name, size = benchmark.members[1], benchmark.label_bytes
    short = rezip(archive, tmp_path / "a.zip", lambda n, c: c[:-size] if n == name else c)
    points = benchmark.num_points(1)
    assert findings(benchmark, short) == [
        f"{name}: {points - 1} labels, its scan has {points} points"
    ]
    if size > 1:
        odd = rezip(archive, tmp_path / "b.zip", lambda n, c: c[:-1] if n == name else c)
        assert findings(benchmark, odd) == [f"{name}: {points * 4 - 1} bytes; a label has 4"]


def test_an_unknown_file_is_named(written, tmp_path):
    benchmark, _, archive = written
    extra = benchmark.members[0].replace(".", "_copy.")
    more = rezip(archive, tmp_path / "a.zip", add=[(extra, b"x")])
    assert findings(benchmark, more) == [f"{extra}: belongs to no scan of the split"]


def test_a_repeated_file_is_named(written, tmp_path):
    benchmark, _, archive = written
    name = benchmark.members[0]
    with zipfile.ZipFile(archive) as packed:
        content = packed.read(name)
    with pytest.warns(UserWarning, match="Duplicate name"):
        twice = rezip(archive, tmp_path / "a.zip", add=[(name, content)])
    assert findings(benchmark, twice) == [f"{name}: is in the archive more than once"]


def test_one_folder_too_many_is_recognised(written, tmp_path):
    benchmark, folder, _ = written
    nested = tmp_path / "a.zip"
    with zipfile.ZipFile(nested, "w") as packed:
        for path in folder.rglob("*"):
            packed.write(path, f"out/{path.relative_to(folder)}")
    assert "out/: archive what is in this folder, not itself" in findings(benchmark, nested)


def test_damaged_archives_are_refused(written, tmp_path):
    benchmark, _, archive = written
    half = tmp_path / "a.zip"
    half.write_bytes(archive.read_bytes()[:-200])
    with pytest.raises(InputError, match=r"a\.zip: not a whole zip archive"):
        findings(benchmark, half)
    with pytest.raises(InputError, match=r"b\.zip: not a whole zip archive"):
        findings(benchmark, tmp_path / "b.zip")
    content = bytearray(archive.read_bytes())
    with zipfile.ZipFile(archive) as packed:
        entry = packed.getinfo(benchmark.members[0])
    start = entry.header_offset + 30 + len(entry.filename)
    content[start : start + entry.compress_size] = bytes(entry.compress_size)
    half.write_bytes(content)
    [line] = findings(benchmark, half)
    assert line.startswith(f"{benchmark.members[0]}: cannot be unpacked")


def test_semantic_kitti_asks_for_folder_entries(kitti, tmp_path):
    """What plain zip libraries leave out."""
    benchmark = SemanticKittiBenchmark(kitti)
    write_predictions(benchmark, predict, tmp_path / "out", ORIGIN)
    write_archive(benchmark, tmp_path / "out", tmp_path / "out.zip")
    gone = "sequences/14/predictions/"
    broken = rezip(tmp_path / "out.zip", tmp_path / "a.zip", lambda n, c: None if n == gone else c)
    assert findings(benchmark, broken) == [f"{gone}: no such entry in the archive"]
    (tmp_path / "out.zip").rename(tmp_path / "out.bin")
    assert findings(benchmark, tmp_path / "out.bin") == ["out.bin: must end in .zip"]
    described = rezip(tmp_path / "out.bin", tmp_path / "b.zip", add=[("description.txt", b"ours")])
    assert findings(benchmark, described) == []


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (10 | 3 << 16, "1 labels carry an instance id in the upper 16 bits"),
        (252, "id 252 is none of the 19 to write"),  # moving car: only in the multi-scan task
        (7, "id 7 is none of the 19 to write"),  # a train id
    ],
)
def test_ids_that_semantic_kitti_would_count_as_wrong(kitti, tmp_path, raw, message):
    benchmark = SemanticKittiBenchmark(kitti)
    write_predictions(benchmark, predict, tmp_path / "out", ORIGIN)
    path = tmp_path / "out" / benchmark.members[2]
    words = np.fromfile(path, "<u4")
    words[0] = raw
    words.tofile(path)
    write_archive(benchmark, tmp_path / "out", tmp_path / "out.zip")
    [line] = findings(benchmark, tmp_path / "out.zip")
    assert line.startswith(f"{benchmark.members[2]}: {message}")


def test_nuscenes_refuses_zero_and_seventeen(nuscenes, tmp_path):
    benchmark = NuScenesBenchmark(nuscenes, "mini_val")
    write_predictions(benchmark, predict, tmp_path / "out", ORIGIN)
    path = tmp_path / "out" / benchmark.members[0]
    for wrong in (0, 17):
        ids = np.fromfile(path, np.uint8)
        ids[:2] = (wrong, 16)
        ids.tofile(path)
        assert findings(benchmark, tmp_path / "out") == [
            f"{benchmark.members[0]}: 1 ids outside 1 to 16 (0 is not allowed)"
        ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda meta: meta | {"use_lidar": "true"}, "use_lidar must be true or false, not 'true'"),
        (lambda meta: meta | {"use_map": 0}, "use_map must be true or false, not 0"),
        (lambda meta: meta | {"use_gps": True}, "meta has an unknown key use_gps"),
        (lambda meta: {k: v for k, v in meta.items() if k != "use_radar"}, "meta lacks use_radar"),
        (lambda meta: None, 'expected {"meta": {…}}'),
    ],
)
def test_nuscenes_meta(nuscenes, tmp_path, change, message):
    benchmark = NuScenesBenchmark(nuscenes, "mini_val")
    write_predictions(benchmark, predict, tmp_path / "out", ORIGIN)
    path = tmp_path / "out/mini_val/submission.json"
    path.write_text(json.dumps({"meta": change(json.loads(path.read_text())["meta"])}))
    [line] = findings(benchmark, tmp_path / "out")
    assert line.startswith(f"mini_val/submission.json: {message}")
    path.unlink()
    assert findings(benchmark, tmp_path / "out") == ["mini_val/submission.json: missing"]
    path.parent.rmdir()
    assert "mini_val/: no such folder in the archive" in findings(benchmark, tmp_path / "out")


def test_the_data_set_is_recognised_by_its_root(kitti, nuscenes, tmp_path):
    assert open_benchmark(kitti, "test").dataset == "semantic-kitti"
    assert open_benchmark(nuscenes, "mini_val").dataset == "nuscenes"
    with pytest.raises(InputError, match=r"neither SemanticKITTI .* nor nuScenes"):
        open_benchmark(tmp_path, "test")
