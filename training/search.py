# SPDX-License-Identifier: Apache-2.0
"""Which network shapes are fast here and label well: python -m training.search --help."""

from pointdistill_ros.openmp import bound_spinning

bound_spinning()  # before torch loads

import argparse  # noqa: E402
import hashlib  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
from dataclasses import replace  # noqa: E402
from pathlib import Path  # noqa: E402

import torch  # noqa: E402

from pointdistill_ros.engine.library import EngineMissingError  # noqa: E402
from pointdistill_ros.errors import ConfigError, one_line_errors  # noqa: E402
from training.ablations.shard import take_gpu, turn  # noqa: E402
from training.architecture.latency import (  # noqa: E402
    EngineTimer,
    engine_precision,
    representative_scan,
)
from training.architecture.plan import (  # noqa: E402
    base_recipe,
    load_plan,
    plan_names,
    plan_path,
)
from training.architecture.report import write_report  # noqa: E402
from training.architecture.scoring import (  # noqa: E402
    TrainedScores,
    held_out_apart,
    scored_on,
)
from training.architecture.search import Result, halve, time_shapes  # noqa: E402
from training.environment import anonymous_command, revision  # noqa: E402
from training.interrupt import Interrupted, InterruptGuard  # noqa: E402
from training.opening import open_source  # noqa: E402

EXAMPLES = """\
examples:
  python -m training.search --recipe cpu --data DATA
      draw and time shapes, train the promising ones ever longer, write the Pareto front; the same
      command goes on after an interruption
  python -m training.search --recipe cpu --data DATA --latency-only
      draws and times shapes, trains nothing: minutes, and report.md shows what fast ones look like
  python -m training.search --recipe my.yaml --scan mine.bin --out runs/mine
      your own space, rungs and recipe (start from a file of config/training/search/), timed on a
      scan of your own sensor
  torchrun --nproc-per-node 8 -m training.search --recipe cpu --data DATA
      eight processes share the runs of a rung; start and stop more at any time
  python -m training.search --recipe cpu --data DATA --rungs 5 10 --candidates 2 --out runs/trial
      a trial of the whole machinery in little time

searches: {plans}

How it works. 1. Shapes are drawn from the space of the search and timed in the compiled engine, one
thread, in turns with the reference (the paper's student). 2. So many of those that are fast enough,
spread over the latencies, enter the first rung beside the named starting shapes. 3. A rung trains
all its candidates for the same number of steps with training.train_student and scores them on
simulated streets and on drives held out of the train split, never on validation data. 4. Who is
dominated (another is faster and better) leaves; the rest train longer on the next rung, from new
weights. 5. The Pareto front of the last rung is the result: one seed each, so confirm the winner
with several, on its own recipe. Shapes lie in OUT/shapes/; copy one to config/models/ to keep it.

OUT holds search.jsonl (what was timed), shapes/, rungN/SHAPE/seedS/ (runs as train_student leaves
them), report.md, report.json, report.png and .svg.
"""


def run(args: argparse.Namespace, guard: InterruptGuard) -> int:
    """Do what is left to do. Returns 1 where a run of the last rung has no score in the end."""
    path = plan_path(args.recipe)
    plan = load_plan(path)
    changes = {
        "rungs": tuple(args.rungs) if args.rungs else None,
        "candidates": args.candidates,
        "proposals": args.proposals,
        "seed": args.seed,
    }
    plan = replace(plan, **{name: value for name, value in changes.items() if value is not None})
    out = args.out or Path("runs") / f"search-{path.stem}"
    base = base_recipe(plan, path, args.data)
    scan = representative_scan(args.scan)
    try:
        precision = engine_precision(plan.precision)
    except EngineMissingError as error:
        raise ConfigError(f"latencies are those of the compiled engine: {error}") from error
    facts = {
        "command": f"`{anonymous_command()}`",
        "revision": revision() or "unknown",
        "scan": f"{args.scan or 'simulated, 64 beams'}, {len(scan):,} points",
        "engine": f"native, {precision}, one thread",
    }

    def tell(result: Result) -> None:
        with turn(out / ".report"):
            write_report(result, facts, out)
        rungs = f", {len(result.front)} on the front" if result.rungs else ""
        _say(f"{out / 'report.md'}: {len(result.latencies)} shapes timed{rungs}")

    timer = EngineTimer(scan, precision, plan.timed_runs)
    setting = {"precision": precision, "scan": hashlib.sha256(scan.xyz.tobytes()).hexdigest()[:16]}
    timed = time_shapes(plan, out, base, setting, timer, _say)
    if args.latency_only:
        tell(timed)
        return 0
    take_gpu(os.environ, torch.cuda.device_count())
    with turn(out / ".streets"):  # before hours go into it
        base = held_out_apart(base, plan.held_out, args.data, args.cache)
        for source in base.sources:
            open_source(source, args.data, args.cache)
        parts = scored_on(plan.held_out, plan.streets, args.data, args.cache)
    scorer = TrainedScores(base, parts, out, args.data, args.cache, guard, _say)
    result = halve(plan, timed, scorer, tell, _say)
    return 1 if result.rungs[-1].missing else 0


def _say(text: str) -> None:
    rank = os.environ.get("RANK")
    print(text if rank is None else f"[{rank}] {text}", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.search",
        description="Search for network shapes on the Pareto front of latency and mIoU.",
        epilog=EXAMPLES.format(plans=", ".join(plan_names())),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--recipe", required=True, help="name of a search, or a file like those; see below")
    add("--data", type=Path, help="folder of data sets; without it, simulated streets alone")
    add("--cache", type=Path, default=Path("runs/streets"), help="rendered streets")
    add("--out", type=Path, help="folder of runs and report (default runs/search-RECIPE)")
    add("--scan", help="scan to time on (file, folder or bag); default: a simulated one, 64 beams")
    add("--latency-only", action="store_true", help="time the shapes, train none")
    add("--rungs", nargs="+", type=int, help="other lengths of the rungs, in optimiser steps")
    add("--candidates", type=int, help="another number of drawn shapes to train")
    add("--proposals", type=int, help="another number of shapes to draw and time")
    add("--seed", type=int, help="of draws and runs")
    return parser


def main() -> None:
    """Search; a user's mistake is one line and exit code 2."""
    with one_line_errors("search"):
        guard = InterruptGuard()
        try:
            args = _parser().parse_args()
            with guard:
                sys.exit(run(args, guard))
        except Interrupted as received:
            print(f"{received}: the same command goes on", file=sys.stderr, flush=True)
            sys.exit(received.exit_code)


if __name__ == "__main__":
    main()
