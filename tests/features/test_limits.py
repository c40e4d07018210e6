"""`limit=`: so many jobs run at the same time, and start in a stretch of time, and nothing else waits for them."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from floor import Player, attempts_in, most_at_once, most_in_a_window

from schedfactory import Fail, Limit, RetryAfter, Scheduler, Snooze, TaskRegistry, Unique, WaitTimeout
from schedfactory.features.limits import claim
from schedfactory.model.outcome import Outcome


@pytest.fixture
def players(still: Scheduler, clock: Any) -> Iterator[Callable[..., Player]]:
    """Nodes whose threads the test plays."""
    made: list[Player] = []

    def make(workers: int | None = 2, queues: Any = None) -> Player:
        made.append(Player(still, clock, workers, queues))
        return made[-1]

    yield make
    for player in made:
        player.close()


def nothing() -> None: ...


def of_account(account: int) -> None: ...


# What can be said


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Limit(), "limits nothing"),
        (lambda: Limit(0), "concurrency=0 is fewer than one.*pause"),
        (lambda: Limit(-1), "concurrency=-1 is fewer than one"),
        (lambda: Limit(rate="100"), "rate='100' is not understood.*100/m"),
        (lambda: Limit(rate="0/s"), "rate='0/s' is not understood"),
        (lambda: Limit(rate="5/week"), "rate='5/week' is not understood"),
        (lambda: Limit(1, key="{"), "key='{' is no key template"),
        (lambda: Limit(1, key="{account!r}"), "formats and conversions have no place"),
        (lambda: Limit(1, key=""), "key='' cannot be stored"),
    ],
)
def test_a_limit_that_says_nothing_or_nonsense_is_a_value_error(make: Callable[[], object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()


@pytest.mark.parametrize(
    "make", [lambda: Limit(True), lambda: Limit("2"), lambda: Limit(1.5), lambda: Limit(rate=10), lambda: Limit(1, key=7)]
)
def test_a_limit_of_another_type_is_a_type_error(make: Callable[[], object]) -> None:
    with pytest.raises(TypeError, match="Pass"):
        make()


@pytest.mark.parametrize("given", [2, "2/s", [2], object()])
def test_what_is_no_limit_is_refused_at_decoration(given: Any) -> None:
    with pytest.raises(TypeError, match=re.escape(f"limit={given!r} is no limit. Pass Limit(2)")):
        TaskRegistry().task(name="one", limit=given)(nothing)


def test_a_key_that_names_no_parameter_is_refused_at_decoration() -> None:
    with pytest.raises(ValueError, match=r"'acount' is no parameter's name\. There are: account"):
        TaskRegistry().task(name="one", limit=Limit(1, key="{acount}"))(of_account)


def test_a_limit_shows_what_it_was_given_and_equals_another_that_says_the_same() -> None:
    limit = Limit(2, key="account:{account_id}", rate="100/m")
    assert (limit.concurrency, limit.key, limit.rate) == (2, "account:{account_id}", "100/m")
    assert limit == Limit(2, "account:{account_id}", "100/m")


# How many run


def test_no_more_jobs_of_a_task_run_at_the_same_time_than_its_limit(scheduler: Scheduler, gate: Any, path: Path) -> None:
    @scheduler.task(name="work", limit=Limit(2))
    def work() -> None:
        gate()

    scheduler.enqueue_many([work.call() for _ in range(6)])
    with scheduler.running(workers=5):
        gate.await_arrivals(2)
        assert scheduler.counts()["running"] == 2
        gate.open()
        scheduler.wait_idle("20s")
    assert most_at_once(span for spans in attempts_in(path).values() for span in spans) == 2


def test_a_key_counts_by_itself_for_each_value_of_its_argument(players: Any, still: Scheduler) -> None:
    task = still.task(name="work", limit=Limit(1, key="account:{account}"))(of_account)
    still.enqueue_many([task.call(account) for account in (1, 1, 1, 2, 2, 3)])
    player = players(workers=6)
    assert player.round() == [1, 4, 6]
    player.end(4)
    assert player.round() == [5]


def test_tasks_that_give_the_same_key_share_its_slots(players: Any, still: Scheduler) -> None:
    limit = Limit(2, key="account:{account}")
    one = still.task(name="one", limit=limit)(of_account)
    two = still.task(name="two", limit=limit)(of_another_account)
    still.enqueue_many([one.call(1), two.call(1), one.call(1), two.call(1), two.call(2)])
    player = players(workers=5)
    assert player.round() == [1, 2, 5]
    player.end(1)
    assert player.round() == [3]


def of_another_account(account: int) -> None: ...


def test_a_limit_without_a_key_counts_for_the_task_under_all_its_names(players: Any, still: Scheduler) -> None:
    still.task(name="new", aliases=["old"], limit=Limit(1))(nothing)
    for name in ("old", "new"):
        still.remote(name).enqueue()
    assert players().round() == [1]


def test_all_limits_of_a_list_hold(players: Any, still: Scheduler) -> None:
    task = still.task(name="work", limit=[Limit(3), Limit(1, key="account:{account}")])(of_account)
    still.enqueue_many([task.call(account) for account in (1, 1, 2, 3, 4)])
    player = players(workers=5)
    assert player.round() == [1, 3, 4]
    player.end(3)
    assert player.round() == [5]  # not 2, whose account still has one
    player.end(1)
    assert player.round() == [2]


def test_two_limits_by_the_same_key_both_hold(players: Any, still: Scheduler, clock: Any) -> None:
    task = still.task(name="work", limit=[Limit(5, "k", "2/s"), Limit(3, "k", "3/m")])(nothing)
    still.enqueue_many([task.call() for _ in range(9)])
    player = players(workers=9)
    assert player.round() == [1, 2]
    clock.advance(seconds=2)
    assert player.round() == [3]
    for job in (1, 2, 3):
        player.end(job)
    assert player.round() == []
    clock.advance(seconds=61)
    assert player.round() == [4, 5]


def test_the_slots_of_one_node_by_queue_share_a_limit(players: Any, still: Scheduler) -> None:
    task = still.task(name="work", limit=Limit(1, key="k"))(nothing)
    still.enqueue_many([task.options(queue=queue).call() for queue in ("a", "b", "c")])
    player = players(None, {"a": 2, "b": 2, "*": 2})
    assert player.round() == [1]
    player.end(1)
    assert player.round() == [2]


def test_the_best_job_has_the_slot_of_a_limit_in_whatever_queue_it_is(players: Any, still: Scheduler) -> None:
    task = still.task(name="work", limit=Limit(1, key="k"))(nothing)
    still.enqueue_many([task.options(queue=queue, priority=priority).call() for queue, priority in (("a", 1), ("b", 9))])
    assert players(None, {"a": 2, "b": 2}).round() == [2]


def test_the_slots_of_a_queue_on_a_node_hold_beside_a_limit(players: Any, still: Scheduler) -> None:
    task = still.task(name="work", limit=Limit(3, key="k"))(nothing)
    other = still.task(name="other")(of_account)
    still.enqueue_many([task.options(queue="a").call() for _ in range(3)])
    still.enqueue_many([other.options(queue=queue).call(1) for queue in ("a", "b", "b", "b")])
    assert players(None, {"a": 2, "*": 2}).round() == [1, 2, 5, 6]


def test_a_limit_holds_over_several_nodes(players: Any, still: Scheduler) -> None:
    task = still.task(name="work", limit=Limit(3))(nothing)
    still.enqueue_many([task.call() for _ in range(8)])
    one, two = players(), players()
    assert (one.round(), two.round()) == ([1, 2], [3])
    one.end(1)
    assert (two.round(), one.round(), two.round()) == ([], [4], [])


# How many start


def test_no_more_jobs_start_in_any_window_than_the_rate_says(players: Any, still: Scheduler, clock: Any, path: Path) -> None:
    task = still.task(name="work", limit=Limit(rate="3/s"))(nothing)
    still.enqueue_many([task.call() for _ in range(12)])
    player = players(workers=2)
    began = clock.now
    while still.counts()["succeeded"] < 12:
        for job in list(player.jobs):
            player.end(job)
        player.round()
        clock.advance(milliseconds=100)
    starts = [spans[0][0] for spans in attempts_in(path).values()]
    assert most_in_a_window(starts, timedelta(seconds=1)) == 3
    assert clock.now - began < timedelta(seconds=5)


@pytest.mark.parametrize(("rate", "window"), [("2/s", 1), ("2/m", 60), ("2/h", 3_600), ("2/d", 86_400)])
def test_a_rate_counts_by_second_minute_hour_or_day(players: Any, still: Scheduler, clock: Any, rate: str, window: int) -> None:
    task = still.task(name="work", limit=Limit(rate=rate))(nothing)
    still.enqueue_many([task.call() for _ in range(3)])
    player = players(workers=3)
    assert player.round() == [1, 2]
    clock.advance(seconds=window)
    assert player.round() == []
    clock.advance(milliseconds=10)
    assert player.round() == [3]


def test_starts_that_fail_are_retried_or_snoozed_count_for_the_rate(still: Scheduler, clock: Any) -> None:
    ends: list[BaseException | None] = [ValueError("no"), RetryAfter(0), Snooze(0), None]

    @still.task(name="work", retry=9, limit=Limit(rate="4/m"))
    def work() -> None:
        end = ends.pop(0) if ends else None
        if end is not None:
            raise end

    @still.task(name="fail", limit=Limit(rate="1/m"))
    def fail() -> None:
        raise Fail("as it was told")

    first, second = work.enqueue(), work.enqueue()
    assert still.run_due() == 4
    assert (first.refresh().status, second.refresh().status) == ("scheduled", "succeeded")
    first.update(run_at=clock.now)
    assert still.run_due() == 0
    clock.advance(minutes=2)
    assert still.run_due() == 1
    fail.enqueue()
    fail.enqueue()
    assert still.run_due() == 1
    clock.advance(minutes=2)
    assert still.run_due() == 1


def test_a_job_waits_for_its_rate_no_longer_than_it_must(scheduler: Scheduler, path: Path) -> None:
    task = scheduler.task(name="work", limit=Limit(rate="5/s"))(nothing)
    scheduler.enqueue_many([task.call() for _ in range(11)])
    with scheduler.running(workers=4):
        scheduler.wait_idle("20s")
    starts = sorted(spans[0][0] for spans in attempts_in(path).values())
    assert most_in_a_window(starts, timedelta(seconds=1)) == 5


@pytest.mark.parametrize("step", [{"hours": -5}, {"seconds": -50}])
def test_a_clock_that_steps_back_holds_up_a_rate_for_one_window_at_most(
    players: Any, still: Scheduler, clock: Any, step: dict[str, int]
) -> None:
    task = still.task(name="work", limit=Limit(rate="2/m"))(nothing)
    still.enqueue_many([task.call() for _ in range(3)])
    player = players(workers=3)
    assert player.round() == [1, 2]
    clock.advance(**step)
    player.tick()
    assert player.round() == []
    clock.advance(seconds=59)
    assert player.round() == []
    clock.advance(seconds=2)
    player.tick()
    assert player.round() == [3]


def test_only_the_starts_that_a_window_can_reach_are_kept(players: Any, still: Scheduler, clock: Any, sql: Any) -> None:
    task = still.task(name="work", limit=Limit(rate="3/s", key="account:{account}"))(of_account)
    player = players(workers=9)
    for account in (1, 1, 1, 1, 1, 2):
        task.enqueue(account)
        player.round()
        clock.advance(seconds=2)
    kept = "SELECT limit_key, count(*) FROM schedfactory_starts GROUP BY 1"
    assert sql(kept) == [("limit:account:1 3/s", 3), ("limit:account:2 3/s", 1)]
    player.tick()
    assert len(sql(kept)) == 2
    clock.advance(days=1)
    player.tick()
    assert sql(kept) == []


# Who waits, and who does not


def test_what_a_limit_blocks_holds_up_no_other_job(players: Any, still: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim, "_PARKED_AT_ONCE", 7)
    monkeypatch.setattr(claim, "_LOOKED_AT", 5)
    task = still.task(name="work", priority=9, limit=Limit(1))(nothing)
    other = still.task(name="other")(of_account)
    still.enqueue_many([task.call() for _ in range(50)])
    job = other.enqueue(1)
    assert players(workers=2).round() == [1, job.id]


def test_those_that_wait_for_a_key_start_in_the_order_of_a_claim(players: Any, still: Scheduler, clock: Any) -> None:
    task = still.task(name="work", limit=Limit(1))(nothing)
    player = players(workers=2)
    still.enqueue_many([task.options(priority=priority).call() for priority in (0, 5, 0, 9, 5)])
    order = player.round()
    late = task.options(priority=7).enqueue()
    while still.counts()["queued"]:
        player.end(order[-1])
        order += player.round()
    assert order == [4, late.id, 2, 5, 1, 3]


def test_a_blocked_job_that_is_better_goes_before_one_that_has_just_come(players: Any, still: Scheduler) -> None:
    task = still.task(name="work", limit=Limit(2))(nothing)
    still.enqueue_many([task.options(priority=priority).call() for priority in (9, 9, 5)])
    player = players(workers=3)
    assert player.round() == [1, 2]
    player.vanish()  # nobody here is told of the slots that are free again
    other = players(workers=1)
    player.is_rescued(by=other)
    for job in (1, 2):
        still.cancel(job)
    task.options(priority=1).enqueue()
    assert other.round() == [3]


def test_who_waits_for_something_narrower_is_in_nobodys_way(players: Any, still: Scheduler) -> None:
    task = still.task(name="work", limit=[Limit(2), Limit(1, key="account:{account}")])(of_account)
    still.enqueue_many([task.call(account) for account in (7, 8, *[1] * 60, 2)])
    player = players(workers=2)
    assert player.round() == [1, 2]  # all others wait for the task
    player.end(1)
    assert player.round() == [3]
    player.end(2)
    assert player.round() == [63]  # behind 59 of an account that has its slot


def test_a_node_lets_out_whom_it_knows_behind_tasks_that_it_does_not_know(path: Path, clock: Any) -> None:
    schedulers = [Scheduler(path, clock=clock) for _ in range(2)]
    limit = Limit(1, key="k")
    one = schedulers[0].task(name="one", limit=limit)(nothing)
    two = schedulers[1].task(name="two", limit=limit)(of_account)
    players = [Player(scheduler, clock, 2) for scheduler in schedulers]
    try:
        schedulers[0].enqueue_many([one.call() for _ in range(40)])
        assert (players[0].round(), two.enqueue(1).id, players[1].round()) == ([1], 41, [])
        players[0].end(1)
        players[0].node._dispatcher.is_draining = True
        players[0].round()
        players[1].tick()
        assert players[1].round() == [41]
    finally:
        for player in players:
            player.close()
        for scheduler in schedulers:
            scheduler.close()


def test_no_more_are_let_out_than_can_start(players: Any, still: Scheduler, clock: Any, sql: Any) -> None:
    task = still.task(name="work", limit=[Limit(rate="500/m"), Limit(1, key="k")])(nothing)
    busy = still.task(name="busy", priority=9)(of_account)
    still.enqueue_many([task.call() for _ in range(300)])
    player = players(workers=2)
    assert player.round() == [1]
    still.enqueue_many([busy.call(1) for _ in range(40)])
    for _ in range(20):
        for job in list(player.jobs):
            player.end(job)
        player.round()
    [(free,)] = sql("SELECT count(*) FROM schedfactory_jobs WHERE task = 'work' AND status = 'queued' AND blocked_by IS NULL")
    assert free <= 2


def test_a_limit_that_the_code_no_longer_has_blocks_nothing(path: Path, clock: Any) -> None:
    for limit in (Limit(1), None):
        scheduler = Scheduler(path, clock=clock)
        task = scheduler.task(name="work", limit=limit)(nothing)
        player = Player(scheduler, clock, workers=5)
        try:
            if limit is not None:
                scheduler.enqueue_many([task.call() for _ in range(5)])
                assert player.round() == [1]
                player.end(1)
                player.node._dispatcher.is_draining = True
                player.round()
            else:
                player.tick()
                assert player.round() == [2, 3, 4, 5]
        finally:
            player.close()
            scheduler.close()


# What blocked jobs are for others


@pytest.fixture
def blocked(players: Any, still: Scheduler) -> Player:
    """A node that has one job of a limited task, and two that wait."""
    task = still.task(name="work", limit=Limit(1, key="account:{account}"))(of_account)
    still.enqueue_many([task.call(1) for _ in range(3)])
    player: Player = players(workers=3)
    assert player.round() == [1]
    return player


def test_blocked_jobs_are_queued_for_counts_lists_and_views(blocked: Player, still: Scheduler, sql: Any) -> None:
    assert still.counts()["queued"] == 2
    assert [job.id for job in still.jobs(status="queued")] == [3, 2]
    assert sql("SELECT queued, running FROM schedfactory_queue_stats") == [(2, 1)]
    assert sql("SELECT status FROM schedfactory_history WHERE id > 1") == [("queued",)] * 2
    queue = still.queues.get("default")
    assert (queue.queued, queue.running) == (2, 1)


def test_blocked_by_says_what_a_job_waits_for(blocked: Player, still: Scheduler, sql: Any) -> None:
    assert sql("SELECT id, blocked_by FROM schedfactory_jobs ORDER BY id") == [
        (1, None),
        (2, "limit:account:1"),
        (3, "limit:account:1"),
    ]
    assert sql("SELECT limit_keys FROM schedfactory_jobs WHERE id = 1") == [('["limit:account:1"]',)]


def test_the_doctor_finds_nothing_wrong_with_blocked_jobs(blocked: Player, still: Scheduler) -> None:
    assert [finding for finding in still.doctor() if finding.code != "sqlite"] == []


def test_a_blocked_job_can_be_cancelled_and_requeued(blocked: Player, still: Scheduler) -> None:
    job = still.get(2)
    assert job is not None
    assert job.cancel().status == "cancelled"
    assert job.requeue().status == "queued"
    assert blocked.round() == []
    blocked.end(1)
    assert blocked.round() == [2]
    blocked.end(2)
    assert blocked.round() == [3]


def test_a_blocked_job_expires(players: Any, still: Scheduler, clock: Any) -> None:
    task = still.task(name="work", limit=Limit(1))(nothing)
    task.enqueue()
    job = task.options(expires="1m").enqueue()
    player = players()
    assert player.round() == [1]
    clock.advance(minutes=2)
    player.round()
    assert (job.refresh().status, job.refresh().reason) == ("cancelled", "expired")


def test_an_update_of_a_blocked_job_counts_at_once(blocked: Player, still: Scheduler, clock: Any) -> None:
    job = still.get(3)
    assert job is not None
    job.update(priority=9)
    blocked.round()
    blocked.end(1)
    assert blocked.round() == [3]
    job = still.get(2)
    assert job is not None
    assert job.update(run_at=clock.now + timedelta(hours=1)).status == "scheduled"
    blocked.end(3)
    assert blocked.round() == []
    clock.advance(hours=2)
    assert blocked.round() == [2]


def test_run_due_leaves_what_a_limit_blocks_and_returns(still: Scheduler, clock: Any) -> None:
    task = still.task(name="work", limit=Limit(rate="2/m"))(nothing)
    still.enqueue_many([task.call() for _ in range(3)])
    assert still.run_due() == 2
    assert still.counts()["queued"] == 1
    clock.advance(minutes=2)
    assert still.run_due() == 1


def test_run_due_goes_on_behind_any_number_of_blocked_jobs(still: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim, "_PARKED_AT_ONCE", 10)
    task = still.task(name="work", priority=9, limit=Limit(rate="1/d"))(nothing)
    other = still.task(name="other")(of_account)
    still.enqueue_many([task.call() for _ in range(2_000)])
    still.enqueue_many([other.call(1) for _ in range(3)])
    assert still.run_due() == 4


def test_a_scheduler_is_not_idle_while_a_limit_blocks_jobs(still: Scheduler) -> None:
    task = still.task(name="work", limit=Limit(rate="1/d"))(nothing)
    still.enqueue_many([task.call() for _ in range(2)])
    still.run_due()
    with pytest.raises(WaitTimeout, match="'queued': 1"):
        still.wait_idle("10ms")


# What holds a slot, and until when


def test_a_job_that_takes_over_a_later_call_keeps_the_slot_of_its_code_left_over_by_a_timeout(
    players: Any, still: Scheduler, sql: Any
) -> None:
    task = still.task(name="work", limit=Limit(1), retry=2, unique=Unique("work", until="finished"))(of_account)
    job = task.enqueue(1)
    player = players(workers=2)
    assert player.round() == [job.id]
    player.end(job.id, Outcome("queued", "retry", run_at=player.clock.now, failures=1, leftover=True))
    player.round()
    replacing = Unique("work", until="started", on_conflict="replace")
    assert task.options(unique=replacing).enqueue(2).id == job.id
    assert sql("SELECT leftover, limit_keys FROM schedfactory_jobs") == [(1, '["task:work"]')]
    task.options(unique=False).enqueue(3)
    assert player.round() == []


def test_code_that_has_outlived_its_timeout_holds_its_slot_until_it_ends(
    scheduler: Scheduler, gate: Any, eventually: Any
) -> None:
    @scheduler.task(name="work", limit=Limit(1), timeout="50ms")
    def work() -> None:
        gate()

    first, second = scheduler.enqueue_many([work.call(), work.call()])
    with scheduler.running(workers=3):
        gate.await_arrivals()
        assert first.wait("20s").reason == "timeout"
        first.requeue()
        scheduler.task(name="other")(nothing)
        scheduler.remote("other").enqueue().wait("20s")  # a round later
        assert second.refresh().status == "queued"
        gate.open()
        assert second.wait("20s").attempt == 1


def test_a_requeue_leaves_the_slot_to_code_that_still_runs(still: Scheduler, players: Any, clock: Any) -> None:
    task = still.task(name="work", limit=Limit(1, key="k"))(nothing)
    still.enqueue_many([task.call(), task.call()])
    player = players(workers=2)
    assert player.round() == [1]
    job, _ = player.jobs[1]
    assert player.desk.settle(job)
    job.cause = "timeout"
    player.desk.ended.append((job, player.node._attempts.time_out(job, timedelta(seconds=1)), clock.now))
    assert player.round() == []
    first = still.get(1)
    assert first is not None
    assert first.requeue().status == "queued"
    player.tick()
    assert player.round() == []
    player.desk.end(job, Outcome("succeeded", None), clock.now)
    assert player.round() == [1]
    player.end(1)
    assert player.round() == [2]


def test_the_death_of_a_node_frees_its_slots(players: Any, still: Scheduler) -> None:
    task = still.task(name="work", limit=Limit(2))(nothing)
    still.enqueue_many([task.call() for _ in range(4)])
    dead, alive = players(), players()
    assert (dead.round(), alive.round()) == ([1, 2], [])
    alive.tick()
    dead.vanish()
    dead.is_rescued(by=alive)
    alive.tick()
    assert alive.round() == [1, 2]


def test_a_limit_holds_where_a_round_has_to_be_done_again_job_by_job(players: Any, still: Scheduler, sql: Any) -> None:
    task = still.task(name="work", limit=[Limit(2, key="account:{account}"), Limit(rate="3/m")])(of_account)
    still.counts()
    sql(
        "CREATE TRIGGER no BEFORE UPDATE OF status ON schedfactory_jobs WHEN NEW.id = 1 AND NEW.status = 'running'"
        " BEGIN SELECT RAISE(ABORT, 'not this one'); END"
    )
    still.enqueue_many([task.call(1) for _ in range(6)])
    player = players(workers=4)
    player.round()
    player.tick()
    player.round()
    assert sql("SELECT status, limit_keys IS NULL FROM schedfactory_jobs WHERE id < 4") == [
        ("failed", 1),
        ("running", 0),
        ("running", 0),
    ]
    assert still.counts()["running"] == 2
    assert sql("SELECT count(*) FROM schedfactory_starts") == [(2,)]


# What a key is made of


@pytest.mark.parametrize(
    ("kind", "same", "other"),
    [
        (int, ["1", "1 "], "2"),
        (float, ["1", "1.0", "1e0"], "1.5"),
        (str, ['"a"', '"\\u0061"'], '"b"'),
        (bool, ["true", " true"], "false"),
        (int | None, ["null", "null "], "1"),
        (uuid.UUID, [f'"{uuid.UUID(int=10)}"', f'"{str(uuid.UUID(int=10)).upper()}"'], f'"{uuid.UUID(int=11)}"'),
        (frozenset[str], ['["a","b"]', '["b","a"]'], '["a"]'),
        (dict[str, int], ['{"a":1,"b":2}', '{"b":2,"a":1}'], '{"a":1}'),
    ],
    ids=str,
)
def test_a_key_is_made_of_what_the_code_will_see(
    players: Any, still: Scheduler, sql: Any, kind: Any, same: list[str], other: str
) -> None:
    def work(value: Any) -> None: ...

    work.__annotations__["value"] = kind
    still.task(name="work", limit=Limit(1, key="{value}"))(work)
    still.counts()
    for text in (*same, other):
        sql("INSERT INTO schedfactory_jobs (task, args, status) VALUES ('work', ?, 'queued')", f'{{"value": {text}}}')
    assert players(workers=5).round() == [1, len(same) + 1]


def test_a_call_and_a_row_by_sql_have_the_same_key(players: Any, still: Scheduler, sql: Any) -> None:
    def work(value: float, other: str = "x") -> None: ...

    task = still.task(name="work", limit=Limit(1, key="{value}:{other}"))(work)
    task.enqueue(1)
    task.enqueue(1.0, other="x")
    sql("INSERT INTO schedfactory_jobs (task, args, status) VALUES ('work', '{\"value\": 1}', 'queued')")
    assert players(workers=5).round() == [1]
    assert sql("SELECT blocked_by FROM schedfactory_jobs WHERE id > 1") == [("limit:1:x",)] * 2


@pytest.mark.parametrize(
    "args", ["{}", '{"account": 1e999}', '{"account": "x"}', '{"account": NaN}', "no JSON", "[1]", '{"account": null}', ""]
)
def test_a_job_whose_arguments_make_no_key_fails_by_itself(still: Scheduler, sql: Any, args: str) -> None:
    task = still.task(name="work", limit=Limit(1, key="{account}"))(of_account)
    good = task.enqueue(1)
    sql("INSERT INTO schedfactory_jobs (task, args, priority, status) VALUES ('work', ?, 9, 'queued')", args)
    assert still.run_due() == 2
    assert [job.status for job in still.jobs()] == ["failed", "succeeded"]
    assert good.refresh().status == "succeeded"


def test_a_type_that_fails_in_an_unheard_of_way_is_only_its_own_jobs_matter(still: Scheduler, sql: Any) -> None:
    class Odd:
        def __init__(self, value: int) -> None: ...

        def model_dump(self, mode: str) -> int:
            return 1

        @classmethod
        def model_validate(cls, value: int) -> Odd:
            raise ZeroDivisionError(value)

    def work(value: Any) -> None: ...

    work.__annotations__["value"] = Odd
    still.task(name="work", limit=Limit(1, key="{value}"))(work)
    still.counts()
    sql("INSERT INTO schedfactory_jobs (task, args, status) VALUES ('work', '{\"value\": 1}', 'queued')")
    assert still.run_due() == 1
    assert [job.status for job in still.jobs()] == ["failed"]


@pytest.mark.parametrize("held", ["[[1]]", "no JSON", '{"a": 1}', "7", '["limit:1", 8, null]'])
def test_limit_keys_that_sql_has_written_stop_nobody(players: Any, still: Scheduler, sql: Any, held: str) -> None:
    task = still.task(name="work", limit=Limit(1, key="{account}"))(of_account)
    task.enqueue(2)
    player = players()
    player.round()
    sql("UPDATE schedfactory_jobs SET limit_keys = ?", held)
    task.enqueue(3)
    assert player.round() == [2]


def test_blocked_by_that_sql_has_written_is_let_out(players: Any, still: Scheduler, sql: Any) -> None:
    task = still.task(name="work", limit=Limit(1, key="{account}"))(of_account)
    task.enqueue(2)
    sql("UPDATE schedfactory_jobs SET blocked_by = 'who knows'")
    player = players()
    assert player.round() == []
    player.tick()
    assert player.round() == [1]


# Where


def test_jobs_in_worker_processes_are_limited(importable: Any, path: Path) -> None:
    app = importable(
        "limited_app",
        "from schedfactory import Limit, Scheduler\n"
        "scheduler = Scheduler('jobs.db')\n"
        "@scheduler.task(isolation='process', limit=Limit(1))\n"
        "def work(): pass\n",
    )
    app.scheduler.enqueue_many([app.work.call() for _ in range(4)])
    with app.scheduler.running(workers=3):
        app.scheduler.wait_idle("60s")
    assert most_at_once(span for spans in attempts_in(path).values() for span in spans) == 1


def test_a_private_file_and_a_file_in_its_place_have_limits_too(path: Path, clock: Any) -> None:
    scheduler = Scheduler(":memory:", clock=clock)
    task = scheduler.task(name="work", limit=Limit(rate="1/m"))(nothing)

    def rounds() -> int:
        scheduler.enqueue_many([task.call() for _ in range(3)])
        return scheduler.run_due()

    assert rounds() == 1
    with scheduler.override(path):
        assert rounds() == 1
    scheduler.close()


def test_a_task_of_a_registry_that_is_included_later_is_limited(still: Scheduler) -> None:
    tasks = TaskRegistry()
    still.include(tasks)
    task = tasks.task(name="work", limit=Limit(rate="1/m"))(nothing)
    still.enqueue_many([task.call() for _ in range(3)])
    assert still.run_due() == 1


def test_jobs_without_limits_leave_nothing_in_the_tables_of_limits(still: Scheduler, sql: Any) -> None:
    task = still.task(name="work")(nothing)
    still.enqueue_many([task.call() for _ in range(5)])
    assert still.run_due() == 5
    assert sql("SELECT count(limit_keys), count(blocked_by) FROM schedfactory_jobs") == [(0, 0)]
    assert sql("SELECT count(*) FROM schedfactory_starts") == [(0,)]


def test_a_start_whose_moment_sql_has_spoilt_counts_as_long_ago(still: Scheduler, sql: Any) -> None:
    task = still.task(name="work", limit=Limit(rate="1/m"))(nothing)
    still.enqueue_many([task.call() for _ in range(2)])
    assert still.run_due() == 1
    sql("UPDATE schedfactory_starts SET started_at = 'when?'")
    assert still.run_due() == 1
