# SPDX-License-Identifier: Apache-2.0
"""Finds what would run code that a file, message or parameter brought along."""

import ast
from collections.abc import Iterator
from pathlib import Path

MODULES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
BUILTINS = {"eval", "exec", "compile", "__import__", "execfile"}
CALLS = {
    *("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"),
    *(
        "pandas.read_pickle",
        "pd.read_pickle",
        "numpy.fromregex",
        "torch.jit.load",
        "torch.hub.load",
    ),
    *("yaml.unsafe_load", "yaml.full_load", "yaml.unsafe_load_all", "yaml.full_load_all"),
    *("torch.package.PackageImporter", "runpy.run_path", "code.interact"),
}
SAFE_LOADERS = {"yaml.SafeLoader", "yaml.CSafeLoader"}
RUNNERS = {"run", "Popen", "call", "check_call", "check_output"}


def forbidden(source: str) -> Iterator[tuple[int, str]]:
    """Line and finding, in order of the lines; names of imports are resolved."""
    tree = ast.parse(source)
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update({(a.asname or a.name).split(".")[0]: _module(a) for a in node.names})
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.update({a.asname or a.name: f"{node.module}.{a.name}" for a in node.names})
    found = [finding for node in ast.walk(tree) for finding in _judge(node, names)]
    return iter(sorted(found))


def search(root: Path) -> list[tuple[str, int, str]]:
    """All findings below a folder: path relative to it, line, finding."""
    files = sorted(root.rglob("*.py"))
    assert files, root
    return [
        (path.relative_to(root).as_posix(), *finding)
        for path in files
        for finding in forbidden(path.read_text())
    ]


def _module(alias: ast.alias) -> str:
    name = alias.name if alias.asname else alias.name.split(".")[0]
    return {"np": "numpy"}.get(name, name)


def _judge(node: ast.AST, names: dict[str, str]) -> Iterator[tuple[int, str]]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            if alias.name.split(".")[0] in MODULES:
                yield node.lineno, f"import {alias.name}"
    elif isinstance(node, ast.ImportFrom):
        if (node.module or "").split(".")[0] in MODULES:
            yield node.lineno, f"import {node.module}"
    elif isinstance(node, ast.Call):
        called = _dotted(node.func, names)
        options = {keyword.arg: keyword.value for keyword in node.keywords}
        if called in BUILTINS or called in CALLS:
            yield node.lineno, called
        if called == "torch.load" and not _is(options.get("weights_only"), True):
            yield node.lineno, "torch.load without weights_only=True"
        if called in ("yaml.load", "yaml.load_all"):
            loader = options.get("Loader", node.args[1] if len(node.args) > 1 else None)
            if loader is None or _dotted(loader, names) not in SAFE_LOADERS:
                yield node.lineno, f"{called} without a safe loader"
        if "allow_pickle" in options and not _is(options["allow_pickle"], False):
            yield node.lineno, "allow_pickle"
        if called.rpartition(".")[0] == "subprocess" and called.rpartition(".")[2] in RUNNERS:
            if "shell" in options and not _is(options["shell"], False):
                yield node.lineno, "a shell"
            if node.args and isinstance(node.args[0], ast.Constant | ast.JoinedStr):
                yield node.lineno, "a command that is one text"


def _dotted(node: ast.AST, names: dict[str, str]) -> str:
    """``np.load`` → ``numpy.load``; empty for what is no name."""
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        owner = _dotted(node.value, names)
        return f"{owner}.{node.attr}" if owner else ""
    return ""


def _is(node: ast.AST | None, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value
