"""`tail`: what happens to jobs, in whichever process, a line each."""

from __future__ import annotations

import json
import logging
import queue
import signal
from contextlib import closing
from datetime import datetime

import pytest

from schedfactory import Retry, Scheduler, Snooze, current_job
from schedfactory.cli import follow
from schedfactory.cli.follow import Follower


@pytest.fixture
def tailing(begin, folder):
    """Start `tail` with these arguments on the folder's file, and return it once it follows."""
    with closing(Scheduler(folder / "jobs.db")) as scheduler:
        scheduler.counts()

    def start(*arguments):
        process = begin("--database", "jobs.db", "tail", *arguments)
        assert process.stderr.readline() == "Following. Ctrl-C stops it.\n"
        return process

    return start


@pytest.fixture
def app(folder):
    """Another process than the one that follows."""
    scheduler = Scheduler(folder / "jobs.db")

    @scheduler.task(name="add", queue="sums")
    def add(x: int) -> int:
        logging.getLogger("shop").warning("adding %d", x)
        return x

    @scheduler.task(name="fail", retry=Retry(2, base=0))
    def fail() -> None:
        raise ValueError(f"try {current_job().attempt}")

    scheduler.known = {"add": add, "fail": fail}  # type: ignore[attr-defined]
    yield scheduler
    scheduler.close()


def told(process):
    """Return the events that a `tail --json` has printed to its end."""
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    return [json.loads(line) for line in out.splitlines()]


def test_tail_tells_of_new_jobs_their_start_what_they_say_and_their_end(tailing, app):
    process = tailing("--lines", "4", "--json")
    job = app.known["add"].enqueue(7)
    app.run_due()
    new, start, log, end = told(process)
    assert [(one["event"], one["status"]) for one in (new, start, log, end)] == [
        ("new", "queued"), ("start", "running"), ("log", "running"), ("end", "succeeded")
    ]  # fmt: skip
    assert {(one["id"], one["task"], one["queue"]) for one in (new, start, log, end)} == {(job.id, "add", "sums")}
    assert (log["level"], log["logger"], log["message"]) == ("WARNING", "shop", "adding 7")
    assert (end["reason"], end["error"], end["attempt"]) == (None, None, 1)
    assert end["run_s"] >= 0
    assert datetime.fromisoformat(new["at"]) == job.created_at


def test_tail_prints_a_line_for_people(tailing, app):
    process = tailing("--lines", "5", "--no-logs")
    app.remote("mail").options(delay="1h").enqueue().cancel()
    app.known["fail"].options(retry=1).enqueue()
    app.run_due()
    out, _ = process.communicate(timeout=60)
    lines = [line.split(" ", 2)[2] for line in out.splitlines()]
    assert lines[0].startswith("job 1 mail scheduled until 20")
    assert set(lines[1:]) >= {"job 1 mail cancelled/user", "job 2 fail queued", "job 2 fail started"}
    assert lines[4].startswith("job 2 fail failed/error in 0.")
    assert lines[4].endswith(" s: ValueError: try 1")


def test_tail_tells_of_each_attempt(tailing, app):
    process = tailing("--lines", "5", "--json")
    app.known["fail"].enqueue()
    app.run_due()
    found = told(process)
    assert [(one["event"], one["status"], one["attempt"]) for one in found] == [
        ("new", "queued", 0),
        ("start", "running", 1),
        ("end", "queued", 1),
        ("start", "running", 2),
        ("end", "failed", 2),
    ]
    assert (found[2]["reason"], found[2]["error"]) == ("retry", "ValueError: try 1")
    assert (found[4]["reason"], found[4]["error"]) == ("error", "ValueError: try 2")


@pytest.mark.parametrize(
    ("arguments", "ends"),
    [
        (("--task", "add"), [("add", "queued"), ("add", "running"), ("add", "succeeded")]),
        (("--queue", "default", "--status", "failed"), [("fail", "failed")]),
        (("--status", "succeeded", "--status", "failed"), [("add", "succeeded"), ("fail", "failed")]),
    ],
)
def test_tail_is_narrowed_by_task_queue_and_status(tailing, app, arguments, ends):
    process = tailing(*arguments, "--no-logs", "--lines", str(len(ends)), "--json")
    app.enqueue_many([app.known["add"].call(1), app.known["fail"].call()])
    app.run_due()
    assert [(one["task"], one["status"]) for one in told(process)] == ends


def test_tail_ends_after_the_time_that_it_is_given(tailing):
    assert told(tailing("--for", "300ms", "--json")) == []


def test_ctrl_c_ends_tail_with_exit_code_0(tailing):
    process = tailing()
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--for", "soon"), "'--for': 'soon' is not understood"),
        (("--lines", "0"), "0 is not in the range"),
        (("--status", "done"), "'done' is not one of"),
    ],
)
def test_what_tail_does_not_understand_is_bad_usage(cli, folder, arguments, said):
    assert said in cli("--database", "jobs.db", "tail", *arguments, code=2).stderr


