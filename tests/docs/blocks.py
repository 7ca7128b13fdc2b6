# SPDX-License-Identifier: Apache-2.0
"""The commands of README.md and docs/*.md: from blocks, and from `code` in running text."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SHELL = ("", "bash", "sh", "shell", "console")
"""What a fence of commands is called."""
NOT_SHELL = {
    "README.md": ("scan.py  segmentation.py  labels.py",),
    "node.md": ("filter:",),
}
"""Page → how its indented blocks begin that are no commands."""
INLINE = ("pointdistill", "python", "make", "ros2", "pip", "torchrun")
"""First words of `code` in running text that is a command if more words follow."""


@dataclass(frozen=True)
class Command:
    """One command as a reader would type it."""

    page: str
    line: int
    words: tuple[str, ...]
    inline: bool = False
    """From running text, where what must be given may be left out."""

    def __str__(self):
        return f"{self.page}:{self.line}: {shlex.join(self.words)}"


def all_commands(pages=PAGES):
    """Every command of the pages, blocks before running text."""
    return [
        command
        for page in pages
        for command in (*block_commands(page.name, page.read_text()), *inline_commands(page))
    ]


def block_commands(name, text):
    """Commands of fenced and indented blocks, in order."""
    return [
        command
        for number, lines in blocks(name, text)
        for command in split_commands(name, number, lines)
    ]


def blocks(name, text):
    """(number of its first line, its lines) of every block of commands."""
    found, fence, begun, before = [], None, None, ""
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("```"):
            if fence is None:
                fence, begun = line[3:].strip(), None
            else:
                fence = None
            before = line
            continue
        if fence is not None:
            if fence in SHELL:
                begun = _add(found, begun, number, line)
        elif line.startswith("    ") and (begun is not None or not before.strip()):
            begun = _add(found, begun, number, line[4:])
        elif line.strip():
            begun = None
        before = line
    strangers = NOT_SHELL.get(name, ())
    return [(n, lines) for n, lines in found if not lines[0].startswith(strangers or "\0")]


def _add(found, begun, number, line):
    if begun is None:
        found.append((number, []))
    found[-1][1].append(line)
    return found[-1][0]


def split_commands(name, number, lines):
    """One command for each line; backslashes join lines, && and ; part them."""
    commands, held, first = [], "", number
    for offset, line in enumerate(lines):
        first = first if held else number + offset
        held += line
        if held.endswith("\\"):
            held = held[:-1] + " "
            continue
        held = re.sub(r"^\w+=\$\(([^)]*)\)\S*", r"\1", held)  # NAME=$(command)
        lexer = shlex.shlex(held, posix=True, punctuation_chars=";&|")
        lexer.whitespace_split = True
        words = []
        for word in [*lexer, ";"]:
            if word in ("&&", ";", "|"):
                if words := _begin(words):
                    commands.append(Command(name, first, tuple(words)))
                words = []
            else:
                words.append(word)
        held = ""
    return commands


def _begin(words):
    """Without assignments and words of loops."""
    while words and re.match(r"[A-Za-z_]+=|do$|done$", words[0]):
        words = words[1:]
    return words


def inline_commands(page):
    """`code` of running text that begins like a command and goes on."""
    blank = lambda block: "\n" * block[0].count("\n")  # noqa: E731
    text = re.sub(r"^```.*?^```|^    [^\n]*", blank, page.read_text(), flags=re.S | re.M)
    found = []
    for match in re.finditer(rf"(?<!`)`((?:{'|'.join(INLINE)})\s[^`]+)`(?!`)", text):
        words = [word for word in shlex.split(match[1].replace("[W …]", "")) if word != "…"]
        line = text.count("\n", 0, match.start()) + 1
        named_only = words[0] == "ros2" and len(words) == 2
        if len(words) > 1 and not named_only:
            found.append(Command(page.name, line, tuple(words), inline=True))
    return found
