"""What a job says is kept with it: its own lines, and the records of `logging` that its code makes."""

from __future__ import annotations

import contextvars
import logging
import logging.config
import math
import os
import signal
import threading
from datetime import timedelta

import freezegun
import pytest

from schedfactory import LogLine, LostLease, Scheduler, current_job
from schedfactory.model import log as bounds
from schedfactory.running import capture
from schedfactory.running import notes as rounds
from schedfactory.storage import notes

log = logging.getLogger("shop.orders")


@pytest.fixture(autouse=True)
def _levels(caplog):
    """Let the loggers of these tests through, as `logging.basicConfig(level="DEBUG")` would."""
    with caplog.at_level(logging.DEBUG):
        yield


@pytest.fixture
def run(still):
    """Run a function as a job, and return what it has said: level, logger and message."""

    def as_job(function, scheduler=still):
        @scheduler.task(name="says")
        def says() -> None:
            function()

        job = says.enqueue()
        scheduler.run_due()
        assert job.refresh().error is None
        return [(line.level, line.logger, line.message) for line in job.logs()]

    return as_job


def messages(job):
    return [line.message for line in job.logs()]


# job.log


def test_log_keeps_lines_in_order_with_the_attempt_and_the_moment_of_the_schedulers_clock(still, clock):
    @still.task(name="says")
    def says() -> None:
        current_job().log("first")
        clock.advance(seconds=1.5)
        current_job().log("second")

    job, began = says.enqueue(), clock.now
    assert job.logs() == []
    still.run_due()
    assert job.logs() == [
        LogLine(1, began, "INFO", None, "first"),
        LogLine(1, began + timedelta(seconds=1.5), "INFO", None, "second"),
    ]
    assert job.logs()[0].at.timezone_name == "UTC"


@pytest.mark.parametrize("value", [None, 5, b"text"])
def test_log_takes_text_only(run, value):
    def says() -> None:
        with pytest.raises(TypeError, match="this is no text"):
            current_job().log(value)

    assert run(says) == []


@pytest.mark.parametrize(("text", "kept"), [("\ud800", "?"), ("a\x00b", "a\ufffdb"), ("", ""), ("a\nb", "a\nb")])
def test_any_text_of_a_line_can_be_stored(run, text, kept):
    assert run(lambda: current_job().log(text)) == [("INFO", None, kept)]


def test_a_long_line_is_cut_and_says_how_long_it_was(run):
    [(_, _, said)] = run(lambda: current_job().log("x" * 12_345))
    assert len(said) == bounds.LONGEST
    assert said.endswith("xxx … (12,345 characters)")


def test_lines_are_in_the_file_while_the_job_runs(scheduler, gate, eventually):
    @scheduler.task(name="says")
    def says() -> None:
        current_job().log("before")
        gate()

    job = says.enqueue()
    with scheduler.running(workers=1):
        gate.await_arrivals()
        assert eventually(lambda: messages(job)) == ["before"]
        assert job.refresh().status == "running"
        gate.open()


def test_a_job_that_says_nothing_has_nothing_made_for_it(still, hands):
    still.remote("work").enqueue()
    still.task(name="work")(_work)
    job = hands[0].claim()
    hands[0].end(job)
    assert job.lines is None
    assert still.get(job.id).logs() == []


# Captured records


def test_records_of_logging_from_info_on_are_kept_with_their_level_logger_and_message(run):
    def says() -> None:
        log.debug("too low")
        log.info("order %d of %s", 7, "Ada")
        logging.getLogger("shop").warning("low on stock")
        logging.error("no logger of its own")
        current_job().log("beside them")

    assert run(says) == [
        ("INFO", "shop.orders", "order 7 of Ada"),
        ("WARNING", "shop", "low on stock"),
        ("ERROR", "root", "no logger of its own"),
        ("INFO", None, "beside them"),
    ]


