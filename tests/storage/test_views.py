"""The views that people read with any SQL client: stable columns, and the right figures."""

from __future__ import annotations

import sqlite3
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from schedfactory import Scheduler, tables

Client = sqlite3.Connection

HISTORY = [
    "id", "task", "queue", "priority", "status", "reason", "args", "run_at", "created_at", "started_at", "finished_at",
    "wait_ms", "run_ms", "attempt", "result", "error",
]  # fmt: skip


@pytest.fixture
def shop(still: Scheduler, clock: Any) -> Scheduler:
    """A scheduler whose jobs take time by the clock that the test moves."""

    @still.task(name="work", queue="web", retry=2)
    def work(how: str) -> str:
        clock.advance(seconds=1, milliseconds=250.5)
        if how == "fail":
            raise OSError("no")
        return how

    return still


def read(client: Client, sql: str) -> list[dict[str, Any]]:
    cursor = client.execute(sql)
    return [dict(zip([column[0] for column in cursor.description], row)) for row in cursor]


def test_the_history_has_the_documented_columns_in_order(client: Client) -> None:
    columns = [column[0] for column in client.execute("SELECT * FROM schedfactory_history").description]
    assert columns == HISTORY == [column.name for column in tables.history.columns]


def test_the_history_tells_every_job_with_its_times(shop: Scheduler, client: Client, clock: Any) -> None:
    clock.now = clock.now.replace(hour=23, minute=59, second=59, microsecond=900_000)
    shop.remote("work").options(queue="web", priority=3, delay="10s").enqueue(how="well")
    shop.remote("work").options(delay="1d").enqueue(how="later")
    clock.advance(seconds=10.5)
    shop.run_due()
    done, later = read(client, "SELECT * FROM schedfactory_history ORDER BY id")
    assert done == {
        "id": 1, "task": "work", "queue": "web", "priority": 3, "status": "succeeded", "reason": None,
        "args": '{"how":"well"}', "run_at": "2026-01-03 00:00:09.900000", "created_at": "2026-01-02 23:59:59.900000",
        "started_at": "2026-01-03 00:00:10.400000", "finished_at": "2026-01-03 00:00:11.650500",
        "wait_ms": pytest.approx(500), "run_ms": pytest.approx(1250.5), "attempt": 1, "result": '"well"', "error": None,
    }  # fmt: skip
    assert (later["status"], later["wait_ms"], later["run_ms"], later["attempt"]) == ("scheduled", None, None, 0)


def test_times_in_views_are_text_that_sqlites_functions_understand(shop: Scheduler, client: Client) -> None:
    shop.remote("work").enqueue(how="well")
    shop.run_due()
    (row,) = read(
        client, "SELECT date(run_at) AS day, julianday(finished_at) > julianday(started_at) AS later FROM schedfactory_history"
    )
    assert row == {"day": "2026-01-02", "later": 1}


def test_the_failures_are_every_attempt_that_failed_the_newest_first(shop: Scheduler, client: Client, clock: Any) -> None:
    job = shop.remote("work").options(queue="web").enqueue(how="fail")
    shop.remote("work").enqueue(how="well")
    while shop.run_due():
        clock.advance(hours=1)
    rows = read(client, "SELECT * FROM schedfactory_failures")
    assert list(rows[0]) == [column.name for column in tables.failures.columns]
    assert [(row["job_id"], row["attempt"], row["job_status"], row["error"]) for row in rows] == [
        (job.id, 2, "failed", "OSError: no"),
        (job.id, 1, "failed", "OSError: no"),
    ]
    assert {(row["task"], row["queue"], row["args"]) for row in rows} == {("work", "web", '{"how":"fail"}')}
    assert all('raise OSError("no")' in row["traceback"] for row in rows)


def test_a_snooze_and_a_cancel_are_no_failures(still: Scheduler, client: Client) -> None:
    from schedfactory import Cancel, Snooze

    said: list[BaseException] = [Snooze(0), Cancel("no")]

    @still.task(name="speak")
    def speak() -> None:
        raise said.pop(0)

    speak.enqueue()
    assert still.run_due() == 2
    assert read(client, "SELECT * FROM schedfactory_failures") == []


def test_the_queue_stats_count_each_status_of_each_queue(shop: Scheduler, client: Client, clock: Any) -> None:
    work, other = shop.remote("work").options(queue="web"), shop.remote("nobody knows")
    for how in ("well", "well", "fail"):
        work.enqueue(how=how)
    while shop.run_due():
        clock.advance(hours=1)
    work.options(delay="9h").enqueue(how="well")
    other.enqueue()
    other.options(queue="mail").enqueue().cancel()
    client.execute(
        "INSERT INTO schedfactory_jobs (task, queue, status) VALUES ('x', 'mail', 'waiting'), ('x', 'mail', 'running')"
    )
    rows = read(client, "SELECT * FROM schedfactory_queue_stats ORDER BY queue")
    assert list(rows[0]) == ["queue", "waiting", "scheduled", "queued", "running", "succeeded", "failed", "cancelled"]
    assert [tuple(row.values()) for row in rows] == [
        ("default", 0, 0, 1, 0, 0, 0, 0),
        ("mail", 1, 0, 0, 1, 0, 0, 1),
        ("web", 0, 1, 0, 0, 2, 1, 0),
    ]
    assert {status: sum(row[status] for row in rows) for status in shop.counts()} == shop.counts()


def test_sqlalchemy_reads_tables_and_views(shop: Scheduler) -> None:
    shop.remote("work").enqueue(how="well")
    shop.run_due()
    with shop.reading() as connection:
        assert connection.execute(select(tables.history.c.task, tables.history.c.run_ms)).all() == [("work", 1250.5)]
        assert connection.execute(select(tables.jobs.c.status)).scalar_one() == "succeeded"
        assert connection.execute(select(tables.queue_stats.c.succeeded)).scalar_one() == 1
        assert connection.execute(select(tables.failures)).all() == []


def test_a_length_is_right_to_the_microsecond_at_the_end_of_a_second_too(client: Client) -> None:
    last, first, next_year = "2026-02-28 23:59:59.999999", "2026-03-01 00:00:00.000000", "2027-02-28 23:59:59.999999"
    client.executemany(
        "INSERT INTO schedfactory_jobs (task, run_at, started_at, finished_at) VALUES ('x', ?, ?, ?)",
        [(last, first, next_year), (first, next_year, next_year), (last, last, first)],
    )
    year_ms = timedelta(days=365).total_seconds() * 1000
    rows = [(row["wait_ms"], row["run_ms"]) for row in read(client, "SELECT * FROM schedfactory_history ORDER BY id")]
    expected = [(0.001, year_ms - 0.001), (year_ms - 0.001, 0), (0, 0.001)]
    assert rows == [(pytest.approx(wait, abs=1e-4), pytest.approx(run, abs=1e-4)) for wait, run in expected]
