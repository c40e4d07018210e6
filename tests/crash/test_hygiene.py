"""How processes end, and what they leave: exit codes 0, 70 and 128 + n, nobody hangs, no row says for ever that it runs.

Real processes. tests/running/test_program_end.py and test_processes.py show the plain cases; here is what is worse: forks and
signals in the middle of work, code that never ends, tasks that do harm, a dispatcher that dies.
"""

from __future__ import annotations

import signal
import sqlite3
import time
from contextlib import closing

import pytest
from hygiene_programs import (
    APP,
    BAD_ENDS,
    DIES,
    ENDS_ITS_WORKER,
    FORKS,
    IS_DEAF,
    LARGE,
    NEVER_GIVES_UP,
    RUN,
    RUNS_ON_AFTER_A_FORK,
)

from schedfactory.storage import nodes

SLACK_S = 10.0  # over what is promised, because the machine may be busy
STOP_S = 0.5
SHORT_STOP = f"""
import schedfactory.running.orders
import schedfactory.scheduler

schedfactory.running.orders.PATIENCE_S = {STOP_S}
schedfactory.scheduler.STOP_S = {STOP_S}
Scheduler.stop.__defaults__ = ({STOP_S},)
"""


def line(process):
    said = process.stdout.readline().strip()
    assert said, f"the program ended: {process.communicate()[1]}"
    return said


def ended(process, within=60.0):
    """Return the exit code, what it said, and how long that took; a hang is a failure."""
    began = time.monotonic()
    output, errors = process.communicate(timeout=within)
    return process.returncode, output.splitlines(), errors, time.monotonic() - began


def no_zombies(scheduler, path):
    """Once another process has run, no row is left to a dead node."""
    scheduler.run_due()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT id, node FROM schedfactory_jobs WHERE status = 'running'").fetchall() == []
        assert connection.execute("SELECT count(*) FROM schedfactory_nodes WHERE status = 'running'").fetchone() == (0,)
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


# Fork


def fork_in_the_middle(program, number, sabotage=""):
    code, said, errors, _ = ended(program(APP + sabotage + FORKS, str(number)))
    assert code == 0, errors
    assert errors == ""
    codes, stored, succeeded = said[-1].rsplit(" ", 2)
    assert codes == "{0}"
    assert stored == succeeded
    return int(stored)


def test_forks_while_jobs_run_and_threads_enqueue_hurt_neither_side(scheduler, path, program, factor, figures):
    jobs = fork_in_the_middle(program, 40 * factor)
    assert scheduler.counts()["succeeded"] == jobs
    no_zombies(scheduler, path)
    figures(forks=40 * factor, jobs=jobs)


def test_the_harness_catches_a_child_that_takes_itself_for_its_parent(program):
    with pytest.raises(AssertionError):
        fork_in_the_middle(program, 1, RUNS_ON_AFTER_A_FORK)


# The end of a program


LEFT_BEHIND = "node 1 has stopped, but code of the jobs [1] runs on; if this process ends first, that counts as a crash\n"


def test_endless_code_holds_up_the_interpreters_exit_no_longer_than_its_stop_and_two_seconds(scheduler, path, program, figures):
    job = scheduler.remote("app:endless").enqueue()
    process = program(APP + SHORT_STOP + "scheduler.start(workers=2)\nsys.stdin.readline()\n")
    assert line(process) == "started"
    process.stdin.write("\n")
    process.stdin.flush()
    code, _, errors, took = ended(process)
    assert (code, errors) == (0, LEFT_BEHIND)
    assert took < STOP_S + 2 + SLACK_S
    no_zombies(scheduler, path)
    assert (job.refresh().status, job.refresh().crashes) == ("queued", 1)
    figures(seconds=f"{took:.1f}")


def test_endless_code_holds_up_run_no_longer_than_its_stop_and_two_seconds(scheduler, path, program, figures):
    job = scheduler.remote("app:endless").enqueue()
    process = program(APP + SHORT_STOP + RUN)
    assert line(process) == "started"
    process.send_signal(signal.SIGTERM)
    code, _, errors, took = ended(process)
    assert (code, errors) == (0, LEFT_BEHIND)
    assert took < STOP_S + 2 + SLACK_S
    no_zombies(scheduler, path)
    assert (job.refresh().status, job.refresh().crashes) == ("queued", 1)
    figures(seconds=f"{took:.1f}")


SLOW_START = """
start = Scheduler._start


def slowly(self, *arguments):
    say("here")
    time.sleep(0.3)
    return start(self, *arguments)


Scheduler._start = slowly
"""
# What comes before run(), the task that runs, and the second signal: two of one kind may reach a process as one.
PHASES = {
    "starts": (SLOW_START, None, signal.SIGINT),
    "is idle": ("scheduler.listen(lambda report: say('here'), 'node')", None, signal.SIGTERM),
    "runs a job": ("", "app:endless", signal.SIGINT),
    "stops": ("", "app:listens", signal.SIGTERM),
}


