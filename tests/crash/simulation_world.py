"""A world in which time, faults and the order of everything come from one number: several processes, real SQL, no threads.

After FoundationDB (J. Zhou et al., "FoundationDB: A Distributed Unbundled Transactional Key Value Store", SIGMOD 2021: the
seams of the code under test make the faults, "BUGGIFY"). What stands in the way of one thread is replaced: both clocks,
sleeping, the lock file (POSIX locks do not conflict within a process), and the workers, which are played.
"""

from __future__ import annotations

import logging
import random
import sqlite3
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from simulation_process import Locks, Process, Wake
from simulation_rules import Rules

from schedfactory import Cancel, Fail, Retry, RetryAfter, Snooze, current_job
from schedfactory.model.clock import Monotonic
from schedfactory.model.errors import StorageError
from schedfactory.running import node as running_node
from schedfactory.storage import checkpoint, claim, nodes, sqlite
from schedfactory.storage import file as storage_file
from schedfactory.storage.database import Database

BUSY, FULL, FAILED = sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_FSYNC
FAULTS = {  # where something may go wrong, and what
    "open": ("crash", sqlite3.SQLITE_CANTOPEN),
    "begin": ("crash", BUSY, BUSY),
    "commit": ("crash", FULL, FAILED),  # nothing was stored
    "committed": ("crash", "crash", FAILED),  # it was stored
    "read": ("crash", sqlite3.SQLITE_IOERR_READ),
    "sync": ("crash", FAILED),
    "note": ("crash",),  # in the ring of begun jobs
}


class Crash(BaseException):
    """The process that is acting ends here."""


