# SPDX-License-Identifier: Apache-2.0
"""A user's mistake gives one line and exit code 2, in the training scripts too."""

import subprocess
import sys

import pytest

RECIPE = "config/training/cpu_first_weights.yaml"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["train_student", "--config", "nope.yaml", "--run", "RUN", "--steps", "1"], "nope.yaml"),
        (["train_student", "--config", RECIPE, "--run", "RUN", "--steps", "1"], "packed scans"),
        (["evaluate", "--weights", "nope.safetensors"], "nope.safetensors"),
        (["release", "nope.safetensors"], "nope.safetensors"),
    ],
)
def test_one_line_and_exit_code_2(tmp_path, words, line):
    words = [str(tmp_path) if word == "RUN" else word for word in words]
    command = [sys.executable, "-m", f"training.{words[0]}", *words[1:]]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert len(result.stderr.strip().splitlines()) == 1 and line in result.stderr
