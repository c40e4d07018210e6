"""What a task's code sees of the job that it runs in: its facts, its progress, and what it may not do there."""

from __future__ import annotations

import contextvars
import math
import threading
from decimal import Decimal

import pytest

from schedfactory import LostLease, NotInJob, current_job


def test_outside_a_task_there_is_no_current_job():
    with pytest.raises(NotInJob, match="inside a task"):
        current_job()


def test_calling_a_task_as_a_function_makes_no_job(still):
    @still.task(name="asks")
    def asks() -> int:
        return current_job().id

    with pytest.raises(NotInJob):
        asks()
    assert still.counts()["queued"] == 0


def test_the_current_job_tells_the_facts_of_the_row(still, clock):
    seen = []

    @still.task(name="facts", queue="mail", priority=7, tags=["a"], retry=3)
    def facts(x: int, y: str = "z") -> None:
        job = current_job()
        seen.append(
            (job.id, job.uid, job.task, job.queue, job.priority, job.tags, job.args, job.attempt, job.max_attempts, job.worker)
        )
        assert job.started_at == clock.now
        assert job.run_at == still.get(job.id).run_at
        assert not job.cancelled

    job = facts.enqueue(1)
    still.run_due()
    assert job.refresh().error is None
    assert seen == [(job.id, job.uid, "facts", "mail", 7, ["a"], {"x": 1}, 1, 3, 1)]


def test_after_its_job_the_same_thread_is_in_no_job(still):
    @still.task(name="noop")
    def noop() -> None: ...

    noop.enqueue()
    still.run_due()
    with pytest.raises(NotInJob):
        current_job()


def test_a_thread_that_a_task_starts_needs_a_copy_of_its_context(still):
    seen = {}

    def look(key):
        try:
            seen[key] = current_job().id
        except NotInJob:
            seen[key] = None

    @still.task(name="forks_out")
    def forks_out() -> None:
        context = contextvars.copy_context()
        for thread in (
            threading.Thread(target=look, args=("bare",)),
            threading.Thread(target=context.run, args=(look, "copy")),
        ):
            thread.start()
            thread.join()

    job = forks_out.enqueue()
    still.run_due()
    assert seen == {"bare": None, "copy": job.id}


def test_a_context_variable_that_one_job_sets_is_unset_in_the_next(still):
    variable = contextvars.ContextVar("variable", default="unset")
    seen = []

    @still.task(name="sets")
    def sets() -> None:
        seen.append(variable.get())
        variable.set("set")

    sets.enqueue()
    sets.enqueue()
    still.run_due()
    assert seen == ["unset", "unset"]


def test_a_job_run_inside_a_job_leaves_the_outer_one_current(still):
    seen = []

    @still.task(name="inner")
    def inner() -> None:
        seen.append(current_job().id)

    @still.task(name="outer")
    def outer() -> None:
        inner.enqueue()
        still.run_due()
        seen.append(current_job().id)

    job = outer.enqueue()
    still.run_due()
    assert seen == [job.id + 1, job.id]


# Progress


def test_progress_is_in_the_row_while_the_job_runs(scheduler, gate, eventually):
    @scheduler.task(name="renders")
    def renders() -> None:
        current_job().set_progress(0.4, "page 4")
        gate()

    scheduler.start(workers=1)
    job = renders.enqueue()
    gate.await_arrivals()
    eventually(lambda: job.refresh().progress == 0.4)
    assert (job.refresh().status, job.refresh().progress_message) == ("running", "page 4")


def test_the_last_progress_of_many_ends_up_in_the_row(scheduler):
    @scheduler.task(name="renders")
    def renders() -> None:
        for page in range(1000):
            current_job().set_progress(page / 1000, f"page {page}")

    scheduler.start(workers=1)
    job = renders.enqueue().wait("20s")
    assert (job.progress, job.progress_message) == (0.999, "page 999")


def test_progress_without_a_message_keeps_the_older_message(still):
    @still.task(name="renders")
    def renders() -> None:
        current_job().set_progress(0.1, "begun")
        current_job().set_progress(1)

    job = renders.enqueue()
    still.run_due()
    assert (job.refresh().progress, job.refresh().progress_message) == (1.0, "begun")


