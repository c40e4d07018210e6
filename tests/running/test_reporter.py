"""Reports reach who listens, in order, and never hold up who tells."""

from __future__ import annotations

import gc
import logging
import threading

import pendulum
import pytest

from schedfactory import StatusReport
from schedfactory.model.clock import system_clock
from schedfactory.running.reporter import Reporter

LONG_S = 20.0


@pytest.fixture
def reporter():
    made = Reporter()
    yield made
    made.close()


def tell(reporter, subject="job", of=1, status="start", detail=""):
    reporter.tell(subject, of, status, system_clock(), detail)


def test_an_iterator_gives_what_was_told_since_it_was_made_and_ends_at_the_close(reporter):
    tell(reporter, of=0)
    reports = reporter.reports()
    for number in (1, 2, 3):
        tell(reporter, of=number)
    reporter.close()
    assert [report.id for report in reports] == [1, 2, 3]


def test_a_report_says_what_when_and_how(reporter):
    reports = reporter.reports("job")
    before = pendulum.now("UTC")
    tell(reporter, "job", 7, "end", "succeeded")
    report = next(reports)
    assert isinstance(report, StatusReport)
    assert (report.subject, report.id, report.status, report.detail) == ("job", 7, "end", "succeeded")
    assert isinstance(report.at, pendulum.DateTime)
    assert before <= report.at <= pendulum.now("UTC")


def test_each_listener_gets_its_subjects_only(reporter):
    jobs, two, everything = reporter.reports("job"), reporter.reports("worker", "node"), reporter.reports()
    for subject in ("node", "job", "command", "worker"):
        tell(reporter, subject)
    reporter.close()
    assert [report.subject for report in jobs] == ["job"]
    assert [report.subject for report in two] == ["node", "worker"]
    assert [report.subject for report in everything] == ["node", "job", "command", "worker"]


def test_an_unknown_subject_is_a_value_error(reporter):
    with pytest.raises(ValueError, match="'jobs' is unknown"):
        reporter.reports("jobs")
    with pytest.raises(ValueError, match="'jobs' is unknown"):
        reporter.listen(print, "job", "jobs")


def test_nobody_wants_what_nobody_listens_to(reporter):
    assert not reporter.wants("job")
    reporter.reports("worker")
    assert (reporter.wants("job"), reporter.wants("worker")) == (False, True)
    reporter.close()
    assert not reporter.wants("worker")


def test_a_callback_is_called_in_order_on_another_thread(reporter):
    got, done = [], threading.Event()

    def callback(report):
        got.append((report.id, threading.current_thread().name))
        if len(got) == 100:
            done.set()

    reporter.listen(callback)
    for number in range(100):
        tell(reporter, of=number)
    assert done.wait(LONG_S)
    assert [number for number, _ in got] == list(range(100))
    assert {name for _, name in got} == {"schedfactory-listener"}


def test_a_callback_that_raises_is_logged_and_called_again(reporter, caplog):
    done = threading.Event()

    def callback(report):
        if report.id == 1:
            raise ValueError("mine")
        done.set()

    with caplog.at_level(logging.ERROR, "schedfactory"):
        reporter.listen(callback)
        tell(reporter, of=1)
        tell(reporter, of=2)
        assert done.wait(LONG_S)
    assert "failed on" in caplog.text


def test_a_callback_that_blocks_holds_up_nobody(reporter):
    gate = threading.Event()
    reporter.listen(lambda report: gate.wait(LONG_S))
    other = reporter.reports()
    for number in range(1_000):
        tell(reporter, of=number)
    assert next(other).id == 0
    gate.set()


def test_a_listener_that_is_too_far_behind_misses_reports_and_the_log_says_so(reporter, caplog):
    reports = reporter.reports()
    with caplog.at_level(logging.WARNING, "schedfactory"):
        for number in range(10_005):
            tell(reporter, of=number)
    assert caplog.text.count("behind") == 1
    reporter.close()
    assert [report.id for report in reports] == list(range(10_000))


def test_what_a_listener_has_missed_is_counted_and_told_once_it_has_caught_up(reporter, caplog):
    reports = reporter.reports()
    with caplog.at_level(logging.WARNING, "schedfactory"):
        for number in range(10_005):
            tell(reporter, of=number)
        assert reports.dropped == 5
        for _ in range(9_999):
            next(reports)
        assert "caught up" not in caplog.text
        assert next(reports).id == 9_999
        assert "a listener has caught up; it has missed 5 reports" in caplog.text
        tell(reporter, of=20_000)
        assert next(reports).id == 20_000
        assert caplog.text.count("caught up") == 1
        for number in range(10_002):
            tell(reporter, of=number)
        assert reports.dropped == 7
        reporter.close()
        assert len(list(reports)) == 10_000
    assert "it has missed 2 reports" in caplog.text


def test_a_callback_that_is_too_far_behind_misses_reports_and_the_log_says_so(reporter, caplog):
    gate = threading.Event()
    with caplog.at_level(logging.WARNING, "schedfactory"):
        reporter.listen(lambda report: gate.wait(LONG_S))
        for number in range(10_010):
            tell(reporter, of=number)
        gate.set()
        reporter.close()
    assert "a listener has caught up; it has missed" in caplog.text


def test_an_iterator_of_reports_that_nobody_holds_any_more_is_told_nothing(reporter):
    reports = reporter.reports()
    assert len(reporter._listeners) == 1
    del reports
    gc.collect()
    assert not reporter._listeners


def test_a_listener_that_cannot_be_called_is_a_type_error(reporter):
    with pytest.raises(TypeError, match=r"listen\('job'\): this cannot be called"):
        reporter.listen("job")


def test_after_the_close_new_listeners_may_come(reporter):
    reporter.close()
    reports = reporter.reports()
    tell(reporter, of=5)
    assert next(reports).id == 5


def test_close_waits_for_what_callbacks_have_still_to_be_told():
    reporter, told, gate = Reporter(), [], threading.Event()

    def slow(report):
        gate.wait(0.001)
        told.append(report.id)

    reporter.listen(slow, "job")
    for number in range(100):
        reporter.tell("job", number, "start", system_clock())
    reporter.close()
    assert told == list(range(100))
