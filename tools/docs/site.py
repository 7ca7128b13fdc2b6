# SPDX-License-Identifier: Apache-2.0
"""A hook of mkdocs (mkdocs.yml): what a page of docs/ says on GitHub, it says on the site.

- a link that leaves docs/ (``../config/…``) becomes a page of ``files/`` that shows the file, or
  lists the folder; a path that does not exist is left to mkdocs, which warns of it
- blocks of commands, which are indented, are shown in colour and with a button to copy them
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

PROGRAMS = ("pointdistill", "python", "make", "ros2", "source", "pip", "torchrun")
"""How an indented block of commands begins."""
_NODES = ("segmentation_node", "multi_lidar_node", "comparison_node")
_LINK = re.compile(r"\]\((\.\./[^)#\s]+)\)")
_BLOCK = re.compile(r"(?:(?<=\n\n)|\A)((?:    [^\n]*\n|\n(?=    ))+)")
_LANGUAGES = {".yaml": "yaml", ".yml": "yaml", ".xml": "xml", ".json": "json", ".py": "python"}
_LISTED = {".md", *_LANGUAGES}


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add a page for every file and folder outside docs/ that a page links to."""
    docs = Path(config.docs_dir)
    for page in sorted(docs.glob("*.md")):
        for match in _LINK.finditer(page.read_text()):
            target = (docs / match[1]).resolve()
            for path in _with_contents(target):
                uri = _uri(path, docs.parent)
                if files.get_file_from_path(uri) is None:
                    text = _show(path, docs.parent)
                    files.append(File.generated(config, uri, content=text))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links to those pages; make fences of indented commands."""
    docs = Path(config.docs_dir)

    def lead(match: re.Match[str]) -> str:
        target = (docs / match[1]).resolve()
        uri = _uri(target, docs.parent)
        if files.get_file_from_path(uri) is None:
            return match[0]
        return f"]({posixpath.relpath(uri, posixpath.dirname(page.file.src_uri) or '.')})"

    return _BLOCK.sub(_fenced, _LINK.sub(lead, markdown))


def _fenced(match: re.Match[str]) -> str:
    block = match[1]
    first = block.split(maxsplit=1)[0]
    if first not in (*PROGRAMS, *_NODES):
        return block
    lines = [line[4:] for line in block.rstrip("\n").split("\n")]
    return "\n".join(["```bash", *lines, "```", "", ""])


def _with_contents(path: Path) -> Iterator[Path]:
    """The path, and what can be shown of a folder."""
    if path.exists():
        yield path
    if path.is_dir():
        for entry in sorted(path.iterdir()):
            if entry.is_dir() or entry.suffix in _LISTED:
                yield from _with_contents(entry)


def _uri(path: Path, root: Path) -> str:
    """Where on the site a file of the repository is shown."""
    inside = Path(os.path.relpath(path, root))
    if inside.suffix == ".md":
        return f"files/{inside.as_posix()}"
    return f"files/{inside.as_posix()}{'/index' if path.is_dir() else ''}.md"


def _show(path: Path, root: Path) -> str:
    inside = path.relative_to(root).as_posix()
    if path.is_dir():
        entries = [e for e in sorted(path.iterdir()) if e.is_dir() or e.suffix in _LISTED]
        links = [posixpath.relpath(_uri(e, root), f"files/{inside}") for e in entries]
        listed = [f"- [{e.name}]({link})" for e, link in zip(entries, links, strict=True)]
        return "\n".join([f"# {inside}/", "", *listed, ""])
    if path.suffix == ".md":
        return path.read_text()
    language = _LANGUAGES.get(path.suffix, "text")
    return f"# {inside}\n\n```{language}\n{path.read_text().rstrip()}\n```\n"
