# SPDX-License-Identifier: Apache-2.0
"""Whatever dies, every job is done once or given up; nothing needs Ray here."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointdistill_ros.cluster.actor import Setup
from pointdistill_ros.cluster.dispatch import ATTEMPTS, Dispatch, Share
from pointdistill_ros.cluster.job import Job
from pointdistill_ros.errors import ConfigError, InputError
from tests.cluster.fake_ray import FakeRay


class Nothing:
    """Stands for ledger, shared folder and worker: agrees with everything."""

    detail = "none"

    def check(self, node):
        pass

    def begin(self, job):
        return ""

    def finish(self, job, mark, result):
        pass

    def __call__(self, job):
        if job.name.endswith("bad"):
            raise InputError("is bad")
        return {"name": job.name}


def jobs(count, bad=()):
    names = [f"{i}{'bad' if i in bad else ''}" for i in range(count)]
    return [Job(n, Path(f"/none/in/{n}"), Path(f"/none/out/{n}"), i) for i, n in enumerate(names)]


def dispatch(ray, work, processes, share=Share(), make=Nothing):  # noqa: B008
    notes = []
    found = Dispatch(ray, Setup(make, Nothing(), Nothing()), work, processes, share, notes.append)
    return found, notes


@given(
    count=st.integers(1, 12),
    processes=st.integers(1, 5),
    deaths=st.lists(st.integers(0, 40), max_size=8, unique=True),
    bad=st.sets(st.integers(0, 11)),
    luck=st.randoms(use_true_random=False),
)
def test_every_job_is_done_once_whoever_dies(count, processes, deaths, bad, luck):
    calls, killers = [], Counter()

    def dies(actor, call):
        calls.append(call)
        dead = len(calls) - 1 in deaths
        if dead and call.method == "do":
            killers[call.arguments[0].name] += 1
        return dead

    ray = FakeRay(dies, luck.choice)
    work = jobs(count, bad)
    try:
        found, _ = dispatch(ray, work, processes)
        outcomes = found.run(lambda d: None)
    except ConfigError:  # every place was given up: each saw its start fail again and again
        starts = sum(calls[i].method == "start" for i in deaths if i < len(calls))
        assert starts >= ATTEMPTS * min(processes, count)
        return
    assert sorted(o.job.name for o in outcomes) == sorted(job.name for job in work)
    given_up = {name for name, times in killers.items() if times == ATTEMPTS}
    for outcome in outcomes:
        assert bool(outcome.error) == (
            outcome.job.name.endswith("bad") or outcome.job.name in given_up
        )
    assert ray.in_flight <= min(processes, count)
    assert all(not actor.alive for actor in ray.actors), "no process is left behind"


def test_a_job_that_kills_its_process_is_given_up_and_the_others_are_done():
    ray = FakeRay(lambda actor, call: call.method == "do" and call.arguments[0].name == "3")
    found, notes = dispatch(ray, jobs(6), 2)
    outcomes = {o.job.name: o for o in found.run(lambda d: None)}
    assert f"died {ATTEMPTS} times" in outcomes["3"].error
    assert "/none/in/3" in outcomes["3"].error
    assert [o.error for name, o in outcomes.items() if name != "3"] == [""] * 5
    assert [note.split(";")[1] for note in notes] == [" 3 is done again"] * (ATTEMPTS - 1)


def test_the_longest_inputs_go_first():
    order = []
    ray = FakeRay(lambda actor, call: order.extend(a.name for a in call.arguments))
    found, _ = dispatch(ray, jobs(4), 1)
    found.run(lambda d: None)
    assert order == ["3", "2", "1", "0"]


def test_a_node_that_cannot_work_is_left_out():
    made = []

    def make():
        made.append(1)
        if len(made) == 1:
            raise InputError("w.safetensors: no such checkpoint")
        return Nothing()

    found, notes = dispatch(FakeRay(), jobs(5), 3, make=make)
    assert all(not o.error for o in found.run(lambda d: None))
    (note,) = notes
    assert note.endswith("is left out: w.safetensors: no such checkpoint")
    assert len(made) == 3, "nobody took its place"


def test_where_no_node_can_work_the_reason_is_raised():
    def make():
        raise InputError("w.safetensors: no such checkpoint")

    ray = FakeRay()
    found, notes = dispatch(ray, jobs(5), 3, make=make)
    with pytest.raises(ConfigError, match=r"w\.safetensors: no such checkpoint"):
        found.run(lambda d: None)
    assert len(notes) == 1, "three processes of one node have one reason"


def test_processes_that_never_start_are_no_endless_loop():
    ray = FakeRay(lambda actor, call: call.method == "start")
    found, _ = dispatch(ray, jobs(5), 2)
    with pytest.raises(ConfigError, match="no process could start"):
        found.run(lambda d: None)
    assert len(ray.actors) == 2 * ATTEMPTS


def test_an_interruption_ends_the_processes():
    ray = FakeRay()
    found, _ = dispatch(ray, jobs(5), 2)

    def interrupt(d):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        found.run(interrupt)
    assert all(actor.killed for actor in ray.actors)


def test_threads_of_a_process_are_those_that_it_asks_for():
    ray = FakeRay()
    found, _ = dispatch(ray, jobs(1), 1, Share(cpus=3, gpus=1, environment={"MPLBACKEND": "Agg"}))
    found.run(lambda d: None)
    options = ray.actors[0].options
    assert (options["num_cpus"], options["num_gpus"]) == (3, 1)
    variables = options["runtime_env"]["env_vars"]
    assert variables["OMP_NUM_THREADS"] == variables["MKL_NUM_THREADS"] == "3"
    assert variables["MPLBACKEND"] == "Agg"


def test_nodes_that_compute_differently_are_told():
    made = []

    class Other(Nothing):
        detail = property(lambda self: f"tier {len(made)}")

    def make():
        made.append(1)
        return Other()

    from pointdistill_ros.cluster import actor

    names = iter("ab")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(actor.socket, "gethostname", lambda: next(names))
        found, notes = dispatch(FakeRay(), jobs(4), 2, make=make)
        found.run(lambda d: None)
    assert notes[-1].startswith("nodes compute differently") and "on a" in notes[-1]
