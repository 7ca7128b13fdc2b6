# SPDX-License-Identifier: Apache-2.0
"""No pickle and no other way to run what a file says, on any path of the package: a search."""

import pytest

from tests.conftest import ROOT
from tests.security.forbidden_calls import forbidden, search

ALLOWED = {
    # reads PandaSet as published; every name in a file is looked up in a table of stand-ins
    ("datasets/pandas_pickle.py", "import pickle"),
}


def test_the_package_runs_nothing_that_files_bring_along():
    found = search(ROOT / "pointdistill_ros")
    surplus = [finding for finding in found if (finding[0], finding[2]) not in ALLOWED]
    assert surplus == []
    assert {(path, what) for path, _, what in found} == ALLOWED, "an exception nobody needs"


def test_launch_files_run_nothing_that_files_bring_along():
    assert search(ROOT / "launch") == []


@pytest.mark.parametrize(
    ("source", "finding"),
    [
        ("import pickle", "import pickle"),
        ("import os, marshal", "import marshal"),
        ("def f():\n    from pickle import loads", "import pickle"),
        ("import torch as t\nt.load(p)", "torch.load without weights_only=True"),
        ("from torch import load\nload(p, weights_only=False)", "torch.load without"),
        ("import numpy as np\nnp.load(p, allow_pickle=True)", "allow_pickle"),
        ("import numpy as np\nnp.load(p, allow_pickle=flag)", "allow_pickle"),
        ("import yaml\nyaml.load(text)", "yaml.load without a safe loader"),
        ("import yaml\nyaml.load(text, Loader=yaml.Loader)", "yaml.load without a safe loader"),
        ("import yaml\nyaml.unsafe_load(text)", "yaml.unsafe_load"),
        ("eval(text)", "eval"),
        ("exec(text)", "exec"),
        ("import subprocess as s\ns.run(command, shell=True)", "a shell"),
        ("import subprocess\nsubprocess.run(f'ls {path}')", "a command that is one text"),
        ("from os import system\nsystem(text)", "os.system"),
        ("import pandas as pd\npd.read_pickle(p)", "pandas.read_pickle"),
        ("import torch\ntorch.jit.load(p)", "torch.jit.load"),
    ],
)
def test_the_search_finds(source, finding):
    found = [what for _, what in forbidden(source)]
    assert len(found) == 1
    assert found[0].startswith(finding)


@pytest.mark.parametrize(
    "source",
    [
        "import torch\ntorch.load(p, weights_only=True)",
        "import numpy as np\nnp.load(p)\nnp.load(p, allow_pickle=False)",
        "import yaml\nyaml.safe_load(text)\nyaml.load(text, Loader=yaml.SafeLoader)",
        "network.eval()\nre.compile(text)",
        "import subprocess\nsubprocess.run(['ls', path], shell=False)",
    ],
)
def test_the_search_spares(source):
    assert list(forbidden(source)) == []
