"""What a program had said until a power loss, what is in its file after it, and how the two disagree."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from schedfactory.model.job import FINAL
from schedfactory.storage import migrate


@dataclass
class Said:
    """What the program had said until a moment.

    Attributes:
        order: the ids of all jobs in the order in which their ends were stored, also later ones.
    """

    order: list[int]
    is_open: bool = False
    tokens: dict[int, int] = field(default_factory=dict)
    began: set[int] = field(default_factory=set)
    stored: dict[int, str] = field(default_factory=dict)

    def hear(self, mark: str) -> None:
        what, *words = mark.split()
        if what == "opened":
            self.is_open = True
        elif what == "acknowledged":
            self.tokens[int(words[0])] = int(words[1])
        elif what == "began":
            self.began.add(int(words[0]))
        elif what == "stored":
            self.stored[int(words[0])] = words[1]


@dataclass
class Found:
    """What is in a file after a power loss; `jobs` has (status, on_crash, token) by id."""

    schema: frozenset[str]
    integrity: str
    jobs: dict[int, tuple[str, str, int]]
    ended: int


def look(database: Path) -> Found:
    """Open a state as SQLite would after a reboot, and read what is there."""
    with closing(sqlite3.connect(database, isolation_level=None)) as driver:
        try:
            driver.execute("PRAGMA locking_mode=EXCLUSIVE")  # without -shm, which makes it faster
            driver.execute("PRAGMA synchronous=OFF")
            integrity = driver.execute("PRAGMA integrity_check").fetchone()[0]
            schema = frozenset(row[0] for row in driver.execute(_SCHEMA))
            if not schema:
                return Found(schema, integrity, {}, 0)
            rows = driver.execute("SELECT id, status, on_crash, args FROM schedfactory_jobs").fetchall()
            ended = driver.execute("SELECT coalesce(sum(jobs), 0) FROM schedfactory_totals").fetchone()[0]
            jobs = {row[0]: (row[1], row[2], json.loads(row[3])["token"]) for row in rows}
            return Found(schema, integrity, jobs, ended)
        except (sqlite3.DatabaseError, ValueError, LookupError) as error:  # the file, or the arguments in it
            return Found(frozenset(), repr(error), {}, 0)


_SCHEMA = "SELECT name FROM sqlite_master WHERE name LIKE 'schedfactory%'"


def objections(found: Found, said: Said, schema: frozenset[str], durability: str) -> list[str]:
    """Return which promises a state breaks."""
    broken = []
    if found.integrity != "ok":
        broken.append(f"damaged: {found.integrity}")
    if found.schema != schema and (said.is_open or found.schema):
        broken.append("tables are missing")
    ended = [job for job, (status, _, _) in found.jobs.items() if status in FINAL]
    if len(ended) != found.ended:
        broken.append("half a transaction is there")
    if sorted(found.jobs) != list(range(1, len(found.jobs) + 1)) or set(ended) != set(said.order[: len(ended)]):
        broken.append("something is there whose predecessors are not")
    if durability == "full":
        lost = [job for job, token in said.tokens.items() if found.jobs.get(job, ("", "", 0))[2] != token]
        if lost:
            broken.append(f"acknowledged jobs are lost: {lost}")
        unstored = [job for job, status in said.stored.items() if found.jobs.get(job, ("",))[0] != status]
        if unstored:
            broken.append(f"stored ends are lost: {unstored}")
    free = [job for job in said.began if found.jobs.get(job, ("queued", "", 0))[:2] not in _BEGUN_ONCE]
    if free:
        broken.append(f"once-only jobs that had begun may begin again: {free}")
    return broken


_BEGUN_ONCE = {("running", "fail"), ("succeeded", "fail")}


def whole_schema() -> frozenset[str]:
    with closing(sqlite3.connect(":memory:")) as driver:
        driver.executescript(migrate.script())
        return frozenset(row[0] for row in driver.execute(_SCHEMA))
