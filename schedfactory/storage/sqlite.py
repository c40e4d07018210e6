"""What is SQLite's own: how a connection is set up, how a write begins, and what its errors mean."""

from __future__ import annotations

import errno
import os
import random
import re
import sqlite3
import threading
from pathlib import Path
from typing import Any, cast

from sqlalchemy import Connection, Engine, create_engine, event, select
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError
from sqlalchemy.pool import QueuePool

from schedfactory.model.clock import Monotonic
from schedfactory.model.errors import DatabaseBusy, NotADatabase, StorageError, StorageFull
from schedfactory.storage import tables

_SYNCHRONOUS = {"full": "FULL", "normal": "NORMAL"}
WRITER = "schedfactory_writer"
_PRAGMAS = (
    "wal_autocheckpoint=0",  # see checkpoint.py
    "mmap_size=0",
    "journal_size_limit=16777216",
    "foreign_keys=ON",
    "cell_size_check=ON",
    "trusted_schema=OFF",
    "fullfsync=ON",
    "query_only=ON",
)
_making = threading.Lock()


def path_of(url: URL) -> Path:
    """Return the absolute path of the file that an SQLite URL names."""
    assert url.database is not None
    return Path(url.database).resolve()  # a link's other name would have a lock file of its own


def to_url(database: str | os.PathLike[str]) -> URL:
    """Return the URL of a path or of URL text.

    Raises:
        ValueError: another database than SQLite, an empty path, options in the URL that would change how it is opened.
    """
    if isinstance(database, str) and "://" in database:
        try:
            url = make_url(database)
        except (ArgumentError, ValueError) as error:
            raise ValueError(f"database={database!r} is no URL that can be read. Pass a path or sqlite:///path.") from error
        if url.get_backend_name() != "sqlite" or url.get_driver_name() != "pysqlite":
            raise ValueError(f"{url.render_as_string()} is no SQLite database. Pass a path or sqlite:///path.")
        if url.query:
            raise ValueError(f"{url} has options after the '?', which are not used here. Pass a path or sqlite:///path.")
        return url
    path = os.fspath(database)
    if not path or "\x00" in path:
        raise ValueError(f'database={database!r} is no path. Pass one such as "jobs.db", or ":memory:".')
    return URL.create("sqlite+pysqlite", database=path)


def _after_fork() -> None:
    global _making
    _making = threading.Lock()  # another thread may have held it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def make_engine(path: Path, durability: str, lock_timeout_s: float) -> Engine:
    """Return an engine whose connections all read only, until the one that writes says otherwise."""
    engine = create_engine(
        URL.create("sqlite+pysqlite", database=str(path)),
        connect_args={"isolation_level": None, "check_same_thread": False, "timeout": lock_timeout_s},
        poolclass=QueuePool,
        pool_size=4,
        max_overflow=-1,
    )

    @event.listens_for(engine, "connect")
    def set_up(connection: sqlite3.Connection, _record: object) -> None:
        if hasattr(sqlite3, "LEGACY_TRANSACTION_CONTROL"):
            connection.autocommit = sqlite3.LEGACY_TRANSACTION_CONTROL  # type: ignore[attr-defined,unused-ignore]
        connection.isolation_level = None
        connection.text_factory = _lenient
        try:
            for pragma in (f"synchronous={_SYNCHRONOUS[durability]}", *_PRAGMAS):
                connection.execute(f"PRAGMA {pragma}").close()
        except BaseException:  # the file is damaged; nobody else would close what SQLAlchemy has not got yet
            connection.close()
            raise

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        if WRITER not in connection.info:  # whose transactions begin and end in database.write()
            connection.exec_driver_sql("BEGIN")

    return engine


def take_over(writer: Connection) -> sqlite3.Connection:
    """Make this connection's transactions the caller's, who begins and ends them on the driver connection, given back."""
    writer.info[WRITER] = True
    driver = cast("sqlite3.Connection", writer.connection.driver_connection)
    driver.text_factory = str  # until that fails: this is where speed counts
    writer.begin()  # for SQLAlchemy it stays in this one for ever, so neither it nor Alembic commits by itself
    return driver


