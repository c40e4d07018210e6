"""What the drivers of PostgreSQL's peers share: the level of durability, and rows copied by SQL."""

from __future__ import annotations

from collections.abc import Callable

# "normal" as SQLite's: a crash of any process loses nothing, power loss may take the newest commits.
LEVELS = {"full": "-c synchronous_commit=on", "normal": "-c synchronous_commit=off"}


def level_of(show: Callable[[str], str]) -> dict[str, str]:
    return {"journal": f"fsync {show('fsync')}", "synchronous": f"synchronous_commit {show('synchronous_commit')}"}


def clone_statement(table: str, columns: list[str], where: str, changes: dict[str, str], count: int) -> str:
    """Return SQL that puts copies of one row beside it."""
    values = ", ".join(changes.get(name, name) for name in columns)
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) SELECT {values} "
        f"FROM (SELECT * FROM {table} WHERE {where} ORDER BY id DESC LIMIT 1) AS one, generate_series(1, {count}) AS i"
    )
