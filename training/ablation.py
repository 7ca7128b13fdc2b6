# SPDX-License-Identifier: Apache-2.0
"""Which terms of the distillation help, and how surely: python -m training.ablation --help."""

from pointdistill_ros.openmp import bound_spinning

bound_spinning()  # before torch loads

import argparse  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
from collections.abc import Sequence  # noqa: E402
from pathlib import Path  # noqa: E402

import torch  # noqa: E402

from pointdistill_ros.errors import ConfigError, InputError, one_line_errors  # noqa: E402
from pointdistill_ros.evaluation.progress import progress  # noqa: E402
from pointdistill_ros.protocols.labellers import PROTOCOLS  # noqa: E402
from training.ablations.cell import Cell, cells  # noqa: E402
from training.ablations.child import train  # noqa: E402
from training.ablations.measure import Scope, measure, measured  # noqa: E402
from training.ablations.plan import Plan, load_plan, plan_names, plan_path, recipes  # noqa: E402
from training.ablations.queue import work_off  # noqa: E402
from training.ablations.report import Facts, write_report  # noqa: E402
from training.ablations.shard import prepare, take_gpu, turn  # noqa: E402
from training.ablations.table import collect  # noqa: E402
from training.config import TrainConfig  # noqa: E402
from training.environment import anonymous_command, revision  # noqa: E402
from training.interrupt import Interrupted, InterruptGuard  # noqa: E402

EXAMPLES = """\
examples:
  python -m training.ablation --plan cpu --teacher teacher --data DATA
      every row with every seed, one after another; the same command goes on after an interruption
  python -m training.ablation --plan cpu --teacher teacher --data DATA --rows none soft-targets
      two rows only; the others later, in the same folder
  torchrun --nproc-per-node 8 -m training.ablation --plan my.yaml --teacher teacher --data DATA
      eight processes, each with a GPU, take what is left to do; start and stop more at any time
  python -m training.ablation --plan cpu --teacher teacher --data DATA --report
      trains nothing: report.md, report.json and report.png of what is there

plans: {plans}

Every run has a folder OUT/ROW/seedN, which the training programs understand; log.txt in it begins
with the command. A run that fails costs its own row and seed alone; the report says why.
"""


def ablate(args: argparse.Namespace, guard: InterruptGuard) -> int:
    """Do what is left to do. Returns 1 where runs asked for have no figures in the end."""
    path = plan_path(args.plan)
    plan = load_plan(path)
    found = recipes(plan, path, {"steps": args.steps} if args.steps else {})
    out = args.out or Path("runs") / f"ablation-{path.stem}"
    every = cells(plan, found, out, args.teacher, args.camera)
    chosen = _chosen(plan, every, args)
    scope = Scope(args.data is not None, args.drives)
    facts = Facts(path.stem, anonymous_command(), revision(), budget(found), args.drives)

    def report() -> None:
        with turn(out / ".report"):
            write_report(collect(every, args.protocol, scope), facts, out)

    def is_done(cell: Cell) -> bool:
        return all(measured(cell, protocol, scope) is not None for protocol in args.protocol)

    if not args.report:
        take_gpu(os.environ, torch.cuda.device_count())
        parts = prepare([cell.config for cell in chosen], args.data, args.cache, args.drives, out)

        def work(cell: Cell, claim: int) -> None:
            if cell.trained() is None:
                _say(f"{cell.name}: {'going on' if cell.begun else 'training'}; {cell.log}")
                train(cell, claim, args.data, args.cache, guard)
            for protocol in args.protocol:
                if measured(cell, protocol, scope) is None:
                    _say(f"{cell.name}: measuring, {protocol.upper()}")
                    with progress() as bar:
                        measure(cell, protocol, scope, parts, bar)
            try:
                report()
            except InputError as error:  # no fault of this cell
                _say(f"no report: {error}")

        work_off(chosen, is_done, work, _say)
    report()
    left = [cell for cell in chosen if not is_done(cell)]
    _say(f"{out / 'report.md'}: {len(chosen) - len(left)} of {len(chosen)} runs")
    return 1 if left else 0


def budget(recipes: dict[str, TrainConfig]) -> str:
    """What every run is given; rows do not differ in it."""
    config = next(iter(recipes.values()))
    lengths = {"steps": config.steps, "epochs": config.epochs, "minutes": config.minutes}
    length = ", ".join(f"{value:g} {name}" for name, value in lengths.items() if value)
    samples = config.scans_per_step * config.accumulate * config.devices
    return f"{length}, {samples} samples a step, at most {config.max_voxels:,} voxels each"


def _chosen(plan: Plan, every: Sequence[Cell], args: argparse.Namespace) -> list[Cell]:
    """Cells of the rows and seeds asked for. Raises ConfigError for one that the plan lacks."""
    rows, seeds = [row.name for row in plan.rows], list(plan.seeds)
    for what, asked, known in (("row", args.rows, rows), ("seed", args.seeds, seeds)):
        for one in asked or ():
            if one not in known:
                listed = ", ".join(map(str, known))
                raise ConfigError(f"{what} {one} is not in the plan, which has {listed}")
    return [
        cell
        for cell in every
        if cell.row.name in (args.rows or rows) and cell.seed in (args.seeds or seeds)
    ]


def _say(text: str) -> None:
    rank = os.environ.get("RANK")
    print(text if rank is None else f"[{rank}] {text}", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.ablation",
        description="Train the rows of a plan with every seed, measure them and compare them, "
        "paired by seed.",
        epilog=EXAMPLES.format(plans=", ".join(plan_names())),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--plan", required=True, help="name of a plan, or a file like those of training/ablation/")
    add("--teacher", help="weights to learn from: a shipped name or a file")
    add("--camera", type=Path, help="weights of train_camera_teacher, for rows with a camera")
    add("--data", type=Path, help="folder of data sets, to train and measure on")
    add("--cache", type=Path, default=Path("runs/streets"), help="rendered streets")
    add("--out", type=Path, help="folder of runs and report (default runs/ablation-PLAN)")
    add("--protocol", nargs="+", choices=PROTOCOLS, default=["p1"], help="P3 takes many passes")
    add("--drives", type=int, default=32, help="unseen simulated streets, two scans each")
    add("--rows", nargs="+", help="only these rows")
    add("--seeds", nargs="+", type=int, help="only these seeds of the plan")
    add("--steps", type=int, help="another length of every run, for a trial; name an --out for it")
    add("--report", action="store_true", help="only write the report of what is there")
    return parser


def main() -> None:
    """Train, measure, report; a user's mistake is one line and exit code 2."""
    with one_line_errors("ablation"):
        guard = InterruptGuard()
        try:
            args = _parser().parse_args()
            with guard:
                sys.exit(ablate(args, guard))
        except Interrupted as received:
            print(f"{received}: the same command goes on", file=sys.stderr, flush=True)
            sys.exit(received.exit_code)


if __name__ == "__main__":
    main()
