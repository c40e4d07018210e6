"""Where features join in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection

from schedfactory.model.task import Call
from schedfactory.storage.finish import Ended
from schedfactory.storage.statement import Row

Due = Callable[[int], list[Row]]
Fits = Callable[[Row, Sequence[Row]], bool]


@dataclass
class Intake:
    """What one enqueue brings, or several that share a commit: calls and their rows, which a feature may change.

    Attributes:
        existing: by the index of a call, the id of a job that answers in the place of a new one.
        twins: by the index of a call, that of an earlier one whose job answers for it, too.
    """

    calls: Sequence[Call[Any]]
    rows: list[Row]
    existing: dict[int, int] = field(default_factory=dict)
    twins: dict[int, int] = field(default_factory=dict)


class Shape(NamedTuple):
    """Which rows may start, the best first, and when to look again, where that is known; at once where that has passed."""

    rows: list[Row]
    again_at: datetime | None = None


class Feature:
    """A guest in the journey of jobs: it says what it needs to at the seams whose methods it has.

    Each is called inside a write transaction, which the caller commits, and may have to run again after a rollback: what a
    feature must not forget is a row.
    """

    def enqueuing(self, conn: Connection, intake: Intake, now: datetime) -> None:
        """Change what is about to be stored, or raise what refuses it."""

    def shape_claim(self, conn: Connection, due: Due, free: int, ahead: int, now: datetime, fits: Fits) -> Shape:  # noqa: ARG002
        """Return which due rows may start.

        Args:
            due: gives that many of the best rows that are due, or more.
            free: for how many there are workers.
            ahead: how many more may be claimed ahead of them.
            fits: tells whether a row has a slot of its queue on this node, beside those that are chosen.
        """
        return Shape(due(free + ahead))

    def claimed(self, conn: Connection, rows: Sequence[Row], now: datetime) -> None:
        """Note what has been claimed."""

    def finished(self, conn: Connection, ended: Sequence[Ended], now: datetime) -> None:
        """Note what has ended; the rows say so already."""

    def tick(self, conn: Connection, now: datetime) -> datetime | None:
        """Do what is due, a little of it, and return when to be called again; None: never."""


class Seams:
    """The features of a scheduler, by the seams at which they join in. An empty list costs nothing."""

    def __init__(self, features: Iterable[Feature] = ()) -> None:
        features = tuple(features)
        self.enqueuing = [one for one in features if _joins(one, Feature.enqueuing)]
        self.shaping = [one for one in features if _joins(one, Feature.shape_claim)]
        self.claimed = [one for one in features if _joins(one, Feature.claimed)]
        self.finished = [one for one in features if _joins(one, Feature.finished)]
        self.ticking = [one for one in features if _joins(one, Feature.tick)]

    def shape(self, conn: Connection, due: Due, free: int, ahead: int, now: datetime, fits: Fits) -> Shape:
        """Return which due rows may start, as all features see it."""
        again: list[datetime] = []
        for feature in self.shaping:
            due = _shaped(feature, conn, due, ahead, now, fits, again)
        return Shape(due(free + ahead), min(again, default=None))


def _shaped(feature: Feature, conn: Connection, due: Due, ahead: int, now: datetime, fits: Fits, again: list[datetime]) -> Due:
    def shaped(most: int) -> list[Row]:
        shape = feature.shape_claim(conn, due, most - ahead, ahead, now, fits)
        again.extend([] if shape.again_at is None else [shape.again_at])
        return shape.rows

    return shaped


def _joins(feature: Feature, seam: Callable[..., Any]) -> bool:
    return getattr(type(feature), seam.__name__) is not seam
