"""The wall clock jumps, stands still and changes its zone while real threads run: due work is looked at again in 5 s.

The constant behind that is `LONGEST_WAIT_S` of the dispatcher; the tests that wait for it make it shorter.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pendulum
import pytest

from schedfactory.running import dispatcher

LONG_S = 30.0  # only a hang takes this long
SHORT_S = 0.2  # for the longest wait of a dispatcher


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatcher, "LONGEST_WAIT_S", SHORT_S)


@pytest.fixture
def ran(still: Any, clock: Any) -> list[tuple[int, Any]]:
    """What the task `tick` did: (its number, the clock then)."""
    found: list[tuple[int, Any]] = []

    @still.task(name="tick")
    def tick(number: int) -> None:
        found.append((number, clock.now))

    return found


def rounds(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return what waits until so many more rounds have been done."""
    done = threading.Semaphore(0)
    real = dispatcher.Dispatcher.round

    def round_(self: Any, now: Any) -> float:
        try:
            return real(self, now)
        finally:
            done.release()

    monkeypatch.setattr(dispatcher.Dispatcher, "round", round_)

    def wait(number: int) -> None:
        while done.acquire(blocking=False):
            pass
        for _ in range(number):
            assert done.acquire(timeout=LONG_S), "no round was done"

    return wait


def test_no_wait_of_a_dispatcher_is_longer_than_five_seconds():
    assert dispatcher.LONGEST_WAIT_S <= 5.0


def test_after_a_step_of_ten_years_what_has_become_due_runs_within_the_longest_wait(still, clock, ran, figures):
    """With the real constant, and nothing else that would wake the dispatcher."""
    job = still.remote("tick").options(run_at=clock.now + timedelta(days=3_652)).enqueue(number=1)
    with still.running(workers=1):
        before = still.health()
        time.sleep(0.05)  # it has gone to sleep; if not, the test is only easier
        clock.advance(days=3_653)
        stepped_at = time.monotonic()
        job.wait(LONG_S)
        took = time.monotonic() - stepped_at
    assert before.ok
    assert ran == [(1, clock.now)]
    assert took <= LONG_S
    figures(step="10 years", seen_after=f"{took:.1f} s")


def test_after_a_step_back_nothing_starts_before_its_time_and_all_starts_then(soon, still, clock, ran, monkeypatch):
    wait = rounds(monkeypatch)
    job = still.remote("tick").options(delay="10m").enqueue(number=1)
    with still.running(workers=1):
        clock.advance(hours=-1)
        wait(3)
        clock.advance(minutes=69, seconds=59)
        wait(3)
        assert ran == []
        clock.advance(seconds=1)
        job.wait(LONG_S)
    assert ran == [(1, job.run_at)]


def test_what_was_queued_before_a_step_back_stays_due(still, clock, ran):
    job = still.remote("tick").enqueue(number=1)
    assert job.status == "queued"
    clock.advance(hours=-1)
    with still.running(workers=1):
        job.wait(LONG_S)
    assert ran == [(1, clock.now)]
    assert clock.now < job.run_at


def test_a_retry_decided_before_a_step_back_stays_due_too(soon, still, clock, monkeypatch):
    wait = rounds(monkeypatch)
    starts = []

    @still.task(name="fragile", retry=3)
    def fragile() -> None:
        starts.append(clock.now)
        if len(starts) == 1:
            raise ValueError("x")

    job = fragile.enqueue()
    with still.running(workers=1):
        while job.refresh().status != "scheduled":
            wait(1)
        clock.advance(hours=-1)
        wait(3)
        assert len(starts) == 1  # its time is an hour and a second away now
        clock.advance(hours=1, seconds=1)
        assert job.wait(LONG_S).status == "succeeded"
    assert len(starts) == 2


def test_a_clock_that_stands_still_delays_only_what_is_for_later(soon, still, clock, ran, monkeypatch):
    wait = rounds(monkeypatch)
    later = still.remote("tick").options(delay=1).enqueue(number=0)
    with still.running(workers=2):
        jobs = still.enqueue_many([still.remote("tick").call(number=number) for number in range(1, 50)])
        for job in jobs:
            job.wait(LONG_S)
        wait(3)
        assert later.refresh().status == "scheduled"
    assert sorted(number for number, _ in ran) == list(range(1, 50))


def test_a_timeout_does_not_hear_of_the_wall_clock(still, clock):
    begun, end = threading.Event(), threading.Event()

    @still.task(name="slow", timeout="1h")
    def slow() -> int:
        begun.set()
        assert end.wait(LONG_S)
        return 1

    job = slow.enqueue()
    with still.running(workers=1):
        assert begun.wait(LONG_S)
        clock.advance(days=3_653)
        still.remote("nobody").enqueue()  # wakes the dispatcher
        end.set()
        assert job.get_result(LONG_S) == 1


# The hours that do not exist or exist twice. Jobs are kept in UTC: each local time names one moment.

AUTUMN = [  # zone, the first moment of the local hour that comes twice, and the distance to its second coming
    ("America/New_York", pendulum.datetime(2026, 11, 1, 5, 30), timedelta(hours=1)),
    ("Europe/Berlin", pendulum.datetime(2026, 10, 25, 0, 30), timedelta(hours=1)),
    ("Australia/Lord_Howe", pendulum.datetime(2026, 4, 4, 14, 45), timedelta(minutes=30)),
]


@pytest.mark.parametrize(("zone", "first", "apart"), AUTUMN, ids=[one[0] for one in AUTUMN])
def test_an_hour_that_comes_twice_is_two_moments(still, clock, ran, zone, first, apart):
    local = first.in_timezone(zone)
    again = (first + apart).in_timezone(zone)
    assert local.strftime("%H:%M") == again.strftime("%H:%M")
    clock.now = first - timedelta(days=1)
    for number, moment in enumerate((again, local)):
        still.remote("tick").options(run_at=moment).enqueue(number=number)
    run_through(still, clock, until=first + apart + timedelta(hours=1))
    assert ran == [(1, first), (0, first + apart)]


SPRING = [  # zone, and the moment at which its clock jumps
    ("America/New_York", pendulum.datetime(2026, 3, 8, 7)),
    ("Europe/Berlin", pendulum.datetime(2026, 3, 29, 1)),
    ("Australia/Lord_Howe", pendulum.datetime(2026, 10, 3, 15, 30)),
    ("UTC", pendulum.datetime(2026, 3, 29, 1)),
]


@pytest.mark.parametrize(("zone", "jump"), SPRING, ids=[one[0] for one in SPRING])
def test_a_jump_of_the_local_clock_moves_no_job(still, clock, ran, zone, jump):
    clock.now = jump - timedelta(days=1)
    moments = [(jump + timedelta(minutes=minutes)).in_timezone(zone) for minutes in (-1, 0, 1, 60)]
    for number, moment in enumerate(moments):
        still.remote("tick").options(run_at=moment).enqueue(number=number)
    run_through(still, clock, until=jump + timedelta(hours=2))
    assert ran == list(enumerate(moments))


def run_through(still: Any, clock: Any, until: Any) -> None:
    """Let the time pass to the next job and the next, and run each; before each, a second early, nothing is due."""
    while True:
        waiting = [job.run_at for job in still.jobs(status="scheduled")]
        if not waiting or min(waiting) > until:
            return
        clock.now = min(waiting) - timedelta(seconds=1)
        assert still.run_due() == 0
        clock.advance(seconds=1)
        assert still.run_due() == 1
