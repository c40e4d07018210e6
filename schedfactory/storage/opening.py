"""How a file is opened: made where it is missing, refused where it is something else, brought up to date."""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import Connection, Engine

from schedfactory.model.clock import Monotonic
from schedfactory.storage import migrate, sqlite, surroundings

_log = logging.getLogger("schedfactory")
_warned: set[Path] = set()  # of files that others may write: once is enough


class Connections(NamedTuple):
    """A pool for readers, and the one connection that writes, as SQLAlchemy and as the driver have it."""

    engine: Engine
    writer: Connection
    driver: sqlite3.Connection


def connect(path: Path, durability: str, lock_timeout_s: float, may_migrate: bool) -> Connections:
    """Open a database whose tables are up to date.

    Raises:
        sqlite3.Error: as the driver says it.
        UnsafeFilesystem, StorageError, SchemaTooOld, SchemaTooNew: nothing was changed.
    """
    surroundings.refuse_python(path)
    surroundings.refuse_unsafe(path)
    if not may_migrate and not path.exists():
        migrate.refuse_missing(str(path))
    sqlite.make_file(path)
    engine = sqlite.make_engine(path, durability, lock_timeout_s)
    writer: Connection | None = None
    try:
        writer = engine.connect()
        driver = sqlite.take_over(writer)
        # A plain read first: a file that is no database is found out here, before anything could be written.
        driver.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if not migrate.is_current(driver):
            migrate.refuse(driver, str(path), may_migrate)
            _migrate(writer, driver, lock_timeout_s)
            driver.execute(f"PRAGMA synchronous={durability}").close()
        sqlite.make_writable(driver, Monotonic.now() + lock_timeout_s)
    except BaseException:
        if writer is not None:
            writer.close()
        engine.dispose()  # an empty file may stay: another process may have opened it meanwhile
        raise
    if path not in _warned and (exposed := surroundings.writable_by_others(path)):
        _warned.add(path)
        _log.warning("anyone on this host may write to %s. chmod o-w them.", ", ".join(map(str, exposed)))
    return Connections(engine, writer, driver)


def _migrate(writer: Connection, driver: sqlite3.Connection, lock_timeout_s: float) -> None:
    deadline = Monotonic.now() + lock_timeout_s
    sqlite.make_writable(driver, deadline)
    # Fully synced whatever the durability: a power loss may then drop the newest jobs, never the tables.
    driver.execute("PRAGMA synchronous=FULL").close()
    sqlite.begin_immediate(driver, deadline)
    try:
        if not migrate.is_current(driver):
            migrate.upgrade(writer)
        sqlite.commit(driver, deadline)
    except BaseException:
        driver.rollback()
        raise
    driver.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
