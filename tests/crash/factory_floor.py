"""The processes of the harnesses: workers and producers on `jobs.db` in the current folder, run as programs.

`python factory_floor.py '{"name": "w0.1", "role": "work"}'`. They append to the files that `history.py` reads, and leave
when their input ends. At a failpoint a process kills itself: just before or after the k-th call of one inner function.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import random
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sabotage_processes
from witnesses import Log, count, moment

from schedfactory import Retry, RunningJob, Scheduler, Snooze, current_job
from schedfactory.running.desk import Desk
from schedfactory.storage import checkpoint, claim, finish, locks, nodes, sqlite

BACKLOG = 150  # a producer waits while more than this are queued
FAILPOINTS: dict[str, tuple[Any, str]] = {
    "begin": (sqlite, "begin_immediate"),
    "commit": (sqlite, "commit"),
    "checkpoint": (checkpoint.Checkpoints, "_checkpoint"),
    "claim": (claim, "take"),
    "finish": (finish, "finish"),
    "rescue": (nodes, "rescue"),
    "register": (locks.LockFile, "hold"),
    "note": (Desk, "begin"),
    "end": (Desk, "end"),
}
options: dict[str, Any] = json.loads(sys.argv[1]) if __name__ == "__main__" else {}
name: str = options.get("name", "")
effects = Log(Path("effects")) if options else print
scheduler = Scheduler("jobs.db", **options.get("scheduler", {}))


@contextmanager
def telling(key: str) -> Iterator[RunningJob]:
    """Write down the start and the end of this run."""
    job = current_job()
    effects("start", key, job.id, job.fence, name, time.monotonic_ns())
    how = "ok"
    try:
        yield job
    except BaseException as error:
        how = type(error).__name__
        raise
    finally:
        effects("end", key, job.id, job.fence, name, time.monotonic_ns(), how)


@scheduler.task(name="noop")
def noop(key: str, of: int, times: int) -> int:
    with telling(key) as job:
        return job.fence


@scheduler.task(name="slow")
def slow(key: str, of: int, times: int) -> int:
    with telling(key) as job:
        time.sleep(random.uniform(0.005, 0.02))
        return job.fence


@scheduler.task(name="flaky", retry=Retry(5, base="20ms"))
def flaky(key: str, of: int, times: int) -> int:
    with telling(key) as job:
        if job.failures < times:
            raise OSError("as asked")
        return job.fence


@scheduler.task(name="snoozy")
def snoozy(key: str, of: int, times: int) -> int:
    with telling(key) as job:
        if job.snoozes < times:
            raise Snooze("20ms")
        return job.fence


@scheduler.task(name="once", on_crash="fail")
def once(key: str, of: int, times: int) -> int:
    with telling(key) as job:
        return job.fence


@scheduler.task(name="bulky")
def bulky(key: str, of: int, times: int, ballast: str = "") -> int:
    with telling(key) as job:
        return job.fence


@scheduler.task(name="hold")
def hold(key: str, of: int, times: int) -> int:
    """Run until a file says that this attempt may end."""
    with telling(key) as job:
        while not Path(f"release.{key}.{job.fence}").exists():
            time.sleep(0.01)
        return job.fence


@scheduler.task(name="talk")
def talk(key: str, of: int, times: int) -> int:
    """The same, and tell of it all the while, on the first attempt."""
    with telling(key) as job:
        while not Path(f"release.{key}.{job.fence}").exists():
            if job.attempt == 1:
                job.set_progress(0.5)
            time.sleep(0.01)
        return job.fence


def produce() -> None:
    """Enqueue until `quota` jobs were acknowledged to this producer and those who bore its name before."""
    file = Path(f"acks.{name.partition('.')[0]}")
    acks, weights = Log(file), options["mix"]
    for number in range(sys.maxsize):
        while (left := options["quota"] - count(file)) > 0 and scheduler.counts()["queued"] > BACKLOG:
            time.sleep(0.01)
        if left <= 0 or Path("enough").exists():
            return
        size = min(random.choice((1, 1, 1, 1, 2, 8)), left)
        calls = []
        for index in range(size):
            task = random.choices(list(weights), list(weights.values()))[0]
            args = {"key": f"{name}-{number}-{index}", "of": size, "times": random.randint(1, 2)}
            if task == "bulky":
                args["ballast"] = "x" * options["ballast"]
            calls.append(scheduler.remote(task).call(**args))
        for job in scheduler.enqueue_many(calls):
            acks(job.args["key"], job.id, job.uid)


def work() -> None:
    """Run jobs until the input ends."""
    scheduler.start(workers=options.get("threads", 4))


def both() -> None:
    work()
    produce()


def hog() -> None:
    """Hold the write lock for up to `longest` seconds, let go for a moment, grab it at the first chance, and so on."""
    connection = sqlite3.connect("jobs.db", timeout=0, isolation_level=None)
    for longest in itertools.cycle((options["longest"], 0.0, 0.1, 0.5)):
        grab(connection)
        since = time.monotonic()
        time.sleep(longest * random.uniform(0.7, 1))
        connection.execute("COMMIT")
        effects("held", name, time.monotonic() - since)
        time.sleep(random.uniform(0.05, 0.4))


def grab(connection: sqlite3.Connection) -> None:
    while True:
        try:
            connection.execute("BEGIN IMMEDIATE")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
            time.sleep(0.0002)


def pin() -> None:
    """Read one old state of the database."""
    connection = sqlite3.connect("jobs.db", timeout=60, isolation_level=None)
    connection.execute("BEGIN")
    connection.execute("SELECT count(*) FROM schedfactory_jobs").fetchone()
    effects("pinned", name)
    threading.Event().wait()


def arm(where: str, side: str, left: int) -> None:
    """Die at the `left`-th call of a failpoint."""
    home, attribute = FAILPOINTS[where]
    inner = getattr(home, attribute)
    guard = threading.Lock()

    def doomed(*args: Any, **kwargs: Any) -> Any:
        nonlocal left
        with guard:
            left -= 1
            is_last = left == 0
        if is_last and side == "before":
            die(f"{where}-{side}")
        found = inner(*args, **kwargs)
        if is_last:
            die(f"{where}-{side}")
        return found

    setattr(home, attribute, doomed)


def die(failpoint: str) -> None:
    effects("death", name, failpoint, *moment())
    os.kill(os.getpid(), signal.SIGKILL)


class Teller(logging.Handler):
    """Writes down what the library warns of."""

    def emit(self, record: logging.LogRecord) -> None:
        effects(record.levelname, name, record.getMessage())


def main() -> None:
    effects("process", name, os.getpid())
    logging.getLogger("schedfactory").addHandler(Teller(logging.WARNING))
    for module, constant, value in options.get("constants", ()):
        setattr(sys.modules[module], constant, value)
    if "sabotage" in options:
        sabotage_processes.SABOTAGE[options["sabotage"]]()
    if "failpoint" in options:
        arm(*options["failpoint"])
    role = {"work": work, "produce": produce, "both": both, "hog": hog, "pin": pin}[options["role"]]
    end = threading.Thread(target=leave_with_parent, daemon=True)
    end.start()
    role()
    if options["role"] != "produce":
        end.join()


def leave_with_parent() -> None:
    while os.read(0, 1):
        pass
    if options["role"] not in ("work", "both"):
        os._exit(0)


if __name__ == "__main__":
    main()