class World:
    """Everything that a seed decides: its processes, its clocks, its faults. `log` says what happened.

    Attributes:
        is_quiet: no more faults.
        is_leased: no process sees the locks of another, as on other hosts: only beats tell, and leases run out.
    """

    def __init__(self, seed: int, path: Path) -> None:
        self.seed, self.path = seed, path
        self.chance = random.Random(seed)
        self.wall = datetime(2026, 3, 28, 22, tzinfo=timezone.utc)
        self.steady = 1_000.0
        self.log: list[str] = []
        self.is_quiet = False
        self.is_leased = self.chance.random() < 0.2
        self.durability = self.chance.choice(("full", "normal"))
        self.fault_rate = self.chance.choice((0.0, 0.01, 0.05))
        self.boot = 1
        self.sticky: deque[object] = deque()  # faults that follow one another, as on a full disk
        self.how = ""  # how code ends that is called now
        self.interruptions = self.faults = 0
        self.others: Callable[[Process], None] = lambda _: None  # lets others than this process act
        self.locks = Locks()
        self.processes: list[Process] = []
        self.acting: list[Process] = []
        self.born = 0
        self.tasks: dict[str, dict[str, Any]] = {
            "soft": {"retry": Retry(3, backoff="constant", base=0)},
            "waits": {"retry": Retry(3, base="5s", jitter=False)},
            "hard": {"retry": Retry(3, backoff="constant", base=0), "on_crash": "fail"},
            "timed": {"retry": Retry(2, backoff="constant", base="2s", jitter=False), "timeout": "2s"},
        }
        self.code = _code(self)
        self.rules = Rules(self)

    def clock(self) -> datetime:
        return self.wall

    def say(self, what: str) -> None:
        self.log.append(f"{self.wall:%d %H:%M:%S.%f} {self.steady:.3f} {what}")

    def pass_time(self, seconds: float) -> None:
        self.steady += seconds
        self.wall += timedelta(seconds=seconds)
        self.rules.clock_moved()

    def act(self, process: Process, what: str, action: Callable[[], object]) -> None:
        """Let one process do one thing, and see whether everything is still as it should be."""
        self.acting.append(process)
        try:
            found = action()
            end = "" if found is None else f" {found}"
        except Crash:
            process.die()
            end = " and dies"
        except StorageError as error:
            end = f" in vain: {type(error).__name__}"
        finally:
            self.acting.pop()
        self.say(f"{process.number} {what}{end}")
        if self.rules.objection is not None:
            raise self.rules.objection
        self.rules.check()

    def fault(self, where: str) -> None:
        """Let something go wrong here, perhaps."""
        if self.is_quiet:
            return
        found: Any = None
        if self.sticky and self.sticky[0] in FAULTS[where]:
            found = self.sticky.popleft()
        elif self.chance.random() < self.fault_rate:
            found = self.chance.choice(FAULTS[where])
            if found != "crash":
                self.sticky.extend([found] * self.chance.choice((0, 0, 1, 5)))
        if found is not None:
            self.faults += 1
            self.say(f"{self.acting[-1].number} {where}: {found}")
            raise Crash if found == "crash" else _sqlite_error(found)

    def let_others_act(self) -> None:
        """Between the steps of one process, others go on; so do its own workers."""
        if len(self.acting) == 1 and not self.is_quiet and self.chance.random() < 0.15:
            self.rules.check()
            self.interruptions += 1
            self.others(self.acting[0])

    @contextmanager
    def begun(self) -> Iterator[World]:
        """Replace what does not belong into this world, until the end of the block."""
        with pytest.MonkeyPatch.context() as patch:
            logging.disable(logging.CRITICAL)
            random.seed(self.seed)
            patch.setattr(Monotonic, "now", staticmethod(lambda: self.steady))
            patch.setattr(Monotonic, "sleep", staticmethod(self._sleep))
            patch.setattr(running_node, "Wake", Wake)
            for module in (running_node, checkpoint):
                patch.setattr(module, "lock_file", lambda _: self.acting[-1].lock)
            patch.setattr(nodes, "boot_id", lambda: f"boot {self.boot}")
            patch.setattr(sqlite, "_SYNCHRONOUS", {"full": "OFF", "normal": "OFF"})  # nothing here loses power
            patch.setattr(sqlite, "begin_immediate", self._around(sqlite.begin_immediate, "begin", None))
            patch.setattr(sqlite, "commit", self._around(sqlite.commit, "commit", "committed"))
            patch.setattr(storage_file, "connect", self._around(storage_file.connect, "open", None))
            patch.setattr(Database, "read", self._read(Database.read))
            patch.setattr(Database, "sync", self._sync(Database.sync))
            patch.setattr(claim, "take", self._take(claim.take))
            self.rules.open()
            try:
                yield self
            finally:
                self.is_quiet = True
                for process in list(self.processes):
                    process.die()
                self.rules.close()
                logging.disable(logging.NOTSET)

    def _sleep(self, seconds: float) -> None:
        self.steady += seconds

    def _around(self, real: Callable[..., Any], before: str, after: str | None) -> Callable[..., Any]:
        def seam(*given: Any) -> Any:
            if before == "begin":
                self.let_others_act()
            self.fault(before)
            found = real(*given)
            if after is not None:
                self.let_others_act()
                self.fault(after)
            return found

        return seam

    def _read(self, real: Any) -> Any:
        @contextmanager
        def read(database: Database) -> Iterator[Any]:
            try:
                self.fault("read")
            except sqlite3.Error as error:
                raise sqlite.translate(error, database.path, 1.0) or error from error
            with real(database) as conn:
                yield conn

        return read

    def _sync(self, real: Any) -> Any:
        def sync(database: Database, **how: bool) -> None:
            try:
                self.fault("sync")
            except sqlite3.Error as error:
                raise sqlite.translate(error, database.path, 1.0) or error from error
            real(database, **how)

        return sync

    def _take(self, real: Any) -> Any:
        def take(conn: Any, rows: Any, *others: Any) -> None:
            self.rules.check_claim(self.acting[-1], conn, rows)
            real(conn, rows, *others)

        return take


def _code(world: World) -> Callable[[int], int]:
    def code(token: int) -> int:
        job = current_job()
        if world.how == "looks":
            job.raise_if_cancelled()
        elif world.how != "returns":
            raise ENDINGS[world.how]()
        return job.fence

    return code


ENDINGS: dict[str, Callable[[], BaseException]] = {
    "raises": lambda: ValueError("x"),
    "snoozes": lambda: Snooze(0),
    "snoozes long": lambda: Snooze(30),
    "asks to be tried later": lambda: RetryAfter(10),
    "fails for good": lambda: Fail("x"),
    "cancels itself": lambda: Cancel("x"),
    "exits": SystemExit,
}


def _sqlite_error(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(f"simulated error {code}")
    error.sqlite_errorcode = code
    return error