def make_writable(connection: sqlite3.Connection, deadline: float) -> None:
    """Let this connection write, in WAL mode."""
    connection.execute("PRAGMA query_only=OFF").close()
    connection.execute("PRAGMA busy_timeout=0").close()
    if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        _insist(connection, "PRAGMA journal_mode=WAL", deadline)


def state(version: tuple[int, int, int] = sqlite3.sqlite_version_info) -> str:
    """Return "ok", and the version in brackets where it may lose commits (see checkpoint.py)."""
    fixed_in = {(3, 44): 6, (3, 50): 7}.get(version[:2], 1 << 30)
    if (3, 7, 0) <= version < (3, 51, 3) and version[2] < fixed_in:
        return f"ok (SQLite {'.'.join(map(str, version))}: see doctor)"
    return "ok"


def make_file(path: Path) -> bool:
    """Create an empty database file that only its owner may read; return False where there is one already.

    Raises:
        StorageError: the folder is missing or may not be written.
    """
    with _making:  # closing a descriptor of a database drops this process's locks on it, so nobody opens meanwhile
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        except FileExistsError:
            return False
        except OSError as error:
            raise StorageError(
                f"{path} cannot be made: {error.strerror}. Pass a path in a folder that may be written.", str(path)
            ) from error
        return True


def begin_immediate(connection: sqlite3.Connection, deadline: float) -> None:
    _insist(connection, "BEGIN IMMEDIATE", deadline)


def commit(connection: sqlite3.Connection, deadline: float) -> None:
    """Commit, also where a reader or a checkpoint of another process is in the way for a while."""
    _insist(connection, "COMMIT", deadline)


def sync(connection: sqlite3.Connection, durability: str, deadline: float) -> None:
    """Write and sync, whatever the durability, to which the connection returns."""
    connection.execute("PRAGMA synchronous=FULL").close()
    begin_immediate(connection, deadline)
    # A commit that changes nothing is not synced; this one changes a row to what it is.
    connection.execute("UPDATE schedfactory_version SET version_num = version_num").close()
    commit(connection, deadline)
    connection.execute(f"PRAGMA synchronous={durability}").close()


def _insist(connection: sqlite3.Connection, sql: str, deadline: float) -> None:
    """Wait for other processes in short, uneven steps (SQLite's own wait grows to 0.1 s, and not for every statement)."""
    before = connection.in_transaction
    pause = 0.0005
    while True:
        try:
            connection.execute(sql)
            return
        except sqlite3.OperationalError as error:
            if not is_busy(error) or connection.in_transaction != before or Monotonic.now() >= deadline:
                raise
        Monotonic.sleep(pause * random.uniform(0.5, 1))
        pause = min(pause * 1.5, 0.01)


def data_version(connection: sqlite3.Connection) -> int:
    """Return the number that changes when others commit, as the transaction that is under way sees it."""
    return int(connection.execute("PRAGMA data_version").fetchone()[0])


def total_changes(conn: Connection) -> int:
    """Return how many rows this connection has changed so far."""
    return int(conn.connection.driver_connection.total_changes)  # type: ignore[union-attr]


def read_leniently(connection: sqlite3.Connection, error: BaseException) -> bool:
    """Where an error means a text that is no UTF-8, as SQL may write it, put marks into such text from now on.

    That costs some time. Return False where it was so already, or the error means something else.
    """
    if connection.text_factory is not str or "Could not decode to UTF-8" not in str(error):
        return False
    connection.text_factory = _lenient
    return True


def _lenient(text: bytes) -> str:
    return text.decode("utf-8", "replace")


def is_busy(error: BaseException) -> bool:
    return _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def is_full(error: BaseException) -> bool:
    return _code(error) == sqlite3.SQLITE_FULL or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)


_MISSING = re.compile("no such (table|column|view)|malformed database schema|table .* has no column|table .* already exists")