def two_signals(scheduler, program, phase, pause_s, sabotage="", within=SLACK_S):
    before, task, second = PHASES[phase]
    if task:
        scheduler.remote(task).enqueue()
    process = program(f"{APP}{sabotage}{before}{RUN}")
    line(process)
    process.send_signal(signal.SIGTERM)
    if phase == "stops":
        assert line(process) == "stopping"
    time.sleep(pause_s)
    process.send_signal(second)
    began = time.monotonic()
    code = process.wait(within)
    allowed = {128 + signal.SIGTERM, 128 + second}
    if phase == "is idle":  # the first one may have ended it, or only its run(), after which they mean what they do in Python
        allowed |= {0, -second}
    assert code in allowed, process.stderr.read()
    return code, time.monotonic() - began


@pytest.mark.parametrize("phase", PHASES)
def test_two_signals_end_a_program_at_once_whatever_it_is_about(scheduler, path, program, factor, figures, phase):
    codes, longest = [], 0.0
    for number in range(2 * factor):
        code, took = two_signals(scheduler, program, phase, number % 4 * 0.02)
        codes.append(code)
        longest = max(longest, took)
        no_zombies(scheduler, path)
        scheduler.cancel(status="queued")
    figures(programs=len(codes), codes=sorted(set(codes)), longest_s=f"{longest:.2f}")


def test_the_harness_catches_a_program_that_is_deaf_to_a_second_signal(scheduler, program):
    with pytest.raises(Exception, match="timed out"):
        two_signals(scheduler, program, "stops", 0, IS_DEAF, within=2)


def test_the_harness_catches_a_row_that_is_left_to_a_dead_node(scheduler, path, program, monkeypatch):
    two_signals(scheduler, program, "runs a job", 0)
    monkeypatch.setattr(nodes, "rescue", lambda *_: [])
    with pytest.raises(AssertionError):
        no_zombies(scheduler, path)


# Tasks that do harm


def bad_ends(program, *results, sabotage=""):
    code, said, errors, _ = ended(program(APP + SHORT_STOP + sabotage + BAD_ENDS, *results))
    assert code == 0, errors
    assert errors == ""
    return said


def test_no_end_of_a_task_ends_a_worker_of_a_real_process(scheduler, path, program, figures):
    results = ("itself", "lock", "error")
    said = bad_ends(program, *results)
    assert sum(one == "result failed result" for one in said) == len(results)
    assert sum(one.endswith(" failed error") for one in said) == len(said) - len(results)
    no_zombies(scheduler, path)
    figures(ends=len(said))


def test_a_result_whose_class_raises_anything_fails_its_job(program):
    assert "result failed result" in bad_ends(program, "hook")


def test_the_harness_catches_a_worker_that_dies_of_its_task(program):
    with pytest.raises(AssertionError, match="WaitTimeout"):
        bad_ends(program, sabotage=ENDS_ITS_WORKER)


def test_a_result_of_100_mb_fails_its_job_and_leaves_no_memory_behind(scheduler, path, program, figures):
    code, said, errors, _ = ended(program(APP + LARGE))
    assert (code, errors) == (0, "")
    assert said[0] == "failed result PayloadTooLarge"
    before, after = map(int, said[1].split())
    assert after <= before + 30
    no_zombies(scheduler, path)
    figures(mb_before=before, mb_after=after)


def test_a_poison_job_ends_crashed_after_three_processes_and_its_neighbour_lives(scheduler, path, program, figures):
    neighbour, poison = (scheduler.remote(f"app:{name}").enqueue() for name in ("neighbour", "poison"))
    for death in (1, 2, 3):
        process = program(APP + RUN)
        assert {line(process), line(process)} == {"neighbour", "poison"}, death
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.wait(30) == 3
    no_zombies(scheduler, path)
    poison, neighbour = poison.refresh(), neighbour.refresh()
    assert (poison.status, poison.reason, poison.crashes, poison.attempt) == ("failed", "crashed", 3, 3)
    # Charged only with the two deaths that it was there at; then each ran alone, because either could have done it.
    assert (neighbour.status, neighbour.crashes, neighbour.attempt) == ("succeeded", 2, 3)
    figures(processes=3, neighbour_crashes=neighbour.crashes)


# A dispatcher that dies


def test_a_dispatcher_that_dies_starts_again(scheduler, path, program):
    process = program(
        APP + DIES + "\nscheduler.start(workers=1)\nsay(work.enqueue(5).get_result('20s'))\nscheduler.close()\n", "2"
    )
    code, said, errors, _ = ended(process)
    assert (code, said) == (0, ["5"])
    assert errors.count("RuntimeError: sabotage") == 2
    no_zombies(scheduler, path)


def dies_for_good(scheduler, program, sabotage="", within=60.0):
    job = scheduler.remote("app:endless").enqueue()
    process = program(APP + DIES + SHORT_STOP + sabotage + RUN, "1000")
    assert line(process) == "started"
    code, _, errors, took = ended(process, within)
    assert code == 70, errors
    assert errors.count("RuntimeError: sabotage") == 5
    return job, took


def test_a_dispatcher_that_keeps_dying_ends_run_with_70_and_its_job_runs_again(scheduler, path, program, figures):
    job, took = dies_for_good(scheduler, program)
    no_zombies(scheduler, path)
    assert (job.refresh().status, job.refresh().reason, job.refresh().crashes) == ("queued", "crash", 1)
    figures(seconds=f"{took:.1f}")


def test_the_harness_catches_a_dispatcher_that_dies_in_silence(scheduler, program):
    with pytest.raises(Exception, match="timed out"):
        dies_for_good(scheduler, program, NEVER_GIVES_UP, within=3)
