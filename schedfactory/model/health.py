"""Whether a scheduler does its work, at a glance; and what a closer look found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

DispatcherState = Literal["running", "paused", "stopped", "stopping", "failed"]


@dataclass(frozen=True, slots=True)
class Health:
    """The state of this process's part of the factory. Nothing is read from the database for it.

    Attributes:
        ok: nothing is wrong; a scheduler that was not started is well, too.
        problems: what is wrong, a sentence each.
        dispatcher: "running", "paused" (on someone's order), "stopped", "stopping" (code still runs after a stop) or
            "failed" (it stopped for good).
        workers: worker threads that can take jobs.
        busy: jobs in hand.
        leftovers: attempts that ended by a timeout and whose code still runs.
        unsaved: attempts that have ended and whose end is not stored yet.
        database: "ok", which an SQLite with a known fault follows in brackets, or what the database said last.
    """

    ok: bool
    problems: tuple[str, ...]
    dispatcher: DispatcherState
    workers: int
    busy: int
    leftovers: int
    unsaved: int
    database: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that `doctor()` found; as text it is its `text`.

    Attributes:
        code: "sqlite", "filesystem", "permissions", "damaged", "newer_schema", "log", "counters", "orphans", "tasks" or
            "arguments".
        text: what it is, which value, and what to do.
    """

    code: Literal[
        "sqlite", "filesystem", "permissions", "damaged", "newer_schema", "log", "counters", "orphans", "tasks", "arguments"
    ]
    text: str

    def __str__(self) -> str:
        return self.text
