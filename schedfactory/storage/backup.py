"""A copy of the whole database, made while others write to it.

By SQLite's backup interface in one step: it reads one snapshot, holds up no writer, and copies page by page, so that all
is as it was. VACUUM INTO would build it anew, which takes longer, needs a connection that may write, and may change the
rowids of tables that others keep in the file.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import cast

from schedfactory.model.errors import StorageError, StorageFull
from schedfactory.storage import sqlite
from schedfactory.storage.database import Database


def copy(database: Database, target: Path) -> Path:
    """Copy the database to a new file, which gets its name once it is whole, checked and synced.

    Raises:
        FileExistsError: there is something of that name, or the log or locks of what was.
        StorageError, StorageFull: it could not be made; nothing is left of it.
    """
    target = target.absolute()
    for taken in (target, *(Path(f"{target}{end}") for end in ("-wal", "-journal", "-shm", "-nodes"))):
        if os.path.lexists(taken):  # the log of an earlier file of that name would be carried out on this one
            raise FileExistsError(_TAKEN.format(taken))
    unfinished = Path(f"{target}.{secrets.token_hex(4)}.unfinished")
    with _telling(database, target):
        try:
            database.open()
            os.close(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            _fill(unfinished, database, target)
            unfinished.chmod(stat.S_IMODE(database.path.stat().st_mode))
            _sync(unfinished)
            _name(unfinished, target)
        finally:
            unfinished.unlink(missing_ok=True)
    return target


_TAKEN = "{} is there already, and a backup replaces nothing. Pass another path."


@contextmanager
def _telling(database: Database, target: Path) -> Iterator[None]:
    """Say what an error means for the backup."""
    try:
        yield
    except FileExistsError as error:
        raise FileExistsError(_TAKEN.format(target)) from error
    except (OSError, sqlite3.Error) as error:
        kind = StorageFull if sqlite.is_full(error) else StorageError
        raise kind(f"{database.path} could not be copied to {target}: {error}. No copy was left.", str(target)) from error


def _fill(file: Path, database: Database, target: Path) -> None:
    # Nobody else knows this file: it needs no locks, which a network share may lack, and no journal.
    with closing(sqlite3.connect(f"{file.as_uri()}?nolock=1", uri=True, isolation_level=None)) as copy:
        copy.execute("PRAGMA journal_mode=OFF").close()
        copy.execute("PRAGMA synchronous=OFF").close()
        with database.read() as conn, _telling(database, target):
            cast("sqlite3.Connection", conn.connection.driver_connection).backup(copy)
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro&immutable=1", uri=True)) as copy:
        said = copy.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if said != "ok":
        raise sqlite3.DatabaseError(
            f"it is damaged ({' '.join(said.split())}); restore an earlier backup, or try sqlite3's .recover"
        )


def _name(unfinished: Path, target: Path) -> None:
    """Give a file its name for good, unless another has that already."""
    try:
        os.link(unfinished, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without links: take the name first, then put the copy in its place
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        os.replace(unfinished, target)  # which does nothing where both are one file already
        _sync(target.parent)
    except BaseException:
        target.unlink()
        raise


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