@pytest.mark.parametrize(
    ("level", "kept"),
    [
        ("DEBUG", ["debug", "info", "error"]),
        ("error", ["error"]),
        (logging.INFO + 1, ["error"]),
        (0, ["debug", "info", "error"]),
        (None, []),
    ],
)
def test_capture_logs_is_the_lowest_level_that_is_kept_and_none_keeps_only_what_the_job_says_itself(path, run, level, kept):
    scheduler = Scheduler(path, capture_logs=level)

    def says() -> None:
        for name in ("debug", "info", "error"):
            getattr(log, name)(name)
        current_job().log("own")

    assert [message for *_, message in run(says, scheduler)] == [*kept, "own"]
    scheduler.close()


def test_only_what_the_programs_own_loggers_let_through_is_kept(run, monkeypatch):
    class NoSecrets(logging.Filter):
        def filter(self, record):
            return "secret" not in record.getMessage()

    quiet, filtered, alone = (logging.getLogger(f"shop.{name}") for name in ("quiet", "filtered", "alone"))
    monkeypatch.setattr(alone, "propagate", False)
    quiet.setLevel("WARNING")
    filtered.addFilter(NoSecrets())

    def says() -> None:
        quiet.info("below its level")
        filtered.warning("a secret")
        filtered.warning("no mystery")
        alone.warning("without a parent")

    try:
        assert [message for *_, message in run(says)] == ["no mystery", "without a parent"]
    finally:
        quiet.setLevel("NOTSET")


def test_a_record_with_an_exception_has_its_traceback(run):
    def says() -> None:
        try:
            raise ValueError("no such page")
        except ValueError:
            log.exception("it failed")
        log.info("where", stack_info=True)

    (level, _, said), (_, _, where) = run(says)
    assert level == "ERROR"
    assert said.startswith("it failed\nTraceback (most recent call last):\n")
    assert said.rstrip().endswith("ValueError: no such page")
    assert where.startswith("where\nStack (most recent call last):\n")


class Untouched(logging.Handler):
    def emit(self, record):
        assert record.exc_text is None
        assert not hasattr(record, "message")


def test_handlers_get_records_as_if_nobody_had_looked_at_them(run, monkeypatch):
    logger = logging.getLogger("shop.untouched")
    monkeypatch.setattr(logger, "handlers", [Untouched()])

    def says() -> None:
        try:
            raise ValueError
        except ValueError:
            logger.exception("it failed: %s", "x")

    assert len(run(says)) == 1


def test_a_record_that_cannot_be_formatted_is_kept_as_it_is_and_is_no_matter_of_the_task(run, monkeypatch):
    monkeypatch.setattr(logging, "raiseExceptions", False)
    logger = logging.getLogger("shop.alone")
    monkeypatch.setattr(logger, "propagate", False)
    [(_, _, said)] = run(lambda: logger.warning("%d pages", "many"))
    assert said.startswith("'%d pages' (could not be formatted: TypeError: ")


def test_a_clock_that_fails_does_not_fail_who_logs(run, still, monkeypatch, capsys):
    def says() -> None:
        job = current_job()
        monkeypatch.setattr(job, "_clock", lambda: 1 / 0)
        log.warning("when?")

    assert run(says) == []
    assert "ZeroDivisionError" in capsys.readouterr().err


class Failing(logging.Handler):
    def emit(self, record):
        raise OSError("the log host is gone")


def test_a_handler_of_the_users_that_fails_fails_as_ever_and_the_line_is_kept(still, monkeypatch):
    logger = logging.getLogger("shop.failing")
    monkeypatch.setattr(logger, "handlers", [Failing()])

    @still.task(name="says")
    def says() -> None:
        logger.warning("hello")

    job = says.enqueue()
    still.run_due()
    assert job.refresh().error == "OSError: the log host is gone"
    assert messages(job) == ["hello"]


