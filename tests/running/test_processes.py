"""Several processes on one file: they share the work, see each other's jobs, and take over from those that die."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from schedfactory import Scheduler

APP = """
import os, signal, sys, threading
from schedfactory import Scheduler, current_job

scheduler = Scheduler("jobs.db")


def effect(*words):
    with open("effects", "a") as file:  # one write, appended
        file.write(" ".join(map(str, words)) + "\\n")


@scheduler.task
def work(number: int) -> int:
    effect(number, os.getpid())
    return os.getpid()


@scheduler.task
def hold() -> int:
    effect("hold", current_job().attempt, os.getpid())
    if current_job().attempt == 1:
        os.write(1, b"holding\\n")
        os.read(0, 1)
    return os.getpid()


@scheduler.task
def poison() -> None:
    effect("poison", os.getpid())
    os.kill(os.getpid(), signal.SIGKILL)


@scheduler.task(on_crash="fail")
def once() -> None:
    effect("once")
    os.kill(os.getpid(), signal.SIGKILL)


@scheduler.task
def quick(number: int, holds: bool = False, dies: bool = False) -> None:
    if dies:
        effect("dies")
        os.kill(os.getpid(), signal.SIGKILL)
    if holds and current_job().attempt == 1:
        os.write(1, b"holding\\n")
        os.read(0, 1)


if __name__ == "__main__":
    scheduler.start(workers=int(sys.argv[1]))
    print("ready", flush=True)
    threading.Event().wait()
"""


def line(process):
    said = process.stdout.readline().strip()
    assert said, f"the program ended: {process.communicate()[1]}"
    return said


def kill(process):
    process.kill()
    assert process.wait(20) == -signal.SIGKILL


@pytest.fixture
def node(program):
    """Start a process that runs the app's tasks."""

    def start(workers=1):
        process = program(APP, str(workers))
        assert line(process) == "ready"
        return process

    return start


@pytest.fixture
def effects(tmp_path):
    def read():
        file = tmp_path / "effects"
        return [one.split() for one in file.read_text().splitlines()] if file.exists() else []

    return read


