"""An INSERT from any client is a valid enqueue."""

from __future__ import annotations

import sqlite3
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schedfactory import Retry, Scheduler, StorageError
from schedfactory.model.clock import stamp

Client = sqlite3.Connection


@pytest.fixture(autouse=True)
def _wall_time(clock: Any) -> None:
    """Defaults of columns come from the database's own clock, so the scheduler's must be later."""
    clock.now = datetime.now(timezone.utc) + timedelta(seconds=1)


@pytest.fixture
def ran(still: Scheduler) -> list[Any]:
    found: list[Any] = []

    @still.task(name="mail.welcome", retry=Retry(3, base="1s"))
    def welcome(user_id: int, name: str = "you") -> str:
        found.append((user_id, name))
        if name == "nobody":
            raise OSError("no such address")
        return name

    return found


def only(still: Scheduler) -> Any:
    (job,) = still.jobs()
    return job


def test_a_task_and_its_arguments_are_all_that_an_insert_needs(still: Scheduler, client: Client, ran: list[Any]) -> None:
    client.execute("""INSERT INTO schedfactory_jobs (task, args) VALUES ('mail.welcome', '{"user_id": 42}')""")
    job = only(still)
    assert (job.id, job.status, job.queue, job.priority, job.tags) == (1, "scheduled", "default", 0, [])
    assert (job.attempt, job.failures, job.crashes, job.max_attempts) == (0, 0, 0, None)
    assert abs((job.run_at - datetime.now(timezone.utc)).total_seconds()) < 60
    assert job.created_at == job.run_at
    assert still.run_due() == 1
    assert ran == [(42, "you")]
    job = job.refresh()
    assert (job.status, job.result, job.attempt) == ("succeeded", "you", 1)


def test_the_arguments_have_a_default_too(still: Scheduler, client: Client) -> None:
    still.task(name="tick")(idle)
    client.execute("INSERT INTO schedfactory_jobs (task) VALUES ('tick')")
    assert still.run_due() == 1
    assert only(still).args == {}


def idle() -> None: ...


def test_every_option_may_be_given(still: Scheduler, client: Client, ran: list[Any]) -> None:
    client.execute(
        "INSERT INTO schedfactory_jobs (task, args, priority, queue, tags, run_at, max_attempts) VALUES"
        """ ('mail.welcome', '{"user_id":1,"name":"nobody"}', 7, 'mail', '["vip","new"]', '2026-01-01 00:00:00.000000', 1)"""
    )
    job = only(still)
    assert (job.priority, job.queue, job.tags, job.run_at) == (
        7,
        "mail",
        ["vip", "new"],
        datetime(2026, 1, 1, tzinfo=timezone.utc),
    )
    assert still.jobs(tag="new") == [job]
    still.run_due()
    job = job.refresh()
    assert (job.status, job.attempt) == ("failed", 1)


def test_options_that_are_not_given_are_the_tasks(still: Scheduler, client: Client, ran: list[Any], clock: Any) -> None:
    client.execute("""INSERT INTO schedfactory_jobs (task, args) VALUES ('mail.welcome', '{"user_id":1,"name":"nobody"}')""")
    while still.run_due():
        clock.advance(hours=1)
    job = only(still)
    assert (job.status, job.attempt, job.max_attempts) == ("failed", 3, 3)


def test_a_run_at_that_lies_ahead_is_kept(still: Scheduler, client: Client, ran: list[Any], clock: Any) -> None:
    at = clock.now + timedelta(minutes=10)
    client.execute(
        """INSERT INTO schedfactory_jobs (task, args, run_at) VALUES ('mail.welcome', '{"user_id":1}', ?)""", (stamp(at),)
    )
    clock.now = at - timedelta(microseconds=1)
    assert still.run_due() == 0
    clock.now = at
    assert still.run_due() == 1
    assert only(still).run_at == at


