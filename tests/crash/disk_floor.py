"""A scheduler whose disk has trouble: what its jobs did, what it has said, and what of that was not as promised."""

from __future__ import annotations

import collections
import hashlib
import itertools
import json
import logging
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from schedfactory import Scheduler, StorageError, WaitTimeout
from schedfactory.model.job import FINAL
from schedfactory.running.dispatcher import Dispatcher
from schedfactory.storage import claim, database

SMALL = 2_000  # bytes of a result
LONG_S = 20.0  # only a hang takes this long


class Floor:
    """A scheduler, what its jobs did, what it has said to the log, and what was not as promised."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.size = SMALL  # of the results of those that wait
        self.results: dict[int, str] = {}
        self.objections: list[str] = []
        self.log: list[tuple[int, str]] = []
        self.runs: collections.Counter[int] = collections.Counter()
        self.acknowledged: dict[int, int] = {}
        self.refused: dict[int, str] = {}
        self.tokens = itertools.count(1)
        self.begun = threading.Semaphore(0)
        self.opened = threading.Event()
        self.patience_s = LONG_S
        self.slowest_s = 0.0
        self.cycles = self.hits = 0
        self.scheduler = self.open()

    def open(self) -> Scheduler:
        scheduler = Scheduler(self.path, keep=None, lock_timeout="5s")

        def end(token: int, size: int) -> str:
            self.runs[token] += 1
            self.results[token] = hashlib.sha256(str(token).encode()).hexdigest().ljust(size, "x")
            return self.results[token]

        def run(token: int) -> str:
            return end(token, SMALL)

        def wait(token: int) -> str:
            self.begun.release()
            assert self.opened.wait(LONG_S)
            return end(token, self.size)

        def fail(token: int) -> None:
            self.runs[token] += 1
            raise ValueError(token)

        scheduler.task(name="often")(run)
        scheduler.task(name="once", on_crash="fail")(run)
        scheduler.task(name="waits")(wait)
        scheduler.task(name="fails")(fail)
        return scheduler

    def enqueue(self, *names: str, delay_s: float = 0) -> None:
        """Enqueue one job of each of these tasks, and note what was said."""
        for name in names:
            token = next(self.tokens)
            try:
                job = self.scheduler.tasks.get(name).options(delay=timedelta(seconds=delay_s)).enqueue(token=token)
            except StorageError as error:
                self.refused[token] = str(error)
            else:
                self.acknowledged[job.id] = token

    def object(self, cause: str, what: object) -> None:
        self.objections.append(f"{cause}: {what}")

    def check(self, cause: str) -> None:
        """Hold the rows against what was said, with nothing under way."""
        with self.scheduler.reading() as connection:
            integrity = connection.exec_driver_sql("PRAGMA integrity_check").scalar()
            rows = connection.exec_driver_sql(
                "SELECT id, task, status, args, result, attempt FROM schedfactory_jobs"
            ).fetchall()
            ended = connection.exec_driver_sql("SELECT coalesce(sum(jobs), 0) FROM schedfactory_totals").scalar()
        if integrity != "ok":
            self.object(cause, integrity)
        if ended != sum(row[2] in FINAL for row in rows):
            self.object(cause, "the totals are off")
        tokens = {row[0]: json.loads(row[3])["token"] for row in rows}
        if len(set(tokens.values())) < len(tokens):
            self.object(cause, "a call was stored twice")
        lost = [job for job, token in self.acknowledged.items() if tokens.get(job) != token]
        if lost:
            self.object(cause, f"acknowledged jobs are lost: {lost}")
        for job, task, status, _, result, attempt in rows:
            wanted = ("failed", None) if task == "fails" else ("succeeded", f'"{self.results.get(tokens[job])}"')
            if (status, result) != wanted or attempt != 1 or self.runs[tokens[job]] != 1:
                self.object(
                    cause, f"job {job} ({task}): {status}, {result!r:.40}, attempt {attempt}, {self.runs[tokens[job]]} runs"
                )
        ghosts = [error for token, error in self.refused.items() if "Nothing was stored" in error and token in tokens.values()]
        if ghosts:
            self.object(cause, f"it was stored: {ghosts}")


_ROWS = "SELECT id, task, status, args, result, attempt FROM schedfactory_jobs"


class Listener(logging.Handler):
    def __init__(self, log: list[tuple[int, str]]) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        self._log.append((record.levelno, record.getMessage() + (f" {record.exc_info[1]!r}" if record.exc_info else "")))


def until(look: Callable[[], bool], seconds: float) -> bool:
    """Look until it is so; return False where it was not in time."""
    end = time.monotonic() + seconds
    while not look():
        if time.monotonic() > end:
            return False
        time.sleep(0.002)
    return True


def has_ended(floor: Floor) -> bool:
    """Tell whether all that was acknowledged has run, and is stored."""
    return floor.runs.keys() >= set(floor.acknowledged.values()) and not floor.scheduler.health().busy


def wait_idle(floor: Floor, cause: str) -> None:
    """Wait until all jobs have ended, and object where that takes too long."""
    try:
        floor.scheduler.wait_idle(f"{floor.patience_s}s")
    except WaitTimeout as error:
        floor.object(cause, f"{error}; {floor.scheduler.health()}")
    if not until(lambda: has_ended(floor), floor.patience_s):  # also what was not due yet
        floor.object(cause, f"acknowledged jobs have not run; {floor.scheduler.health()}")


def drop_results() -> None:
    """Forget what could not be stored."""
    keep = Dispatcher._keep

    def keep_less(self: Dispatcher, batch: Any, error: BaseException) -> float:
        batch.ended.clear()
        return keep(self, batch, error)

    Dispatcher._keep = keep_less


def believe_the_error() -> None:
    """Take a commit that failed for one that has not happened, without a look."""

    def find_out(batch: Any, read: Any, error: Exception, path: Path) -> Exception:
        return StorageError(f"{error}. Nothing was stored.", str(path))

    database.find_out = find_out


def forget_unclear_claims() -> None:
    """Leave alone what was claimed by a commit that failed and yet happened."""
    claim.give_back_others = lambda conn, node, in_hand: 0


SABOTAGES = {sabotage.__name__: sabotage for sabotage in (drop_results, believe_the_error, forget_unclear_claims)}
