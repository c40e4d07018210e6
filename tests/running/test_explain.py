"""`explain()` says why a job is not running yet, and tells the truth."""

from __future__ import annotations

from typing import Any

import pytest

from schedfactory import Limit, Scheduler


@pytest.fixture
def busy(scheduler: Scheduler, gate: Any) -> Any:
    """A task whose one worker is kept busy by its first job."""

    @scheduler.task(name="work")
    def work(number: int = 0) -> None:
        gate()

    scheduler.start(workers=1)
    work.enqueue()
    gate.await_arrivals()
    return work


def code(job: Any) -> str:
    return str(job.explain().code)


def test_a_job_that_has_ended_is_finished_and_the_text_says_how(scheduler: Scheduler, noop: Any) -> None:
    job = noop.enqueue()
    scheduler.run_due()
    assert code(job) == "finished"
    assert "succeeded at" in job.explain().text


def test_a_job_that_runs_is_running_and_the_text_names_its_node(scheduler: Scheduler, busy: Any) -> None:
    [job] = scheduler.jobs(status="running")
    assert code(job) == "running"
    assert f"node {job.node}" in job.explain().text


def test_a_job_whose_timed_out_code_still_runs_is_running(scheduler: Scheduler, gate: Any, eventually: Any) -> None:
    @scheduler.task(name="slow", timeout="50ms", retry=2)
    def slow() -> None:
        gate()

    job = slow.enqueue()
    scheduler.start(workers=1)
    gate.await_arrivals()
    eventually(lambda: job.refresh().status != "running")
    assert code(job) == "running"
    assert "timeout" in job.explain().text


def test_a_job_for_later_is_scheduled_and_starts_at_its_run_at(noop: Any) -> None:
    job = noop.options(delay="10m").enqueue()
    found = job.explain()
    assert (found.code, found.estimated_start) == ("scheduled", job.run_at)


def test_a_job_that_waits_for_its_retry_is_scheduled_and_the_text_says_why(still: Scheduler) -> None:
    @still.task(name="fails", retry=3)
    def fails() -> None:
        raise ValueError("no")

    job = fails.enqueue()
    still.run_due()
    assert code(job) == "scheduled"
    assert "(retry)" in job.explain().text


def test_a_job_that_follows_others_is_upstream(noop: Any, sql: Any) -> None:
    job = noop.enqueue()
    sql("UPDATE schedfactory_jobs SET status = 'waiting'")
    assert code(job) == "upstream"


def test_without_a_node_it_is_no_node(noop: Any) -> None:
    assert code(noop.enqueue()) == "no_node"


def test_where_no_node_serves_its_queue_it_is_no_node_and_the_text_names_the_queue(scheduler: Scheduler, noop: Any) -> None:
    scheduler.start(workers=1, queues=["other"])
    found = noop.options(queue="mail").enqueue().explain()
    assert found.code == "no_node"
    assert "'mail'" in found.text


def test_where_no_node_knows_its_task_it_is_unknown_task(scheduler: Scheduler, noop: Any) -> None:
    scheduler.start(workers=1)
    assert code(scheduler.remote("elsewhere").enqueue()) == "unknown_task"


def test_jobs_of_a_paused_queue_do_not_go_first(scheduler: Scheduler, busy: Any) -> None:
    job = busy.enqueue()
    scheduler.queues.pause("mail")
    for _ in range(2):
        busy.options(queue="mail", priority=80).enqueue()
    found = job.explain()
    assert (found.code, found.ahead) == ("next", 0)


def test_in_a_paused_queue_it_is_queue_paused(scheduler: Scheduler, noop: Any) -> None:
    scheduler.queues.pause("default")
    scheduler.start(workers=1)
    assert code(noop.enqueue()) == "queue_paused"


def test_where_all_nodes_that_could_run_it_are_paused_it_is_node_paused(scheduler: Scheduler, noop: Any) -> None:
    scheduler.start(workers=1)
    scheduler.nodes.pause().wait("10s")
    found = noop.enqueue().explain()
    assert found.code == "node_paused"
    scheduler.nodes.resume().wait("10s")


def test_where_the_queue_runs_as_many_as_it_may_it_is_queue_full(scheduler: Scheduler, busy: Any) -> None:
    scheduler.queues.set("default", concurrency=1)
    jobs = [busy.enqueue(number) for number in range(3)]
    scheduler.nodes.scale(workers=3).wait("10s")
    found = [job.explain() for job in jobs]
    assert {one.code for one in found} == {"queue_full"}


