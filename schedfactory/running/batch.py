"""What one round of a dispatcher is about."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from schedfactory.model.running_job import RunningJob
from schedfactory.running.desk import Seat
from schedfactory.storage.finish import Ended
from schedfactory.storage.statement import Row


@dataclass
class Batch:
    """What one round brings to the database, and what it finds there."""

    now: datetime
    ended: list[Ended] = field(default_factory=list)
    noted: list[RunningJob] = field(default_factory=list)
    released: list[RunningJob] = field(default_factory=list)
    stale: list[RunningJob] = field(default_factory=list)
    labelled: list[RunningJob] = field(default_factory=list)
    seats: list[Seat] = field(default_factory=list)
    claimed: list[Row] = field(default_factory=list)
    lost: list[RunningJob] = field(default_factory=list)
    cancelled: list[int] = field(default_factory=list)
    expired: list[int] = field(default_factory=list)
    kept: list[Ended] = field(default_factory=list)
    is_apart: bool = False
    has_more: bool = False
    next_at: datetime | None = None
    seen: int | None = None
