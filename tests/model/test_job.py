"""A snapshot of a row: it never changes, and says what the row said."""

from __future__ import annotations

import pickle
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pendulum
import pytest

from schedfactory import Job, JobCancelled, JobFailed, JobFinished, NotConfigured, Scheduler, current_job
from schedfactory.model.job import COLUMNS, FINAL, STATUSES


@pytest.fixture
def add(still: Scheduler) -> Any:
    @still.task(name="add", queue="sums", priority=5, tags=["maths"])
    def add(x: int, y: int) -> int:
        return x + y

    return add


@pytest.fixture
def sql(path: Path) -> Any:
    """Run one statement on the file as any SQL client would."""

    def run(statement: str, *values: object) -> None:
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(statement, values)

    return run


def test_a_new_job_says_what_was_asked_for(still: Scheduler, add: Any, clock: Any) -> None:
    job = add.enqueue(2, 3)
    found = {name: getattr(job, name) for name in COLUMNS}
    uid = found.pop("uid")
    assert (len(uid), uid[14]) == (36, "7")
    assert found == {
        "id": 1, "task": "add", "queue": "sums", "priority": 5, "status": "queued", "reason": None,
        "args": {"x": 2, "y": 3}, "tags": ["maths"], "run_at": clock.now, "created_at": clock.now, "started_at": None,
        "finished_at": None, "expires_at": None, "attempt": 0, "failures": 0, "crashes": 0, "max_attempts": 1,
        "progress": None, "progress_message": None, "result": None, "error": None, "node": None, "worker": None,
        "unique_key": None,
    }  # fmt: skip
    assert (job.is_new, job.is_finished, job.wait_time, job.run_time) == (True, False, None, None)
    assert job.refresh() == still.get(1) == job
    assert not job.refresh().is_new


def test_a_finished_job_says_when_and_where_it_ran(still: Scheduler, add: Any, clock: Any) -> None:
    job = add.options(delay="10m").enqueue(2, 3)
    clock.advance(minutes=10, seconds=1.5)
    started = clock.now
    still.run_due()
    job = job.refresh()
    assert (job.status, job.result, job.attempt, job.node, job.worker) == ("succeeded", 5, 1, 1, 1)
    assert (job.started_at, job.finished_at) == (started, started)
    assert (job.wait_time, job.run_time) == (pendulum.duration(seconds=1.5), pendulum.duration(seconds=0))
    assert isinstance(job.wait_time, pendulum.Duration)


def test_times_are_pendulums_in_utc(still: Scheduler, add: Any) -> None:
    job = add.options(expires="2027-01-01T00:00:00+02:00").enqueue(2, 3)
    still.run_due()
    job = job.refresh()
    for at in (job.run_at, job.created_at, job.started_at, job.finished_at, job.expires_at):
        assert isinstance(at, pendulum.DateTime)
        assert at.timezone_name == "UTC"


def test_the_run_time_of_a_running_job_ends_where_its_snapshot_was_read(still: Scheduler, clock: Any) -> None:
    seen: list[Job[None]] = []

    @still.task(name="look")
    def look() -> None:
        clock.advance(seconds=2)
        seen.append(still.reload(current_job().id))
        clock.advance(seconds=3)

    job = look.enqueue()
    still.run_due()
    (during,) = seen
    assert (during.status, during.run_time, during.finished_at) == ("running", pendulum.duration(seconds=2), None)
    assert [(a.number, a.status) for a in during.attempts()] == [(1, "succeeded")]  # read anew, unlike the snapshot
    assert job.refresh().run_time == pendulum.duration(seconds=5)


def test_a_snapshot_cannot_be_changed(add: Any) -> None:
    job = add.enqueue(2, 3)
    for name in (*COLUMNS, "is_new", "is_finished", "anything"):
        with pytest.raises(AttributeError):
            setattr(job, name, 1)


def test_snapshots_are_equal_when_their_columns_are(add: Any) -> None:
    one, two = add.enqueue(2, 3), add.enqueue(2, 3)
    assert one == one.refresh()
    assert one != two
    assert one != 1
    assert len({one, one.refresh(), two}) == 2
    later = one.update(priority=6)
    assert later != one
    assert hash(later) == hash(one)


def test_its_repr_says_what_a_log_line_needs(still: Scheduler, add: Any) -> None:
    job = add.enqueue(2, 3)
    assert repr(job) == "<Job 1 add queued priority=5 attempt=0>"
    assert repr(job.cancel()) == "<Job 1 add cancelled/user priority=5 attempt=0>"


def test_a_pickled_snapshot_is_equal_and_asks_to_be_read_again(still: Scheduler, add: Any) -> None:
    job = add.enqueue(2, 3)
    still.run_due()
    job = job.refresh()
    copy = pickle.loads(pickle.dumps(job))
    assert copy == job
    assert (copy.result, copy.args, copy.run_time) == (5, {"x": 2, "y": 3}, job.run_time)
    for use in (copy.refresh, copy.cancel, copy.requeue, copy.update, copy.attempts, copy.wait, copy.get_result):
        with pytest.raises(NotConfigured, match=r"scheduler\.get\(1\)"):
            use()