@pytest.fixture
def python(tmp_path):
    """Run Python source to its end in another process, and return what it printed."""

    def run(source, *arguments):
        ran = subprocess.run(
            [sys.executable, "-c", source, *map(str, arguments)],
            capture_output=True, text=True, timeout=60, cwd=tmp_path,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    return run


def states(job):
    return [(one.number, one.status, one.reason) for one in job.refresh().attempts()]


# Sharing the work


def test_several_processes_share_the_work_and_run_each_job_once(scheduler, node, effects):
    nodes = [node(2) for _ in range(3)]
    held = [scheduler.remote("app:hold").enqueue() for _ in range(6)]
    for process in nodes:
        assert [line(process), line(process)] == ["holding"] * 2  # each has taken what it has workers for
    jobs = scheduler.enqueue_many([scheduler.remote("app:work").call(number=number) for number in range(300)])
    for process in nodes:
        process.stdin.write("..")
        process.stdin.flush()
    pids = {process.pid for process in nodes}
    assert {job.get_result("20s") for job in held} == pids
    ended = [job.wait("20s") for job in jobs]
    assert {(job.status, job.attempt, job.crashes) for job in ended} == {("succeeded", 1, 0)}
    ran = [words for words in effects() if words[0] != "hold"]
    assert sorted(int(number) for number, _ in ran) == list(range(300))
    assert {int(pid) for _, pid in ran} <= pids


def test_two_schedulers_in_one_process_share_one_file(path):
    ran, schedulers = [], [Scheduler(path), Scheduler(path)]
    for number, one in enumerate(schedulers):

        @one.task(name="work")
        def work(job: int, number: int = number) -> None:
            ran.append((job, number))

        one.start(workers=2)
    calls = [schedulers[0].remote("work").call(job=number) for number in range(200)]
    jobs = [schedulers[1].get(job.id) for job in schedulers[0].enqueue_many(calls)]
    assert {job.wait("20s").status for job in jobs} == {"succeeded"}
    assert sorted(job for job, _ in ran) == list(range(200))
    assert {job.refresh().attempt for job in jobs} == {1}
    schedulers[0].close()
    job = schedulers[1].remote("work").enqueue(job=-1)  # the other one works on
    assert job.wait("20s").status == "succeeded"
    assert ran[-1] == (-1, 1)
    schedulers[1].close()


# Seeing each other's jobs


def test_an_idle_node_notices_what_another_process_enqueues(scheduler, python, path):
    @scheduler.task(name="noop")
    def noop(x: int) -> int:
        return x

    scheduler.start(workers=1)
    assert noop.enqueue(1).get_result("20s") == 1
    source = "import sys; from schedfactory import Scheduler; print(Scheduler(sys.argv[1]).remote('noop').enqueue(x=2).id)"
    assert scheduler.get(int(python(source, path))).get_result("20s") == 2


def test_an_idle_node_notices_a_plain_sql_insert_of_another_process(scheduler, python, path):
    @scheduler.task(name="noop", queue="mail", retry=3)
    def noop(x: int) -> int:
        return x

    scheduler.start(workers=1)
    assert noop.enqueue(1).get_result("20s") == 1
    source = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
with connection:
    values = "VALUES ('noop', '{\\"x\\": 2}')"
    row = connection.execute(f"INSERT INTO schedfactory_jobs (task, args) {values} RETURNING id").fetchone()
print(row[0])
"""
    job = scheduler.get(int(python(source, path)))
    assert job.get_result("20s") == 2
    job = job.refresh()
    assert (job.queue, job.priority, job.attempt, len(job.uid)) == ("default", 0, 1, 36)


def test_a_plain_sql_insert_with_a_run_at_ahead_waits_for_it(still, clock, sql):
    @still.task(name="noop")
    def noop() -> None: ...

    still.counts()
    sql("INSERT INTO schedfactory_jobs (task, run_at) VALUES ('noop', '2026-01-02 03:04:15.000000')")
    assert still.run_due() == 0
    clock.advance(seconds=10)
    assert still.run_due() == 1


def test_who_waits_in_one_process_sees_the_end_in_another(scheduler, node):
    process = node()
    assert scheduler.remote("app:work").enqueue(number=1).get_result("20s") == process.pid


# Death of a process


def test_a_killed_nodes_running_job_runs_again_in_another_process(scheduler, node, effects):
    first = node()
    job = scheduler.remote("app:hold").enqueue()
    assert line(first) == "holding"
    second = node()
    kill(first)
    assert job.get_result("20s") == second.pid
    job = job.refresh()
    assert (job.crashes, job.failures, job.attempt, job.reason, job.error) == (1, 0, 2, None, None)
    assert states(job) == [(1, "crashed", "crash"), (2, "succeeded", None)]
    assert effects() == [["hold", "1", str(first.pid)], ["hold", "2", str(second.pid)]]


def test_a_killed_nodes_running_job_runs_again_when_the_program_is_started_again(scheduler, node, effects):
    first = node()
    job = scheduler.remote("app:hold").enqueue()
    assert line(first) == "holding"
    kill(first)
    assert job.refresh().status == "running"  # nobody is there to know better
    again = node()
    assert job.get_result("20s") == again.pid
    assert [one[1] for one in effects()] == ["1", "2"]


def test_a_killed_nodes_job_is_queued_by_crash_until_somebody_takes_it(scheduler, node, eventually):
    process = node()
    job = scheduler.remote("app:hold").enqueue()
    assert line(process) == "holding"
    scheduler.start(workers=1)  # knows no task
    kill(process)
    eventually(lambda: job.refresh().status != "running")
    job = job.refresh()
    assert (job.status, job.reason, job.crashes, job.attempt, job.node) == ("queued", "crash", 1, 1, None)


def test_run_due_rescues_the_jobs_of_a_killed_node_too(scheduler, node):
    process = node()
    job = scheduler.remote("app:hold").enqueue()
    assert line(process) == "holding"
    kill(process)
    assert scheduler.run_due() == 0
    assert (job.refresh().status, job.refresh().reason) == ("queued", "crash")


def test_a_job_that_kills_its_process_three_times_has_failed_by_crashed(scheduler, node, effects):
    nodes = [node() for _ in range(3)]
    job = scheduler.remote("app:poison").enqueue()
    for process in nodes:
        assert process.wait(30) == -signal.SIGKILL
    scheduler.start(workers=1)
    job = job.wait("20s")
    assert (job.status, job.reason, job.crashes, job.attempt) == ("failed", "crashed", 3, 3)
    assert states(job) == [(number, "crashed", "crash") for number in (1, 2, 3)]
    assert sorted(effects()) == sorted(["poison", str(process.pid)] for process in nodes)
    assert scheduler.counts()["failed"] == 1


@pytest.mark.parametrize("leaves_it_open", [True, False], ids=["as the task says", "as the row says"])
def test_a_job_of_on_crash_fail_never_starts_again_after_the_death_of_its_process(
    scheduler, node, effects, sql, leaves_it_open
):
    job = scheduler.remote("app:once").enqueue()
    if not leaves_it_open:
        sql("UPDATE schedfactory_jobs SET on_crash = 'fail'")
    node_of_one_death(node)
    node()
    job = job.wait("20s")
    assert (job.status, job.reason, job.crashes, job.attempt) == ("failed", "crashed", 1, 1)
    assert states(job) == [(1, "crashed", "crash")]
    assert effects() == [["once"]]


def test_a_requeued_poison_job_may_crash_three_times_again(scheduler, node, effects):
    job = scheduler.remote("app:poison").enqueue()
    for _ in range(3):
        node_of_one_death(node)
    scheduler.run_due()
    assert job.refresh().reason == "crashed"
    assert job.requeue().crashes == 0
    node_of_one_death(node)
    scheduler.run_due()
    assert (job.refresh().status, job.refresh().reason, job.refresh().crashes) == ("queued", "crash", 1)
    assert len(effects()) == 4


def node_of_one_death(node):
    try:
        process = node()
    except AssertionError:  # it died before it could say that it is ready
        return
    assert process.wait(20) == -signal.SIGKILL


def test_a_cancelled_job_whose_process_dies_ends_cancelled(scheduler, node):
    process = node()
    job = scheduler.remote("app:hold").enqueue()
    assert line(process) == "holding"
    job.cancel()
    kill(process)
    scheduler.run_due()
    job = job.refresh()
    assert (job.status, job.reason, job.crashes) == ("cancelled", "user", 1)
    assert scheduler.counts()["cancelled"] == 1


def test_jobs_that_no_worker_had_begun_are_not_charged_with_the_death(scheduler, node, eventually):
    process = node()
    remote = scheduler.remote("app:quick")
    for job in scheduler.enqueue_many([remote.call(number=-1) for _ in range(300)]):
        job.wait("20s")  # the pace of the task is known now, so that its jobs are claimed ahead
    jobs = scheduler.enqueue_many([remote.call(number=number, holds=number == 20) for number in range(60)])
    assert line(process) == "holding"
    kill(process)
    scheduler.run_due()
    assert scheduler.counts()["running"] == 0
    held, after = jobs[20].refresh(), [job.refresh() for job in jobs[21:]]
    assert (held.status, held.reason, held.crashes, held.attempt) == ("queued", "crash", 1, 1)
    assert states(held) == [(1, "crashed", "crash")]
    assert {(job.status, job.crashes, job.attempt, job.started_at) for job in after} == {("queued", 0, 0, None)}
    assert all(job.attempts() == [] for job in after)


def test_a_no_op_that_kills_its_process_ends_crashed_and_takes_no_neighbour_along(scheduler, node, effects):
    node_calls = scheduler.remote("app:quick")
    first = node()
    for job in scheduler.enqueue_many([node_calls.call(number=-1) for _ in range(300)]):
        job.wait("20s")
    jobs = scheduler.enqueue_many([node_calls.call(number=number, dies=number == 20) for number in range(60)])
    assert first.wait(30) == -signal.SIGKILL
    for _ in range(2):
        node_of_one_death(node)
    node()
    ended = [job.wait("20s") for job in jobs]
    assert (ended[20].status, ended[20].reason, ended[20].crashes) == ("failed", "crashed", 3)
    assert {job.status for job in ended[:20] + ended[21:]} == {"succeeded"}
    assert len(effects()) == 3


def test_the_jobs_of_a_live_node_are_left_alone(scheduler, node, freeze):
    process = node()
    job = scheduler.remote("app:hold").enqueue()
    assert line(process) == "holding"
    for _ in range(3):
        assert scheduler.run_due() == 0  # each looks after the other nodes
    other = node()
    assert scheduler.remote("app:work").enqueue(number=1).get_result("20s") == other.pid
    freeze(process)  # stopped is not dead
    scheduler.run_due()
    assert (job.refresh().status, job.refresh().crashes) == ("running", 0)
    process.send_signal(signal.SIGCONT)
    process.stdin.write(".")
    process.stdin.flush()
    assert job.get_result("20s") == process.pid
    assert job.refresh().attempt == 1


def test_a_killed_node_is_marked_dead_in_its_row(scheduler, node, sql):
    process = node()
    kill(process)
    scheduler.run_due()
    assert sql("SELECT status FROM schedfactory_nodes WHERE pid = ?", process.pid) == [("dead",)]


def test_the_file_is_sound_after_deaths(scheduler, node, sql):
    for _ in range(2):
        process = node(2)
        jobs = scheduler.enqueue_many([scheduler.remote("app:work").call(number=number) for number in range(500)])
        jobs[0].wait("20s")
        kill(process)
    assert sql("PRAGMA integrity_check") == [("ok",)]
    node(2)
    scheduler.wait_idle("30s")
    counts = scheduler.counts()
    assert counts["succeeded"] == 1000
    assert dict(sql("SELECT status, count(*) FROM schedfactory_jobs GROUP BY 1")) == {
        status: number for status, number in counts.items() if number
    }
    assert scheduler.remote("app:work").enqueue(number=1).wait("20s").status == "succeeded"


# Fork


FORK = """
import os, sys, threading
from schedfactory import Scheduler, current_job

scheduler = Scheduler("jobs.db")


@scheduler.task
def work(number: int) -> int:
    return os.getpid()


def child(what):
    pid = os.fork()
    if not pid:
        try:
            code = what() or 0
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            code = 1
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""


def test_after_a_fork_the_child_runs_nothing_and_can_enqueue_and_wait(program):
    process = program(
        FORK
        + """
scheduler.start(workers=2)
assert work.enqueue(1).get_result("20s") == os.getpid()
parent = os.getpid()

def in_child():
    assert not scheduler.is_running
    assert work.enqueue(2).get_result("20s") == parent
    assert scheduler.get(1).status == "succeeded"

print(child(in_child), child(in_child))
assert work.enqueue(3).get_result("20s") == parent
scheduler.close()
"""
    )
    output, errors = process.communicate(timeout=60)
    assert (output.split(), process.returncode) == (["0", "0"], 0), errors


def test_after_a_fork_the_child_can_run_jobs_itself(program):
    process = program(
        FORK
        + """
scheduler.start(workers=1)
work.enqueue(1).wait("20s")
scheduler.stop()

def in_child():
    with scheduler.running(workers=1):
        assert work.enqueue(2).get_result("20s") == os.getpid()

print(child(in_child))
assert work.enqueue(3).refresh().status == "queued"
assert scheduler.run_due() == 1
scheduler.close()
"""
    )
    output, errors = process.communicate(timeout=60)
    assert (output.split(), process.returncode) == (["0"], 0), errors


def test_a_child_that_ends_as_python_does_leaves_its_parents_database_alone(program):
    process = program(
        FORK
        + """
scheduler.start(workers=1)
work.enqueue(1).wait("20s")
pid = os.fork()
if not pid:
    work.enqueue(2)
    sys.exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
assert scheduler.get(2).get_result("20s") == os.getpid()
assert scheduler.is_running
scheduler.close()
print("done")
"""
    )
    output, errors = process.communicate(timeout=60)
    assert (output.split(), process.returncode) == (["done"], 0), errors


def test_a_node_is_known_to_be_dead_while_a_child_that_it_forked_lives_on(scheduler, program, eventually):
    process = program(
        FORK
        + """
@scheduler.task
def hold() -> None:
    print("holding", flush=True)
    threading.Event().wait()

scheduler.start(workers=1)
job = hold.enqueue()
assert sys.stdin.readline() == "fork\\n"
pid = os.fork()
if not pid:
    print("forked", flush=True)
    sys.stdin.readline()  # until the test is over
    os._exit(0)
threading.Event().wait()
"""
    )
    assert line(process) == "holding"
    process.stdin.write("fork\n")
    process.stdin.flush()
    assert line(process) == "forked"
    kill(process)
    scheduler.start(workers=1)
    eventually(lambda: scheduler.get(1).status == "queued")
    assert scheduler.get(1).reason == "crash"
