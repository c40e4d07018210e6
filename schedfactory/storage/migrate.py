"""The schema, by Alembic's migrations only. The version row is read first: to import Alembic costs 0.1 s."""

from __future__ import annotations

import io
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from schedfactory.model.errors import SchemaTooNew, SchemaTooOld

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection

_REVISION = re.compile(r"(\d{4})_\w+\.py")


def folder() -> Path:
    """Return where the migrations are: inside the wheel, or beside the package in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "_migrations"
    return inside if inside.is_dir() else package.parent / "migrations"


@cache
def head() -> str:
    """Return the newest revision that this process knows, also once a newer version has been installed beside it."""
    found = (_REVISION.fullmatch(file.name) for file in (folder() / "versions").iterdir())
    return max(match[1] for match in found if match)


def revision(driver: sqlite3.Connection) -> str | None:
    """Return the revision that the tables have, None where there are none."""
    if not driver.execute("SELECT 1 FROM sqlite_master WHERE name = 'schedfactory_version'").fetchone():
        return None
    found = driver.execute("SELECT max(version_num) FROM schedfactory_version").fetchone()[0]
    return None if found is None else str(found)


def is_current(driver: sqlite3.Connection) -> bool:
    """Tell whether the tables are what this version expects."""
    return revision(driver) == head()


def refuse_newer(found: str | None, path: str) -> None:
    """Let pass a revision that this version knows.

    Raises:
        SchemaTooNew: a newer one made it.
    """
    if found is not None and found > head():
        raise SchemaTooNew(
            f"{path} has the schema {found}, and this version knows {head()} at most. Install a newer schedfactory.",
            path,
            is_final=True,
        )


def refuse(driver: sqlite3.Connection, path: str, may_migrate: bool) -> None:
    """Let pass only a schema that may be brought up to date.

    Raises:
        SchemaTooNew: a newer version made it.
        SchemaTooOld: it is older, or missing, and must not be changed.
    """
    found, newest = revision(driver), head()
    refuse_newer(found, path)
    if not may_migrate:
        has = f"the schema {found}" if found else "no schedfactory tables"
        raise SchemaTooOld(
            f"{path} has {has}, and this version needs {newest}. Run `schedfactory migrate`, or pass migrate=True.", path
        )


def refuse_missing(path: str) -> None:
    """Say that there is no file, and that none may be made.

    Raises:
        SchemaTooOld: always.
    """
    raise SchemaTooOld(
        f"{path} is missing. Name the file that is meant, or make it: run `schedfactory migrate`, or pass migrate=True.", path
    )


def upgrade(connection: Connection) -> None:
    """Bring the tables up to date, inside the caller's transaction."""
    from alembic import command

    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def script() -> str:
    """Return the SQL that makes the tables from nothing, as it stands."""
    from alembic import command

    config = _config()
    config.output_buffer = io.StringIO()
    command.upgrade(config, "head", sql=True)
    return config.output_buffer.getvalue()


@contextmanager
def by_hand(database: str | None) -> Iterator[Connection]:
    """Give the `alembic` command a connection that holds the write lock, and commit at the end."""
    from schedfactory.model.clock import Monotonic
    from schedfactory.storage import sqlite

    path = sqlite.path_of(sqlite.to_url(database or os.environ.get("SCHEDFACTORY_DATABASE") or "schedfactory.db"))
    sqlite.make_file(path)
    engine = sqlite.make_engine(path, "full", 30)
    with engine.connect() as connection:
        driver = sqlite.take_over(connection)
        sqlite.make_writable(driver, Monotonic.now() + 30)
        sqlite.begin_immediate(driver, Monotonic.now() + 30)
        yield connection
        sqlite.commit(driver, Monotonic.now() + 30)
    engine.dispose()


def _config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(folder()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
