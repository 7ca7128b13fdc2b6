# SPDX-License-Identifier: Apache-2.0
"""Compile the CPU engine: ``python pointdistill_ros/engine/build.py [--output DIR] [--sanitize]``.

The one place that knows its files and flags; make, setup.py and CMake call it. Standard library
only, so that it runs before anything is installed. Files tier.cpp and *_tier.cpp are compiled once
per tier of CPU, their public names ending in PD_SUFFIX (native/training/) or being PD_TABLE.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SOURCES = Path(__file__).resolve().parent / "native"
LIBRARY = "libpointdistill.so"

_COMMON = [
    "-std=c++17",
    "-fPIC",
    "-fopenmp",
    "-fvisibility=hidden",
    "-Wall",
    "-Wextra",
    "-Wno-psabi",
    f"-I{SOURCES}",
]
_OPTIMISE = ["-O3", "-fno-math-errno", "-fno-trapping-math"]
_SANITIZE = ["-O1", "-g", "-fno-omit-frame-pointer", "-fsanitize=address,undefined"]
_X86_64_V4 = ["-mavx512f", "-mavx512bw", "-mavx512cd", "-mavx512dq", "-mavx512vl"]
_AVX2 = ["-mavx2", "-mfma", "-mbmi", "-mbmi2", "-mlzcnt", "-mpopcnt"]
# name, number as in kernels.h, flags; never -march=native: the library may run elsewhere
_PORTABLE: tuple[str, int, list[str]] = ("portable", 0, ["-ffp-contract=fast"])
_X86_TIERS = [
    ("avx2", 1, _AVX2),
    ("avx512", 2, [*_AVX2, *_X86_64_V4]),
    ("avx512_bf16", 3, [*_AVX2, *_X86_64_V4, "-mavx512bf16"]),
]


def sources_hash() -> str:
    """Digest of the native sources and this file; the library carries that of its own."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for path in sorted([*SOURCES.rglob("*.cpp"), *SOURCES.rglob("*.h")]):
        digest.update(path.relative_to(SOURCES).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def build(output: Path, sanitize: bool = False) -> Path:
    """Compile and link, unless done; the library appears whole or not at all.

    Raises RuntimeError with what the compiler said.
    """
    finished = output / LIBRARY
    if not sanitize and finished.is_file() and sources_hash().encode() in finished.read_bytes():
        return finished
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    if compiler is None:
        raise RuntimeError(f"no C++ compiler ({os.environ.get('CXX', 'c++')})")
    x86 = platform.machine() in ("x86_64", "AMD64")
    flags = [*_COMMON, *(_SANITIZE if sanitize else _OPTIMISE), *(["-DPD_X86"] if x86 else [])]
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output, prefix=".build-") as folder:
        jobs: list[tuple[Path, list[str]]] = []
        digest = f'-DPD_SOURCES="{sources_hash()}"'
        for path in sorted(SOURCES.rglob("*.cpp")):
            if path.stem != "tier" and not path.stem.endswith("_tier"):
                jobs.append((path, [digest]))
                continue
            for name, number, tier_flags in [_PORTABLE, *(_X86_TIERS if x86 else [])]:
                tier = [f"-DPD_TIER={number}", f'-DPD_NAME="{name.replace("_", "-")}"']
                names = [f"-DPD_TABLE=pd_kernels_{name}", f"-DPD_SUFFIX=_{name}"]
                jobs.append((path, [*tier, *names, *tier_flags]))

        def compile_one(i: int) -> Path:
            source, extra = jobs[i]
            target = Path(folder) / f"{i}.o"
            _run([compiler, *flags, *extra, "-c", str(source), "-o", str(target)])
            return target

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = list(pool.map(compile_one, range(len(jobs))))
        library = Path(folder) / LIBRARY
        _run([compiler, *flags, "-shared", *map(str, objects), "-o", str(library)])
        return library.replace(finished)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr}")
    if done.stderr:
        print(done.stderr, file=sys.stderr)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=SOURCES, help="folder of the library")
    parser.add_argument("--sanitize", action="store_true", help="with ASan and UBSan, for tests")
    parser.add_argument("--optional", action="store_true", help="exit with 0 where it fails")
    args = parser.parse_args()
    try:
        print(f"CPU engine: {build(args.output, args.sanitize)}")
    except RuntimeError as error:
        print(f"CPU engine not built, everything runs on PyTorch instead: {error}", file=sys.stderr)
        sys.exit(0 if args.optional else 1)


if __name__ == "__main__":
    main()