def test_get_result_gives_the_value_or_says_how_the_job_ended(still: Scheduler, clock: Any) -> None:
    @still.task(name="work")
    def work(how: str) -> str:
        if how == "fail":
            raise OSError("the disk is gone")
        return how

    good, bad, never = work.enqueue("well"), work.enqueue("fail"), work.enqueue("never")
    never.cancel()
    still.run_due()
    assert good.get_result("1s") == "well"
    with pytest.raises(JobFailed, match=r"job 2 \(work\) failed/error: OSError: the disk is gone") as failed:
        bad.get_result("1s")
    assert failed.value.job == bad.refresh()
    assert 'raise OSError("the disk is gone")' in failed.value.__notes__[0]
    with pytest.raises(JobCancelled, match=r"job 3 \(work\) was cancelled/user") as cancelled:
        never.get_result("1s")
    assert cancelled.value.job.status == "cancelled"
    assert bad.wait("1s").status == "failed"


def test_an_error_about_a_job_may_cross_to_another_process(still: Scheduler, add: Any) -> None:
    job = add.enqueue(2, 3).cancel()
    copy = pickle.loads(pickle.dumps(JobCancelled(job)))
    assert (copy.job, str(copy)) == (job, str(JobCancelled(job)))


def test_the_snapshot_of_a_row_that_is_gone_says_so(still: Scheduler, add: Any, clock: Any) -> None:
    job, _newest = add.enqueue(2, 3), add.enqueue(2, 3)
    still.cancel(job.id)
    clock.advance(days=31)
    assert still.prune() == 1
    for use in (job.refresh, lambda: job.wait("1s"), lambda: job.get_result("1s"), job.cancel, job.requeue, job.update):
        with pytest.raises(LookupError, match="job 1 is gone"):
            use()
    assert job.attempts() == []


def test_a_finished_job_can_be_requeued_but_not_updated(still: Scheduler, add: Any) -> None:
    job = add.enqueue(2, 3)
    still.run_due()
    for change in ({"priority": 1}, {"queue": "q"}, {"run_at": "2030-01-01T00:00:00Z"}, {}):
        with pytest.raises(JobFinished, match=r"job 1 has ended \(succeeded\).*requeue"):
            job.update(**change)
    assert job.cancel().status == "succeeded"
    assert job.requeue().status == "queued"
    assert job.update(priority=9, queue="q").priority == 9


@pytest.mark.parametrize(
    "change", [{"priority": 101}, {"priority": "high"}, {"queue": ""}, {"queue": 3}, {"run_at": "2030-01-01"}, {"run_at": 5}]
)
def test_an_update_checks_its_values_like_an_option(add: Any, change: Any) -> None:
    job = add.enqueue(2, 3)
    with pytest.raises((ValueError, TypeError), match=next(iter(change))):
        job.update(**change)
    assert job.refresh() == job


NO_LIST_NOR_OBJECT = ["", "no json", '{"x": 1', "5", "null", '"text"', '{"x": NaN}', "[" * 100_000, "\x00"]


@pytest.mark.parametrize("text", [*NO_LIST_NOR_OBJECT, '["x"]'], ids=lambda text: text[:9])
def test_args_that_sql_made_no_object_read_as_none_given_and_the_list_stays_usable(add: Any, sql: Any, text: str) -> None:
    job, good = add.enqueue(2, 3), add.enqueue(4, 5)
    sql("UPDATE schedfactory_jobs SET args = ? WHERE id = ?", text, job.id)
    found = job.refresh()
    assert (found.args, found.tags, repr(found)) == ({}, ["maths"], repr(job))
    assert pickle.loads(pickle.dumps(found)).args == {}
    assert found.update(priority=9).args == found.cancel().args == {}
    scheduler = found._jobs
    assert [one.args for one in scheduler.jobs()] == [{"x": 4, "y": 5}, {}]
    assert scheduler.jobs(args={"x": 4}) == [good]


@pytest.mark.parametrize("text", [*NO_LIST_NOR_OBJECT, '{"vip": 1}', None], ids=lambda text: str(text)[:9])
def test_tags_that_sql_made_no_list_read_as_none_and_the_list_stays_usable(add: Any, sql: Any, text: str | None) -> None:
    job, good = add.enqueue(2, 3), add.enqueue(4, 5)
    sql("UPDATE schedfactory_jobs SET tags = ? WHERE id = ?", text, job.id)
    found = job.refresh()
    assert (found.args, found.tags, repr(found)) == ({"x": 2, "y": 3}, [], repr(job))
    assert pickle.loads(pickle.dumps(found)).tags == []
    scheduler = found._jobs
    assert [one.tags for one in scheduler.jobs()] == [["maths"], []]
    assert scheduler.jobs(tag="maths") == [good]
    assert scheduler.run_due() == 2
    assert (job.refresh().status, job.refresh().result) == ("succeeded", 5)


def test_there_are_seven_statuses_of_which_three_are_final() -> None:
    assert (len(STATUSES), FINAL) == (7, ("succeeded", "failed", "cancelled"))
