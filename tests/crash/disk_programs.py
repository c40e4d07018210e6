"""The program of test_power_loss.py, in a process of its own: `disk_programs.py DATABASE DURABILITY SEED [SABOTAGE]`.

It marks in the trace what the library has promised at that moment: `opened`, `acknowledged ID TOKEN` after an enqueue,
`began ID` as the first thing in the body of a job that must start once only, and `stored ID STATUS` after its end is stored.
"""

from __future__ import annotations

import json
import random
import sqlite3
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

from disk import Shim
from sqlalchemy import Connection

from schedfactory import Scheduler, StatusReport, current_job
from schedfactory.storage import checkpoint, enqueue, file, migrate, opening, sqlite
from schedfactory.storage.database import Database

JOBS = 90  # of each of two threads
PAGES = 60  # written before a checkpoint, so that there are some
shim = Shim()


def main(path: str, durability: str, seed: str, sabotage: str = "") -> None:
    checkpoint._PAGES = PAGES
    if sabotage:
        SABOTAGES[sabotage]()
    scheduler = Scheduler(path, durability=durability, keep=None)
    scheduler.migrate()
    shim.mark("opened")
    tasks = add_tasks(scheduler)
    for share in (1, 3):  # closed between the two, and opened again
        scheduler.listen(tell, "job")
        producers = [
            threading.Thread(target=produce, args=(tasks, share, random.Random(f"{seed} {share} {n}"))) for n in range(2)
        ]
        for thread in producers:
            thread.start()
        with scheduler.running(workers=2):
            for thread in producers:
                thread.join()
            scheduler.wait_idle("60s")
        scheduler.close()
    shim.mark("closed")


def add_tasks(scheduler: Scheduler) -> list[Any]:
    @scheduler.task(name="often")
    def often(token: int, filling: str) -> int:
        return token

    @scheduler.task(name="once", on_crash="fail")
    def once(token: int, filling: str) -> int:
        shim.mark(f"began {current_job().id}")
        return token

    @scheduler.task(name="fails")
    def fails(token: int, filling: str) -> None:
        raise ValueError(token)

    return [often, often, often, often, once, fails]


def produce(tasks: list[Any], share: int, dice: random.Random) -> None:
    """Enqueue a quarter of the jobs, or three."""
    for _ in range(JOBS * share // 4):
        token = dice.getrandbits(40)
        job = dice.choice(tasks).enqueue(token=token, filling="x" * dice.choice((1, 100, 5_000)))
        shim.mark(f"acknowledged {job.id} {token}")


def tell(report: StatusReport) -> None:
    if report.status == "end":
        shim.mark(f"stored {report.id} {report.detail}")


def never_sync() -> None:
    connect = file.connect

    def connect_so(*given: Any) -> opening.Connections:
        found = connect(*given)
        found.driver.execute("PRAGMA synchronous=OFF").close()
        return found

    file.connect = connect_so


def migrate_unsynced() -> None:
    """What a plain reading of "normal" would do: the tables are an unsynced commit like any other."""

    def migrate_so(writer: Any, driver: sqlite3.Connection, seconds: float) -> None:
        sqlite.make_writable(driver, 1e18)
        sqlite.begin_immediate(driver, 1e18)
        migrate.upgrade(writer)
        sqlite.commit(driver, 1e18)

    opening._migrate = migrate_so


def acknowledge_early() -> None:
    """Say that a job is stored once its row is written, before the commit."""
    insert_rows = enqueue.insert_rows

    def insert_and_tell(conn: Connection, rows: Sequence[Sequence[Any]]) -> Sequence[int]:
        ids = insert_rows(conn, rows)
        for job, row in zip(ids, rows):
            shim.mark(f"acknowledged {job} {json.loads(row[enqueue._COLUMNS.index('args')])['token']}")
        return ids

    enqueue.insert_rows = insert_and_tell


def claim_unsynced() -> None:
    Database.sync = lambda self, **_: None


SABOTAGES: dict[str, Callable[[], None]] = {
    sabotage.__name__: sabotage for sabotage in (never_sync, migrate_unsynced, acknowledge_early, claim_unsynced)
}

if __name__ == "__main__":
    main(*sys.argv[1:])