def test_a_handler_of_the_users_that_logs_itself_and_enqueues_does_not_go_round_in_circles(still, monkeypatch):
    class Chatty(logging.Handler):
        def emit(self, record):
            if record.name == "shop.chatty":
                log.info("about: %s", record.getMessage())
                still.remote("elsewhere").enqueue()

    logger = logging.getLogger("shop.chatty")
    monkeypatch.setattr(logger, "handlers", [Chatty()])

    @still.task(name="says")
    def says() -> None:
        logger.warning("hello")

    job = says.enqueue()
    still.run_due()
    assert messages(job) == ["hello", "about: hello"]


def test_records_of_schedfactory_itself_are_not_kept_and_those_of_names_like_it_are(run):
    def says() -> None:
        logging.getLogger("schedfactory").error("own")
        logging.getLogger("schedfactory.part").error("own")
        logging.getLogger("schedfactory_shop").error("another's")

    assert [message for *_, message in run(says)] == ["another's"]


def test_what_threads_of_a_task_say_counts_where_they_have_its_context(run):
    def says() -> None:
        context = contextvars.copy_context()
        for target, words in ((log.info, ("bare",)), (context.run, (log.info, "copy"))):
            thread = threading.Thread(target=target, args=words)
            thread.start()
            thread.join()

    assert [message for *_, message in run(says)] == ["copy"]


def test_the_lines_of_jobs_that_run_at_the_same_time_never_mix(scheduler):
    barrier = threading.Barrier(4)

    @scheduler.task(name="says")
    def says(number: int) -> None:
        barrier.wait(20)
        for step in range(200):
            log.info("%d: %d", number, step)

    jobs = scheduler.enqueue_many([says.call(number) for number in range(4)])
    with scheduler.running(workers=4):
        scheduler.wait_idle("60s")
    for number, job in enumerate(jobs):
        assert messages(job) == [f"{number}: {step}" for step in range(200)]


