"""How a program that runs jobs ends: by signals, by its last line, by a stop in a task."""

from __future__ import annotations

import signal

import pytest

APP = """
import atexit, os, signal, sys, threading
from datetime import datetime, timezone
from schedfactory import Scheduler, current_job

scheduler = Scheduler("jobs.db")


def say(text):
    os.write(1, text.encode() + b"\\n")


@scheduler.task
def work() -> int:
    return 7


@scheduler.task
def until_told() -> int:
    say("started")
    os.read(0, 1)
    return 7


@scheduler.task
def notices_the_stop() -> int:
    say("started")
    pause = threading.Event()
    while scheduler.is_running:
        pause.wait(0.005)
    say("stopping")
    os.read(0, 1)
    return 7


@scheduler.task
def endless() -> None:
    say("started")
    threading.Event().wait()


@scheduler.task
def outlasts_the_main_thread() -> int:
    say("started")
    threading.main_thread().join()
    threading.Event().wait(0.1)
    return 7

"""


def line(process):
    said = process.stdout.readline().strip()
    assert said, f"the program ended: {process.communicate()[1]}"
    return said


def tell(process):
    process.stdin.write(".")
    process.stdin.flush()


def ending(process):
    """Wait for the program's end; return its exit code and what it wrote to its standard error."""
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors


def states(scheduler, *jobs):
    return [(job.refresh().status, job.refresh().reason) for job in jobs]


# run()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_run_after_its_running_job_and_before_the_next(scheduler, program, number):
    running = scheduler.remote("app:notices_the_stop").enqueue()
    waiting = scheduler.remote("app:work").enqueue()
    process = program(APP + "scheduler.run(workers=1)")
    assert line(process) == "started"
    process.send_signal(number)
    assert line(process) == "stopping"
    tell(process)
    assert ending(process) == (0, "")
    assert states(scheduler, running, waiting) == [("succeeded", None), ("queued", None)]
    assert running.get_result("1s") == 7


@pytest.mark.parametrize(("first", "second"), [(signal.SIGTERM, signal.SIGTERM), (signal.SIGTERM, signal.SIGINT)])
def test_a_second_signal_ends_the_process_at_once_and_its_job_runs_again(scheduler, program, first, second):
    job = scheduler.remote("app:notices_the_stop").enqueue()
    process = program(APP + "scheduler.run(workers=1)")
    assert line(process) == "started"
    process.send_signal(first)
    assert line(process) == "stopping"
    process.send_signal(second)
    assert process.wait(30) == 128 + second
    scheduler.run_due()
    assert states(scheduler, job) == [("queued", "crash")]


def test_a_signal_that_comes_while_run_starts_ends_it_too(program):
    source = """
class Clock:
    told = False

    def __call__(self):
        if not self.told:  # the first look at the clock is the start of the node
            self.told = True
            os.kill(os.getpid(), signal.SIGTERM)
        return datetime.now(timezone.utc)

Scheduler("other.db", clock=Clock()).run(workers=1)
say("ended")
"""
    process = program(APP + source)
    assert line(process) == "ended"
    assert ending(process) == (0, "")


def test_signals_have_their_old_meaning_after_run(program):
    source = """
def mine(number, frame):
    say("mine")

signal.signal(signal.SIGTERM, mine)
threading.Timer(0.1, scheduler.stop).start()
scheduler.run(workers=1)
signal.raise_signal(signal.SIGTERM)
"""
    process = program(APP + source)
    assert line(process) == "mine"
    assert ending(process) == (0, "")


def test_an_idle_run_ends_at_a_signal(program):
    process = program(APP + 'scheduler.listen(lambda report: say(report.status), "node")\nscheduler.run(workers=2)')
    assert line(process) == "start"
    process.send_signal(signal.SIGTERM)
    assert ending(process) == (0, "")


def test_stop_inside_a_task_ends_run_after_that_task(scheduler, program):
    source = """
@scheduler.task
def last() -> int:
    scheduler.stop()
    threading.Event().wait(0.2)
    return 7

last.enqueue()
scheduler.run(workers=2)
"""
    process = program(APP + source)
    assert ending(process) == (0, "")
    assert scheduler.get(1).status == "succeeded"


# The interpreter's exit


def test_the_end_of_a_program_lets_running_jobs_end(scheduler, program):
    job = scheduler.remote("app:outlasts_the_main_thread").enqueue()
    later = scheduler.remote("app:work").options(delay="1h").enqueue()
    process = program(APP + "scheduler.start(workers=1)\nassert scheduler.get(1).status\nos.read(0, 1)")
    assert line(process) == "started"
    tell(process)
    assert ending(process) == (0, "")
    assert states(scheduler, job, later) == [("succeeded", None), ("scheduled", None)]


def test_the_end_of_a_program_does_not_wait_for_a_job_longer_than_its_stop(scheduler, program):
    job = scheduler.remote("app:endless").enqueue()
    process = program(APP + 'atexit.register(lambda: scheduler.stop("50ms"))\nscheduler.start(workers=1)\nos.read(0, 1)')
    assert line(process) == "started"
    tell(process)
    code, said = ending(process)
    assert (code, f"code of the jobs [{job.id}] runs on" in said) == (0, True)
    scheduler.run_due()
    assert states(scheduler, job) == [("queued", "crash")]


def test_an_error_of_the_main_thread_ends_the_program_with_its_traceback(scheduler, program):
    job = scheduler.remote("app:outlasts_the_main_thread").enqueue()
    process = program(APP + 'scheduler.start(workers=1)\nos.read(0, 1)\nraise ValueError("mine")')
    assert line(process) == "started"
    tell(process)
    code, errors = ending(process)
    assert code == 1
    assert "ValueError: mine" in errors
    assert states(scheduler, job) == [("succeeded", None)]


def test_a_program_that_only_enqueues_ends_without_a_stop(scheduler, program):
    process = program(APP + "work.enqueue()")
    assert ending(process) == (0, "")
    assert scheduler.get(1).status == "queued"


def test_control_c_in_run_due_gives_the_job_back(scheduler, program):
    source = """
try:
    scheduler.run_due()
except KeyboardInterrupt:
    say("interrupted")
scheduler.close()
"""
    job = scheduler.remote("app:until_told").enqueue()
    process = program(APP + source)
    assert line(process) == "started"
    process.send_signal(signal.SIGINT)
    assert line(process) == "interrupted"
    assert ending(process) == (0, "")
    assert states(scheduler, job) == [("queued", "shutdown")]
    [attempt] = job.refresh().attempts()
    assert (attempt.number, attempt.status, attempt.reason) == (1, "interrupted", "shutdown")
