# SPDX-License-Identifier: Apache-2.0
"""Scans that are measured on: of files, of a simulated street."""

import numpy as np
import pytest

from pointdistill_ros.benchmark import scans
from pointdistill_ros.benchmark.scans import Street, given_scans
from pointdistill_ros.errors import InputError
from pointdistill_ros.io.binfile import write_kitti

from .doubles import cloud


def test_scans_of_a_folder_are_evenly_spread(tmp_path):
    for i in range(6):
        write_kitti(cloud(50 + i), tmp_path / f"{i:06}.bin")
    found = given_scans([tmp_path, tmp_path / "000003.bin", tmp_path / "000003.bin"], take=2)
    assert [named.name for named in found] == [
        f"{tmp_path.name}/000000",
        f"{tmp_path.name}/000003",
        "000003",
        "000003 (2)",
    ]
    assert len(found[1].scan) == 53


def test_a_scan_without_points_is_refused(tmp_path):
    np.savez(tmp_path / "empty.npz", xyz=np.full((4, 3), np.nan, np.float32))
    with pytest.raises(InputError, match="no finite point"):
        given_scans([tmp_path / "empty.npz"], take=1)


def test_a_simulated_street_in_any_density():
    street = Street()
    dense, usual = street.scan_of(10_000), street.usual_scans()
    assert len(dense) == pytest.approx(10_000, rel=0.1)
    assert [len(named.scan) for named in usual] == [
        pytest.approx(120_000, rel=0.1),
        pytest.approx(35_000, rel=0.1),
    ]
    # more points of the same street fall into more voxels, as copies of points would not
    cells = [len(np.unique(np.floor(s.xyz / 0.05), axis=0)) for s in (dense, usual[0].scan)]
    assert cells[1] > 2 * cells[0]
    assert np.isfinite(dense.xyz).all() and dense.intensity.max() <= 1
    assert scans.reference(usual).name == "simulated, 64 beams"
