"""Jobs as people look for them."""

from __future__ import annotations

import sqlite3
from datetime import timedelta
from typing import Any

import pytest

from schedfactory import Scheduler
from schedfactory.model.job import STATUSES

Client = sqlite3.Connection


@pytest.fixture
def some(still: Scheduler, clock: Any) -> list[Any]:
    """Ten jobs, a minute apart, of two tasks and queues; the first four have ended."""
    still.task(name="even")(idle)
    jobs = []
    for n in range(10):
        task = still.remote("even" if n % 2 == 0 else "odd")
        jobs.append(task.options(queue="low" if n < 5 else "high", tags=["all", f"t{n}"]).enqueue())
        clock.advance(minutes=1)
    still.run_due(limit=2)
    still.cancel(2)
    clock.advance(minutes=1)
    still.cancel(4)
    return [job.refresh() for job in jobs]


def idle() -> None: ...


def ids(jobs: list[Any]) -> list[int]:
    return [job.id for job in jobs]


FILTERS = {
    "nothing": ({}, [10, 9, 8, 7, 6, 5, 4, 3, 2, 1]),
    "status": ({"status": "succeeded"}, [3, 1]),
    "a list of statuses": ({"status": ["succeeded", "cancelled"]}, [4, 3, 2, 1]),
    "statuses of no job": ({"status": ("running", "waiting")}, []),
    "task": ({"task": "odd"}, [10, 8, 6, 4, 2]),
    "task with quotes": ({"task": 'it\'s "quoted"'}, []),
    "queue": ({"queue": "low"}, [5, 4, 3, 2, 1]),
    "tag": ({"tag": "t7"}, [8]),
    "a part of a tag": ({"tag": "t"}, []),
    "four at once, of no job": ({"task": "odd", "queue": "low", "status": "queued", "tag": "all"}, []),
    "four at once": ({"task": "even", "queue": "low", "status": "queued", "tag": "all"}, [5]),
    "limit": ({"limit": 3}, [10, 9, 8]),
    "before_id": ({"before_id": 4}, [3, 2, 1]),
    "limit and before_id": ({"limit": 3, "before_id": 8}, [7, 6, 5]),
    "before_id of the first": ({"before_id": 1}, []),
}


@pytest.mark.parametrize(("filters", "expected"), FILTERS.values(), ids=FILTERS)
def test_all_filters_must_match_and_the_newest_comes_first(
    still: Scheduler, some: list[Any], filters: Any, expected: Any
) -> None:
    assert ids(still.jobs(**filters)) == expected


def test_pages_by_before_id_follow_one_another_without_gaps(still: Scheduler, some: list[Any]) -> None:
    pages, before = [], None
    while page := still.jobs(limit=4, before_id=before):
        pages.append(ids(page))
        before = page[-1].id
        some[0].requeue()
        still.remote("odd").enqueue()  # what comes meanwhile does not shift them
    assert pages == [[10, 9, 8, 7], [6, 5, 4, 3], [2, 1]]


def test_without_a_limit_a_hundred_are_given(still: Scheduler) -> None:
    still.enqueue_many([still.remote("x").call() for _ in range(120)])
    assert len(still.jobs()) == 100
    assert len(still.jobs(limit=1000)) == 120


def test_created_after_and_finished_after_are_exclusive(still: Scheduler, some: list[Any]) -> None:
    at = some[6].created_at
    assert ids(still.jobs(created_after=at)) == [10, 9, 8]
    assert ids(still.jobs(created_after=at - timedelta(microseconds=1))) == [10, 9, 8, 7]
    assert ids(still.jobs(created_after=at.in_timezone("Asia/Kathmandu").isoformat())) == [10, 9, 8]
    ended = some[1].finished_at
    assert ids(still.jobs(finished_after=ended)) == [4]
    assert ids(still.jobs(finished_after=ended - timedelta(microseconds=1))) == [4, 3, 2, 1]


@pytest.mark.parametrize(
    ("filters", "kind", "says"),
    [
        ({"status": "done"}, ValueError, "status='done' is unknown.*succeeded"),
        ({"status": ["queued", "done"]}, ValueError, "status='done'"),
        ({"status": []}, ValueError, "matches nothing"),
        ({"limit": 0}, ValueError, "limit=0"),
        ({"limit": True}, ValueError, "limit=True"),
        ({"limit": "9"}, ValueError, "limit='9'"),
        ({"created_after": "2026-01-01T00:00:00"}, ValueError, "created_after=.*no time zone"),
        ({"finished_after": "yesterday"}, ValueError, "finished_after='yesterday'"),
        ({"finished_after": 5}, TypeError, "finished_after=5"),
        ({"args": {"x": object()}}, TypeError, "object"),
        ({"args": {"x": float("nan")}}, TypeError, "nan"),
        ({"nonsense": 1}, TypeError, "nonsense"),
    ],
)
def test_a_filter_that_makes_no_sense_is_refused(still: Scheduler, filters: Any, kind: Any, says: str) -> None:
    with pytest.raises(kind, match=says):
        still.jobs(**filters)


VALUES: list[Any] = [1, 0, True, False, None, "1", "", "a'b\"c", 1.5, -2, 2**60, [], [1], [1, "a"], {}, {"a": 1}, {"a": [True]}]