def test_the_progress_of_a_failed_attempt_is_gone_when_the_next_one_starts(still):
    seen = []

    @still.task(name="renders")
    def renders() -> None:
        seen.append((still.get(current_job().id).progress, current_job().progress))
        current_job().set_progress(0.5, "half")
        raise ValueError

    job = renders.enqueue()
    still.run_due()
    assert job.refresh().progress == 0.5
    job.requeue()
    still.run_due()
    assert seen == [(None, (None, None))] * 2


@pytest.mark.parametrize("text", ["\ud800", "a\x00b", "x" * 10_000], ids=["surrogate", "nul", "long"])
def test_any_text_of_a_progress_message_can_be_stored(still, text):
    @still.task(name="renders")
    def renders() -> None:
        current_job().set_progress(0.5, text)

    job = renders.enqueue()
    still.run_due()
    assert job.refresh().status == "succeeded"
    assert 0 < len(job.refresh().progress_message) <= 1_000


@pytest.mark.parametrize("value", ["0.5", None, [0.5], 0.5j])
def test_progress_that_is_no_number_is_a_type_error(still, value):
    @still.task(name="renders")
    def renders() -> None:
        with pytest.raises(TypeError, match=r"^progress=.* is no number\. Pass one from 0 to 1"):
            current_job().set_progress(value)
        current_job().set_progress(Decimal("0.5"))

    job = renders.enqueue()
    still.run_due()
    assert (job.refresh().error, job.refresh().progress) == (None, 0.5)


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, math.inf])
def test_progress_outside_0_to_1_is_a_value_error(still, value):
    @still.task(name="renders")
    def renders() -> None:
        with pytest.raises(ValueError, match="progress="):
            current_job().set_progress(value)

    job = renders.enqueue()
    still.run_due()
    assert job.refresh().error is None


def test_progress_of_code_that_lost_its_job_is_refused(scheduler, gate):
    refused = []

    @scheduler.task(name="slow", timeout="10ms")
    def slow() -> None:
        job = current_job()
        gate()
        for act in (lambda: job.set_progress(0.5), job.raise_if_cancelled):
            with pytest.raises(LostLease, match="timeout"):
                act()
            refused.append(1)

    scheduler.start(workers=1)
    job = slow.enqueue()
    assert job.wait("20s").reason == "timeout"
    gate.open()
    scheduler.wait_idle("20s")
    assert refused == [1, 1]
    assert job.refresh().progress is None


# What a task may do with its scheduler


def test_a_task_may_enqueue_jobs(scheduler):
    @scheduler.task(name="leaf")
    def leaf(x: int) -> int:
        return x * 2

    @scheduler.task(name="root")
    def root() -> list[int]:
        return [leaf.enqueue(x).id for x in range(3)]

    scheduler.start(workers=2)
    ids = root.enqueue().get_result("20s")
    assert [scheduler.get(one).get_result("20s") for one in ids] == [0, 2, 4]


@pytest.mark.parametrize("verb", ["wait", "get_result"])
def test_waiting_without_a_timeout_inside_a_task_is_refused(still, verb):
    @still.task(name="leaf")
    def leaf() -> None: ...

    @still.task(name="root")
    def root() -> None:
        getattr(leaf.enqueue(), verb)()

    job = root.enqueue()
    still.run_due()
    assert job.refresh().error.startswith("RuntimeError: ")
    assert "after=" in job.refresh().error


def test_waiting_with_a_timeout_inside_a_task_is_allowed(scheduler):
    @scheduler.task(name="leaf")
    def leaf() -> int:
        return 4

    @scheduler.task(name="root")
    def root() -> int:
        return leaf.enqueue().get_result("20s") + 1

    scheduler.start(workers=2)
    assert root.enqueue().get_result("20s") == 5


def test_waiting_for_another_schedulers_job_inside_a_task_is_allowed(scheduler, tmp_path):
    from schedfactory import Scheduler

    other = Scheduler(tmp_path / "other.db")

    @other.task(name="leaf")
    def leaf() -> int:
        return 4

    @scheduler.task(name="root")
    def root() -> int:
        return leaf.enqueue().get_result()

    with other.running(workers=1):
        scheduler.start(workers=1)
        assert root.enqueue().get_result("20s") == 4
    other.close()
