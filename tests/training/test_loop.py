# SPDX-License-Identifier: Apache-2.0
import json
import time

import pytest
import torch

from training.bad_batch import NonFiniteError, describe, first_non_finite, load_bad_batch
from training.batch import Batch
from training.run_folder import RunFolder
from training.schedule import Budget

from ..tiny import tiny_network
from .toy_run import halves, toy_loss, toy_run


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_training_learns_and_leaves_metrics(tmp_path):
    steps = 30
    final = toy_run(tmp_path, steps=steps).fit(halves)
    found = lines(tmp_path)
    assert [line["step"] for line in found] == list(range(1, steps + 1))
    assert found[-1]["loss"] < 0.6 * found[0]["loss"]
    assert found[-1].keys() >= {"rate", "norm", "voxels", "waiting", "voxels_per_second"}
    assert all(0 <= line["waiting"] <= 1 for line in found)
    network = tiny_network()
    network.load_state_dict(final)
    batch = halves(999)
    accuracy = (network(batch.features, batch.pyramid).argmax(1) == batch.targets).float().mean()
    assert accuracy > 0.9


def test_bfloat16_trains_almost_as_float32_does(tmp_path):
    losses = []
    for precision in ("float32", "bfloat16"):
        toy_run(tmp_path / precision, steps=4, precision=precision).fit(halves)
        losses.append([line["loss"] for line in lines(tmp_path / precision)])
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


def test_accumulated_batches_give_the_gradient_of_their_mean(tmp_path):
    def first_norm(**changes):
        network = tiny_network(drop_path=0.0)
        run = toy_run(tmp_path / str(changes), network, steps=1, clip_norm=None, **changes)
        run.fit(halves)
        return network.state_dict(), lines(run.folder.path)[0]

    _, both = first_norm(accumulate=2)
    network = tiny_network(drop_path=0.0).train()
    losses = []
    for k in range(2):
        batch = halves(k)
        loss = toy_loss(network, batch)[0]
        (loss / 2).backward()
        losses.append(loss.item())
    norm = torch.nn.utils.clip_grad_norm_(network.parameters(), float("inf")).item()
    assert both["loss"] == pytest.approx(sum(losses) / 2, rel=1e-5)
    assert both["norm"] == pytest.approx(norm, rel=1e-4)


def test_clipping_bounds_what_the_optimiser_sees(tmp_path, monkeypatch):
    run = toy_run(tmp_path, steps=1, clip_norm=1e-3)
    seen = []
    step = run.state.optimizer.optimizer.step
    monkeypatch.setattr(
        run.state.optimizer.optimizer,
        "step",
        lambda *a, **k: (
            seen.append(
                torch.stack([p.grad.norm() for p in run.state.network.parameters()]).norm()
            ),
            step(*a, **k),
        ),
    )
    run.fit(halves)
    assert seen[0] == pytest.approx(1e-3, rel=1e-3)
    assert lines(tmp_path)[0]["norm"] > 1e-2  # as it was before clipping


def test_float16_skips_what_overflows_and_counts_no_step_for_it(tmp_path):
    run = toy_run(tmp_path, steps=3, precision="float16")
    run.state.scaler._init_scale = 2.0**40  # overflows until it has come down
    run.fit(halves)
    assert run.state.step == 3
    assert run.state.drawn > 3
    found = lines(tmp_path)
    assert [line["step"] for line in found] == [1, 2, 3]
    shares = [line["rate"] for line in found]
    assert shares[0] == pytest.approx(0.1)  # the schedule waited, too
    assert all(line["norm"] < 1e4 for line in found)  # unscaled before the norm


def test_float16_gives_up_on_gradients_that_always_overflow(tmp_path):
    run = toy_run(tmp_path, steps=3, precision="float16")
    run.state.network.head.weight.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(NonFiniteError, match="float16"):
        run.fit(halves)


def test_a_bad_loss_stops_the_run_with_its_batch_and_the_weights_before(tmp_path):
    def poisoned(k):
        batch = halves(k)
        if k != 2:
            return batch
        return Batch(batch.features * float("nan"), batch.targets, batch.pyramid)

    run = toy_run(tmp_path, steps=5)
    run.checkpoint_seconds = 0
    with pytest.raises(NonFiniteError, match=r"step 2: the loss.*bad_batch"):
        run.fit(poisoned)
    bad = load_bad_batch(tmp_path / "bad_batch.pt")
    assert (bad.step, bad.numbers) == (2, (2,))
    assert bool(bad.batches[0].features.isnan().all())
    whole = toy_run(tmp_path / "whole", steps=5)
    whole.budget = Budget(steps=5)
    while whole.state.step < 2:
        whole.train_step(iter([halves(whole.state.step)]))
    for name, parameter in whole.state.network.named_parameters():
        assert bad.network[name].equal(parameter), name
    text = describe(bad)
    assert "batch 2" in text and "weights: all finite" in text
    network = tiny_network()
    assert first_non_finite(network, bad.batches[0]) == "stem.conv"
    assert first_non_finite(network, halves(0)) is None
    kept = RunFolder(tmp_path).checkpoints.find(print)
    assert kept is not None and "00000002" in kept.name  # nothing bad was saved


def test_steps_after_a_bad_one_change_nothing_until_someone_looks(tmp_path):
    """As on a GPU, where losses are looked at every few steps."""

    def poisoned(k):
        batch = halves(k)
        return Batch(batch.features / (k != 1), batch.targets, batch.pyramid)

    run = toy_run(tmp_path, steps=9)
    run.every = 4
    with pytest.raises(NonFiniteError, match="step 1: "):
        run.fit(poisoned)
    whole = toy_run(tmp_path / "whole", steps=9)
    whole.train_step(iter([halves(0)]))
    for mine, theirs in zip(
        run.state.network.parameters(), whole.state.network.parameters(), strict=True
    ):
        assert mine.equal(theirs)


def test_looking_seldom_changes_neither_weights_nor_metrics(tmp_path):
    often = toy_run(tmp_path / "a", steps=7)
    seldom = toy_run(tmp_path / "b", steps=7)
    seldom.every = 3
    first, second = often.fit(halves), seldom.fit(halves)
    assert all(first[name].equal(second[name]) for name in first)
    keys = ("step", "loss", "norm", "rate")
    assert [[a[k] for k in keys] for a in lines(tmp_path / "a")] == [
        [b[k] for k in keys] for b in lines(tmp_path / "b")
    ]


def test_minutes_end_the_run_on_time(tmp_path):
    run = toy_run(tmp_path, minutes=1 / 60)
    begin = time.monotonic()
    run.fit(halves)
    passed = time.monotonic() - begin
    *before, last = [line["seconds"] for line in lines(tmp_path)]
    assert all(seconds < 1 for seconds in before)  # goes on until then, ends at the next step
    assert 1 <= last <= passed


def test_the_monitor_scores_every_checkpoint_and_its_scores_are_kept(tmp_path):
    run = toy_run(tmp_path, monitor=lambda state: {"miou": 0.5}, steps=3)
    run.checkpoint_seconds = 0
    run.fit(halves)
    assert [line["step"] for line in lines(tmp_path) if "miou" in line] == [1, 2, 3]


def test_a_finished_run_stays_as_it_is(tmp_path):
    final = toy_run(tmp_path, steps=2).fit(halves)
    before = (tmp_path / "metrics.jsonl").read_text()
    again = toy_run(tmp_path, network=tiny_network(seed=3), steps=2).fit(halves)
    assert all(again[name].equal(final[name]) for name in final)
    assert (tmp_path / "metrics.jsonl").read_text() == before
