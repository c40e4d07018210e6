"""What `keep` says: finished jobs go by themselves after their time, and nothing else does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from schedfactory import Fail, Scheduler
from schedfactory.features import retention
from schedfactory.running.waiting import Waiting

ENDS = ("succeeded", "failed", "cancelled")
DAYS = (0, 1, 2, 3, 10, 20, 30, 90, 4_000)


@pytest.fixture
def make(path: Path, clock: Any) -> Iterator[Callable[..., Scheduler]]:
    """Make a scheduler with this `keep`, and a task `work` with that one."""
    made: list[Scheduler] = []

    def start(of_task: Any = None, **given: Any) -> Scheduler:
        scheduler = Scheduler(path, clock=clock, **given)
        made.append(scheduler)
        scheduler.task(name="work", aliases=["older"], keep=of_task)(work)
        return scheduler

    yield start
    for scheduler in made:
        scheduler.close()


def work(how: str) -> None:
    if how == "failed":
        raise Fail("as it was told")


def ended(scheduler: Scheduler, name: str = "work") -> None:
    """Make a job of each end, now, and one that has not ended and so stays, whatever its age."""
    for how in ENDS:
        job = scheduler.remote(name).enqueue(how=how)
        if how == "cancelled":
            job.cancel()
    scheduler.run_due()
    scheduler.remote(name).options(delay="9999d").enqueue(how="later")


def walk(scheduler: Scheduler, clock: Any) -> None:
    """Do what a running node does from time to time, until there is a pause."""
    house = scheduler._house
    walker = next(one for one in house.seams.ticking if isinstance(one, retention.Retention))
    while house.database.write(lambda conn: walker.tick(conn, clock.now)) == clock.now:
        pass


def left(scheduler: Scheduler) -> list[str]:
    return [job.status for job in reversed(scheduler.jobs()) if job.is_finished]


def days_kept(scheduler: Scheduler, clock: Any, name: str = "work") -> dict[str, float]:
    """Return after how many days a job of each end was gone; what was there for ever is not in it."""
    ended(scheduler, name)
    began, found = clock.now, {}
    there = set(left(scheduler))
    assert there == set(ENDS)
    for day in DAYS:
        clock.now = began + timedelta(days=day)
        walk(scheduler, clock)
        assert set(left(scheduler)) == there, "it went too early, or too late"
        clock.now += timedelta(microseconds=1)
        walk(scheduler, clock)
        found |= dict.fromkeys(there - set(left(scheduler)), day)
        there = set(left(scheduler))
    assert scheduler.counts()["scheduled"] == 1
    return found


def test_without_keep_finished_jobs_stay_30_days_and_failed_ones_90(make: Any, clock: Any) -> None:
    assert days_kept(make(), clock) == {"succeeded": 30, "cancelled": 30, "failed": 90}


def test_keep_says_for_each_final_status_how_long_its_jobs_stay_and_none_is_for_ever(make: Any, clock: Any) -> None:
    assert days_kept(make(keep={"succeeded": "2d", "cancelled": 0, "failed": None}), clock) == {"succeeded": 2, "cancelled": 0}


@pytest.mark.parametrize("said", ENDS)
def test_a_status_that_keep_leaves_out_has_its_usual_time(make: Any, clock: Any, said: str) -> None:
    usual = {"succeeded": 30, "cancelled": 30, "failed": 90}
    assert days_kept(make(keep={said: "1d"}), clock) == usual | {said: 1}


def test_keep_as_one_duration_counts_for_all_three(make: Any, clock: Any) -> None:
    assert days_kept(make(keep="3d"), clock) == dict.fromkeys(ENDS, 3)


def test_keep_none_keeps_everything(make: Any, clock: Any) -> None:
    assert days_kept(make(keep=None), clock) == {}


@pytest.mark.parametrize("name", ["work", "older"])
@pytest.mark.parametrize("of_scheduler", ["10d", None])
def test_the_keep_of_a_task_stands_over_the_schedulers_also_for_its_aliases(
    make: Any, clock: Any, of_scheduler: Any, name: str
) -> None:
    scheduler = make(keep=of_scheduler, of_task={"succeeded": "20d", "failed": None, "cancelled": "1d"})
    assert days_kept(scheduler, clock, name) == {"succeeded": 20, "cancelled": 1}


def test_the_keep_of_a_task_leaves_the_jobs_of_others_to_the_scheduler(make: Any, clock: Any) -> None:
    scheduler = make(keep="10d", of_task="1d")
    scheduler.task(name="other")(other)
    assert days_kept(scheduler, clock, "other") == dict.fromkeys(ENDS, 10)


def other(how: str) -> None:
    work(how)


def test_the_highest_row_stays_whatever_keep_says(make: Any, clock: Any) -> None:
    scheduler = make(keep=0)
    first, last = [scheduler.remote("work").enqueue(how="") for _ in range(2)]
    scheduler.run_due()
    clock.advance(days=1)
    walk(scheduler, clock)
    assert scheduler.jobs() == [last.refresh()]
    assert scheduler.remote("work").enqueue(how="").id == last.id + 1 > first.id + 1


def test_what_keep_says_is_done_a_window_of_ids_at_a_time(make: Any, clock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "WINDOW", 4)
    scheduler = make(keep="1d")
    scheduler.enqueue_many([scheduler.remote("work").call(how="") for _ in range(11)])
    scheduler.run_due()
    clock.advance(days=2)
    house = scheduler._house
    walker = next(one for one in house.seams.ticking if isinstance(one, retention.Retention))
    counted, again = [], []
    for _ in range(4):
        again.append(house.database.write(lambda conn: walker.tick(conn, clock.now)) - clock.now)
        counted.append(len(scheduler.jobs()))
    assert counted == [7, 3, 1, 1]
    assert again[:2] == [timedelta()] * 2
    assert again[2] > timedelta()  # then it is left alone for a while


def test_the_totals_of_a_status_do_not_count_what_keep_took(make: Any, clock: Any) -> None:
    scheduler = make(keep="1d")
    ended(scheduler)
    clock.advance(days=2)
    walk(scheduler, clock)
    assert [scheduler.counts()[status] for status in ENDS] == [0, 0, 0]


def test_a_running_node_does_by_itself_what_keep_says(make: Any, clock: Any) -> None:
    scheduler = make(keep="1d")
    ended(scheduler)
    clock.advance(days=2)
    with scheduler.running(workers=1):
        assert Waiting().until(0, lambda: not left(scheduler) or None, lambda: None, 20.0)