def translate(error: BaseException, path: Path, lock_timeout_s: float) -> StorageError | None:
    """Return what an error of the driver means to the user; None where it means a mistake of ours."""
    cause = getattr(error, "orig", error)
    if isinstance(cause, sqlite3.Error) and str(cause).startswith("unsafe use of "):
        return StorageError(
            f"{path}: a trigger or view of yours is not allowed here ({cause}): SQLite may be told by nobody but its program"
            " what to run. Nothing was stored; write it without that function.",
            str(path),
            is_refusal=True,
        )
    is_odd = isinstance(cause, sqlite3.Error) and _MISSING.match(str(cause))
    if is_odd or isinstance(cause, UnicodeDecodeError):  # SQLite quotes what it cannot understand
        return StorageError(
            f"{path}: the file is damaged: its tables are not as they were made ({cause}). Restore a backup.",
            str(path),
            is_final=True,
        )
    if not isinstance(cause, sqlite3.Error):
        return None
    code = _code(cause)
    meaning = _MEANINGS.get(code)
    if meaning is None:
        return None
    kind, text = meaning
    is_final = code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)
    is_refusal = code == sqlite3.SQLITE_CONSTRAINT
    said = f"{path}: " + text.format(error=cause, seconds=lock_timeout_s)
    return kind(said, str(path), is_final=is_final, is_refusal=is_refusal)


def translate_for_people(error: Exception, engine: Engine, path: Path, lock_timeout_s: float) -> StorageError | None:
    """As `translate`, of the user's own statements on this engine: their mistakes stay what they are."""
    cause = getattr(error, "orig", error if isinstance(error, UnicodeDecodeError) else None)
    if cause is None:  # another database's error, or none of a database
        return None
    code = _code(cause)
    if code == sqlite3.SQLITE_READONLY:
        return StorageError(f"{path}: reading() cannot write ({error}). Use a connection of your own.", str(path))
    if code in (0, sqlite3.SQLITE_ERROR) and _is_whole(engine):
        return None
    return translate(error, path, lock_timeout_s)


def _is_whole(engine: Engine) -> bool:
    """Tell whether all tables and views can be asked: none of their definitions is damaged."""
    try:
        with engine.connect() as connection:
            for table in (*tables.metadata.tables.values(), *tables.views.tables.values()):
                connection.execute(select(table).limit(0))
    except (DatabaseError, UnicodeDecodeError):
        return False
    return True


def left_out() -> sqlite3.Error:
    """Return what SQLite does not raise where a trigger leaves out a row, by RAISE(IGNORE)."""
    error = sqlite3.IntegrityError("a trigger has left out the row")
    error.sqlite_errorcode = sqlite3.SQLITE_CONSTRAINT
    return error


def is_unclear(error: BaseException) -> bool:
    """Tell whether a commit that failed with this error may have happened all the same."""
    return isinstance(error, sqlite3.Error) and _code(error) not in (
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CONSTRAINT,
    )


def is_broken(error: BaseException) -> bool:
    """Tell whether a connection had better be opened anew after this error."""
    return _code(getattr(error, "orig", error)) in (
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_PROTOCOL,
    )


def _code(error: object) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


_Meaning = tuple[type[StorageError], str]
_MEANINGS: dict[int, _Meaning] = {
    sqlite3.SQLITE_BUSY: (
        DatabaseBusy,
        "others held it for {seconds:g} s ({error}). Nothing was stored; try again, or raise lock_timeout.",
    ),
    sqlite3.SQLITE_LOCKED: (DatabaseBusy, "others held it for {seconds:g} s ({error}). Nothing was stored; try again."),
    sqlite3.SQLITE_NOTADB: (NotADatabase, "this file is no SQLite database. It was left untouched; pass another path."),
    sqlite3.SQLITE_FULL: (StorageFull, "the disk is full. Nothing was stored; free some space and try again."),
    sqlite3.SQLITE_READONLY: (StorageError, "the file or its folder may not be written ({error})."),
    sqlite3.SQLITE_CANTOPEN: (StorageError, "it cannot be opened ({error}). Look at the path and who may write there."),
    sqlite3.SQLITE_IOERR: (StorageError, "reading or writing failed ({error}). Whether the change was stored is not known."),
    sqlite3.SQLITE_CORRUPT: (StorageError, "the file is damaged ({error}). Restore a backup, or try sqlite3's .recover."),
    sqlite3.SQLITE_CONSTRAINT: (
        StorageError,
        "a constraint or a trigger refused the change ({error}). Nothing was stored; look at the row and at your own triggers.",
    ),
    sqlite3.SQLITE_PERM: (StorageError, "the file may not be used ({error})."),
    sqlite3.SQLITE_PROTOCOL: (StorageError, "its locks do not work ({error})."),
}
