"""A feature joins in by having the methods of the seams; nothing else in the house knows of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from schedfactory import Scheduler
from schedfactory.model.running_job import CLAIMED
from schedfactory.storage.enqueue import QUEUE, store_together, to_rows
from schedfactory.storage.finish import Ended
from schedfactory.storage.seams import Due, Feature, Fits, Intake, Seams, Shape
from schedfactory.storage.statement import Row

_ID, _TAGS = CLAIMED.index("id"), CLAIMED.index("tags")


class Everywhere(Feature):
    """Refuses one queue, holds back what is marked, and writes down the rest."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, list[int]]] = []
        self.is_open = False

    def enqueuing(self, conn: Any, intake: Intake, now: datetime) -> None:
        if any(row[QUEUE] == "forbidden" for row in intake.rows):
            raise PermissionError("not here")

    def shape_claim(self, conn: Any, due: Due, free: int, ahead: int, now: datetime, fits: Fits) -> Shape:
        rows = [row for row in due(free + ahead + 10) if self.is_open or row[_TAGS] is None]
        return Shape(rows[: free + ahead], now + timedelta(minutes=1))

    def claimed(self, conn: Any, rows: Sequence[Row], now: datetime) -> None:
        self.seen.append(("claimed", [row[_ID] for row in rows]))

    def finished(self, conn: Any, ended: Sequence[Ended], now: datetime) -> None:
        self.seen.append(("finished", [job.id for job, _, _ in ended]))

    def tick(self, conn: Any, now: datetime) -> datetime | None:
        self.seen.append(("tick", []))
        return None


@pytest.fixture
def guest(still: Scheduler) -> Everywhere:
    found = Everywhere()
    still._house.seams = Seams([found])
    return found


def work() -> None: ...


def test_what_a_feature_refuses_is_not_stored(still: Scheduler, guest: Everywhere) -> None:
    task = still.task(name="work")(work)
    with pytest.raises(PermissionError, match="not here"):
        still.enqueue_many([task.call(), task.options(queue="forbidden").call()])
    assert still.jobs() == []


def test_a_feature_may_answer_for_a_call_of_one_of_the_enqueues_that_share_a_commit(still: Scheduler) -> None:
    there = still.remote("there").enqueue()

    class Answering(Feature):
        def enqueuing(self, conn: Any, intake: Intake, now: datetime) -> None:
            intake.existing |= {index: there.id for index, call in enumerate(intake.calls) if call.task == "there"}

    now = still._house.clock()
    enqueues = [[still.remote(name).call() for name in names] for names in (["new"], ["new", "there"])]
    arrivals = [(calls, to_rows(calls, now), Seams([Answering()]), now) for calls in enqueues]
    first, second = still._house.database.write(lambda conn: store_together(conn, arrivals))
    assert ([*first.ids], [*second.ids]) == ([there.id + 1], [there.id + 2, there.id])
    assert (first.known.keys(), second.known.keys()) == (set(), {1})


def test_a_feature_is_told_of_claims_and_ends(still: Scheduler, guest: Everywhere) -> None:
    job = still.task(name="work")(work).enqueue()
    still.run_due()
    assert [one for one in guest.seen if one[0] != "tick"] == [("claimed", [job.id]), ("finished", [job.id])]


def test_what_a_feature_holds_back_waits_and_lets_others_pass(still: Scheduler, guest: Everywhere) -> None:
    task = still.task(name="work")(work)
    marked = task.options(tags=["later"], priority=9).enqueue()
    other = task.enqueue()
    assert still.run_due() == 1
    assert (marked.refresh().status, other.refresh().status) == ("queued", "succeeded")
    guest.is_open = True
    assert still.run_due() == 1
    assert marked.refresh().status == "succeeded"


def test_a_feature_is_called_now_and_then_until_it_says_never(scheduler: Scheduler, noop: Any) -> None:
    guest = Everywhere()
    scheduler._house.seams = Seams([guest])
    with scheduler.running(workers=1):
        noop.enqueue().wait("20s")
        noop.enqueue().wait("20s")
    assert [what for what, _ in guest.seen].count("tick") == 1


def test_a_method_that_a_feature_does_not_have_is_no_seam(still: Scheduler) -> None:
    class Idle(Feature):
        def tick(self, conn: Any, now: datetime) -> datetime | None:
            return None

    seams = Seams([Idle()])
    assert [len(one) for one in (seams.enqueuing, seams.shaping, seams.claimed, seams.finished, seams.ticking)] == [
        0,
        0,
        0,
        0,
        1,
    ]
