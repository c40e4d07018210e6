"""Threads that wait for a job's end: woken by what is announced here, and by what others commit."""

from __future__ import annotations

import threading

import pytest

from schedfactory.running.waiting import Waiting

LONG_S = 20.0


@pytest.fixture
def waiting():
    return Waiting()


class Place:
    """A database of one value, and the thread that waits for it."""

    def __init__(self, waiting):
        self.waiting = waiting
        self.value = None
        self.state = 0
        self.looked = 0
        self.first_look = threading.Event()
        self.found = "nothing yet"

    def look(self):
        self.looked += 1
        self.first_look.set()
        return self.value

    def wait(self, job_id, timeout_s, state=None):
        self.found = self.waiting.until(job_id, self.look, state or (lambda: self.state), timeout_s)

    def start(self, job_id, timeout_s=LONG_S, state=None):
        thread = threading.Thread(target=self.wait, args=(job_id, timeout_s, state))
        thread.start()
        assert self.first_look.wait(LONG_S)
        return thread


@pytest.fixture
def place(waiting):
    return Place(waiting)


def test_what_is_there_already_is_returned_without_waiting(place):
    place.value = "x"
    place.wait(1, 0.0)
    assert (place.found, place.looked) == ("x", 1)


def test_after_the_timeout_there_is_none(place):
    place.wait(1, 0.01)
    assert place.found is None
    place.wait(1, 0.0)
    assert place.found is None


def test_an_announced_end_wakes_who_waits_for_it(place, waiting):
    thread = place.start(1)
    place.value = "x"
    waiting.announce([5, 1])
    thread.join(LONG_S)
    assert place.found == "x"


def test_a_commit_that_nobody_announced_wakes_too(place):
    thread = place.start(1, None)
    place.value = "x"
    place.state += 1
    thread.join(LONG_S)
    assert place.found == "x"


def test_a_state_that_cannot_be_told_is_looked_behind(place):
    thread = place.start(1, None, state=lambda: None)
    place.value = "x"
    thread.join(LONG_S)
    assert place.found == "x"


def test_nobody_looks_at_the_database_while_its_state_stays(place):
    place.wait(1, 0.3)
    assert place.looked == 1


def test_all_who_wait_for_one_job_are_woken(waiting):
    places = [Place(waiting) for _ in range(5)]
    threads = [place.start(1) for place in places]
    for place in places:
        place.value = "x"
    waiting.announce([1])
    for thread in threads:
        thread.join(LONG_S)
    assert [place.found for place in places] == ["x"] * 5


def test_who_has_stopped_waiting_is_forgotten(place, waiting):
    place.wait(1, 0.01)
    place.value = "x"
    place.wait(2, 0.01)
    assert waiting._events == {}
    waiting.announce([1, 2])


def test_an_error_of_the_look_reaches_who_waits(waiting):
    def look():
        raise LookupError("pruned")

    with pytest.raises(LookupError, match="pruned"):
        waiting.until(1, look, lambda: 0, 1.0)
    assert waiting._events == {}
