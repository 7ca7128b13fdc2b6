# SPDX-License-Identifier: Apache-2.0
"""References that are shipped belong to the weights beside them; others must be made anew."""

import pytest

from pointdistill_ros.checkpoint import file_sha256
from pointdistill_ros.evaluation.drift.alarm import DriftWatch
from pointdistill_ros.evaluation.drift.reference import reference_path
from pointdistill_ros.resources import shipped_weights, weights_path

WITH_REFERENCE = [name for name in shipped_weights() if reference_path(weights_path(name)).exists()]


def test_the_student_has_one():
    assert "student" in WITH_REFERENCE


@pytest.mark.parametrize("name", WITH_REFERENCE)
def test_it_is_of_its_weights(name):
    path = weights_path(name)
    watch = DriftWatch.beside(path, file_sha256(path))
    assert watch is not None
    assert watch.reference.model_id == name
    assert watch.reference.places >= 40
    assert reference_path(path).stat().st_size < 50_000
