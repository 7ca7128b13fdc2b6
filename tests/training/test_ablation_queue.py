# SPDX-License-Identifier: Apache-2.0
"""Who does which run, what a run is told, and what happens when it ends badly."""

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pointdistill_ros.errors import ConfigError
from training import child_process, distill_student, train_student
from training.ablations import child
from training.ablations.child import CellError, command, train
from training.ablations.queue import work_off
from training.ablations.shard import take_gpu
from training.ablations.steps import step_cost
from training.child_process import environment
from training.command import _parser, _setting
from training.interrupt import Interrupted, InterruptGuard

from .fake_ablation import fake_cells


def test_several_workers_share_the_cells_and_do_each_once(tmp_path):
    cells, done, lock = fake_cells(tmp_path, seeds=range(6)), [], threading.Lock()

    def work(cell, claim):
        time.sleep(0.005)
        (cell.folder / "mark").touch()
        with lock:
            done.append(cell.name)

    def worker():
        work_off(cells, lambda c: (c.folder / "mark").exists(), work, wait=0.01)
        seen.append(len(done))

    seen = []
    threads = [threading.Thread(target=worker) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == sorted(cell.name for cell in cells)
    assert seen == [12] * 3  # nobody leaves before all is done


def test_a_failure_costs_its_own_cell_and_is_tried_again_next_time(tmp_path):
    cells, tried, said = fake_cells(tmp_path), [], []

    def work(cell, claim):
        tried.append(cell.name)
        if cell.name == "together, seed 0" and tried.count(cell.name) == 1:
            raise ConfigError("no such thing")
        (cell.folder / "mark").touch()

    def is_done(cell):
        return (cell.folder / "mark").exists()

    work_off(cells, is_done, work, said.append, wait=0.01)
    assert sorted(tried) == sorted(cell.name for cell in cells)
    assert said == ["together, seed 0: no such thing"]
    assert cells[1].read("failed") == {"message": "no such thing"}
    work_off(cells, is_done, work, said.append, wait=0.01)
    assert tried[6:] == ["together, seed 0"] and len(said) == 1
    assert cells[1].read("failed") is None


def test_what_failed_for_one_worker_is_not_tried_by_another(tmp_path):
    cells, tried, ready = fake_cells(tmp_path, seeds=(0,))[:1], [], threading.Barrier(2)

    def work(cell, claim):
        time.sleep(0.1)
        tried.append(cell.name)
        raise ConfigError("never")

    def worker():
        ready.wait()
        work_off(cells, lambda c: False, work, lambda text: None, wait=0.01)

    threads = [threading.Thread(target=worker) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tried) == 1


def test_what_a_killed_worker_leaves_is_taken_over(tmp_path):
    (cell, *_) = cells = fake_cells(tmp_path, seeds=(0,))
    done = []
    with cell.claimed() as claim:
        assert claim is not None and cell.taken()
        args = (cells, lambda c: c.name in done, lambda c, claim: done.append(c.name))
        other = threading.Thread(target=work_off, args=args, kwargs={"wait": 0.01})
        other.start()
        time.sleep(0.1)
        assert other.is_alive() and done == ["together, seed 0"]
    other.join()
    assert done == ["together, seed 0", "none, seed 0"]
    assert not cell.taken()


def test_a_run_that_outlives_its_worker_keeps_others_out(tmp_path):
    cell = fake_cells(tmp_path)[0]
    with cell.claimed() as claim:
        run = subprocess.Popen(["sleep", "60"], pass_fds=[claim])
    try:
        assert cell.taken()
    finally:
        run.kill()
        run.wait()
    assert not cell.taken()


def test_a_question_leaves_no_folder(tmp_path):
    cell = fake_cells(tmp_path / "out")[0]
    assert not cell.taken() and not (tmp_path / "out").exists()


@pytest.mark.parametrize("i", [0, 1])
def test_the_command_leads_to_the_cell_s_configuration(tmp_path, i):
    cell = fake_cells(tmp_path, seeds=(4,))[i]
    cell.begin()
    words = command(cell, tmp_path / "data", tmp_path / "cache")
    program = (train_student, distill_student)[i].PROGRAM
    assert words[:3] == [sys.executable, "-m", f"training.{program.name}"]
    config, places = _setting(program, _parser(program).parse_args(words[3:]))
    assert config == cell.config and config.seed == 4
    assert (places.run, places.data) == (cell.folder, tmp_path / "data")
    assert "--resume" not in words
    (cell.folder / "config.yaml").touch()
    assert "--resume" in command(cell, None, tmp_path)


def test_a_run_knows_nothing_of_the_launcher():
    names = ["RANK", "LOCAL_RANK", "WORLD_SIZE", "TORCHELASTIC_RUN_ID", "MASTER_PORT"]
    own = dict.fromkeys([*names, "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "LOCAL_DISK"], "1")
    kept = environment(own | {"PYTHONPATH": "/mine"})
    assert {*kept} == {"OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "LOCAL_DISK", "PYTHONPATH"}
    root, mine = kept["PYTHONPATH"].split(os.pathsep)
    assert (Path(root) / "training/ablation.py").exists() and mine == "/mine"


@pytest.mark.parametrize(
    ("variables", "found", "gpu"),
    [
        ({}, 8, None),
        ({"LOCAL_RANK": "3"}, 0, None),
        ({"LOCAL_RANK": "3"}, 1, None),
        ({"LOCAL_RANK": "3"}, 8, "3"),
        ({"LOCAL_RANK": "5"}, 4, "1"),
        ({"LOCAL_RANK": "1", "CUDA_VISIBLE_DEVICES": "6,7"}, 2, "7"),
    ],
)
def test_every_process_takes_a_gpu_of_its_own(variables, found, gpu):
    before = variables.get("CUDA_VISIBLE_DEVICES")
    take_gpu(variables, found)
    assert variables.get("CUDA_VISIBLE_DEVICES", before) == gpu


@pytest.fixture
def run_of(tmp_path, monkeypatch):
    """Train the first cell by a script of the shell."""

    def run(script, guard=None):
        cell = fake_cells(tmp_path)[0]
        words = ["sh", "-c", script, "sh", str(cell.folder)]
        monkeypatch.setattr(child, "command", lambda *_: words)
        monkeypatch.setattr(child_process, "POLL", 0.01)
        with cell.claimed() as claim:
            train(cell, claim, None, tmp_path, guard)
        return cell

    return run


def test_a_run_that_ends_well_leaves_weights_and_a_log(run_of):
    cell = run_of("echo half done; echo x > $1/student.safetensors")
    assert cell.trained() == cell.folder / "student.safetensors"
    assert len(cell.read("trained")["sha256"]) == 64
    command_line, said = cell.log.read_text().splitlines()
    assert command_line.startswith("$ sh -c") and said == "half done"


def test_a_run_holds_the_claim_itself(run_of):
    assert run_of(
        "ls -l /proc/$$/fd | grep -q '/[.]claim$' && touch $1/student.safetensors"
    ).trained()


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo fine; echo train_student: no data >&2; exit 2", r"no data \(exit code 2; .*log"),
        ("kill -9 $$", "killed by SIGKILL"),
        ("true", "ended without student.safetensors"),
    ],
)
def test_a_run_that_ends_badly_says_why(run_of, script, words, tmp_path):
    with pytest.raises(CellError, match=words):
        run_of(script)
    assert fake_cells(tmp_path)[0].trained() is None


def test_a_signal_goes_on_to_the_run_which_ends_in_order(run_of, tmp_path):
    guard = InterruptGuard()
    script = "trap 'touch $1/saved; exit 143' TERM; while :; do sleep 0.05; done"
    begun = fake_cells(tmp_path)[0].log

    def interrupt():
        while not begun.exists():
            time.sleep(0.01)
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=interrupt).start()
    with guard, pytest.raises(Interrupted):
        run_of(script, guard)
    assert (begun.parent / "saved").exists()
    assert not fake_cells(tmp_path)[0].taken()


def test_costs_of_steps_leave_out_start_and_checkpoints(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(
        '{"step": 1, "loss": 1, "seconds": 30}\n'
        '{"step": 2, "loss": 1, "seconds": 31}\n'
        '{"step": 2, "accuracy": 0.5}\n'
        '{"step": 3, "loss": 1, "seconds": 90}\n'
        '{"step": 4, "loss": 1, "seconds": 94}\n'
        '{"step": 5, "loss": 1, "seco'
    )
    assert step_cost(path).seconds == pytest.approx((1 + 4) / 2)
    assert step_cost(path).steps == 4


def test_costs_of_steps_looked_at_together_are_shared(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = (f'{{"step": {s}, "seconds": {10 * ((s + 9) // 10)}}}\n' for s in range(1, 31))
    path.write_text("".join(lines))
    assert step_cost(path).seconds == 1.0


def test_a_run_of_no_steps_has_no_cost(tmp_path):
    cost = step_cost(tmp_path / "none.jsonl")
    assert cost.steps == 0 and cost.seconds != cost.seconds


def test_help_teaches_by_a_plan_that_exists():
    from training import ablation

    text = ablation._parser().format_help()
    assert isinstance(ablation._parser(), argparse.ArgumentParser)
    assert "--plan cpu" in text and "torchrun" in text and "plans: cpu" in text