def test_the_filter_args_finds_an_argument_by_its_value_and_type(still: Scheduler) -> None:
    jobs = still.enqueue_many([still.remote("x").call(v=value) for value in VALUES])
    still.remote("x").enqueue(other=1)
    still.remote("x").enqueue()
    for job, value in zip(jobs, VALUES):
        assert ids(still.jobs(args={"v": value})) == [job.id], value


def test_all_that_the_filter_args_names_must_match(still: Scheduler) -> None:
    call = still.remote("x").call
    still.enqueue_many([call(a=1, b="x", c=[1]), call(a=1, b="y"), call(a=2, b="x")])
    assert ids(still.jobs(args={"a": 1})) == [2, 1]
    assert ids(still.jobs(args={"a": 1, "b": "x"})) == [1]
    assert ids(still.jobs(args={})) == [3, 2, 1]
    assert still.jobs(args={"a": 1, "nothing": None}) == []


def test_an_argument_left_at_its_default_is_not_found_and_a_float_does_not_find_an_integer(still: Scheduler) -> None:
    @still.task(name="add")
    def add(x: int, y: int = 1) -> None: ...

    add.enqueue(1)
    assert ids(still.jobs(args={"x": 1})) == [1]
    assert still.jobs(args={"y": 1}) == still.jobs(args={"x": 1.0}) == []


@pytest.mark.parametrize("name", ["user id", "a.b", 'say "x"', "ключ", "[0]", "$", "#", ""])
def test_an_argument_may_have_any_name(still: Scheduler, name: str) -> None:
    job = still.remote("x").enqueue(**{name: 1})
    still.remote("x").enqueue(v=1)
    assert ids(still.jobs(args={name: 1})) == [job.id]


def test_arguments_that_other_clients_wrote_are_found_whatever_their_layout(still: Scheduler, client: Client) -> None:
    client.execute("""INSERT INTO schedfactory_jobs (task, args) VALUES ('x', '{ "v" : [ 1, "a" ],\n "w": {"a": [true]}}')""")
    assert ids(still.jobs(args={"v": [1, "a"], "w": {"a": [True]}})) == [1]


@pytest.mark.parametrize("args", ["", "not json", '{"v": 1', "[1]", "5"])
def test_a_row_whose_arguments_are_no_object_does_not_break_a_search(still: Scheduler, client: Client, args: str) -> None:
    client.execute("INSERT INTO schedfactory_jobs (task, args) VALUES ('x', ?)", (args,))
    good = still.remote("x").enqueue(v=1)
    assert ids(still.jobs(args={"v": 1})) == [good.id]
    assert ids(still.jobs()) == [2, 1]
    assert "x scheduled" in repr(still.jobs()[1])
    assert still.cancel(args={"v": 1}) == 1


def test_counts_always_have_all_seven_statuses(still: Scheduler, client: Client) -> None:
    assert still.counts() == dict.fromkeys(STATUSES, 0)
    for number, status in enumerate(STATUSES[:4], 1):
        client.executemany("INSERT INTO schedfactory_jobs (task, status) VALUES ('x', ?)", [(status,)] * number)
    for status in STATUSES[4:]:
        client.execute("INSERT INTO schedfactory_totals VALUES ('a', ?, 5), ('b', ?, 6)", (status, status))
    assert still.counts() == {
        "waiting": 1, "scheduled": 2, "queued": 3, "running": 4, "succeeded": 11, "failed": 11, "cancelled": 11,
    }  # fmt: skip
    assert tuple(still.counts()) == STATUSES


def test_a_job_is_got_by_its_id(still: Scheduler, some: list[Any]) -> None:
    assert still.get(3) == some[2]
    assert [still.get(number) for number in (0, -1, 11, 2**63, 2**80)] == [None] * 5
    for wrong in ("3", 3.0, True, None):
        with pytest.raises(TypeError, match="job_id="):
            still.get(wrong)


@pytest.mark.parametrize("number", [2**63, 2**80])
def test_numbers_beyond_the_databases_match_nothing_and_cannot_be_searched_for(
    still: Scheduler, some: list[Any], number: int
) -> None:
    assert len(still.jobs(before_id=number)) == 10
    assert len(still.jobs(limit=number)) == 10
    assert still.cancel(number) == still.requeue(number) == 0
    with pytest.raises(ValueError, match="cannot be searched for"):
        still.jobs(args={"v": number})


def test_a_job_knows_all_its_attempts(still: Scheduler, client: Client, clock: Any) -> None:
    said = [OSError("one"), OSError("two")]

    @still.task(name="work", retry=3)
    def work() -> str:
        if said:
            raise said.pop(0)
        return "done"

    job = work.enqueue()
    assert job.attempts() == []
    while still.run_due():
        clock.advance(hours=1)
    found = job.refresh().attempts()
    assert [(a.number, a.status, a.reason, a.error) for a in found] == [
        (1, "failed", "error", "OSError: one"),
        (2, "failed", "error", "OSError: two"),
        (3, "succeeded", None, None),
    ]
    assert [a.traceback is None for a in found] == [False, False, True]
    assert all(a.started_at and a.finished_at and a.node and a.worker == 1 for a in found)
    assert len(client.execute("SELECT * FROM schedfactory_attempts").fetchall()) == 2
