"""Queues are rows: what they may hold and run is set while everything runs, and holds for all nodes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from floor import Player, attempts_in, most_at_once

from schedfactory import Queue, QueueFull, Scheduler, StorageError
from schedfactory.features import queues
from schedfactory.features.limits import claim


@pytest.fixture
def mail(still: Scheduler) -> Any:
    @still.task(name="mail", queue="mail")
    def mail() -> None: ...

    return mail


@pytest.fixture
def player(still: Scheduler, clock: Any) -> Iterator[Player]:
    found = Player(still, clock, workers=3)
    yield found
    found.close()


# What is set


def test_a_queue_of_which_nobody_has_heard_has_no_settings_and_no_jobs(still: Scheduler) -> None:
    assert still.queues.list() == []
    assert still.queues.get("mail") == Queue("mail", None, "raise", None, None, False, 0, 0, 0, 0)


def test_set_changes_what_is_given_and_leaves_the_rest(still: Scheduler) -> None:
    assert still.queues.set("mail", max_size=10, rate="5/m") == Queue("mail", max_size=10, rate="5/m")
    assert still.queues.set("mail", concurrency=2, when_full="wait") == Queue("mail", 10, "wait", 2, "5/m")
    assert still.queues.set("mail") == Queue("mail", 10, "wait", 2, "5/m")
    cleared = still.queues.set("mail", max_size=None, concurrency=None, rate=None, when_full="raise")
    assert cleared == still.queues.get("mail") == Queue("mail")


def test_set_with_keep_existing_changes_nothing_that_is_set(still: Scheduler) -> None:
    assert still.queues.set("mail", concurrency=2, keep_existing=True).concurrency == 2
    assert still.queues.set("mail", concurrency=9, max_size=1, keep_existing=True) == Queue("mail", concurrency=2)


@pytest.mark.parametrize("when_full", ["raise", "wait"])
def test_set_with_keep_existing_sets_what_was_only_paused_or_named_before(still: Scheduler, when_full: Any) -> None:
    still.queues.pause("mail")
    still.queues.resume("sms")
    still.queues.set("post")
    for name in ("mail", "sms", "post"):
        found = still.queues.set(name, concurrency=2, when_full=when_full, keep_existing=True)
        assert found == Queue(name, concurrency=2, when_full=when_full, paused=name == "mail")


@pytest.mark.parametrize("given", [{"max_size": 3}, {"when_full": "wait"}, {"concurrency": 2}, {"rate": "5/m"}])
def test_set_with_keep_existing_leaves_a_queue_that_has_been_given_anything(still: Scheduler, given: dict[str, Any]) -> None:
    before = still.queues.set("mail", **given)
    assert still.queues.set("mail", max_size=9, when_full="raise", concurrency=9, rate="9/s", keep_existing=True) == before


@pytest.mark.parametrize("keep", ["no", 1, None])
def test_keep_existing_is_true_or_false(still: Scheduler, keep: Any) -> None:
    with pytest.raises(TypeError, match=f"keep_existing={keep!r} is neither True nor False. Pass one of them"):
        still.queues.set("mail", concurrency=2, keep_existing=keep)
    assert still.queues.list() == []


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"max_size": 0}, "max_size=0"),
        ({"max_size": True}, "max_size=True is not usable. Pass an int of 1 or more"),
        ({"max_size": 2**63}, "max_size=9223372036854775808 is more than a row can hold"),
        ({"concurrency": 0}, "concurrency=0 is fewer than one"),
        ({"concurrency": 2**63}, "concurrency=9223372036854775808 is more than a row can hold"),
        ({"rate": "fast"}, "rate='fast' is not understood"),
        ({"when_full": "drop"}, 'when_full=\'drop\' is unknown. Pass "raise" or "wait"'),
    ],
)
def test_settings_out_of_range_are_value_errors_and_change_nothing(still: Scheduler, given: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        still.queues.set("mail", **given)
    assert still.queues.list() == []


@pytest.mark.parametrize("given", [{"concurrency": "2"}, {"concurrency": True}, {"rate": 5}])
def test_settings_of_another_type_are_type_errors(still: Scheduler, given: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=next(iter(given))):
        still.queues.set("mail", **given)


@pytest.mark.parametrize("call", ["set", "get", "pause", "resume"])
@pytest.mark.parametrize("name", ["", 7, None])
def test_what_is_no_queues_name_is_refused(still: Scheduler, call: str, name: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="queue="):
        getattr(still.queues, call)(name)


def test_list_gives_queues_with_settings_and_queues_with_jobs_by_name(still: Scheduler, mail: Any, player: Player) -> None:
    still.queues.pause("zoo")
    still.enqueue_many([mail.call() for _ in range(5)])
    mail.options(delay="1h").enqueue()
    mail.options(queue="art").enqueue()
    player.round()
    assert still.queues.list() == [
        Queue("art", running=1) if still.get(7).status == "running" else Queue("art", queued=1),  # type: ignore[union-attr]
        still.queues.get("mail"),
        Queue("zoo", paused=True),
    ]
    found = still.queues.get("mail")
    assert (found.queued + found.running, found.scheduled, found.waiting) == (5, 1, 0)


def test_settings_are_rows_that_sql_can_change(still: Scheduler, mail: Any, sql: Any, player: Player) -> None:
    still.counts()
    sql("INSERT INTO schedfactory_queues (name, concurrency, rate) VALUES ('mail', 1, '5/m')")
    assert still.queues.get("mail") == Queue("mail", concurrency=1, rate="5/m")
    still.enqueue_many([mail.call() for _ in range(3)])
    assert player.round() == [1]
    sql("UPDATE schedfactory_queues SET concurrency = 2")
    player.tick()
    assert player.round() == [2]
    sql("DELETE FROM schedfactory_queues")
    player.tick()
    assert player.round() == [3]


@pytest.mark.parametrize("rate", ["99999999999/s", "9999999999999999999999/d"])
def test_a_rate_by_sql_that_nobody_could_reach_holds_up_nobody(
    still: Scheduler, mail: Any, sql: Any, player: Player, rate: str
) -> None:
    still.counts()
    sql("INSERT INTO schedfactory_queues (name, rate) VALUES ('mail', ?)", rate)
    still.enqueue_many([mail.call() for _ in range(3)])
    assert player.round() == [1, 2, 3]


# What may run


def test_no_more_jobs_of_a_queue_run_at_the_same_time_than_its_concurrency(scheduler: Scheduler, gate: Any, path: Path) -> None:
    @scheduler.task(name="work", queue="mail")
    def work() -> None:
        gate()

    scheduler.queues.set("mail", concurrency=2)
    scheduler.enqueue_many([work.call() for _ in range(6)])
    with scheduler.running(workers=5):
        gate.await_arrivals(2)
        assert scheduler.queues.get("mail").running == 2
        gate.open()
        scheduler.wait_idle("20s")
    assert most_at_once(span for spans in attempts_in(path).values() for span in spans) == 2


def test_no_more_jobs_of_a_queue_start_than_its_rate(still: Scheduler, mail: Any, clock: Any, player: Player) -> None:
    still.queues.set("mail", rate="2/m")
    still.enqueue_many([mail.call() for _ in range(3)])
    assert player.round() == [1, 2]
    clock.advance(seconds=60)
    assert player.round() == []
    clock.advance(seconds=1)
    assert player.round() == [3]


def test_concurrency_can_be_changed_while_jobs_run(still: Scheduler, mail: Any, player: Player) -> None:
    still.queues.set("mail", concurrency=1)
    still.enqueue_many([mail.call() for _ in range(5)])
    assert player.round() == [1]
    still.queues.set("mail", concurrency=3)
    assert player.round() == [2, 3]
    still.queues.set("mail", concurrency=1)
    player.end(1)
    assert player.round() == []
    player.end(2)
    player.end(3)
    assert player.round() == [4]
    still.queues.set("mail", concurrency=None)
    assert player.round() == [5]


def test_a_job_that_ran_before_the_queue_had_settings_counts(still: Scheduler, mail: Any, player: Player) -> None:
    still.enqueue_many([mail.call(), mail.call()])
    assert player.round() == [1, 2]
    still.queues.set("mail", concurrency=2)
    mail.enqueue()
    assert player.round() == []


def test_no_job_of_a_paused_queue_starts_until_it_resumes_and_those_that_run_go_on(
    still: Scheduler, mail: Any, player: Player
) -> None:
    still.enqueue_many([mail.options(priority=9).call() for _ in range(4)])
    other = mail.options(queue="other").enqueue()
    assert player.round() == [1, 2, 3]
    assert still.queues.pause("mail").paused
    for job in (1, 2, 3):
        player.end(job)
    assert player.round() == [other.id]
    assert (still.queues.get("mail").queued, still.counts()["succeeded"]) == (1, 3)
    assert still.queues.resume("mail").paused is False
    assert player.round() == [4]


def test_pause_keeps_the_other_settings(still: Scheduler) -> None:
    still.queues.set("mail", max_size=10, concurrency=2)
    assert still.queues.pause("mail") == Queue("mail", 10, concurrency=2, paused=True)
    assert still.queues.resume("mail") == Queue("mail", 10, concurrency=2)


def test_a_paused_queue_with_a_great_many_jobs_is_resumed_as_a_whole(
    still: Scheduler, mail: Any, player: Player, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queues, "_LET_OUT_AT_ONCE", 5)
    monkeypatch.setattr(claim, "OPENED_AT_ONCE", 5)
    still.queues.pause("mail")
    still.enqueue_many([mail.call() for _ in range(60)])
    assert player.round() == []
    still.queues.resume("mail")
    order = []
    while started := player.round():
        order += started
        for job in started:
            player.end(job)
    assert order == list(range(1, 61))


def test_run_due_leaves_the_jobs_of_a_paused_queue(still: Scheduler, mail: Any) -> None:
    still.queues.pause("mail")
    mail.enqueue()
    mail.options(queue="other").enqueue()
    assert still.run_due() == 1
    still.queues.resume("mail")
    assert still.run_due() == 1


# What it may hold


def test_a_full_queue_refuses_a_job_and_stores_nothing(still: Scheduler, mail: Any) -> None:
    still.queues.set("mail", max_size=2)
    mail.enqueue()
    mail.options(delay="1h").enqueue()
    with pytest.raises(
        QueueFull, match=r"the queue 'mail' holds 2 .* of 2 \(max_size\).*queues\.set\('mail', max_size="
    ) as caught:
        mail.enqueue()
    error = caught.value
    assert (error.queue, error.max_size, error.more, error.may_wait) == ("mail", 2, 1, False)
    assert still.queues.get("mail").queued + still.queues.get("mail").scheduled == 2
    mail.options(queue="other").enqueue()


def test_enqueue_many_stores_all_or_nothing_where_a_queue_is_full(still: Scheduler, mail: Any) -> None:
    still.queues.set("mail", max_size=3)
    with pytest.raises(QueueFull):
        still.enqueue_many([mail.options(queue="other").call(), *[mail.call() for _ in range(4)]])
    assert sum(still.counts().values()) == 0
    assert len(still.enqueue_many([mail.call() for _ in range(3)])) == 3


def test_running_and_finished_jobs_take_no_room_and_blocked_ones_do(still: Scheduler, mail: Any, player: Player) -> None:
    still.queues.set("mail", max_size=2, concurrency=1)
    mail.enqueue()
    assert player.round() == [1]
    mail.enqueue()
    mail.enqueue()
    player.round()
    with pytest.raises(QueueFull):
        mail.enqueue()
    player.end(1)
    assert player.round() == [2]
    mail.enqueue()


def test_what_plain_sql_adds_is_counted_and_never_refused(still: Scheduler, mail: Any, sql: Any) -> None:
    still.queues.set("mail", max_size=1)
    for _ in range(3):
        sql("INSERT INTO schedfactory_jobs (task, queue) VALUES ('mail', 'mail')")
    with pytest.raises(QueueFull, match="holds 1 "):
        mail.enqueue()
    assert still.counts()["scheduled"] == 3


def test_requeued_jobs_are_counted_and_never_refused(still: Scheduler, mail: Any) -> None:
    job = mail.enqueue()
    still.run_due()
    still.queues.set("mail", max_size=1)
    mail.enqueue()
    assert job.requeue().status == "queued"
    assert still.queues.get("mail").queued == 2


def test_jobs_that_an_update_brings_are_counted_and_never_refused(still: Scheduler, mail: Any) -> None:
    still.queues.set("mail", max_size=1)
    mail.enqueue()
    assert mail.options(queue="other").enqueue().update(queue="mail").queue == "mail"
    with pytest.raises(QueueFull, match="holds 1 "):
        mail.enqueue()
    assert still.queues.get("mail").queued == 2


def test_with_wait_an_enqueue_waits_for_room(scheduler: Scheduler, gate: Any) -> None:
    @scheduler.task(name="mail", queue="mail")
    def mail() -> None:
        gate()

    scheduler.queues.set("mail", max_size=1, when_full="wait")
    done: list[int] = []
    with scheduler.running(workers=1):
        mail.enqueue()
        gate.await_arrivals()
        mail.enqueue()
        thread = threading.Thread(target=lambda: done.append(mail.enqueue().id))
        thread.start()
        assert scheduler.counts()["queued"] == 1
        assert done == []
        gate.open()
        thread.join(20)
        assert done == [3]


def test_who_waits_goes_on_when_the_queue_may_grow(scheduler: Scheduler, noop: Any) -> None:
    scheduler.queues.set("mail", max_size=1, when_full="wait")
    task = noop.options(queue="mail")
    task.enqueue()
    thread = threading.Thread(target=task.enqueue)
    thread.start()
    scheduler.queues.set("mail", max_size=None)
    thread.join(20)
    assert not thread.is_alive()
    assert scheduler.counts()["queued"] == 2


def test_who_waits_is_told_when_there_can_be_no_room_any_more(scheduler: Scheduler, noop: Any, eventually: Any) -> None:
    scheduler.queues.set("mail", max_size=3, when_full="wait")
    task = noop.options(queue="mail")
    task.enqueue()
    told: list[BaseException] = []

    def enqueue() -> None:
        with suppress(QueueFull):
            scheduler.enqueue_many([task.call() for _ in range(3)])
            return
        told.append(QueueFull("mail", 2, 1, 3, may_wait=False))

    thread = threading.Thread(target=enqueue)
    thread.start()
    eventually(lambda: scheduler._house.waiting._events)  # it waits
    scheduler.queues.set("mail", max_size=2)
    thread.join(20)
    assert told
    assert scheduler.counts()["queued"] == 1


def test_with_wait_more_jobs_than_the_queue_ever_holds_are_refused_at_once(still: Scheduler, mail: Any) -> None:
    still.queues.set("mail", max_size=2, when_full="wait")
    with pytest.raises(QueueFull):
        still.enqueue_many([mail.call() for _ in range(3)])


def test_inside_a_task_a_full_queue_raises_also_with_wait(still: Scheduler, mail: Any) -> None:
    @still.task(name="feed")
    def feed() -> None:
        mail.enqueue()

    still.queues.set("mail", max_size=1, when_full="wait")
    still.queues.pause("mail")
    mail.enqueue()
    job = feed.enqueue()
    still.run_due()
    assert (job.refresh().status, str(job.refresh().error).startswith("QueueFull: the queue 'mail' holds 1")) == (
        "failed",
        True,
    )


def test_a_queue_without_a_bound_holds_any_number(still: Scheduler, mail: Any) -> None:
    still.queues.set("mail", concurrency=1)
    assert len(still.enqueue_many([mail.call() for _ in range(500)])) == 500


@pytest.mark.parametrize(
    "wrong",
    ["max_size = 0", "when_full = 'drop'", "concurrency = 0", "rate = 'fast'", "rate = '0/s'", "rate = '5/w'", "paused = 2"],
)
def test_a_setting_that_makes_no_sense_is_refused_in_sql_too(still: Scheduler, wrong: str, sql: Any) -> None:
    still.queues.set("mail")
    with pytest.raises(Exception, match="CHECK constraint failed"):
        sql(f"UPDATE schedfactory_queues SET {wrong}")


def test_settings_of_a_database_that_cannot_be_opened_are_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        Scheduler(tmp_path / "missing" / "jobs.db").queues.set("mail", max_size=1)
