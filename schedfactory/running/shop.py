"""What every node of a scheduler works with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from schedfactory.model.clock import Clock
from schedfactory.model.registry import TaskRegistry
from schedfactory.running.reporter import Reporter
from schedfactory.running.waiting import Waiting
from schedfactory.storage.database import Database
from schedfactory.storage.seams import Seams

Flag = Callable[[Sequence[int]], None]


@dataclass(frozen=True)
class Shop:
    """The parts that a scheduler lends to its nodes."""

    database: Database
    tasks: TaskRegistry
    clock: Clock
    reporter: Reporter
    waiting: Waiting
    owner: object
    max_result: int
    lease_s: float
    seams: Seams
    flags: list[Flag]
    capture: int | None = None
