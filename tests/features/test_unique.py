"""`unique`: one job of a task holds a key at a time, and what another call with it gets is what `on_conflict` says."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from schedfactory import Cancel, DuplicateJob, Fail, Job, Retry, Scheduler, Snooze, StorageError, Task, Unique, current_job
from schedfactory.testing.plugin import SchedfactoryJobs

REPLACE = Unique("{account}", until="started", on_conflict="replace")
DEBOUNCE = Unique("{account}", until="started", on_conflict="debounce", max_wait="5m")
RAISE = Unique("{account}", on_conflict="raise")
seen: list[tuple[int, str]] = []


def sync(account: int, how: str = "") -> str:
    seen.append((account, how))
    if how == "again" and current_job().attempt == 1:
        raise OSError("try again")
    if how == "later" and current_job().attempt == 1:
        raise Snooze("10m")
    if how == "failed":
        raise Fail("as it was told")
    if how == "cancelled":
        raise Cancel("as it was told")
    return how


@pytest.fixture(autouse=True)
def _nothing_seen() -> None:
    seen.clear()


@pytest.fixture
def make(still: Scheduler) -> Callable[..., Task[..., str]]:
    def register(unique: Any, **options: Any) -> Task[..., str]:
        return still.task(name="sync", unique=unique, retry=Retry(2, base="10m", jitter=False), **options)(sync)

    return register


@pytest.fixture
def sql(path: Path) -> Callable[..., list[Any]]:
    def run(statement: str, *values: Any) -> list[Any]:
        with closing(sqlite3.connect(path)) as connection, connection:
            return connection.execute(statement, values).fetchall()

    return run


def states(scheduler: Scheduler) -> list[tuple[int, str]]:
    return [(job.id, job.status) for job in reversed(scheduler.jobs())]


# Who holds a key, and how long


def test_keep_gives_the_job_that_is_there_and_it_is_not_new(make: Any) -> None:
    task = make("sync:{account}")
    first = task.enqueue(1)
    second = task.options(priority=9, delay="1h").enqueue(1, "other")
    assert (first.is_new, second.is_new) == (True, False)
    assert second == first
    assert second.unique_key == "sync:1"
    assert task.enqueue(2).id == first.id + 1


@pytest.mark.parametrize("rule", ["sync:{account}", RAISE, REPLACE, DEBOUNCE])
@pytest.mark.parametrize("delay", [None, "10s"])
def test_a_job_that_expired_while_no_node_was_there_answers_for_no_other(
    make: Any, clock: Any, still: Scheduler, rule: Any, delay: str | None
) -> None:
    task = make(rule, expires="1m")
    expired = task.options(delay=delay).enqueue(1)
    clock.advance(minutes=5)
    job = task.enqueue(1, "new")
    assert job.is_new
    assert (expired.refresh().status, expired.refresh().reason) == ("cancelled", "expired")
    assert still.counts()["cancelled"] == 1
    still.run_due()
    assert job.refresh().result == "new"


def test_true_counts_all_arguments_and_their_defaults(make: Any) -> None:
    task = make(True)
    job = task.enqueue(1)
    assert task.enqueue(1, how="").id == task.enqueue(account=1).id == job.id
    assert task.enqueue(1, "x").id != job.id


def test_unique_false_for_one_call_makes_one_more_which_holds_nothing(make: Any) -> None:
    task = make(True)
    free = task.options(unique=False).enqueue(1)
    assert free.unique_key is None
    assert [task.options(unique=False).enqueue(1).is_new, task.enqueue(1).is_new, task.enqueue(1).is_new] == [True, True, False]


def test_two_tasks_never_meet_whatever_their_keys(still: Scheduler) -> None:
    calls = [still.remote(name).options(unique="k").call() for name in ("one", "two")]
    assert [job.is_new for job in still.enqueue_many(calls)] == [True, True]


def test_a_remote_task_meets_the_jobs_of_the_task_itself(make: Any, still: Scheduler) -> None:
    job = make("sync:{account}").enqueue(1)
    assert still.remote("sync").options(unique="sync:{account}").enqueue(account=1).id == job.id
    assert still.remote("sync").enqueue(account=1).is_new  # which has no options of the task's


def test_a_renamed_task_meets_the_keys_of_its_older_name(make: Any, still: Scheduler) -> None:
    older = still.remote("older").options(unique="{account}")
    job = older.enqueue(account=1)
    task = make(Unique("{account}", within="10m"), aliases=["older"])
    assert task.enqueue(1).id == older.enqueue(account=1).id == job.id
    still.run_due()
    assert task.enqueue(1).id == job.id  # and those that have ended
    assert [one.id for one in still.enqueue_many([older.call(account=2), task.call(2)])] == [job.id + 1] * 2


@pytest.mark.parametrize("how", ["", "failed", "cancelled"])
def test_any_end_frees_the_key(make: Any, still: Scheduler, how: str) -> None:
    task = make("{account}")
    job = task.enqueue(1, how)
    still.run_due()
    assert job.refresh().is_finished
    assert task.enqueue(1).is_new


def test_cancel_frees_the_key(make: Any) -> None:
    task = make("{account}")
    task.enqueue(1).cancel()
    assert task.enqueue(1).is_new


def test_an_expiry_frees_the_key(make: Any, still: Scheduler, clock: Any) -> None:
    task = make("{account}", expires="1m")
    job = task.enqueue(1)
    clock.advance(minutes=2)
    still.run_due()
    assert job.refresh().reason == "expired"
    assert task.enqueue(1).is_new


@pytest.mark.parametrize(("how", "status"), [("again", "retry"), ("later", "snooze")])
def test_until_finished_a_retry_and_a_snooze_hold_the_key(
    make: Any, still: Scheduler, clock: Any, how: str, status: str
) -> None:
    task = make("{account}")
    job = task.enqueue(1, how)
    still.run_due()
    assert job.refresh().reason == status
    assert task.enqueue(1).id == job.id
    clock.advance(minutes=11)
    still.run_due()
    assert (job.refresh().status, task.enqueue(1).is_new) == ("succeeded", True)


@pytest.mark.parametrize("how", ["again", "later"])
def test_until_started_frees_the_key_at_the_first_start_and_a_retry_does_not_take_it_again(
    make: Any, still: Scheduler, clock: Any, how: str
) -> None:
    task = make(Unique("{account}", until="started"))
    first = task.enqueue(1, how)
    still.run_due()
    second = task.options(delay="1h").enqueue(1)
    assert (first.refresh().status, second.is_new) == ("scheduled", True)
    clock.advance(minutes=11)
    still.run_due()
    assert states(still) == [(first.id, "succeeded"), (second.id, "scheduled")]
    assert task.enqueue(1).id == second.id


def test_a_job_may_enqueue_its_own_successor_with_until_started_only(still: Scheduler) -> None:
    found: list[bool] = []

    @still.task(name="chain")
    def chain(unique: Any, left: int) -> None:
        if left:
            found.append(chain.options(unique=Unique("k", until=unique)).enqueue(unique, left - 1).is_new)

    for until in ("started", "finished"):
        chain.options(unique=Unique("k", until=until)).enqueue(until, 2)
        still.run_due()
    assert found == [True, True, False]


def test_within_counts_finished_jobs_by_the_schedulers_clock(make: Any, still: Scheduler, clock: Any) -> None:
    task = make(Unique("{account}", within="10m"))
    for how in ("", "failed", "cancelled"):
        job = task.enqueue(1, how)
        assert job.is_new
        clock.advance(minutes=1)
        still.run_due()
        clock.advance(minutes=9, seconds=59)
        assert (task.enqueue(1).id, task.enqueue(1).is_new) == (job.id, False)
        clock.advance(seconds=1)
    assert task.enqueue(1).is_new


def test_within_gives_the_job_that_ended_last(make: Any, still: Scheduler, clock: Any) -> None:
    task = make("{account}")
    jobs = []
    for _ in range(3):
        jobs.append(task.enqueue(1))
        still.run_due()
        clock.advance(minutes=1)
    jobs[0].requeue()
    still.run_due()
    assert task.options(unique=Unique("{account}", within="1h")).enqueue(1).id == jobs[0].id


def test_within_works_with_the_clock_of_the_pytest_plugin(schedfactory_jobs: SchedfactoryJobs) -> None:
    task = schedfactory_jobs.scheduler.task(name="plugin", unique=Unique(within="10m"))(sync)
    job = task.enqueue(1)
    schedfactory_jobs.run_due()
    schedfactory_jobs.clock.advance("9m")
    assert task.enqueue(1).id == job.id
    schedfactory_jobs.clock.advance("1m")
    assert task.enqueue(1).is_new
    schedfactory_jobs.assert_enqueued(task, account=1)


# What a conflict does


def test_raise_is_a_duplicate_job_that_names_the_holder_and_stores_nothing(make: Any, still: Scheduler) -> None:
    task = make(RAISE)
    holder = task.enqueue(1)
    with pytest.raises(DuplicateJob, match=r"job 1 \(queued\) has its key '1'. Nothing was stored.*unique=False") as caught:
        still.enqueue_many([task.call(2), task.options(unique=False).call(3), task.call(1)])
    assert (caught.value.task, caught.value.unique_key, caught.value.job_id) == ("sync", "1", holder.id)
    assert states(still) == [(holder.id, "queued")]


def test_raise_counts_finished_jobs_within_its_window(make: Any, still: Scheduler) -> None:
    task = make(Unique("{account}", within="1h", on_conflict="raise"))
    task.enqueue(1)
    still.run_due()
    with pytest.raises(DuplicateJob, match=r"job 1 \(succeeded\)"):
        task.enqueue(1)


def test_replace_gives_the_waiting_job_new_arguments_priority_and_run_at(make: Any, still: Scheduler, clock: Any) -> None:
    task = make(REPLACE, tags=["kept"], expires="2h")
    first = task.options(delay="1h").enqueue(1, "old")
    clock.advance(minutes=1)
    second = task.options(priority=7, queue="elsewhere").enqueue(1, "new")
    assert (second.id, second.is_new, second.uid) == (first.id, False, first.uid)
    assert (second.args, second.priority, second.status) == ({"account": 1, "how": "new"}, 7, "queued")
    assert (second.run_at, second.expires_at) == (clock.now, clock.now + timedelta(hours=2))
    assert (second.queue, second.tags, second.created_at) == ("default", ["kept"], first.created_at)
    third = task.options(delay="1h").enqueue(1, "newest")
    assert (third.status, third.priority, third.run_at) == ("scheduled", 0, clock.now + timedelta(hours=1))
    clock.advance(hours=1)
    still.run_due()
    assert seen == [(1, "newest")]


def test_replace_leaves_what_runs_alone_and_makes_one_that_waits(still: Scheduler) -> None:
    found: list[Job[Any]] = []

    @still.task(name="self", unique=REPLACE)
    def again(account: int, left: int) -> None:
        if left:
            found.extend(again.options(delay="1h").enqueue(account, left - number) for number in (1, 2))

    job = again.enqueue(1, 2)
    still.run_due()
    assert [one.is_new for one in found] == [True, False]
    assert (job.refresh().args["left"], found[1].args["left"]) == (2, 0)


@pytest.mark.parametrize("unique", [REPLACE, DEBOUNCE], ids=["replace", "debounce"])
def test_replace_and_debounce_keep_a_job_that_runs_under_another_rule(still: Scheduler, unique: Unique) -> None:
    found: list[Job[Any]] = []

    @still.task(name="self", unique="{account}")
    def work(account: int, how: str) -> None:
        found.append(work.options(unique=unique).enqueue(account, "other"))

    job = work.enqueue(1, "first")
    still.run_due()
    assert [(one.id, one.args["how"], one.is_new) for one in found] == [(job.id, "first", False)]


@pytest.mark.parametrize("conflict", ["replace", "debounce"])
def test_replace_and_debounce_keep_a_finished_job_of_their_window(make: Any, still: Scheduler, conflict: Any) -> None:
    task = make(Unique("{account}", until="started", within="1h", on_conflict=conflict))
    job = task.enqueue(1, "old")
    still.run_due()
    kept = task.options(delay="1m").enqueue(1, "new")
    assert (kept, kept.is_new) == (job.refresh(), False)
    assert kept.status == "succeeded"


def test_debounce_puts_a_job_off_with_the_new_arguments_at_most_max_wait(make: Any, still: Scheduler, clock: Any) -> None:
    task = make(DEBOUNCE, expires="1m")
    created = clock.now
    first = task.options(delay="2m", priority=5).enqueue(1, "a")
    for how in "bcd":
        clock.advance(minutes=1)
        job = task.options(delay="2m").enqueue(1, how)
        assert (job.id, job.run_at) == (first.id, clock.now + timedelta(minutes=2))
        assert (job.priority, job.expires_at) == (5, clock.now + timedelta(minutes=3))
    clock.advance(minutes=1)
    job = task.options(delay="2m").enqueue(1, "e")
    assert (job.run_at, job.expires_at) == (created + timedelta(minutes=5), created + timedelta(minutes=6))
    clock.advance(seconds=59)
    assert still.run_due() == 0
    clock.advance(seconds=1)
    assert (still.run_due(), seen) == (1, [(1, "e")])
    assert task.options(delay="2m").enqueue(1, "f").run_at == clock.now + timedelta(minutes=2)


def test_debounce_without_max_wait_goes_on_for_ever_and_without_a_delay_is_due(make: Any, clock: Any) -> None:
    task = make(Unique("{account}", until="started", on_conflict="debounce"))
    task.options(delay="1m").enqueue(1)
    clock.advance(days=400)
    assert task.options(delay="1m").enqueue(1).run_at == clock.now + timedelta(minutes=1)
    assert task.enqueue(1).status == "queued"


def test_replace_leaves_a_job_waiting_that_waits_and_makes_its_limits_be_looked_at_anew(make: Any, sql: Any) -> None:
    task = make(REPLACE)
    job = task.enqueue(1, "old")
    sql("UPDATE schedfactory_jobs SET status = 'waiting', blocked_by = 'x', limit_keys = '[]'")
    found = task.options(delay="1h").enqueue(1, "new")
    assert (found.id, found.status, found.args["how"]) == (job.id, "waiting", "new")
    assert sql("SELECT blocked_by, limit_keys FROM schedfactory_jobs") == [(None, None)]


# Several calls at once


def test_calls_of_one_enqueue_many_meet_each_other(make: Any, still: Scheduler) -> None:
    task = make("{account}")
    there = task.enqueue(7)
    jobs = still.enqueue_many([task.call(1, "a"), task.call(7), task.call(2), task.call(1, "b"), task.call(7)])
    assert [(job.id - there.id, job.is_new) for job in jobs] == [(1, True), (0, False), (2, True), (1, False), (0, False)]
    assert jobs[3].args["how"] == "a"


def test_a_later_call_of_one_enqueue_many_replaces_an_earlier_one(make: Any, still: Scheduler, clock: Any) -> None:
    task = make(REPLACE)
    jobs = still.enqueue_many([task.call(1, "a"), task.options(delay="1h", priority=3).call(1, "b")])
    assert jobs[0] == jobs[1] == still.get(jobs[0].id)
    assert [job.is_new for job in jobs] == [True, False]
    assert (jobs[0].args["how"], jobs[0].priority, jobs[0].status) == ("b", 3, "scheduled")
    later = [task.options(unique=DEBOUNCE, delay=delay).call(2, delay) for delay in ("1m", "2m", "1h")]
    assert still.enqueue_many(later)[0].run_at == clock.now + timedelta(minutes=5)


def test_each_call_of_one_enqueue_many_replaces_a_job_that_was_there_before(make: Any, still: Scheduler) -> None:
    task = make(REPLACE)
    there = task.enqueue(1, "old")
    jobs = still.enqueue_many([task.call(1, "a"), task.call(1, "b"), task.call(2)])
    assert [(job.id, job.is_new) for job in jobs] == [(there.id, False), (there.id, False), (there.id + 1, True)]
    assert jobs[1].args["how"] == there.refresh().args["how"] == "b"
    with pytest.raises(DuplicateJob) as caught:
        still.enqueue_many([task.call(1, "c"), task.options(unique=RAISE).call(1)])
    assert (caught.value.job_id, there.refresh().args["how"]) == (there.id, "b")


def test_raise_refuses_all_of_an_enqueue_many_that_repeats_itself(make: Any, still: Scheduler) -> None:
    task = make(RAISE)
    with pytest.raises(DuplicateJob, match=r"another call of this enqueue_many\(\) has its key '1'") as caught:
        still.enqueue_many([task.call(1), task.call(1)])
    assert caught.value.job_id is None
    assert states(still) == []


def test_only_new_jobs_are_reported_as_queued(make: Any, still: Scheduler) -> None:
    task = make("{account}")
    reports = still.reports("job")
    jobs = [task.enqueue(account) for account in (1, 1, 2)]
    still.close()
    assert [report.id for report in reports] == [jobs[0].id, jobs[2].id]


# What people change


def test_requeue_takes_the_key_again(make: Any, still: Scheduler) -> None:
    for rule in (Unique("{account}"), Unique("{account}", until="started")):
        task = make(rule)
        job = task.enqueue(1)
        still.run_due()
        assert task.enqueue(1).cancel().requeue().status == "queued"
        still.run_due()
        job.requeue()
        assert task.enqueue(1).id == job.id
        job.cancel()


@pytest.mark.parametrize("until", ["finished", "started"])
def test_requeue_raises_duplicate_job_where_the_key_is_taken_and_changes_nothing(
    make: Any, still: Scheduler, until: Any
) -> None:
    task = make(Unique("{account}", until=until))
    others = [task.enqueue(2), task.enqueue(1)]
    still.run_due()
    holder = task.enqueue(1)
    before = still.jobs()
    moves: list[Callable[[], Any]] = [
        others[1].requeue,
        lambda: still.requeue(others[1].id),
        lambda: still.requeue(status="succeeded"),
    ]
    for move in moves:
        with pytest.raises(
            DuplicateJob, match=rf"job {others[1].id} of sync cannot run again: job {holder.id} holds"
        ) as caught:
            move()
        assert (caught.value.task, caught.value.unique_key, caught.value.job_id) == ("sync", "1", holder.id)
        assert still.jobs() == before
        assert still.counts()["succeeded"] == 2
    holder.cancel()
    assert others[1].requeue().status == "queued"


def test_requeue_of_two_jobs_that_had_the_same_key_raises_duplicate_job(make: Any, still: Scheduler) -> None:
    task = make("{account}")
    for _ in range(2):
        task.enqueue(1)
        still.run_due()
    with pytest.raises(DuplicateJob, match="job 1 of sync cannot run again: job 2 holds, or would get"):
        still.requeue(task="sync")
    assert states(still) == [(1, "succeeded"), (2, "succeeded")]


def test_update_changes_a_unique_job_and_leaves_its_key(make: Any) -> None:
    task = make("{account}")
    job = task.enqueue(1).update(priority=5, queue="other", run_at="2999-01-01T00:00Z")
    assert task.enqueue(1) == job


# Plain SQL


def test_a_row_that_sql_gave_a_key_is_met(make: Any, sql: Any) -> None:
    task = make("{account}")
    task.enqueue(2)
    sql("INSERT INTO schedfactory_jobs (task, args, unique_key, unique_fence) VALUES ('sync', '{\"account\": 1}', '1', 0)")
    assert task.enqueue(1).id == 2
    sql("UPDATE schedfactory_jobs SET unique_key = '3' WHERE id = 1")
    assert task.enqueue(3).id == 1
    assert task.enqueue(2).is_new


def test_sql_cannot_take_a_key_that_is_held(make: Any, sql: Any) -> None:
    make("{account}").enqueue(1)
    insert = "INTO schedfactory_jobs (task, unique_key, unique_fence) VALUES ('sync', '1', 0)"
    with pytest.raises(sqlite3.IntegrityError, match="unique_key"):
        sql(f"INSERT {insert}")
    sql(f"INSERT OR IGNORE {insert}")
    assert sql("SELECT count(*) FROM schedfactory_jobs") == [(1,)]


def test_a_key_that_a_trigger_doubles_is_a_clear_error_and_nothing_is_stored(make: Any, still: Scheduler, sql: Any) -> None:
    task = make("{account}")
    task.enqueue(1)
    sql(
        "CREATE TRIGGER greedy AFTER INSERT ON schedfactory_jobs WHEN NEW.unique_key = '2' BEGIN"
        " UPDATE schedfactory_jobs SET unique_key = '1' WHERE id = NEW.id; END"
    )
    with pytest.raises(StorageError, match=r"a constraint or a trigger refused the change.*unique_key.*Nothing was stored"):
        task.enqueue(2)
    assert states(still) == [(1, "queued")]


def test_debounce_bears_a_created_at_that_sql_has_spoilt(make: Any, sql: Any, clock: Any) -> None:
    task = make(DEBOUNCE)
    task.enqueue(1)
    sql("UPDATE schedfactory_jobs SET created_at = 'long ago'")
    assert task.options(delay="1h").enqueue(1).run_at == clock.now + timedelta(hours=1)
