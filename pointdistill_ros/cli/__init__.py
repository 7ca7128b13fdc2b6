# SPDX-License-Identifier: Apache-2.0
"""The `pointdistill` command: one file per subcommand, heavy imports inside the command bodies."""

import typer

from pointdistill_ros.cli.benchmark import benchmark
from pointdistill_ros.cli.demo import demo
from pointdistill_ros.cli.evaluate import evaluate
from pointdistill_ros.cli.evaluate_bag import evaluate_bag
from pointdistill_ros.cli.export import export
from pointdistill_ros.cli.info import info
from pointdistill_ros.cli.pack import pack
from pointdistill_ros.cli.play import play
from pointdistill_ros.cli.segment import segment
from pointdistill_ros.cli.simulate import simulate
from pointdistill_ros.cli.submit import submit
from pointdistill_ros.cli.view import view
from pointdistill_ros.errors import one_line_errors
from pointdistill_ros.openmp import bound_spinning

app = typer.Typer(
    name="pointdistill",
    help="A class for every point of a lidar scan.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (
    demo,
    segment,
    view,
    play,
    evaluate,
    evaluate_bag,
    simulate,
    pack,
    export,
    benchmark,
    submit,
    info,
):
    app.command()(command)


def main() -> None:
    """Entry point: user errors become one line on stderr and exit code 2."""
    bound_spinning()
    with one_line_errors("pointdistill"):
        app()