def test_to_tail_a_file_that_is_not_there_is_an_error_and_makes_none(cli, folder):
    cli("--database", "none.db", "tail", "--for", "1s", code=1)
    assert not (folder / "none.db").exists()


def test_text_of_a_job_gives_tail_no_orders_to_the_terminal(tailing, sql):
    process = tailing("--lines", "1")
    sql("jobs.db", "INSERT INTO schedfactory_jobs (task, status) VALUES (?, 'queued')", "t\x1b[2J\nu")
    out, _ = process.communicate(timeout=60)
    assert out.endswith(" job 1 t [2J u queued\n")
    assert out.count("\n") == 1


# The looks themselves


@pytest.fixture
def looks(still, path):
    """A follower of the file, as another program has it, and a function that returns what a look tells."""
    other = Scheduler(path)
    still.counts()
    follower = Follower(other, None, None)
    yield lambda: [(event.job.id, event.kind, event.status, event.attempt) for event in follower.look()]
    other.close()


def test_a_look_at_a_file_that_nobody_has_written_to_reads_no_jobs(still, path, monkeypatch):
    other = Scheduler(path)
    still.remote("work").enqueue()
    follower = Follower(other, None, None)
    monkeypatch.setattr(Follower, "_unfinished", lambda *_: 1 / 0)
    assert [follower.look() for _ in range(3)] == [[]] * 3
    still.remote("work").enqueue()
    with pytest.raises(ZeroDivisionError):
        follower.look()
    other.close()


def test_what_was_there_before_is_not_told_and_what_becomes_of_it_is(still, path):
    @still.task(name="work")
    def work() -> None:
        current_job().log("hello")

    old = [work.enqueue() for _ in range(2)]
    still.run_due(limit=1)
    other = Scheduler(path)
    follower = Follower(other, None, None)
    assert follower.look() == []
    still.run_due()
    assert [(event.job.id, event.kind) for event in follower.look()] == [(old[1].id, kind) for kind in ("start", "log", "end")]
    other.close()


def test_lines_of_a_running_job_are_told_once_as_they_come(still, looks, until):
    words: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    @still.task(name="work")
    def work() -> None:
        while (text := words.get(timeout=60)) is not None:
            current_job().log(text)

    job = work.enqueue()
    seen = []
    with still.running(workers=1):
        until(lambda: seen.extend(looks()) or len(seen) == 2)
        for number, text in enumerate(("one", "two", "three"), 3):
            words.put(text)
            until(lambda number=number: seen.extend(looks()) or len(seen) == number)
        words.put(None)
        job.wait("60s")
    assert seen[2:] == [(job.id, "log", "running", 1)] * 3
    assert looks() == [(job.id, "end", "succeeded", 1)]
    assert looks() == []


def _work() -> None: ...


def test_a_job_that_snoozes_is_told_and_its_earlier_lines_are_not_told_again(still, clock, looks):
    @still.task(name="work")
    def work() -> None:
        current_job().log("hello")
        if current_job().attempt == 1:
            raise Snooze("1m")

    job = work.enqueue()
    still.run_due()
    assert looks() == [
        (job.id, "new", "queued", 0),
        (job.id, "start", "running", 1),
        (job.id, "log", "running", 1),
        (job.id, "end", "scheduled", 1),
    ]
    clock.advance(minutes=2)
    still.run_due()
    assert looks() == [(job.id, "start", "running", 2), (job.id, "log", "running", 2), (job.id, "end", "succeeded", 2)]


def test_a_cancel_before_the_start_and_one_between_attempts_are_ends(still, looks):
    @still.task(name="work", retry=Retry(2, base="1h"))
    def work() -> None:
        raise ValueError

    first = work.enqueue()
    still.run_due()
    looks()
    second = still.remote("work").enqueue()
    first.cancel()
    second.cancel()
    assert sorted(looks()) == [
        (first.id, "end", "cancelled", 1),
        (second.id, "end", "cancelled", 0),
        (second.id, "new", "queued", 0),
    ]


def test_a_requeued_job_is_told_from_its_next_start_on(still, looks):
    still.task(name="work")(_work)
    job = still.remote("work").enqueue()
    still.run_due()
    looks()
    job.requeue()
    assert looks() == []
    still.run_due()
    assert looks() == [(job.id, "start", "running", 2), (job.id, "end", "succeeded", 2)]


def test_more_new_jobs_than_a_page_are_all_told(still, looks, monkeypatch):
    monkeypatch.setattr(follow, "_PAGE", 7)
    still.enqueue_many([still.remote("work").call()] * 21)
    assert [job_id for job_id, *_ in looks()] == list(range(1, 22))
    assert looks() == []


def test_a_job_that_is_pruned_between_two_looks_is_not_told_and_stops_nothing(still, clock, looks):
    still.task(name="work")(_work)
    still.enqueue_many([still.remote("work").call()] * 2)
    looks()
    still.run_due()
    clock.advance(seconds=1)
    assert still.prune(older_than=0) == 1
    assert [job_id for job_id, *_ in looks()] == [2, 2]