def test_a_trigger_on_the_users_own_table_enqueues_if_the_transaction_commits(
    still: Scheduler, client: Client, ran: list[Any]
) -> None:
    client.executescript(
        """
        CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT);
        CREATE TRIGGER welcome AFTER INSERT ON users BEGIN
            INSERT INTO schedfactory_jobs (task, args, queue)
            VALUES ('mail.welcome', json_object('user_id', NEW.id, 'name', NEW.name), 'mail');
        END;
        BEGIN;
        INSERT INTO users (name) VALUES ('Ada'), ('Grace');
        COMMIT;
        BEGIN;
        INSERT INTO users (name) VALUES ('Nobody');
        ROLLBACK;
        """
    )
    assert still.run_due() == 2
    assert ran == [(1, "Ada"), (2, "Grace")]


@pytest.mark.parametrize("count", [1, 2, 150])
def test_jobs_of_one_call_are_stored_in_its_order_however_many(still: Scheduler, count: int) -> None:
    jobs = still.enqueue_many([still.remote("x").call(n=n) for n in range(count)])
    assert [job.id for job in jobs] == list(range(1, count + 1))
    assert [job.refresh() for job in jobs] == jobs
    assert [job.args["n"] for job in jobs] == list(range(count))


@pytest.mark.parametrize("count", [5, 150])
def test_ids_stay_in_order_where_a_trigger_adds_rows_of_its_own(still: Scheduler, client: Client, count: int) -> None:
    client.execute(
        """
        CREATE TRIGGER shadow AFTER INSERT ON schedfactory_jobs WHEN NEW.task = 'seen' BEGIN
            INSERT INTO schedfactory_jobs (task) VALUES ('shadow');
        END
        """
    )
    jobs = still.enqueue_many([still.remote("seen").call(n=n) for n in range(count)])
    assert [job.refresh().args for job in jobs] == [{"n": n} for n in range(count)]
    assert [job.refresh().uid for job in jobs] == [job.uid for job in jobs]
    assert still.remote("seen").enqueue(n=5).refresh().args == {"n": 5}
    assert still.counts()["scheduled"] == count + 1


@pytest.mark.parametrize("left", [0, 1, 2])
def test_many_jobs_are_stored_also_where_sql_has_taken_the_largest_id(still: Scheduler, client: Client, left: int) -> None:
    client.execute("INSERT INTO schedfactory_jobs (id, task) VALUES (?, 'last')", (2**63 - 1 - left,))
    jobs = still.enqueue_many([still.remote("x").call(n=n) for n in range(20)])
    assert [job.refresh() for job in jobs] == jobs
    assert len({job.id for job in jobs}) == 20


LEFT_OUT = "BEFORE INSERT ON schedfactory_jobs WHEN NEW.task = 'odd' BEGIN SELECT RAISE(IGNORE); END"
REPLACED = LEFT_OUT.replace("SELECT", "INSERT INTO schedfactory_jobs (task) VALUES ('other'); SELECT")
DELETED = "AFTER INSERT ON schedfactory_jobs WHEN NEW.task = 'odd' BEGIN DELETE FROM schedfactory_jobs WHERE id = NEW.id; END"


@pytest.mark.parametrize("count", [2, 20, 150])
@pytest.mark.parametrize("trigger", [LEFT_OUT, REPLACED, DELETED], ids=["left out", "replaced", "deleted"])
def test_many_jobs_of_which_a_trigger_takes_one_are_refused_all_together(
    still: Scheduler, client: Client, trigger: str, count: int
) -> None:
    work = still.remote("work")
    work.enqueue()
    client.execute(f"CREATE TRIGGER takes {trigger}")
    with pytest.raises(StorageError, match=r"a trigger has left out the row.*Nothing was stored"):
        still.enqueue_many([still.remote("odd").call(), *(work.call(n=n) for n in range(count - 1))])
    assert sum(still.counts().values()) == 1


@pytest.mark.parametrize("trigger", [LEFT_OUT, REPLACED], ids=["left out", "replaced"])
def test_a_job_that_a_trigger_leaves_out_is_refused_and_no_other_ones_id_is_given(
    still: Scheduler, client: Client, trigger: str
) -> None:
    still.remote("work").enqueue()
    client.execute(f"CREATE TRIGGER takes {trigger}")
    with pytest.raises(StorageError, match=r"a trigger has left out the row.*Nothing was stored"):
        still.remote("odd").enqueue()
    assert sum(still.counts().values()) == 1


