# SPDX-License-Identifier: Apache-2.0
""".npy and .npz; damaged files give InputError, nothing else."""

import pickle
import random

import numpy as np
import pytest

from pointdistill_ros.errors import InputError
from pointdistill_ros.io.arrays import read_npy, read_npz


def test_npy_columns(tmp_path):
    rows = np.array([[1, 2, 3, 510, 9], [4, 5, 6, 0, 9]], np.float64)
    np.save(tmp_path / "a.npy", rows)
    scan = read_npy(tmp_path / "a.npy")
    assert scan.xyz.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert scan.intensity.tolist() == [1, 0]
    np.save(tmp_path / "b.npy", rows[:, :3])
    assert read_npy(tmp_path / "b.npy").intensity is None
    np.save(tmp_path / "c.npy", rows[:0])
    assert len(read_npy(tmp_path / "c.npy")) == 0


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros(12), r"array \[12\]; expected \[N, 3 or more\]"),
        (np.zeros((2, 2)), r"array \[2, 2\]"),
        (np.array([["a", "b", "c"]]), "field 'x' is <U1"),
        (np.array([[1, 2, 3]], object), "not a readable .npy"),
    ],
)
def test_npy_that_is_no_scan(tmp_path, array, reason):
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(InputError, match=reason):
        read_npy(tmp_path / "a.npy")


def test_npy_header_cannot_take_memory(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((100, 4)))
    data = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(data.replace(b"(100, 4)", b"(1000000000000, 4)"[:18], 1))
    with pytest.raises(InputError, match=r"not a readable \.npy"):
        read_npy(tmp_path / "a.npy")


def test_npz_columns(tmp_path):
    xyz = np.arange(6).reshape(2, 3)
    np.savez(
        tmp_path / "a.npz", xyz=xyz, remission=[0.5, 1], channel=[3, 4], t=np.int64([0, 10**8])
    )
    scan = read_npz(tmp_path / "a.npz")
    assert scan.xyz.tolist() == xyz.tolist()
    assert (scan.intensity.tolist(), scan.ring.tolist()) == ([0.5, 1], [3, 4])
    assert scan.time.tolist() == [0, np.float32(0.1)]
    np.savez(tmp_path / "b.npz", x=xyz[:, 0], y=xyz[:, 1], z=xyz[:, 2])
    assert read_npz(tmp_path / "b.npz").xyz.tolist() == xyz.tolist()


@pytest.mark.parametrize(
    ("file", "full_scale"),
    [
        ("semantickitti/00_000000.npz", 100),
        ("unlabelled/01_kitti-object.npz", 100),
        ("pandaset/002_00.npz", 255),
    ],
)
def test_packed_layout(tmp_path, file, full_scale):
    path = tmp_path / file
    path.parent.mkdir()
    xyz = np.array([[256, -512, 128]], np.int16)
    np.savez(path, xyz=xyz, q=np.int32(256), inten=np.uint8([50]), label=np.uint8([1]))
    scan = read_npz(path)
    assert scan.xyz.tolist() == [[1, -2, 0.5]]
    assert scan.intensity[0] == np.float32(50 / full_scale)


def test_pickles_are_not_opened(tmp_path):
    class Trap:
        def __reduce__(self):
            return open, (str(tmp_path / "sprung"), "w")

    np.savez(tmp_path / "a.npz", xyz=np.array([Trap()], object))
    (tmp_path / "a.npy").write_bytes(pickle.dumps(Trap()))
    for file, read in (("a.npz", read_npz), ("a.npy", read_npy)):
        with pytest.raises(InputError, match="not a readable"):
            read(tmp_path / file)
    assert not (tmp_path / "sprung").exists()


def test_damaged_npz_gives_input_error_or_a_scan(tmp_path):
    rng, file, refused = random.Random(4), tmp_path / "a.npz", 0
    np.savez_compressed(file, xyz=np.arange(300.0).reshape(100, 3), intensity=np.arange(100))
    whole = file.read_bytes()
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 3)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        file.write_bytes(data[: rng.choice([len(data), rng.randrange(len(data))])])
        try:
            read_npz(file)
        except InputError:
            refused += 1
    assert refused > 200


def test_npz_of_something_else_is_named(tmp_path):
    np.savez(tmp_path / "a.npz", picture=np.zeros((4, 4)))
    with pytest.raises(InputError, match="no field 'x'; it holds nothing"):
        read_npz(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", xyz=np.zeros((4, 3)), ring=np.zeros(3))
    with pytest.raises(InputError, match=r"field 'ring' is float64 \[3\]; expected one number per"):
        read_npz(tmp_path / "b.npz")


@pytest.mark.parametrize("q", [0, -256, np.nan, np.inf, 1e-300, 1e300, [256, 256], "256"])
def test_a_scale_of_packed_coordinates_that_is_none(tmp_path, q):
    np.savez(tmp_path / "a.npz", xyz=np.int16([[1, 2, 3]]), q=np.array(q))
    with pytest.raises(InputError, match=r"q is .* expected one positive number"):
        read_npz(tmp_path / "a.npz")
