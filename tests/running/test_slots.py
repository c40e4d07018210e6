"""Slots by queue: no queue runs more jobs at a time than its slots, and a full one does not hold up others."""

from __future__ import annotations

import threading
from collections import Counter

import pytest

LONG = "20s"


@pytest.fixture
def held(scheduler, make_gate):
    """Make jobs that wait at the gate of their queue; `held.peaks` has how many ran at the same time at most, by queue."""
    gates: dict[str, object] = {}
    running: Counter[str] = Counter()
    guard = threading.Lock()

    @scheduler.task(name="hold")
    def hold(queue: str) -> str:
        with guard:
            running[queue] += 1
            enqueue.peaks[queue] = max(enqueue.peaks[queue], running[queue])
        gates[queue]()
        with guard:
            running[queue] -= 1
        return queue

    def enqueue(queue, number=1, **options):
        gates.setdefault(queue, make_gate())
        return scheduler.enqueue_many([hold.options(queue=queue, **options).call(queue) for _ in range(number)])

    enqueue.peaks = Counter()
    enqueue.gates = gates
    return enqueue


def running(scheduler, queue):
    return len(scheduler.jobs(status="running", queue=queue))


def test_a_queue_never_runs_more_at_a_time_than_its_slots_and_a_full_one_holds_up_no_other(scheduler, held):
    mail = held("mail", 10, priority=100)
    other = held("other", 10)
    scheduler.start(queues={"mail": 2, "*": 3})
    held.gates["mail"].await_arrivals(2)
    held.gates["other"].await_arrivals(3)
    assert (running(scheduler, "mail"), running(scheduler, "other")) == (2, 3)
    held.gates["other"].open()
    assert [job.get_result(LONG) for job in other] == ["other"] * 10
    assert running(scheduler, "mail") == 2
    held.gates["mail"].open()
    assert [job.get_result(LONG) for job in mail] == ["mail"] * 10
    assert held.peaks == {"mail": 2, "other": 3}


def test_the_star_takes_all_queues_that_are_not_named_together(scheduler, held):
    for queue in ("a", "b", "mail"):
        held(queue, 3)
    scheduler.start(queues={"mail": 1, "*": 2})
    held.gates["mail"].await_arrivals()
    held.gates["a"].await_arrivals(2)
    assert [running(scheduler, queue) for queue in ("mail", "a", "b")] == [1, 2, 0]
    held.gates["a"].open()
    held.gates["b"].await_arrivals(2)
    held.gates["b"].open()
    held.gates["mail"].open()
    scheduler.wait_idle(LONG)
    assert held.peaks["mail"] == 1


def test_without_a_star_queues_that_are_not_named_wait(scheduler, held):
    [mail], [other] = held("mail"), held("other")
    held.gates["mail"].open()
    scheduler.start(queues={"mail": 1})
    assert mail.get_result(LONG) == "mail"
    assert other.refresh().status == "queued"


def test_slots_of_one_queue_stay_free_while_others_have_more_to_do(scheduler, held):
    held("other", 5)
    scheduler.start(queues={"mail": 1, "*": 2})
    held.gates["other"].await_arrivals(2)
    [mail] = held("mail")
    held.gates["mail"].open()
    assert mail.get_result(LONG) == "mail"
    assert running(scheduler, "other") == 2
    held.gates["other"].open()


def test_among_queues_with_free_slots_the_higher_priority_starts_first(scheduler):
    started = []

    @scheduler.task(name="note")
    def note(number: int) -> None:
        started.append(number)

    gate = threading.Event()

    @scheduler.task(name="block", queue="mail")
    def block() -> None:
        gate.wait(20)

    block.enqueue()
    scheduler.start(queues={"mail": 1})
    calls = [note.options(queue="mail", priority=number).call(number) for number in (3, 9, 5)]
    jobs = scheduler.enqueue_many(calls)
    gate.set()
    for job in jobs:
        job.wait(LONG)
    assert started == [9, 5, 3]


def test_nothing_is_lost_under_load_and_no_queue_has_more_than_its_slots(scheduler):
    slots = {"a": 1, "b": 2, "*": 3}
    running: Counter[str] = Counter()
    too_many = []
    guard = threading.Lock()

    @scheduler.task(name="busy")
    def busy(pool: str) -> None:
        with guard:
            running[pool] += 1
            if running[pool] > slots[pool]:
                too_many.append((pool, running[pool]))
        with guard:
            running[pool] -= 1

    queues = {"a": "a", "b": "b", "c": "*", "d": "*"}
    calls = [busy.options(queue=queue).call(pool) for queue, pool in queues.items()] * 100
    scheduler.enqueue_many(calls)
    with scheduler.running(queues=slots):
        scheduler.wait_idle("60s")
    assert scheduler.counts()["succeeded"] == len(calls)
    assert not too_many


def test_a_timed_out_job_whose_code_still_runs_keeps_no_slot(scheduler, gate, noop):
    @scheduler.task(name="slow", queue="mail", timeout="100ms")
    def slow() -> None:
        gate()

    scheduler.start(queues={"mail": 1})
    assert slow.enqueue().wait(LONG).reason == "timeout"
    assert noop.options(queue="mail").enqueue().get_result(LONG) == 1


def test_more_workers_than_slots_do_not_run_more_of_a_queue(scheduler, held):
    held("mail", 4)
    scheduler.start(queues={"mail": 1, "*": 1})
    assert scheduler.nodes.scale(workers=5).wait(LONG).result == "done"
    held.gates["mail"].await_arrivals()
    [other] = held("other")
    held.gates["other"].open()
    other.get_result(LONG)
    assert running(scheduler, "mail") == 1
    held.gates["mail"].open()
    scheduler.wait_idle(LONG)
    assert held.peaks["mail"] == 1


@pytest.mark.parametrize(
    ("how", "error", "said"),
    [
        ({"queues": {"mail": 0}}, ValueError, r"queues\['mail'\]=0 is fewer than one"),
        ({"queues": {"mail": "2"}}, TypeError, r"queues\['mail'\]='2' is no number of slots"),
        ({"queues": {}}, ValueError, r"queues={} serves nothing"),
        ({"queues": []}, ValueError, r"queues=\[\] serves nothing"),
        ({"queues": "mail"}, TypeError, "queues='mail' is no list of names"),
        ({"queues": {"": 1}}, ValueError, "queue='' is no name"),
        ({"queues": {"mail": 2}, "workers": 4}, ValueError, "both say how many jobs may run"),
        ({"workers": 0}, ValueError, "workers=0 is fewer than one"),
        ({"workers": True}, TypeError, "workers=True is no number of workers"),
    ],
)
def test_slots_that_make_no_sense_are_refused_and_nothing_runs(scheduler, how, error, said):
    with pytest.raises(error, match=said):
        scheduler.start(**how)
    assert not scheduler.is_running
    assert scheduler.nodes.list() == []
