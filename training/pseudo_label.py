# SPDX-License-Identifier: Apache-2.0
r"""Label unlabelled scans by a network, for training on them (self-training, distillation).

python -m training.pseudo_label DATA/unlabelled --match '*kitti*' --weights teacher.safetensors \
    --out runs/pseudo-teacher --min-confidence 80 --keep-share 0.3
python -m training.pseudo_label drive.mcap --every 2 --weights student --sweeps 5 \
    --layout semantic-kitti --out runs/pseudo-drive

- input: folders of scans, single scans or bags, whatever `pointdistill segment` reads
- four views, turned and scaled, one pass each (--views; --every-point: the passes of P3)
- --sweeps N: up to N sweeps before and after a scan vote on what stands still, where the motion of
  the sensor is known (--poses), with the scans that --every leaves
- --layout semantic-kitti: the scans are written as that data set's, too, with a confidence each
- interrupt at will: the same command skips what these weights have labelled; the thresholds are
  applied to all scans at the end, and other ones need no new labelling
- a recipe reads it as {kind: pseudo, folder: OUT, min_confidence: 0}
Whoever trains with them says so; never measure on them.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from pointdistill_ros.errors import ConfigError, one_line_errors
from pointdistill_ros.evaluation.motion.ego_motion import AUTO
from pointdistill_ros.evaluation.progress import progress
from training.auto_label import REFERENCE, LabelPlan, auto_label
from training.labelling import add_options, entries, interruptible, networks
from training.pseudo_files import PseudoFolder
from training.pseudo_jobs import find_jobs
from training.pseudo_kitti import LAYOUT
from training.self_training import VIEWS, SoftLabeller, Thresholds

LAYOUTS = ("packed", LAYOUT)


def run(args: argparse.Namespace) -> None:
    """Label, filter, describe."""
    plan = LabelPlan(
        args.convention,
        args.soft,
        args.sweeps,
        args.poses,
        args.layout == LAYOUT,
        Thresholds(args.min_confidence, args.keep_share, args.floor),
    )
    jobs = find_jobs(args.input, args.match, args.every, args.one_drive)
    labeller = SoftLabeller(networks(args), VIEWS[args.views], args.every_point, args.threads)
    made = plan.settings(labeller, args.precision)
    facts = {
        "command": "python -m training.pseudo_label " + shlex.join(sys.argv[1:]),
        "labelled_by": entries(args, "labels"),
    }
    with progress() as bar:
        found = auto_label(jobs, labeller, plan, made, PseudoFolder(args.out), facts, bar)
    print(
        f"{args.out}: {found.scans} scans, {found.kept} of them labelled before by the same weights"
    )
    if found.beside:
        print(f"and {found.beside} of an earlier input")
    print(f"{found.share:.0%} of the labels kept; see {args.out}/README.md")
    if found.layout:
        print(f"in the layout of SemanticKITTI: {found.layout}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("input", type=Path, nargs="+", help="folder of scans, scan or bag")
    add("--out", type=Path, required=True, help="new folder, or one to go on with")
    add("--match", default="*", help="only scans whose name matches, e.g. '*kitti*'")
    add("--every", type=int, default=1, help="only every n-th scan")
    add("--one-drive", action="store_true", help="the scans of an input show one place")
    add("--convention", default=REFERENCE, help="sensor of the input: config/datasets/")
    add("--every-point", action="store_true", help="all passes of P3, eight times slower")
    help_text = "sweeps before and after that vote on static points, 0 = none"
    add("--sweeps", type=int, default=0, help=help_text)
    help_text = "auto, none, kiss-icp, a file; of bags also tf or a topic of poses"
    add("--poses", default=AUTO, help=help_text)
    add("--layout", choices=LAYOUTS, default=LAYOUTS[0], help="semantic-kitti: that one, too")
    add("--min-confidence", type=int, default=0, help="0..100; less is written as 255")
    add("--keep-share", type=float, default=0.0, help="0..1, kept of every class at least")
    add("--floor", type=int, default=40, help="0..100; bound of what --keep-share adds")
    add_options(parser, "student", 0)
    return parser


def main() -> None:
    """Parse the command line and label."""
    args = _parser().parse_args()
    if args.every < 1:
        raise ConfigError(f"--every must be at least 1, got {args.every}")
    interruptible(run, args)


if __name__ == "__main__":
    with one_line_errors("pseudo_label"):
        main()