def test_a_trigger_with_a_function_that_is_not_allowed_here_is_a_storage_error_that_says_so(
    still: Scheduler, client: Client
) -> None:
    client.execute("CREATE TRIGGER loads AFTER INSERT ON schedfactory_jobs BEGIN SELECT load_extension('x'); END")
    with pytest.raises(StorageError, match=r"jobs\.db: a trigger or view of yours is not allowed.*load_extension"):
        still.remote("work").enqueue()
    client.execute("DROP TRIGGER loads")
    assert still.remote("work").enqueue().id == 1


def test_a_running_scheduler_notices_an_insert(scheduler: Scheduler, path: Path) -> None:
    scheduler.task(name="tick")(idle)
    with scheduler.running(workers=1):
        client = sqlite3.connect(path, isolation_level=None)
        client.execute("INSERT INTO schedfactory_jobs (task) VALUES ('tick')")
        client.close()
        assert scheduler.reload(1).wait("60s").status == "succeeded"


BAD_MOMENTS = [
    "2026-01-01",
    "2026-01-01 00:00:00",
    "2026-01-01 00:00:00.000",
    "2026-01-01T00:00:00.000000",
    "2026-01-01 00:00:00.000000Z",
    "2026-01-01 00:00:00.000000+00:00",
    " 2026-01-01 00:00:00.000000",
    "2026-1-1 00:00:00.000000",
    "26-01-01 00:00:00.000000",
    "+2026-01-01 00:00:00.00000",
    "2026-00-01 00:00:00.000000",
    "2026-13-01 00:00:00.000000",
    "2026-01-00 00:00:00.000000",
    "2026-01-32 00:00:00.000000",
    "2026-02-29 00:00:00.000000",
    "2026-04-31 00:00:00.000000",
    "2026-01-01 24:00:00.000000",
    "2026-01-01 00:60:00.000000",
    "2026-01-01 00:00:60.000000",
    "0000-01-01 00:00:00.000000",
    "now",
    "",
    "1767225600",
    1767225600,
    b"2026-01-01 00:00:00.000000",
]


def is_taken(client: Client, sql: str, value: Any) -> bool:
    try:
        client.execute(sql, (value,))
    except sqlite3.IntegrityError:
        return False
    return True


@pytest.mark.parametrize("column", ["run_at", "expires_at"])
def test_a_moment_in_any_other_form_is_refused_by_the_table(client: Client, column: str) -> None:
    client.execute("INSERT INTO schedfactory_jobs (task) VALUES ('x')")
    for sql in (
        f"INSERT INTO schedfactory_jobs (task, {column}) VALUES ('x', ?)",
        f"UPDATE schedfactory_jobs SET {column} = ?",
    ):
        assert [bad for bad in BAD_MOMENTS if is_taken(client, sql, bad)] == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.datetimes(timezones=st.just(timezone.utc)))
def test_every_moment_in_the_one_form_is_taken(client: Client, at: datetime) -> None:
    client.execute("INSERT INTO schedfactory_jobs (task, run_at, expires_at) VALUES ('x', ?, ?)", (stamp(at), stamp(at)))
    client.execute("DELETE FROM schedfactory_jobs")


@pytest.mark.parametrize(
    ("columns", "values"),
    [
        ("args", ["{}"]),
        ("task, run_at", ["x", None]),
        ("task, args", ["x", None]),
        ("task, priority", ["x", 101]),
        ("task, priority", ["x", -101]),
        ("task, priority", ["x", "high"]),
        ("task, status", ["x", "new"]),
        ("task, max_attempts", ["x", "many"]),
    ],
)
def test_the_table_refuses_other_nonsense_too(client: Client, columns: str, values: list[Any]) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        client.execute(f"INSERT INTO schedfactory_jobs ({columns}) VALUES ({', '.join('?' * len(values))})", values)


