"""Mistakes that a process of the harnesses can be started with, so that each harness is seen to object."""

from __future__ import annotations

import threading
import time
from typing import Any

from sqlalchemy import bindparam, select, update

from schedfactory.storage import checkpoint, finish, nodes, sqlite
from schedfactory.storage.database import Database
from schedfactory.storage.locks import Ring
from schedfactory.storage.statement import Statement, const
from schedfactory.storage.tables import jobs
from schedfactory.storage.tables import nodes as nodes_table

_LATER_S = 0.02


def acknowledge_before_the_commit() -> None:
    """A write returns when its transaction is ready, and another thread commits that a moment later."""

    def write_together(self: Database, works: Any, item: Any, *, quiet: bool = False, was_stored: Any = None) -> Any:
        _, writer, driver = self._open()
        deadline = time.monotonic() + 30
        self._leading.acquire()
        sqlite.begin_immediate(driver, deadline)
        self._check_schema(driver)
        (value,) = works(writer, [item])

        def commit() -> None:
            time.sleep(_LATER_S)
            sqlite.commit(driver, deadline)
            self._leading.release()

        threading.Thread(target=commit).start()
        return value

    Database.write_together = write_together


def rescue_by_timeout() -> None:
    """Nobody asks the locks: who shows no new beat for the length of a lease is taken for dead."""
    look_around = nodes.look_around

    def look_at_beats(conn: Any, node: int, lock: Any) -> nodes.Others:
        found = look_around(conn, node, lock)
        beats = dict(conn.execute(select(nodes_table.c.id, nodes_table.c.beat)).all())
        found.silent = {other: beats[other] for other in found.alive + found.dead}
        found.alive, found.dead, found.is_watched = [], [], True
        return found

    nodes.look_around = look_at_beats


def finish_without_the_fence() -> None:
    """A success is stored while the job runs on this node, whichever attempt of it that is."""
    _succeed_where(jobs.c.status == const("running"), jobs.c.node == bindparam("by_node"))


def finish_without_any_guard() -> None:
    """A success is stored whoever has the job."""
    _succeed_where()


def _succeed_where(*guards: Any) -> None:
    finish._SUCCEED = Statement(
        update(jobs)
        .where(jobs.c.id == bindparam("job"), *guards)
        .values(status=const("succeeded"), finished_at=bindparam("at"), result=bindparam("value")),
        "since at value by_worker job at_fence by_node",
    )


def forget_what_was_begun() -> None:
    """Who begins a job that was claimed ahead does not note it."""
    Ring.note = lambda *_: None


def never_checkpoint() -> None:
    """The log never goes into the file."""
    checkpoint.Checkpoints._checkpoint = lambda self, driver: True


SABOTAGE = {
    function.__name__: function
    for function in (
        acknowledge_before_the_commit,
        rescue_by_timeout,
        finish_without_the_fence,
        finish_without_any_guard,
        forget_what_was_begun,
        never_checkpoint,
    )
}