def test_threads_of_one_job_that_speak_at_once_lose_and_number_nothing_twice(scheduler):
    @scheduler.task(name="says")
    def says() -> None:
        def speak(name: int) -> None:
            for step in range(100):
                log.info("%d: %d", name, step)

        threads = [threading.Thread(target=contextvars.copy_context().run, args=(speak, name)) for name in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    job = says.enqueue()
    with scheduler.running(workers=1):
        job.wait("60s")
    said = messages(job)
    for name in range(8):
        assert [one for one in said if one.startswith(f"{name}:")] == [f"{name}: {step}" for step in range(100)]


def test_outside_of_jobs_nothing_is_kept_and_loggers_are_left_alone_when_the_last_scheduler_stops(scheduler, tmp_path, noop):
    capture._nodes.clear()  # nodes of other tests that never left
    capture.end(scheduler)
    plain = logging.Logger.callHandlers
    other = Scheduler(tmp_path / "other.db")
    with scheduler.running(workers=1):
        with other.running(workers=1):
            assert logging.Logger.callHandlers is not plain
            log.info("nobody's")
        assert logging.Logger.callHandlers is not plain
        noop.enqueue().wait("20s")
    assert logging.Logger.callHandlers is plain
    with Scheduler(tmp_path / "silent.db", capture_logs=None).running(workers=1) as silent:
        assert logging.Logger.callHandlers is plain
    silent.close()
    other.close()


def test_who_comes_between_after_us_stays_and_nothing_is_kept_twice(scheduler, monkeypatch):
    seen = []

    @scheduler.task(name="says")
    def says() -> None:
        log.info("once")

    with scheduler.running(workers=1):
        inner = logging.Logger.callHandlers

        def between(logger, record):
            seen.append(record.getMessage())
            inner(logger, record)

        monkeypatch.setattr(logging.Logger, "callHandlers", between)
    assert logging.Logger.callHandlers is between
    job = says.enqueue()
    with scheduler.running(workers=1):
        job.wait("20s")
    assert messages(job) == ["once"]
    assert "once" in seen


_CONFIGURES = """
    import logging, logging.config, sys
    from schedfactory import Scheduler

    scheduler = Scheduler("jobs.db")

    @scheduler.task(name="says")
    def says() -> None:
        logging.getLogger("shop").warning("careful")

    with scheduler.running(workers=1):
        job = says.enqueue().wait("60s")
        logging.basicConfig(format="basic: %(message)s", stream=sys.stdout)
        says.enqueue().wait("60s")
        logging.config.dictConfig({"version": 1, "disable_existing_loggers": False, "root": {"handlers": []}})
        print(*(line.message for line in says.enqueue().wait("60s").logs()))
"""


def test_what_a_program_configures_for_logging_after_the_start_works_as_ever(program):
    out, err = program(_CONFIGURES).communicate(timeout=60)
    assert err == "careful\ncareful\n"  # by logging's last resort, where nothing is configured
    assert out == "basic: careful\ncareful\n"


# Attempts, retention


def test_each_attempt_keeps_its_lines_also_after_a_requeue(still):
    @still.task(name="says", retry=2)
    def says() -> None:
        current_job().log(f"try {current_job().attempt}")
        raise ValueError

    job = says.options(retry=2).enqueue()
    still.run_due()
    job.refresh()
    still._house.settings.__dict__["now"] = lambda: still._house.settings.clock() + timedelta(hours=1)
    still.run_due()
    assert job.refresh().status == "failed"
    job.requeue()
    still.run_due()
    assert [(line.attempt, line.message) for line in job.logs()] == [(1, "try 1"), (2, "try 2"), (3, "try 3")]


def test_lines_go_with_their_job_and_with_no_other(still, clock, sql):
    @still.task(name="says")
    def says(text: str) -> None:
        current_job().log(text)

    says.enqueue("old")
    still.run_due()
    clock.advance(days=2)
    new = says.enqueue("new")
    still.run_due()
    assert still.prune(older_than="1d") == 1
    assert sql("SELECT job_id, message FROM schedfactory_logs") == [(new.id, "new")]


def test_the_lines_of_an_attempt_that_timed_out_are_kept_and_its_code_is_told(scheduler, gate, eventually):
    told = []

    @scheduler.task(name="says", timeout="50ms")
    def says() -> None:
        current_job().log("in time")
        gate()
        log.info("late")
        with pytest.raises(LostLease, match="timeout"):
            current_job().log("late")
        told.append(list(current_job().lines.pending))

    job = says.enqueue()
    with scheduler.running(workers=1):
        assert job.wait("20s").reason == "timeout"
        assert messages(job) == ["in time"]
        gate.open()
        eventually(lambda: told)
    assert told == [[]]  # nor is it kept in memory for nobody
    assert messages(job) == ["in time"]


def test_freezegun_freezes_the_moments_of_lines(scheduler):
    @scheduler.task(name="says")
    def says() -> None:
        log.info("hello")

    with freezegun.freeze_time("2026-03-01 12:00:00"):
        job = says.enqueue()
        scheduler.run_due()
    assert [str(line.at) for line in job.logs()] == ["2026-03-01 12:00:00+00:00"]


# How many, and how often


def test_an_attempt_keeps_so_many_lines_and_counts_the_rest(run):
    def says() -> None:
        for number in range(100_000):
            current_job().log(f"line {number}")

    said = run(says)
    assert len(said) == bounds.MOST_LINES + 1
    assert said[-2] == ("INFO", None, "line 999")
    assert said[-1] == (
        "WARNING", "schedfactory", "99000 more lines were not kept: an attempt keeps 1,000 lines and 262,144 characters."
    )  # fmt: skip


def test_an_attempt_keeps_so_much_text_and_counts_the_rest(run):
    def says() -> None:
        for _ in range(30):
            current_job().log("x" * 10_000)
        current_job().log("short")

    said = run(says)
    assert len(said) == 26 + 1
    assert said[-1][2].startswith("5 more lines were not kept")


@pytest.fixture
def written(monkeypatch):
    """Return a list that gets the number of lines of each write."""
    found = []
    write_lines = notes.write_lines

    def counting(conn, job, lines):
        found.append(len(lines))
        return write_lines(conn, job, lines)

    monkeypatch.setattr(notes, "write_lines", counting)
    return found


def test_a_chatty_task_is_written_now_and_then_however_much_it_says(still, hands, written, monkeypatch):
    monkeypatch.setattr(rounds, "NOTE_S", 1_000.0)
    hands[0].node._dispatcher._notes.noted_at = -math.inf
    still.remote("work").enqueue()
    still.task(name="work")(_work)
    rings = []
    job, desk = hands[0].claim(), hands[0].node._desk
    monkeypatch.setattr(desk, "ring", lambda: rings.append(1))
    for _ in range(500):
        job.log("x")
    assert len(rings) == 1
    hands[0].round()
    assert written == [500]
    for _ in range(100_000):
        job.log("x")
        if len(rings) < 5:
            hands[0].round()
    assert written == [500]
    hands[0].end(job)
    assert len(written) == 2
    assert sum(written) <= 1_000 + 20  # of those that were not kept, a count that was written when it had doubled


def _work() -> None: ...


def test_the_end_of_another_job_does_not_make_a_chatty_one_write(still, hands, written, monkeypatch):
    monkeypatch.setattr(rounds, "NOTE_S", 1_000.0)
    hands[0].node._dispatcher._notes.noted_at = -math.inf
    still.enqueue_many([still.remote("work").call()] * 3)
    still.task(name="work")(_work)
    chatty, *others = (hands[0].claim() for _ in range(3))
    chatty.log("x")
    hands[0].round()
    for other in others:
        chatty.log("y")
        other.log("z")
        hands[0].end(other)
        assert still.get(other.id).logs()[0].message == "z"
    assert written == [1, 1, 1]
    hands[0].node._dispatcher._notes.noted_at = -math.inf
    hands[0].round()
    assert messages(still.get(chatty.id)) == ["x", "y", "y"]


def test_other_jobs_run_beside_a_chatty_one(scheduler, written, gate):
    stop = threading.Event()

    @scheduler.task(name="chatty")
    def chatty() -> int:
        number = 0
        while number < 100_000 or not stop.is_set():
            log.debug("none of this is for the database")
            log.info("line %d", number)
            number += 1
        return number

    @scheduler.task(name="quick")
    def quick() -> None:
        log.info("hello")

    logging.getLogger("shop").propagate = False
    try:
        with scheduler.running(workers=2):
            job = chatty.enqueue()
            for _ in range(20):
                assert messages(quick.enqueue().wait("60s")) == ["hello"]
            stop.set()
            job.wait("60s")
    finally:
        logging.getLogger("shop").propagate = True
    assert sum(written) <= 20 + 1_000 + 40
    assert len(job.logs()) == 1_001


def test_one_round_writes_a_bounded_number_of_lines_of_jobs_that_go_on(still, hands, written, monkeypatch):
    monkeypatch.setattr(rounds, "MOST_AT_ONCE", 30)
    still.enqueue_many([still.remote("work").call()] * 2)
    still.task(name="work")(_work)
    jobs = [hands[0].claim() for _ in range(2)]
    for job in jobs:
        for number in range(40):
            job.log(str(number))
    found = []
    while sum(written) < 80:
        hands[0].node._dispatcher._notes.noted_at = 0.0
        before = sum(written)
        hands[0].round()
        found.append(sum(written) - before)
    assert found == [30, 30, 20]
    for job in jobs:
        assert messages(still.get(job.id)) == [str(number) for number in range(40)]


# Trouble


def test_lines_of_an_attempt_that_lost_its_job_are_not_written_and_the_code_is_told(still, hands):
    still.remote("work").enqueue()
    still.task(name="work")(_work)
    old = hands[0].claim()
    hands[0].is_given_up()
    new = hands[1].claim()
    old.log("late")
    hands[0].round()
    with pytest.raises(LostLease, match="lost"):
        old.log("later")
    new.log("new")
    hands[1].end(new)
    hands[0].end(old)
    assert [(line.attempt, line.message) for line in still.get(new.id).logs()] == [(2, "new")]


@pytest.mark.parametrize("happens", [True, False], ids=["that happened", "that did not happen"])
def test_lines_brought_by_an_unclear_commit_are_stored_once(still, hands, happens, monkeypatch):
    from test_unclear_commits import fail_commit

    still.remote("work").enqueue()
    still.task(name="work")(_work)
    job, dispatcher = hands[0].claim(), hands[0].node._dispatcher
    fail = fail_commit.__wrapped__(monkeypatch)
    job.log("one")
    fail(happens)
    hands[0].round()
    assert dispatcher.trouble is not None
    dispatcher._notes.noted_at = 0.0
    hands[0].round()
    assert messages(still.get(job.id)) == ["one"]
    job.log("two")
    dispatcher._notes.noted_at = 0.0
    hands[0].round()
    assert dispatcher.trouble is None
    assert messages(still.get(job.id)) == ["one", "two"]
    job.log("three")
    fail(happens)
    hands[0].end(job)
    assert dispatcher.trouble is not None
    hands[0].round()
    assert still.get(job.id).status == "succeeded"
    assert messages(still.get(job.id)) == ["one", "two", "three"]


def test_lines_that_a_trigger_refuses_hold_up_neither_their_job_nor_the_lines_of_others(still, hands, sql, caplog):
    sql(
        "CREATE TRIGGER refuse BEFORE INSERT ON schedfactory_logs WHEN new.message LIKE '%secret%'"
        " BEGIN SELECT RAISE(ABORT, 'no secrets here'); END"
    )
    still.enqueue_many([still.remote("work").call()] * 2)
    still.task(name="work")(_work)
    bad, good = hands[0].claim(), hands[0].claim()
    bad.log("a secret")
    good.log("fine")
    hands[0].round()
    assert messages(still.get(good.id)) == ["fine"]
    hands[0].end(bad)
    hands[0].end(good)
    assert [still.get(job.id).status for job in (bad, good)] == ["succeeded"] * 2
    assert (messages(still.get(bad.id)), messages(still.get(good.id))) == ([], ["fine"])
    assert f"job {bad.id}: the database refused what it said last (1 lines)" in caplog.text


def test_an_end_that_is_kept_is_stored_later_with_its_lines(still, hands, sql, monkeypatch):
    monkeypatch.setattr("schedfactory.running.dispatcher.RETRY_S", (0.0, 0.0))
    sql(
        "CREATE TRIGGER refuse BEFORE UPDATE ON schedfactory_jobs WHEN new.status = 'succeeded'"
        " BEGIN SELECT RAISE(ABORT, 'not now'); END"
    )
    still.remote("work").enqueue()
    still.task(name="work")(_work)
    job = hands[0].claim()
    job.log("one")
    hands[0].end(job)
    assert hands[0].node._dispatcher.kept == 1
    sql("DROP TRIGGER refuse")
    hands[0].round()
    assert still.get(job.id).status == "succeeded"
    assert messages(still.get(job.id)) == ["one"]


_DIES = """
    import logging, threading
    from schedfactory import Scheduler, current_job

    scheduler = Scheduler("jobs.db")

    @scheduler.task(name="says")
    def says() -> None:
        for number in range(50):
            current_job().log(f"{current_job().attempt}: {number}")
        if current_job().attempt == 1:
            threading.Event().wait()

    if __name__ == "__main__":
        with scheduler.running(workers=1):
            scheduler.wait_idle("60s")
"""


def test_lines_that_are_in_the_file_survive_a_kill_and_those_of_the_next_attempt_join_them(scheduler, program, eventually):
    job = scheduler.remote("says").enqueue()
    process = program(_DIES)
    eventually(lambda: len(job.logs()) == 50)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert program(_DIES).wait(60) == 0
    assert messages(job) == [f"{attempt}: {number}" for attempt in (1, 2) for number in range(50)]


# isolation="process"

_TASKS = """
import logging, os, signal
from schedfactory import Scheduler, current_job

logging.basicConfig(level="DEBUG")
log = logging.getLogger("shop")
scheduler = Scheduler("jobs.db")

@scheduler.task(name="says", isolation="process")
def says() -> None:
    log.debug("too low")
    log.info("order %d", 7)
    current_job().log("own")
    try:
        raise ValueError("no such page")
    except ValueError:
        log.exception("it failed")

@scheduler.task(name="chatty", isolation="process")
def chatty() -> None:
    for number in range(5_000):
        current_job().log(str(number))

@scheduler.task(name="dies", isolation="process", on_crash="fail")
def dies() -> None:
    log.warning("last words")
    os.kill(os.getpid(), signal.SIGKILL)

@scheduler.task(name="forks", isolation="process")
def forks() -> int:
    log.info("before")
    copy = os.fork()
    if copy == 0:
        log.info("of nobody")
        current_job().log("of nobody")
        os._exit(7)
    code = os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1])
    log.info("after")
    return code

@scheduler.task(name="interrupted", isolation="process")
def interrupted() -> int:
    came = []
    logging.root.handlers[:] = [logging.NullHandler()]  # Python's stderr raises where a signal's handler writes into a write

    def handle(*_: object) -> None:
        if len(came) < 500:  # else there would be no room left for the rest
            came.append(1)
            log.info("signal")

    signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    for number in range(300):
        current_job().log(str(number))
    signal.setitimer(signal.ITIMER_REAL, 0)
    return len(came)
"""


@pytest.fixture
def tasks(importable):
    return importable("logging_tasks", _TASKS)


def done(task):
    job = task.enqueue()
    assert task.home.run_due() == 1
    return job.refresh()


def test_lines_of_a_job_in_a_process_come_home(tasks):
    job = done(tasks.says)
    info, own, failed = job.logs()
    assert (info.level, info.logger, info.message) == ("INFO", "shop", "order 7")
    assert (own.level, own.logger, own.message) == ("INFO", None, "own")
    assert failed.message.startswith("it failed\nTraceback (most recent call last):\n")
    assert job.created_at <= info.at <= own.at <= failed.at


def test_a_chatty_job_in_a_process_is_counted_there(tasks):
    said = messages(done(tasks.chatty))
    assert said[:1_000] == [str(number) for number in range(1_000)]
    assert len(said) == 1_001
    assert said[1_000].startswith("4000 more lines were not kept")


def test_the_last_words_of_a_process_that_dies_are_kept(tasks):
    job = done(tasks.dies)
    assert (job.status, job.reason) == ("failed", "crashed")
    assert messages(job) == ["last words"]


def test_what_a_forked_copy_of_a_process_says_is_nobodys_and_does_not_end_it(tasks):
    job = done(tasks.forks)
    assert job.result == 7
    assert messages(job) == ["before", "after"]


def test_a_signals_handler_that_logs_in_a_process_holds_nothing_up(tasks):
    job = done(tasks.interrupted)
    assert (job.status, job.error) == ("succeeded", None)
    said = messages(job)
    assert [one for one in said if one != "signal"] == [str(number) for number in range(300)]
    assert said.count("signal") == job.result


def test_the_moments_of_a_process_are_those_of_the_schedulers_clock(tasks, clock):
    with tasks.scheduler.override(tasks.scheduler._house.settings.path, clock=clock):
        job = done(tasks.says)
    assert all(clock.now <= line.at <= clock.now + timedelta(seconds=60) for line in job.logs())
