# SPDX-License-Identifier: Apache-2.0
"""Coverage-guided fuzzing of one target: python -m tests.fuzz.run TARGET [options of libFuzzer].

Needs atheris. Without target: lists them with their shares. --write-seeds makes the committed
inputs anew. tools/fuzz.sh runs them all.
"""

import sys


def main() -> int:
    """Entry point; with a target it does not return, the fuzzer ends the process."""
    arguments = sys.argv[1:]
    if arguments and not arguments[0].startswith("-"):
        return fuzz(arguments[0], arguments[1:])
    from tests.fuzz.targets import TARGETS

    if arguments == ["--write-seeds"]:
        for target in TARGETS.values():
            folder = target.folder
            folder.mkdir(parents=True, exist_ok=True)
            for name, data in target.seeds().items():
                (folder / name).write_bytes(data)
        return 0
    for target in TARGETS.values():
        print(target.name, target.share, target.max_len)
    return 0


def fuzz(wanted: str, options: list[str]) -> int:
    """Instrument the readers (and rosbags) while they are imported, then run."""
    import atheris

    ours = ("io", "checkpoint", "labels", "config")
    modules = ["rosbags", *(f"pointdistill_ros.{name}" for name in ours)]
    with atheris.instrument_imports(include=modules):
        from tests.fuzz.targets import TARGETS

    if wanted not in TARGETS:
        print(f"fuzz: no target {wanted}; known: {', '.join(TARGETS)}", file=sys.stderr)
        return 2
    target = TARGETS[wanted]
    atheris.Setup([sys.argv[0], f"-max_len={target.max_len}", *options], target.accepts)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
