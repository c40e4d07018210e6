"""Reads the pages of the documentation, and runs what is in them.

A page is carried out from top to bottom in an empty folder.

- A block whose first line is a comment with a file's name, such as `# app.py`, is written to that file.
- Other `python` blocks are one program, which waits after each block until the rest of the page has caught up.
- `sql` blocks are run on `jobs.db`.
- `console` blocks go to one shell, a command at a time. A command that ends with & has printed all it shows before the
  next one is given.
- A `text` block is what the block before it prints; a `python` block without one prints nothing.
- Blocks of other kinds (`sh`, `mermaid`, …) are for reading only.

Moments, uids and decimals differ from run to run, and `...` stands for anything.
"""

from __future__ import annotations

import doctest
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
BUILTINS = ("cd", "export", "kill", "until", "wait")

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)
_FILE = re.compile(r"# (\w+\.(?:py|ini|toml))\n")
_MARK = "\x1e"
_VARIES = (
    (re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?"), "<moment>"),
    (re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"), "<uid>"),
    (re.compile(r"\d+\.\d+"), "<number>"),
    (re.compile("─+"), "─"),
)
_NOTICE = re.compile(r"^bash: line \d+: +\d+ Killed.*\n", re.M)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page, with the line it begins at."""

    kind: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    """Return the blocks of a page."""
    source = page.read_text("utf-8")
    return [Block(found[1], found[2], source.count("\n", 0, found.start()) + 1) for found in _BLOCK.finditer(source)]


def carry_out(page: Path, folder: Path) -> set[str]:
    """Carry out a page in `folder`, and return the commands that this machine does not have.

    Raises:
        AssertionError: something printed something else.
    """
    found = blocks(page)
    plain = [block for block in found if block.kind == "python" and not _FILE.match(block.text)]
    names = {match[1] for block in found if (match := _FILE.match(block.text))}
    missing: set[str] = set()
    with start(folder / ("example.py" if "app.py" in names else "app.py"), plain) as code, shell(folder) as console:
        for block, following in zip(found, [*found[1:], None]):
            where = f"{page.name}:{block.line}"
            expected = following.text if following is not None and following.kind == "text" else ""
            if file := _FILE.match(block.text):
                (folder / file[1]).write_text(block.text, "utf-8")
            elif block.kind == "python":
                compare(where, expected, code.block())
            elif block.kind == "sql":
                with closing(sqlite3.connect(folder / "jobs.db")) as database:
                    database.executescript(block.text)
            elif block.kind == "console":
                missing |= follow(block.text, console, where)
        code.end()
    return missing


def follow(transcript: str, console: Shell, where: str) -> set[str]:
    """Give the commands of a transcript to a shell, and return those that this machine does not have."""
    missing = set()
    for command, output in commands(transcript):
        name = command.split()[0]
        if shutil.which(name, path=PATH) is None and name not in BUILTINS:
            missing.add(name)
        else:
            compare(f"{where}: {command}", output, console.run(command, output))
    return missing


def compare(where: str, expected: str, printed: str) -> None:
    """Fail unless these are the same but for what differs from run to run."""
    wanted, found = usual(expected), usual(printed)
    if not doctest.OutputChecker().check_output(wanted, found, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE):
        raise AssertionError(f"{where}\nshould print:\n{expected}\nprinted:\n{printed}")


def usual(text: str) -> str:
    """Return text without what differs from run to run."""
    for pattern, name in _VARIES:
        text = pattern.sub(name, text)
    return text


def commands(transcript: str) -> list[tuple[str, str]]:
    """Return the commands of a transcript, each with its output; a command goes on after a backslash."""
    parts = re.split(r"^\$ ", transcript, flags=re.M)
    assert not parts[0], f"a transcript begins with a command: {transcript}"
    found = []
    for part in parts[1:]:
        command, output = re.fullmatch(r"((?:[^\n]*\\\n)*[^\n]*)\n(.*)", part, re.S).groups()  # type: ignore[union-attr]
        found.append((command, output))
    return found


class Program:
    """A program that runs block by block."""

    def __init__(self, process: subprocess.Popen[str] | None) -> None:
        self._process = process

    def block(self) -> str:
        """Run the next block and return what it printed."""
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        lines = []
        for line in self._process.stdout:
            if line == f"{_MARK}\n":
                return "".join(lines)
            lines.append(line)
        raise AssertionError(f"the program ended with {self._process.wait()}:\n{''.join(lines)}")

    def end(self) -> None:
        """See it end as it should."""
        if self._process is not None:
            output, _ = self._process.communicate()
            assert self._process.returncode == 0, output


@contextmanager
def start(file: Path, plain: list[Block]) -> Iterator[Program]:
    """Start the program that these blocks are."""
    if not plain:
        yield Program(None)
        return
    file.write_text("".join(f"input()\n{block.text}\nprint({_MARK!r})\n" for block in plain), "utf-8")
    with process([sys.executable, file], file.parent) as running:
        yield Program(running)


class Shell:
    """A shell that is given one command at a time."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, command: str, expected: str) -> str:
        """Give a command and return what it printed, one in the background as many lines as are expected."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        kills = command.startswith("kill -9 $!")
        self._process.stdin.write(f"{command}\n{'wait $!' if kills else ''}\necho {_MARK}\n")
        self._process.stdin.flush()
        in_background = command.split("#")[0].rstrip().endswith("&")
        lines: list[str] = []
        is_over = False
        while not is_over or (in_background and len(lines) < expected.count("\n")):
            line = self._process.stdout.readline()
            assert line, f"the shell ended at {command}"
            if line == f"{_MARK}\n":
                is_over = True
            elif not _NOTICE.match(line):
                lines.append(line)
            elif not kills:
                lines.append("Killed\n")
        return "".join(lines)


@contextmanager
def shell(folder: Path) -> Iterator[Shell]:
    """Start a shell in `folder`, which finds the programs of this Python first."""
    with process(["bash"], folder) as running:
        yield Shell(running)


@contextmanager
def process(arguments: list[str | Path], folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a program in `folder`, for which the programs of this Python come first, and end it with all it has started."""
    running = subprocess.Popen(
        arguments,
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1", "PATH": PATH, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    try:
        yield running
    finally:
        with suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)  # with what it has left in the background
        running.communicate()