def test_a_limit_without_room_is_limit_and_says_how_many_go_first(
    scheduler: Scheduler, gate: Any, eventually: Any, sql: Any
) -> None:
    @scheduler.task(name="limited", limit=Limit(1, key="account:{account}"))
    def limited(account: int) -> None:
        gate()

    scheduler.start(workers=4)
    limited.enqueue(7)
    gate.await_arrivals()
    jobs = [limited.enqueue(7) for _ in range(3)]
    eventually(lambda: sql("SELECT count(*) FROM schedfactory_jobs WHERE blocked_by = 'limit:account:7'") == [(3,)])
    found = [job.explain() for job in jobs]
    assert [(one.code, one.ahead) for one in found] == [("limit", 0), ("limit", 1), ("limit", 2)]
    assert "'limit:account:7' lets 1 run at the same time, and 1 do" in found[0].text


def test_a_limit_of_a_task_that_is_not_known_here_is_limit_all_the_same(
    scheduler: Scheduler, path: Any, gate: Any, eventually: Any, sql: Any
) -> None:
    @scheduler.task(name="limited", limit=Limit(1))
    def limited() -> None:
        gate()

    scheduler.start(workers=2)
    limited.enqueue()
    gate.await_arrivals()
    job = limited.enqueue()
    eventually(lambda: sql("SELECT count(*) FROM schedfactory_jobs WHERE blocked_by IS NOT NULL") == [(1,)])
    other = Scheduler(path)
    try:
        assert code(other.get(job.id)) == "limit"
    finally:
        other.close()


def test_a_rate_that_is_used_up_is_rate_and_tells_when_its_window_has_room(still: Scheduler, clock: Any) -> None:
    @still.task(name="rated", limit=Limit(rate="2/m"))
    def rated(number: int) -> None: ...

    jobs = [rated.enqueue(number) for number in range(6)]
    still.run_due()
    still.start(workers=1)  # so that there is a node
    began = clock.now
    found = [job.explain() for job in jobs[2:]]
    assert [one.code for one in found] == ["rate"] * 4
    minutes = [round((one.estimated_start - began).total_seconds() / 60, 2) for one in found if one.estimated_start]
    assert minutes == [1, 1, 2, 2]


def test_others_that_go_first_are_counted_and_the_start_is_told_from_history(scheduler: Scheduler, busy: Any, sql: Any) -> None:
    sql(
        "INSERT INTO schedfactory_jobs (task, status, started_at, finished_at) VALUES"
        " ('work', 'succeeded', '2026-01-01 00:00:00.000000', '2026-01-01 00:00:10.000000')"
    )
    jobs = [busy.options(priority=priority).enqueue() for priority in (5, 0, 9)]
    found = [job.explain() for job in jobs]
    assert [(one.code, one.ahead) for one in found] == [("ahead", 1), ("ahead", 2), ("next", 0)]
    starts = [one.estimated_start for one in found]
    assert all(starts)
    # They were asked one after the other, which takes its time on a busy machine.
    assert (starts[0] - starts[2]).total_seconds() == pytest.approx(10, abs=4)
    assert (starts[1] - starts[2]).total_seconds() == pytest.approx(20, abs=4)


def test_without_a_history_of_those_that_go_first_nobody_knows_when_it_starts(scheduler: Scheduler, busy: Any) -> None:
    first, second = busy.enqueue(), busy.enqueue()
    assert (code(first), code(second)) == ("next", "ahead")
    assert second.explain().estimated_start is None


def test_jobs_that_no_able_node_would_run_are_not_ahead(scheduler: Scheduler, busy: Any) -> None:
    scheduler.remote("elsewhere").options(priority=100).enqueue()
    assert code(busy.enqueue()) == "next"


def test_slots_of_other_queues_are_neither_free_for_a_job_nor_are_their_jobs_ahead(scheduler: Scheduler, gate: Any) -> None:
    @scheduler.task(name="work")
    def work() -> None:
        gate()

    scheduler.start(queues={"mail": 1, "*": 1})
    work.options(queue="mail").enqueue()
    gate.await_arrivals()
    second = work.options(queue="mail").enqueue()
    found = second.explain()
    assert (found.code, found.estimated_start, "a worker is free" in found.text) == ("next", None, False)
    other = work.options(queue="other").enqueue()
    gate.await_arrivals()
    assert other.explain().code == "running"


def test_an_explanation_reads_as_its_text(noop: Any) -> None:
    found = noop.enqueue().explain()
    assert str(found) == found.text


def test_explain_of_a_pruned_job_is_a_lookup_error(scheduler: Scheduler, noop: Any) -> None:
    job = noop.enqueue()
    scheduler.run_due()
    noop.enqueue()
    scheduler.prune(older_than=0)
    with pytest.raises(LookupError, match=r"job 1 is gone"):
        job.explain()
