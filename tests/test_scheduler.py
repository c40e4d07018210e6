"""The gate: starting, stopping, running what is due, waiting for results, listening."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta, timezone

import freezegun
import pendulum
import pytest

from schedfactory import JobFailed, Scheduler, WaitTimeout, current_job

LONG_S = 20.0


class Holding:
    """Task code that says when it has begun, and ends when it is told to."""

    def __init__(self):
        self.begun = threading.Semaphore(0)
        self.may_end = threading.Event()

    def __call__(self):
        self.begun.release()
        assert self.may_end.wait(LONG_S)
        return 7

    def await_begin(self):
        assert self.begun.acquire(timeout=LONG_S)


@pytest.fixture
def holding():
    found = Holding()
    yield found
    found.may_end.set()


@pytest.fixture
def hold(scheduler, holding):
    @scheduler.task(name="hold")
    def hold() -> int:
        return holding()

    return hold


# start, stop, running


@pytest.mark.parametrize("workers", [0, -1])
def test_fewer_than_one_worker_is_a_value_error(scheduler, workers):
    for begin in (scheduler.start, scheduler.run, lambda workers: scheduler.running(workers).__enter__()):
        with pytest.raises(ValueError, match="fewer than one"):
            begin(workers=workers)
    assert not scheduler.is_running


@pytest.mark.parametrize("workers", [1.5, "2", True])
def test_a_number_of_workers_that_is_no_number_is_a_type_error(scheduler, workers):
    with pytest.raises(TypeError, match="workers="):
        scheduler.start(workers=workers)


@pytest.mark.parametrize(("queues", "error"), [([], ValueError), ("mail", TypeError), ([""], ValueError), ([1], TypeError)])
def test_queues_that_are_no_names_are_refused(scheduler, queues, error):
    with pytest.raises(error, match="queue"):
        scheduler.start(queues=queues)
    assert not scheduler.is_running


def test_start_twice_is_a_runtime_error_and_the_first_goes_on(scheduler, noop):
    scheduler.start(workers=1)
    with pytest.raises(RuntimeError, match="runs already"):
        scheduler.start()
    assert noop.enqueue().get_result("20s") == 1


def test_is_running_between_start_and_stop(scheduler):
    assert not scheduler.is_running
    scheduler.start()
    assert scheduler.is_running
    scheduler.stop()
    assert not scheduler.is_running
    scheduler.stop()


def test_four_workers_run_unless_said_otherwise(scheduler, hold, holding):
    scheduler.start()
    for _ in range(5):
        hold.enqueue()
    for _ in range(4):
        holding.await_begin()
    assert (scheduler.counts()["running"], scheduler.counts()["queued"]) == (4, 1)


def test_it_can_be_started_again_after_a_stop_and_after_a_close(scheduler, noop):
    for _ in range(3):
        scheduler.start(workers=1)
        assert noop.enqueue().get_result("20s") == 1
        scheduler.stop()
    scheduler.close()
    scheduler.close()
    with scheduler.running(workers=1) as same:
        assert same is scheduler
        assert noop.enqueue().get_result("20s") == 1
    assert not scheduler.is_running


def test_running_stops_also_when_its_block_raises(scheduler):
    with pytest.raises(KeyError), scheduler.running(workers=1):
        raise KeyError
    assert not scheduler.is_running


def test_stop_lets_a_running_job_end_and_starts_no_other(scheduler, hold, holding, noop):
    scheduler.start(workers=1)
    job, next_one = hold.enqueue(), noop.enqueue()
    holding.await_begin()
    stopping = threading.Thread(target=scheduler.stop)
    stopping.start()
    while scheduler.is_running:
        pass
    holding.may_end.set()
    stopping.join(LONG_S)
    assert job.refresh().result == 7
    assert (next_one.refresh().status, next_one.refresh().attempt) == ("queued", 0)


def test_after_a_stop_nothing_starts(scheduler, noop):
    scheduler.start(workers=2)
    scheduler.enqueue_many([noop.call() for _ in range(2_000)])
    scheduler.stop()
    before = scheduler.counts()
    assert before["running"] == 0
    assert before["succeeded"] + before["queued"] == 2_000
    noop.enqueue()
    assert scheduler.counts()["succeeded"] == before["succeeded"]
    left = scheduler.jobs(status="queued", limit=5)
    assert all(job.attempt == 0 and job.reason is None and job.node is None for job in left)


def test_the_result_of_code_that_ends_after_the_stop_is_stored(scheduler, hold, holding):
    scheduler.start(workers=1)
    job = hold.enqueue()
    holding.await_begin()
    scheduler.stop("1ms")
    assert not scheduler.is_running
    assert job.refresh().status == "running"
    holding.may_end.set()
    assert job.get_result("20s") == 7
    assert job.refresh().attempt == 1


def test_code_that_ends_after_the_close_is_stored_and_the_database_is_closed_again(scheduler, hold, holding):
    scheduler.start(workers=1)
    job = hold.enqueue()
    holding.await_begin()
    scheduler.stop("1ms")
    scheduler.close()
    holding.may_end.set()
    for thread in threading.enumerate():
        if thread.name.startswith("schedfactory-dispatcher"):
            thread.join(20)
    assert not scheduler._house.database.is_open
    assert job.refresh().status == "succeeded"


def test_a_job_that_a_stop_left_running_is_not_taken_by_the_next_start(scheduler, hold, holding, noop):
    scheduler.start(workers=1)
    job = hold.enqueue()
    holding.await_begin()
    scheduler.stop("1ms")
    scheduler.start(workers=1)
    assert noop.enqueue().get_result("20s") == 1
    assert scheduler.run_due() == 0
    assert (job.refresh().status, job.refresh().attempt) == ("running", 1)
    holding.may_end.set()
    assert job.get_result("20s") == 7


def test_a_stop_that_waited_long_enough_sets_the_flags_and_the_job_is_queued_by_shutdown(scheduler):
    begun = threading.Event()

    @scheduler.task(name="polite")
    def polite() -> None:
        begun.set()
        job, pause = current_job(), threading.Event()
        while not job.cancelled:
            pause.wait(0.002)
        job.raise_if_cancelled()

    scheduler.start(workers=1)
    job = polite.enqueue()
    assert begun.wait(LONG_S)
    scheduler.stop("1ms")
    ended = job.refresh()
    assert (ended.status, ended.reason, ended.failures, ended.node) == ("queued", "shutdown", 0, None)
    [attempt] = ended.attempts()
    assert (attempt.status, attempt.reason) == ("interrupted", "shutdown")


def test_stop_inside_a_task_does_not_wait_for_that_task(scheduler, noop):
    @scheduler.task(name="last")
    def last() -> bool:
        scheduler.stop()
        return scheduler.is_running

    scheduler.start(workers=1)
    job = last.enqueue()
    assert job.get_result("20s") is False
    assert noop.enqueue().refresh().status == "queued"


def test_close_while_a_job_runs_lets_it_end(scheduler, hold, holding):
    scheduler.start(workers=1)
    job = hold.enqueue()
    holding.await_begin()
    threading.Timer(0.05, holding.may_end.set).start()
    scheduler.close()
    assert job.refresh().result == 7


def test_a_scheduler_that_is_stopped_leaves_no_thread_behind(path):
    before = set(threading.enumerate())
    scheduler = Scheduler(path)

    @scheduler.task(name="noop")
    def noop() -> None: ...

    with scheduler.running(workers=3):
        for job in [noop.enqueue() for _ in range(20)]:
            job.wait("20s")
    scheduler.run_due()
    scheduler.listen(lambda report: None)
    scheduler.close()
    for thread in set(threading.enumerate()) - before:
        thread.join(LONG_S)
        assert not thread.is_alive()


def test_run_blocks_until_stop_is_called_elsewhere(scheduler, noop):
    thread = threading.Thread(target=scheduler.run, kwargs={"workers": 1})
    thread.start()
    assert noop.enqueue().get_result("20s") == 1
    assert thread.is_alive()
    scheduler.stop()
    thread.join(LONG_S)
    assert not thread.is_alive()


# run_due


def test_run_due_runs_what_is_due_and_returns_the_number_of_attempts(still, clock):
    @still.task(name="noop", retry=3)
    def noop(fails: bool = False) -> None:
        if fails:
            raise ValueError

    assert still.run_due() == 0
    for _ in range(3):
        noop.enqueue()
    noop.options(delay="1h").enqueue()
    failing = noop.enqueue(fails=True)
    assert still.run_due() == 4
    assert still.run_due() == 0
    clock.advance(minutes=2)
    assert still.run_due() == 1
    assert failing.refresh().failures == 2


def test_run_due_runs_in_the_calling_thread(still):
    threads = []

    @still.task(name="where")
    def where() -> None:
        threads.append(threading.current_thread())

    where.enqueue()
    still.run_due()
    assert threads == [threading.current_thread()]


def test_run_due_sees_jobs_enqueued_by_jobs(still):
    @still.task(name="counts_down")
    def counts_down(n: int) -> None:
        if n:
            counts_down.enqueue(n - 1)

    counts_down.enqueue(10)
    assert still.run_due() == 11


def test_run_due_stops_at_its_limit(still):
    @still.task(name="noop")
    def noop() -> None: ...

    for _ in range(5):
        noop.enqueue()
    assert still.run_due(limit=0) == 0
    assert still.run_due(limit=2) == 2
    assert still.counts()["queued"] == 3
    assert still.run_due(limit=100) == 3


@pytest.mark.parametrize("limit", [-1, 1.5, True, "3"])
def test_a_limit_that_is_no_number_of_attempts_is_a_value_error(still, limit):
    with pytest.raises(ValueError, match="limit="):
        still.run_due(limit=limit)


def test_run_due_follows_freezegun(path):
    with freezegun.freeze_time("2026-01-02 03:04:05") as frozen:
        scheduler = Scheduler(path)

        @scheduler.task(name="noop")
        def noop() -> None: ...

        now, later = noop.enqueue(), noop.options(delay="1h").enqueue()
        assert later.run_at == datetime(2026, 1, 2, 4, 4, 5, tzinfo=timezone.utc)
        assert scheduler.run_due() == 1
        frozen.tick(timedelta(minutes=59, seconds=59))
        assert scheduler.run_due() == 0
        frozen.tick(1)
        assert scheduler.run_due() == 1
        assert later.refresh().started_at == datetime(2026, 1, 2, 4, 4, 5, tzinfo=timezone.utc)
        assert now.refresh().finished_at == datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
        scheduler.close()


def test_a_job_interrupted_in_run_due_is_queued_by_shutdown_and_the_interrupt_is_raised(still):
    stop = [True]

    @still.task(name="interrupted", retry=3)
    def interrupted() -> str:
        if stop.pop():
            raise KeyboardInterrupt
        return "done"

    stop.insert(0, False)
    job = interrupted.enqueue()
    with pytest.raises(KeyboardInterrupt):
        still.run_due()
    back = job.refresh()
    assert (back.status, back.reason, back.failures) == ("queued", "shutdown", 0)
    assert still.run_due() == 1
    assert (job.refresh().result, job.refresh().attempt) == ("done", 2)


def test_run_due_works_beside_a_node_that_runs(scheduler, hold, holding, noop):
    scheduler.start(workers=1)
    job = hold.enqueue()
    holding.await_begin()
    other = noop.enqueue()
    assert scheduler.run_due() == 1
    assert other.refresh().status == "succeeded"
    holding.may_end.set()
    assert job.get_result("20s") == 7


# wait, get_result, wait_idle


def test_wait_returns_the_finished_job_whatever_its_end(scheduler, noop):
    @scheduler.task(name="broken")
    def broken() -> None:
        raise ValueError

    scheduler.start(workers=1)
    assert noop.enqueue().wait().status == "succeeded"
    assert broken.enqueue().wait(timedelta(seconds=20)).status == "failed"
    assert noop.options(delay="1h").enqueue().cancel().wait(0).status == "cancelled"


def test_wait_that_lasts_too_long_is_a_wait_timeout_and_the_job_goes_on(scheduler, hold, holding):
    scheduler.start(workers=1)
    job = hold.enqueue()
    with pytest.raises(WaitTimeout, match=r"had not ended after 0\.01 s") as caught:
        job.wait("10ms")
    assert isinstance(caught.value, TimeoutError)
    with pytest.raises(WaitTimeout):
        job.get_result(0)
    holding.may_end.set()
    assert job.get_result() == 7


def test_many_threads_may_wait_for_one_job(scheduler, hold, holding):
    scheduler.start(workers=1)
    job, results = hold.enqueue(), []
    threads = [threading.Thread(target=lambda: results.append(job.get_result("20s"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    holding.await_begin()
    holding.may_end.set()
    for thread in threads:
        thread.join(LONG_S)
    assert results == [7] * 8


def test_waiting_for_a_job_that_is_pruned_meanwhile_is_a_lookup_error(still, clock):
    @still.task(name="noop")
    def noop() -> None: ...

    job, _newest = noop.enqueue(), noop.enqueue()
    still.run_due()
    clock.advance(days=60)
    assert still.prune() == 1
    with pytest.raises(LookupError, match="pruned"):
        job.wait("20s")


def test_get_result_of_a_failed_job_raises_job_failed_with_the_job_and_its_traceback(still):
    @still.task(name="broken")
    def broken() -> None:
        raise ValueError("no such account")

    job = broken.enqueue()
    still.run_due()
    with pytest.raises(JobFailed, match="failed/error: ValueError: no such account") as caught:
        job.get_result()
    assert caught.value.job == job.refresh()
    [note] = caught.value.__notes__
    assert "in broken" in note


def test_the_traceback_of_job_failed_is_the_last_attempts(still, clock):
    errors = iter([ValueError("first"), KeyError("last")])

    @still.task(name="broken", retry=2)
    def broken() -> None:
        raise next(errors)

    job = broken.enqueue()
    still.run_due()
    clock.advance(hours=2)
    still.run_due()
    with pytest.raises(JobFailed) as caught:
        job.get_result()
    assert "KeyError" in caught.value.__notes__[0]
    assert "ValueError" not in caught.value.__notes__[0]


def test_wait_idle_returns_when_nothing_is_due_or_running(scheduler, hold, holding, noop):
    scheduler.wait_idle(0)
    scheduler.start(workers=1)
    jobs = [hold.enqueue(), noop.enqueue()]
    noop.options(delay="1h").enqueue()
    with pytest.raises(WaitTimeout, match=r"due or running after 0\.01 s"):
        scheduler.wait_idle("10ms")
    holding.may_end.set()
    scheduler.wait_idle("20s")
    assert [job.refresh().status for job in jobs] == ["succeeded"] * 2


def test_wait_idle_without_a_timeout_inside_a_task_is_a_runtime_error(still):
    @still.task(name="waits")
    def waits() -> None:
        still.wait_idle()

    job = waits.enqueue()
    still.run_due()
    assert job.refresh().error.startswith("RuntimeError: ")


# listen, reports


def test_a_job_is_reported_queued_started_and_ended(scheduler, noop):
    reports = scheduler.reports("job")
    scheduler.start(workers=1)
    job = noop.enqueue()
    job.wait("20s")
    scheduler.stop()
    scheduler.close()
    got = list(reports)
    assert [(one.subject, one.id, one.status, one.detail) for one in got] == [
        ("job", job.id, "queued", ""),
        ("job", job.id, "start", ""),
        ("job", job.id, "end", "succeeded"),
    ]
    assert all(isinstance(one.at, pendulum.DateTime) for one in got)
    assert got[0].at <= got[1].at <= got[2].at


@pytest.mark.parametrize("options", [{"retry": 1}, {"retry": 2}], ids=["final", "retry"])
def test_the_end_of_an_attempt_is_reported_with_the_next_status(still, options):
    @still.task(name="broken", **options)
    def broken() -> None:
        raise ValueError

    reports = still.reports("job")
    job = broken.enqueue()
    still.run_due()
    still.close()
    assert [one.detail for one in reports if one.status == "end"] == [job.refresh().status]


def test_the_end_of_a_job_cancelled_while_its_retry_was_on_the_way_is_reported_as_cancelled(still):
    @still.task(name="broken", retry=5)
    def broken() -> None:
        still.cancel(current_job().id)
        raise ValueError

    reports = still.reports("job")
    job = broken.enqueue()
    still.run_due()
    still.close()
    assert job.refresh().status == "cancelled"
    assert [one.detail for one in reports if one.status == "end"] == ["cancelled"]


def test_an_expired_job_is_reported_as_cancelled(still, clock):
    @still.task(name="fresh", expires="1s")
    def fresh() -> None: ...

    reports = still.reports("job")
    job = fresh.enqueue()
    clock.advance(seconds=2)
    still.run_due()
    still.close()
    assert [(one.id, one.status, one.detail) for one in reports] == [(job.id, "queued", ""), (job.id, "end", "cancelled")]


def test_a_cancel_before_the_start_is_reported_as_an_end_and_a_requeue_as_a_new_wait(still):
    @still.task(name="work")
    def work() -> None: ...

    reports = still.reports("job")
    job = work.enqueue()
    job.cancel()
    job.requeue()
    still.run_due()
    still.close()
    told = ["queued", "end", "queued", "start", "end"]
    assert [(one.id, one.status) for one in reports] == [(job.id, status) for status in told]


def test_nodes_and_their_workers_are_reported(scheduler):
    reports = scheduler.reports("node", "worker")
    scheduler.start(workers=2)
    scheduler.stop()
    scheduler.close()
    got = [(one.subject, one.id, one.status) for one in reports]
    node = got[0][1]
    assert got[0] == ("node", node, "start")
    assert got[-1] == ("node", node, "stop")
    assert sorted(got[1:3]) == [("worker", 1, "start"), ("worker", 2, "start")]
    assert sorted(got[3:5]) == [("worker", 1, "quit"), ("worker", 2, "quit")]
    assert len(got) == 6


def test_a_listener_is_called_for_what_happens_from_now_on(scheduler, noop):
    noop.enqueue()
    got, ended = [], threading.Event()

    def callback(report):
        got.append(report.status)
        if report.status == "end":
            ended.set()

    scheduler.listen(callback, "job")
    scheduler.start(workers=1)
    assert ended.wait(LONG_S)
    assert got == ["start", "end"]


def test_a_listener_may_use_the_scheduler(scheduler, noop):
    seen, done = [], threading.Event()

    def callback(report):
        if report.status == "end":
            seen.append(scheduler.get(report.id).status)
            done.set()

    scheduler.listen(callback, "job")
    scheduler.start(workers=1)
    noop.enqueue()
    assert done.wait(LONG_S)
    assert seen == ["succeeded"]


def test_the_time_of_reports_and_rows_is_the_schedulers_clock(still, clock):
    @still.task(name="noop")
    def noop() -> None: ...

    reports = still.reports("job")
    job = noop.enqueue()
    still.run_due()
    assert {job.created_at, job.refresh().started_at, job.refresh().finished_at, next(reports).at} == {clock.now}
