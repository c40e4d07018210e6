"""A disk that a test controls: the shim of disk_shim.c, the trace that it writes, and the states a power loss may leave.

A file system keeps what was synced. Of the rest each write may or may not have arrived, in any order, and in part, by
sectors of 512 bytes; the same holds for names: a file that was made or removed is so for sure once its folder was synced.
"""

from __future__ import annotations

import ctypes
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

SECTOR = 512
WRITE, TRUNCATE, SYNC, CREATE, UNLINK, MARK = range(1, 7)
FOLDER = 6
ENDINGS = {1: "", 2: "-wal", 3: "-journal"}
CALLS = {"write": 1, "truncate": 2, "sync": 4, "open": 8, "grow": 16}
_RECORD = struct.Struct("=BBHIq")
_SHIM = Path(__file__).with_name("disk_shim.c")
PROGRAMS = Path(__file__).with_name("disk_programs.py")


def build(folder: Path) -> Path:
    """Compile the shim; the test is skipped where that cannot be, which the report shows."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not sys.platform.startswith("linux") or compiler is None:
        pytest.skip("the disk of this harness needs Linux and a C compiler (cc); on Debian: apt-get install gcc libc6-dev")
    library = folder / "disk_shim.so"
    command = [compiler, "-O1", "-shared", "-fPIC", "-o", str(library), str(_SHIM), "-ldl", "-lpthread"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"the shim cannot be compiled here: {done.stderr.strip().splitlines()[-1]}")
    return library


def environment(shim: Path, database: Path, trace: Path | None = None) -> dict[str, str]:
    """Return the environment in which a program has this disk under its database."""
    of_the_disk = {"LD_PRELOAD": str(shim), "DISK_DATABASE": os.path.realpath(database)}
    return os.environ | of_the_disk | ({} if trace is None else {"DISK_TRACE": str(trace)})


class Shim:
    """The controls of the shim that is loaded into this process."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None)
        self._library.disk_heal.restype = self._library.disk_fired.restype = ctypes.c_long

    def mark(self, text: str) -> None:
        """Note in the trace that this has happened."""
        self._library.disk_mark(text.encode())

    def arm(self, calls: str, k: int, error: int, *, sticky: bool) -> None:
        """Let the k-th of these calls ("write sync …") fail, or all from the k-th on."""
        kinds = sum(CALLS[name] for name in calls.split())
        self._library.disk_arm(kinds, ctypes.c_long(k), error, int(sticky))

    @property
    def fired(self) -> int:
        """How many calls have failed since it was armed."""
        return int(self._library.disk_fired())

    def heal(self) -> int:
        """Let nothing fail any more; return how many calls have failed."""
        return int(self._library.disk_heal())


@dataclass(frozen=True, slots=True)
class Step:
    """One entry of a trace; `offset` of a TRUNCATE is the new length."""

    op: int
    file: int
    offset: int
    data: bytes


def read_trace(path: Path) -> list[Step]:
    """Return what the shim has noted, in order."""
    raw, at, steps = path.read_bytes(), 0, []
    while at < len(raw):
        op, file, _, length, offset = _RECORD.unpack_from(raw, at)
        at += _RECORD.size
        size = length if op in (WRITE, MARK) else 0
        steps.append(Step(op, file, offset, raw[at : at + size]))
        at += size
    return steps


@dataclass(slots=True)
class _Inode:
    """A file's content as of its last sync, and what was done to it since."""

    kept: bytearray = field(default_factory=bytearray)
    pending: list[Step] = field(default_factory=list)


@dataclass(slots=True)
class Crash:
    """What a power loss after `step` steps has left: the content of each file, by the ending of its name."""

    step: int
    files: dict[str, bytearray]


class Disk:
    """The disk while the steps of a trace are done to it."""

    def __init__(self) -> None:
        self._names: dict[int, _Inode] = {}
        self._kept_names: dict[int, _Inode] = {}
        self._renamed: list[tuple[int, _Inode | None]] = []

    def do(self, step: Step) -> None:
        """Do one step."""
        if step.op == CREATE:
            self._names[step.file] = _Inode()
            self._renamed.append((step.file, self._names[step.file]))
        elif step.op == UNLINK:
            del self._names[step.file]
            self._renamed.append((step.file, None))
        elif step.op == SYNC and step.file == FOLDER:
            self._kept_names = dict(self._names)
            self._renamed.clear()
        elif step.op == SYNC:
            inode = self._names[step.file]
            for earlier in inode.pending:
                _apply(inode.kept, earlier, 0, len(earlier.data))
            inode.pending.clear()
        else:
            self._names[step.file].pending.append(step)

    def lose_power(self, dice: random.Random) -> dict[str, bytearray]:
        """Return the files that may be found after a power loss now."""
        chance = dice.choice((0.0, 0.1, 0.5, 0.9, 1.0))
        names: dict[int, _Inode | None] = dict(self._kept_names)
        names |= {file: inode for file, inode in self._renamed if dice.random() < chance}
        return {ENDINGS[file]: _survivors(inode, chance, dice) for file, inode in names.items() if inode is not None}


def crashes(steps: Sequence[Step], number: int, dice: random.Random, first: int = 0) -> Iterator[Crash]:
    """Yield states after power losses at random moments, from step `first` on, in the order of these moments."""
    disk = Disk()
    done = 0
    for moment in sorted(dice.randint(first, len(steps)) for _ in range(number)):
        for step in steps[done:moment]:
            if step.op != MARK:
                disk.do(step)
        done = moment
        yield Crash(moment, disk.lose_power(dice))


def _survivors(inode: _Inode, chance: float, dice: random.Random) -> bytearray:
    found = bytearray(inode.kept)
    for step in inode.pending:
        if dice.random() >= chance:
            continue
        if step.op == WRITE and len(step.data) > SECTOR and dice.random() < 0.1:
            for at in range(0, len(step.data), SECTOR):
                if dice.random() < 0.5:
                    _apply(found, step, at, at + SECTOR)
        else:
            _apply(found, step, 0, len(step.data))
    return found


def _apply(content: bytearray, step: Step, start: int, end: int) -> None:
    """Do a write, or the part of it between two offsets of its data, or a change of length."""
    if step.op == TRUNCATE:
        del content[step.offset :]
        content.extend(bytes(step.offset - len(content)))
        return
    data = step.data[start:end]
    at = step.offset + start
    if at > len(content):
        content.extend(bytes(at - len(content)))
    content[at : at + len(data)] = data


def scratch() -> tempfile.TemporaryDirectory[str]:
    """Return a folder in memory where there is one."""
    return tempfile.TemporaryDirectory(prefix="schedfactory-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)


def put_down(crash: Crash, database: Path) -> None:
    """Write a state's files, and remove what an earlier state has left."""
    for ending in (*ENDINGS.values(), "-shm"):
        file = Path(f"{database}{ending}")
        content = crash.files.get(ending)
        if content is not None:
            file.write_bytes(content)
        else:
            file.unlink(missing_ok=True)


def marks(steps: Sequence[Step]) -> list[tuple[int, str]]:
    """Return each mark, and after how many steps it had been made."""
    return [(at + 1, step.data.decode()) for at, step in enumerate(steps) if step.op == MARK]
