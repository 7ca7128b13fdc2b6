# SPDX-License-Identifier: Apache-2.0
"""The command lines: what they teach, how they refuse, how they end."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from training import train_student, train_teacher
from training.config import TrainConfig
from training.recipes import load_recipe, recipe_names, recipe_path

from .toy_run import two_places

ROOT = Path(__file__).parents[2]


def call(program, *words, monkeypatch, capsys):
    """Exit code and stderr of a training program, in this process."""
    monkeypatch.setattr(sys, "argv", ["train", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        program.main()
    return end.value.code, capsys.readouterr()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "--recipe"),
        (["--recipe", "nope"], "recipes are"),
        (["--recipe", "BAD"], "gird_size"),
        (["--recipe", "TWO"], "steps and minutes"),
        (["--recipe", "ENDLESS"], "--steps, --epochs or --minutes"),
        (["--recipe", "ENDLESS", "--steps", "0"], "steps must be at least 1"),
        (["--recipe", "ENDLESS", "--steps", "1", "--run", "RUN"], "--data"),
        (["--recipe", "ENDLESS", "--steps", "1", "--data", "NONE", "--run", "RUN"], "NONE"),
        (["--recipe", "ENDLESS", "--steps", "1", "--run", "BAD"], "folder of a run"),
        (["--recipe", "ENDLESS", "--steps", "1", "--device", "cuda"], "GPUs asked for"),
        (["--run", "RUN", "--resume"], "no run to resume"),
        (["--run", "OLD", "--recipe", "ENDLESS", "--steps", "1"], "--resume"),
        (["--run", "OLD", "--resume", "--steps", "7"], "differs in steps"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(tmp_path, words, line, monkeypatch, capsys):
    texts = {"BAD": "gird_size: 1", "TWO": "{steps: 1, minutes: 2}", "ENDLESS": "{}"}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "OLD").mkdir()
    (tmp_path / "OLD/config.yaml").write_text("steps: 3")
    here = {*texts, "RUN", "NONE", "OLD"}
    words = [str(tmp_path / word) if word in here else word for word in words]
    monkeypatch.chdir(tmp_path)
    code, shown = call(train_student, *words, monkeypatch=monkeypatch, capsys=capsys)
    assert code == 2
    assert len(shown.err.strip().splitlines()) == 1 and line in shown.err


@pytest.mark.parametrize("module", ["evaluate", "release"])
def test_other_programs_refuse_in_one_line(module):
    words = ["--weights"] if module == "evaluate" else []
    command = [sys.executable, "-m", f"training.{module}", *words, "nope.safetensors"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert result.returncode == 2
    assert len(result.stderr.strip().splitlines()) == 1 and "nope" in result.stderr


@pytest.mark.parametrize("program", [train_teacher, train_student])
def test_help_teaches_by_examples_that_exist(program, monkeypatch, capsys):
    code, shown = call(program, "--help", monkeypatch=monkeypatch, capsys=capsys)
    assert code == 0
    role = program.__name__.rpartition("_")[2]
    assert f"train_{role} --recipe cpu" in shown.out and "--resume" in shown.out
    assert "cpu" in recipe_names(role)


@pytest.mark.parametrize(
    ("role", "name"), [(r, n) for r in ("teacher", "student") for n in recipe_names(r)]
)
def test_every_recipe_is_whole_and_says_what_it_is(role, name):
    path = recipe_path(role, name)
    config = load_recipe(path, {}, TrainConfig)
    assert path.read_text().startswith("# ")
    assert config.steps or config.epochs or config.minutes
    changed = load_recipe(path, {"steps": 7, "minutes": None}, TrainConfig)
    assert (changed.steps, changed.epochs, changed.minutes) == (7, None, None)


@pytest.mark.timeout(400)  # shared machines stall
def test_two_processes_end_together_when_one_is_told_to(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "{grid_size: 0.8, patch_size: 64, norm_batches: 0, steps: 100000, devices: 2}"
    )
    command = [sys.executable, "-m", "training.train_student", "--recipe", recipe]
    command += ["--data", two_places(tmp_path), "--run", tmp_path / "run"]
    process = subprocess.Popen(
        list(map(str, command)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    metrics, deadline = tmp_path / "run/metrics.jsonl", time.monotonic() + 200
    while time.monotonic() < deadline and process.poll() is None:
        if metrics.exists() and metrics.read_text().count("\n") >= 3:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)  # to the first alone
    out, err = process.communicate(timeout=150)  # ends when the second has closed its streams, too
    assert process.returncode == 128 + signal.SIGTERM, err
    assert "Traceback" not in err
    assert f"--run {tmp_path / 'run'} --resume" in err
    assert "2 processes" in out and "parameters" in out
    last = json.loads(metrics.read_text().splitlines()[-1])["step"]
    assert any(f"{last:08d}" in p.name for p in (tmp_path / "run/checkpoints").iterdir())
