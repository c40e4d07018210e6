"""`isolation="process"`: a child runs the code, and can be killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from schedfactory import Scheduler
from schedfactory.storage.locks import child_byte, lock_file

_TASKS = """
import ctypes, os, signal, subprocess, sys, time
from pathlib import Path
from schedfactory import RetryAfter, Scheduler, Snooze, current_job

scheduler = Scheduler("jobs.db")

@scheduler.task(isolation="process", name="where")
def where(path: Path) -> tuple[Path, int]:
    current_job().set_progress(0.5, "half")
    return path, os.getpid()

@scheduler.task(isolation="process", timeout="300ms", retry=2)
def endless(pids: str) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with open(pids, "a") as file:
        print(os.getpid(), child.pid, file=file)
    time.sleep(600)

@scheduler.task(isolation="process")
def deaf(pids: str) -> None:
    Path(pids).write_text(str(os.getpid()))
    ctypes.PyDLL(None).sleep(600)  # with the interpreter's lock in its hand

@scheduler.task(isolation="process")
def obedient(began: str) -> str:
    Path(began).touch()
    while not current_job().cancelled:
        time.sleep(0.005)
    current_job().raise_if_cancelled()

@scheduler.task(isolation="process")
def die(how: str) -> None:
    os.kill(os.getpid(), signal.SIGSEGV) if how == "signal" else os._exit(3)

@scheduler.task(isolation="process", on_crash="fail")
def die_once() -> None:
    os._exit(4)

@scheduler.task(isolation="process")
def unstorable() -> object:
    return object()

@scheduler.task(isolation="process", retry=3)
def later() -> None:
    if current_job().attempt == 1:
        raise Snooze("10m")
    raise RetryAfter("5m", "busy")

@scheduler.task(isolation="process")
def enqueues() -> str:
    return other.enqueue().task

@scheduler.task
def other() -> int:
    return os.getpid()

hidden = scheduler.task(name="hidden", isolation="process")(lambda_like := subprocess.getoutput)
"""

_RUN = """
import isolated_tasks

if __name__ == "__main__":
    isolated_tasks.scheduler.run(workers=1)
