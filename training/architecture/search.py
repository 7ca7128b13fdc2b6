# SPDX-License-Identifier: Apache-2.0
"""The search itself: draw, time, halve. Everything it is told to use can be replaced by a fake."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pointdistill_ros.errors import ConfigError
from training.ablations.shard import turn
from training.architecture.candidate import Candidate
from training.architecture.halving import Point, fronts, rank_correlation, survivors
from training.architecture.journal import Journal
from training.architecture.latency import TOGETHER, Latency, Timer, spread_over
from training.architecture.plan import SearchPlan
from training.architecture.scoring import Score, Scorer
from training.architecture.space import draw
from training.config import TrainConfig

_DRAWS_PER_PROPOSAL = 20


@dataclass(frozen=True)
class Rung:
    """One round of training."""

    steps: int
    scores: Mapping[str, Score]
    missing: Mapping[str, str]
    """Candidate → why it has no score."""
    correlation: float | None
    """Rank correlation of its scores with those of the rung before."""


@dataclass(frozen=True)
class Result:
    """All that is known so far."""

    reference: str
    candidates: Mapping[str, Candidate]
    """Every shape that was timed."""
    latencies: Mapping[str, Latency]
    rungs: Sequence[Rung] = field(default_factory=tuple)

    def points(self, rung: int = -1) -> dict[str, Point]:
        """(latency, score) of a rung's candidates, the reference among them."""
        scores = self.rungs[rung].scores
        return {n: Point(self.latencies[n].ratio, s.value) for n, s in scores.items()}

    @property
    def front(self) -> list[str]:
        """Pareto front of the last rung, from fast to slow."""
        return fronts(self.points())[0] if self.rungs and self.rungs[-1].scores else []

    @property
    def winner(self) -> str | None:
        """The fastest that scores at least what the reference does; None where nobody does."""
        points = self.points() if self.rungs else {}
        if self.reference not in points:
            return None
        bar = points[self.reference].score
        able = [n for n, p in points.items() if p.score >= bar and n != self.reference]
        return min(able, key=lambda n: (points[n].latency, n), default=None)


def time_shapes(
    plan: SearchPlan,
    out: Path,
    base: TrainConfig,
    setting: Mapping[str, Any],
    timer: Timer,
    say: Callable[[str], None] = print,
) -> Result:
    """Draw shapes and time those that the journal in ``out`` does not hold yet.

    base: its grid and patch size are those of the named shapes; setting: what else latencies depend
    on. Raises ConfigError where the folder holds latencies of another search.
    """
    names = (plan.reference, *plan.starts)
    named = [Candidate.of_file(model, base.grid_size, base.patch_size) for model in names]
    reference, proposals = named[0], _proposals(plan, named)
    with turn(out / ".journal"):
        journal = Journal(out / "search.jsonl")
        journal.begin(
            {
                "space": asdict(plan.space),
                "reference": reference.to_plain(),
                "seed": plan.seed,
                "timed_runs": plan.timed_runs,
                **setting,
            }
        )
        latencies = _timed(proposals, reference, journal, timer, say)
    return Result(reference.name, {c.name: c for c in proposals}, latencies)


def halve(
    plan: SearchPlan,
    timed: Result,
    scorer: Scorer,
    tell: Callable[[Result], None] = lambda result: None,
    say: Callable[[str], None] = print,
) -> Result:
    """Rung after rung; ``tell`` gets the result after each. Raises ConfigError without scores."""
    result = timed
    chosen = _chosen(plan, list(timed.candidates.values()), timed.latencies)
    say(f"{len(timed.latencies)} shapes timed; {len(chosen)} to train beside {timed.reference}")
    for number, steps in enumerate(plan.rungs):
        if number:
            points = {n: p for n, p in result.points().items() if n != timed.reference}
            if not points:
                raise ConfigError(f"no candidate has a score after {plan.rungs[number - 1]} steps")
            chosen = survivors(points, max(1, round(plan.keep * len(points))))
        entered = [timed.candidates[name] for name in (timed.reference, *chosen)]
        scores, missing = scorer(entered, number, steps)
        correlation = None
        if number:
            before = result.rungs[-1].scores
            both = [name for name in scores if name in before]
            correlation = rank_correlation(
                [before[name].value for name in both], [scores[name].value for name in both]
            )
        rungs = (*result.rungs, Rung(steps, scores, missing, correlation))
        result = Result(timed.reference, timed.candidates, timed.latencies, rungs)
        tell(result)
    return result


def _proposals(plan: SearchPlan, named: Sequence[Candidate]) -> list[Candidate]:
    """The named shapes and as many different drawn ones as the plan asks for, or as there are."""
    found = {candidate.name: candidate for candidate in named}
    rng = np.random.default_rng([plan.seed, 0])
    wanted = len(found) + plan.proposals
    for _ in range(_DRAWS_PER_PROPOSAL * plan.proposals):
        if len(found) == wanted:
            break
        candidate = Candidate.drawn(draw(plan.space, rng))
        found.setdefault(candidate.name, candidate)
    return list(found.values())


def _timed(
    proposals: Sequence[Candidate],
    reference: Candidate,
    journal: Journal,
    timer: Timer,
    say: Callable[[str], None],
) -> dict[str, Latency]:
    """Latencies by name, from the journal as far as it goes."""
    found: dict[str, Latency] = {}
    for entry in journal.of_kind("latency"):
        found[entry["candidate"]["name"]] = Latency(**entry["latency"])
    left = [c for c in proposals if c.name not in found and c != reference]
    for begin in range(0, len(left), TOGETHER):
        group = left[begin : begin + TOGETHER]
        say(f"timing shapes {begin + 1} to {begin + len(group)} of {len(left)}")
        for name, latency in timer(group, reference).items():
            if name in found:  # the reference, again
                continue
            candidate = reference if name == reference.name else _named(group, name)
            plain = {"candidate": candidate.to_plain(), "latency": asdict(latency)}
            journal.append("latency", plain)
            found[name] = latency
    if reference.name not in found:  # nothing but itself to time
        latency = timer([], reference)[reference.name]
        plain = {"candidate": reference.to_plain(), "latency": asdict(latency)}
        journal.append("latency", plain)
        found[reference.name] = latency
    return {c.name: found[c.name] for c in proposals}


def _named(group: Sequence[Candidate], name: str) -> Candidate:
    return next(candidate for candidate in group if candidate.name == name)


def _chosen(
    plan: SearchPlan, proposals: Sequence[Candidate], latencies: Mapping[str, Latency]
) -> list[str]:
    """The named shapes but the reference, and drawn ones spread over the latencies."""
    named = [c.name for c in proposals if c.named and c.name != plan.reference]
    drawn = {c.name: latencies[c.name] for c in proposals if not c.named}
    rng = np.random.default_rng([plan.seed, 1])
    return named + spread_over(drawn, plan.candidates, plan.max_latency, rng)