def test_each_row_gets_a_unique_uuid_of_version_7(client: Client) -> None:
    client.execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)"
        " INSERT INTO schedfactory_jobs (task) SELECT 'x' FROM n"
    )
    found = [uuid.UUID(text) for (text,) in client.execute("SELECT uid FROM schedfactory_jobs")]
    assert len(set(found)) == 1000
    assert {(one.version, one.variant) for one in found} == {(7, uuid.RFC_4122)}
    made_at = datetime.fromtimestamp((found[0].int >> 80) / 1000, timezone.utc)
    assert abs(datetime.now(timezone.utc) - made_at) < timedelta(minutes=1)
    assert all(str(one) == text for one, (text,) in zip(found, client.execute("SELECT uid FROM schedfactory_jobs")))


def test_the_librarys_own_uids_are_of_version_7_too(still: Scheduler, clock: Any) -> None:
    found = [uuid.UUID(job.uid) for job in still.enqueue_many([still.remote("x").call() for _ in range(1000)])]
    assert len(set(found)) == 1000
    assert {(one.version, one.variant, one.int >> 80) for one in found} == {
        (7, uuid.RFC_4122, int(clock.now.timestamp() * 1000))
    }


BAD_ARGS = [
    '{"wrong": 1}', "{}", '{"user_id": "x"}', '{"user_id": 1, "more": 2}', '{"user_id": null}', "[1]", "1", "null", '"x"', "",
    "user_id=1", '{"user_id": 1', '{"user_id": NaN}', "[" * 100_000,
]  # fmt: skip


@pytest.mark.parametrize("args", BAD_ARGS, ids=[args[:20] for args in BAD_ARGS])
def test_arguments_that_do_not_bind_fail_the_job_without_a_retry(
    still: Scheduler, client: Client, ran: list[Any], args: str
) -> None:
    client.execute("INSERT INTO schedfactory_jobs (task, args) VALUES ('mail.welcome', ?)", (args,))
    client.execute("""INSERT INTO schedfactory_jobs (task, args) VALUES ('mail.welcome', '{"user_id": 2}')""")
    assert still.run_due() == 2
    job = still.reload(1)
    assert (job.status, job.reason, job.attempt, job.failures) == ("failed", "error", 1, 1)
    assert job.error is not None
    assert "welcome" in job.error
    assert ran == [(2, "you")]


@pytest.mark.parametrize(
    ("column", "value"),
    [("retry", "{"), ("retry", "[1]"), ("retry", '{"backoff":"no"}'), ("retry", '{"no":1}'), ("max_attempts", 0)],
)
def test_a_retry_that_makes_no_sense_fails_the_job(
    still: Scheduler, client: Client, ran: list[Any], column: str, value: Any
) -> None:
    client.execute(
        f"""INSERT INTO schedfactory_jobs (task, args, {column}) VALUES ('mail.welcome', '{{"user_id": 1}}', ?)""", (value,)
    )
    still.run_due()
    job = only(still)
    assert (job.status, job.reason, job.attempt, ran) == ("failed", "error", 1, [])


@dataclass
class Picky:
    x: int

    def __post_init__(self) -> None:
        raise RuntimeError("not today")


def test_whatever_reading_the_arguments_raises_fails_the_job_and_no_worker(still: Scheduler, client: Client) -> None:
    @still.task(name="take")
    def take(value: Picky) -> None: ...

    client.execute("""INSERT INTO schedfactory_jobs (task, args) VALUES ('take', '{"value": {"x": 1}}')""")
    assert still.run_due() == 1
    job = only(still)
    assert (job.status, job.reason) == ("failed", "error")
    assert job.error is not None
    assert "RuntimeError: not today" in job.error


@pytest.mark.parametrize("tags", ["vip", '"vip"', '{"vip": 1}', "", "[1, null]"])
def test_tags_that_are_no_list_break_neither_the_job_nor_a_search(
    still: Scheduler, client: Client, ran: list[Any], tags: str
) -> None:
    client.execute("""INSERT INTO schedfactory_jobs (task, args, tags) VALUES ('mail.welcome', '{"user_id": 1}', ?)""", (tags,))
    good = still.remote("mail.welcome").options(tags=["new"]).enqueue(user_id=2)
    assert still.jobs(tag="new") == [good]
    assert still.run_due() == 2
    assert still.counts()["succeeded"] == 2