"""


@pytest.fixture
def tasks(importable: Callable[[str, str], ModuleType]) -> ModuleType:
    return importable("isolated_tasks", _TASKS)


def _is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_a_job_of_isolation_process_runs_in_another_process_which_serves_the_next_one_too(tasks: ModuleType) -> None:
    first, second = tasks.where.enqueue(Path("a")), tasks.where.enqueue(Path("b"))
    assert tasks.scheduler.run_due() == 2
    (path, pid), (_, again) = first.refresh().result, second.refresh().result
    assert path == Path("a")
    assert pid == again != os.getpid()
    assert (first.refresh().progress, first.refresh().progress_message) == (0.5, "half")


def test_isolation_process_after_its_timeout_is_killed_with_what_it_started_and_tried_again_at_once(
    eventually: Any, tasks: ModuleType, tmp_path: Path
) -> None:
    job = tasks.endless.options(timeout="300ms").enqueue(str(tmp_path / "pids"))
    with tasks.scheduler.running(workers=1):
        job = job.wait("60s")
    assert (job.status, job.reason, job.attempt) == ("failed", "timeout", 2)
    assert [attempt.reason for attempt in job.attempts()] == ["timeout", "timeout"]
    assert tasks.scheduler.health().leftovers == 0
    for pid in (tmp_path / "pids").read_text().split():
        eventually(lambda pid=int(pid): _is_gone(pid))


def test_a_cancelled_process_that_does_not_look_at_its_flag_is_dead_five_seconds_later(
    eventually: Any, tasks: ModuleType, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    job = tasks.deaf.enqueue(str(pids))
    with tasks.scheduler.running(workers=1):
        pid = int(eventually(lambda: pids.exists() and pids.read_text()))
        job.cancel()
        assert job.wait("60s").reason == "user"
        assert _is_gone(pid)


def test_a_cancelled_process_sees_its_flag(eventually: Any, tasks: ModuleType, tmp_path: Path) -> None:
    began = tmp_path / "began"
    job = tasks.obedient.enqueue(str(began))
    with tasks.scheduler.running(workers=1):
        eventually(began.exists)
        job.cancel()
        job = job.wait("60s")
    assert (job.status, job.reason) == ("cancelled", "user")
    assert job.attempts()[0].error.startswith("Cancel: cancelled")


@pytest.mark.parametrize(("how", "what"), [("signal", "signal 11 (SIGSEGV)"), ("exit", "the exit code 3")])
def test_a_process_that_dies_three_times_ends_its_job_crashed_and_no_other(tasks: ModuleType, how: str, what: str) -> None:
    neighbours = [tasks.other.enqueue() for _ in range(5)]
    job = tasks.die.enqueue(how)
    with tasks.scheduler.running(workers=2):
        job = job.wait("60s")
        assert [one.get_result("60s") for one in neighbours] == [os.getpid()] * 5
    assert (job.status, job.reason, job.crashes, job.attempt, job.failures) == ("failed", "crashed", 3, 3, 0)
    assert what in job.error
    assert [(one.status, one.reason) for one in job.attempts()] == [("crashed", "crash")] * 3
    assert tasks.scheduler.counts()["failed"] == 1


def test_isolation_process_with_on_crash_fail_ends_at_the_first_death(tasks: ModuleType) -> None:
    job = tasks.die_once.enqueue()
    tasks.scheduler.run_due()
    job = job.refresh()
    assert (job.status, job.reason, job.crashes, job.attempt) == ("failed", "crashed", 1, 1)


def test_a_stop_gives_back_a_process_that_does_not_end_in_time(eventually: Any, tasks: ModuleType, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    job = tasks.deaf.enqueue(str(pids))
    tasks.scheduler.start(workers=1)
    pid = int(eventually(lambda: pids.exists() and pids.read_text()))
    tasks.scheduler.stop("100ms")
    eventually(lambda: _is_gone(pid))
    job = eventually(lambda: (now := job.refresh()).status == "queued" and now)
    assert (job.reason, job.crashes) == ("shutdown", 0)


def test_a_kill_of_the_parent_takes_its_worker_processes_along(
    eventually: Any, program: Callable[..., subprocess.Popen[str]], tasks: ModuleType, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    job = tasks.deaf.enqueue(str(pids))
    parent = program(_RUN)
    pid = int(eventually(lambda: pids.exists() and pids.read_text()))
    parent.kill()
    eventually(lambda: _is_gone(pid))

    def is_rescued() -> bool:  # not before the last thread of both is gone, which may be a moment later
        tasks.scheduler.run_due(limit=0)
        return bool(job.refresh().status == "queued")

    eventually(is_rescued)
    job = job.refresh()
    assert (job.status, job.reason, job.crashes) == ("queued", "crash", 1)


def test_a_node_lives_as_long_as_one_of_its_worker_processes(
    scheduler: Scheduler, path: Path, program: Callable[..., subprocess.Popen[str]]
) -> None:
    scheduler.counts()
    child = program(
        f"""
        from pathlib import Path
        from schedfactory.storage.locks import child_byte, lock_file
        lock = lock_file(Path({str(path)!r}))
        assert lock.seize(child_byte(7, 3))
        print("held")
        input()
        """
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    lock = lock_file(path)
    assert [lock.is_alive(node) for node in (6, 7, 8)] == [False, True, False]
    child.kill()
    child.wait()
    assert not lock.is_alive(7)
    assert child_byte(7, 65_535) < child_byte(8, 0)


def test_a_result_of_a_process_that_cannot_be_stored_fails_the_job(tasks: ModuleType) -> None:
    job = tasks.unstorable.enqueue()
    tasks.scheduler.run_due()
    assert (job.refresh().status, job.refresh().reason) == ("failed", "result")


def test_a_process_that_wants_to_run_later_does_so_by_the_schedulers_clock(tasks: ModuleType, clock: Any, path: Path) -> None:
    tasks.scheduler.configure(path, clock=clock)
    job = tasks.later.enqueue()
    tasks.scheduler.run_due()
    job = job.refresh()
    assert (job.status, job.reason, job.run_at - job.started_at) == ("scheduled", "snooze", timedelta(minutes=10))
    clock.advance(minutes=10)
    tasks.scheduler.run_due()
    job = job.refresh()
    assert (job.reason, job.error, job.run_at - job.started_at) == ("retry", "RetryAfter: busy", timedelta(minutes=5))


def test_a_task_that_a_worker_process_cannot_find_fails_with_the_reason(tasks: ModuleType) -> None:
    job = tasks.hidden.enqueue("true")
    tasks.scheduler.run_due()
    assert "is not the task itself" in job.refresh().error


def test_isolation_process_of_a_nested_function_is_a_type_error(scheduler: Scheduler) -> None:
    def nested() -> None: ...

    with pytest.raises(TypeError, match=r"nested is defined inside a function, where a worker process cannot find it"):
        scheduler.task(name="nested", isolation="process")(nested)


def test_an_unknown_isolation_is_a_value_error(scheduler: Scheduler) -> None:
    with pytest.raises(ValueError, match="isolation='fiber' is unknown"):
        scheduler.task(name="noop", isolation="fiber")(os.getcwd)  # type: ignore[call-overload]


@pytest.mark.parametrize("arguments", [["app.py"], ["-m", "app"]])
def test_a_program_and_its_worker_processes_agree_on_the_names_of_tasks(
    tmp_path: Path, launch: Callable[..., subprocess.Popen[str]], arguments: list[str]
) -> None:
    (tmp_path / "app.py").write_text(
        _TASKS
        + 'if __name__ == "__main__":\n    job = enqueues.enqueue()\n    scheduler.run_due()\n    print(job.refresh().result)\n'
    )
    found = launch([sys.executable, *arguments], cwd=tmp_path)
    assert found.communicate(timeout=60) == ("app:other\n", "")


def test_a_program_without_a_main_guard_is_told_so_by_the_failed_job(
    program: Callable[..., subprocess.Popen[str]],
) -> None:
    found = program(_TASKS + "\njob = where.enqueue(Path('a'))\nscheduler.run_due()\nprint(job.refresh().error)\n")
    out, _ = found.communicate(timeout=60)
    assert 'enqueue() was called in a worker process of isolation="process"' in out
    assert 'if __name__ == "__main__":' in out


def test_signals_for_the_program_leave_its_worker_processes_to_end_their_jobs(
    eventually: Any, program: Callable[..., subprocess.Popen[str]], tasks: ModuleType, tmp_path: Path
) -> None:
    began = tmp_path / "began"
    job = tasks.obedient.enqueue(str(began))
    parent = program(_RUN)
    eventually(began.exists)
    children = Path(f"/proc/{parent.pid}/task").glob("*/children")
    for pid in "".join(file.read_text() for file in children).split():
        os.kill(int(pid), signal.SIGTERM)
    parent.send_signal(signal.SIGTERM)
    job.cancel()
    assert parent.wait(60) == 0
    assert job.refresh().status == "cancelled"
