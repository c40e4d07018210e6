"""Tasks of `isolation="process"` that do to their process what they should not; each hurts itself at most."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

_TASKS = """
import multiprocessing, os, signal, subprocess, sys, threading, time
from pathlib import Path
from schedfactory import Scheduler, current_job

scheduler = Scheduler("jobs.db")
process = scheduler.task(isolation="process")

@process
def forks_and_comes_back() -> str:
    return "wrong" if os.fork() == 0 else "right"

@process
def echo(text: str, wait_s: float = 0) -> str:
    time.sleep(wait_s)
    return text

@process
def leaves_a_thread_that_talks() -> None:
    job = current_job()
    def talk() -> None:
        for number in range(200):
            job.set_progress(number / 200, "of an earlier job")
            time.sleep(0.01)
    threading.Thread(target=talk, daemon=True).start()

@process
def dies_but_not_what_it_forked(pid: str) -> None:
    child = os.fork()
    if child == 0:
        time.sleep(600)
        os._exit(0)
    Path(pid).write_text(str(child))
    os.kill(os.getpid(), signal.SIGKILL)

@process
def stops_itself() -> int:
    subprocess.Popen(["sh", "-c", f"sleep 0.1; kill -STOP {os.getpid()}"])
    return os.getpid()

@scheduler.task(isolation="process", timeout="500ms")
def swallow(text: str) -> int:
    return len(text)

def _linger(has_begun) -> None:
    has_begun.set()
    time.sleep(600)

@process
def ends_what_it_forked() -> bool:
    fork = multiprocessing.get_context("fork")
    has_begun = fork.Event()
    child = fork.Process(target=_linger, args=(has_begun,))
    child.start()
    has_begun.wait(20)
    child.terminate()
    child.join(20)
    return child.is_alive()

@scheduler.task(isolation="process", timeout="300ms")
def joins_another_group() -> None:
    os.setpgid(0, os.getpgid(os.getppid()))
    time.sleep(600)

@process
def prints() -> None:
    print("said by", os.getpid() != os.getppid())

@process
def dies_of_a_signal_without_a_name() -> None:
    os.kill(os.getpid(), 40)

@process
def enqueues() -> int:
    return other.enqueue().id

@scheduler.task
def other() -> None: ...
"""


@pytest.fixture
def tasks(importable: Callable[[str, str], ModuleType]) -> ModuleType:
    return importable("hard_processes", _TASKS)


def _ended(tasks: ModuleType, *jobs: Any) -> list[Any]:
    with tasks.scheduler.running(workers=1):
        return [job.wait("60s") for job in jobs]


def test_a_forked_copy_that_comes_back_speaks_for_no_job(tasks: ModuleType) -> None:
    first, second = _ended(tasks, tasks.forks_and_comes_back.enqueue(), tasks.echo.enqueue("mine", 0.5))
    assert (first.result, second.result) == ("right", "mine")


def test_a_thread_that_an_earlier_job_has_left_behind_tells_no_progress_of_the_next(tasks: ModuleType) -> None:
    _, second = _ended(tasks, tasks.leaves_a_thread_that_talks.enqueue(), tasks.echo.enqueue("mine", 0.7))
    assert (second.result, second.progress, second.progress_message) == ("mine", None, None)


def test_the_death_of_a_process_is_seen_while_what_it_forked_lives(tasks: ModuleType, tmp_path: Path) -> None:
    [job] = _ended(tasks, tasks.dies_but_not_what_it_forked.enqueue(str(tmp_path / "pid")))
    assert (job.reason, job.crashes) == ("crashed", 3)
    assert job.error == "its worker process was killed by signal 9 (SIGKILL)"


def test_a_process_that_takes_nothing_in_holds_up_neither_timeout_nor_stop(tasks: ModuleType, eventually: Any) -> None:
    stops = tasks.stops_itself.enqueue()
    with tasks.scheduler.running(workers=1):
        stat = Path(f"/proc/{stops.get_result('60s')}/stat")
        eventually(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T")
        assert tasks.swallow.enqueue("x" * 1_000_000).wait("60s").reason == "timeout"


def test_large_arguments_and_results_pass_the_line(tasks: ModuleType) -> None:
    text = "ä" * 500_000
    [job] = _ended(tasks, tasks.echo.enqueue(text))
    assert job.result == text


def test_what_a_task_forks_ends_by_sigterm(tasks: ModuleType) -> None:
    [job] = _ended(tasks, tasks.ends_what_it_forked.enqueue())
    assert job.result is False


def test_what_a_thread_of_run_forks_ends_by_sigterm_too(program: Callable[..., subprocess.Popen[str]]) -> None:
    found = program(
        """
        import multiprocessing, time
        from schedfactory import Scheduler

        scheduler = Scheduler("jobs.db")

        def linger(has_begun) -> None:
            has_begun.set()
            time.sleep(600)

        @scheduler.task
        def forks() -> None:
            fork = multiprocessing.get_context("fork")
            has_begun = fork.Event()
            child = fork.Process(target=linger, args=(has_begun,))
            child.start()
            has_begun.wait(20)
            child.terminate()
            child.join(20)
            print(child.is_alive())
            scheduler.stop()

        forks.enqueue()
        scheduler.run(workers=1)
        """
    )
    out, _ = found.communicate(timeout=60)
    assert out == "False\n"


def test_a_task_that_joins_its_parents_group_is_killed_alone(tasks: ModuleType) -> None:
    [job] = _ended(tasks, tasks.joins_another_group.enqueue())
    assert job.reason == "timeout"


def test_what_a_task_prints_is_not_lost_with_its_process(program: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    main = '\nif __name__ == "__main__":\n    prints.enqueue()\n    scheduler.run_due()\n'
    (tmp_path / "prints.py").write_text(_TASKS + main)
    found = subprocess.run(
        [sys.executable, "prints.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert found.stdout == "said by True\n"


def test_a_death_by_a_signal_without_a_name_is_a_crash_as_any_other(tasks: ModuleType) -> None:
    [job] = _ended(tasks, tasks.dies_of_a_signal_without_a_name.enqueue())
    assert (job.reason, job.error) == ("crashed", "its worker process was killed by signal 40")


def test_what_a_process_enqueues_goes_where_its_own_job_came_from(tasks: ModuleType, tmp_path: Path) -> None:
    with tasks.scheduler.override(tmp_path / "test.db") as scheduler:
        job = tasks.enqueues.enqueue()
        scheduler.run_due()
        assert scheduler.get(job.refresh().result).task == "hard_processes:other"
    assert not (tmp_path / "jobs.db").exists()


@pytest.mark.parametrize("how", ["cancel", "stop"])
def test_code_whose_process_is_still_starting_never_starts_after_a_cancel_or_a_stop(
    tmp_path: Path, launch: Callable[..., subprocess.Popen[str]], how: str
) -> None:
    (tmp_path / "slow.py").write_text(
        f"""
import sys, time
from pathlib import Path
from schedfactory import Scheduler
if __name__ == "__mp_main__":
    Path("importing").touch()
    time.sleep(2)
scheduler = Scheduler("slow.db")
@scheduler.task(isolation="process")
def work():
    Path("effect").touch()
if __name__ == "__main__":
    job = work.enqueue()
    scheduler.start(1)
    while not Path("importing").exists():
        time.sleep(0.01)
    if {how!r} == "cancel":
        job.cancel()
        print(job.wait("20s").reason)
    else:
        scheduler.stop("100ms")
        while job.refresh().reason is None:  # where the machine stood still, the process is killed a little later
            time.sleep(0.01)
        print(job.refresh().reason)
    print("".join(file.read_text() for file in Path("/proc/self/task").glob("*/children")), Path("effect").exists())
"""
    )
    out, _ = launch([sys.executable, "slow.py"], cwd=tmp_path).communicate(timeout=60)
    assert out == {"cancel": "user\n False\n", "stop": "shutdown\n False\n"}[how]


@pytest.mark.parametrize("start", [["-m", "package"], ["-"]], ids=["a package", "the standard input"])
def test_a_program_without_a_file_to_import_finds_the_tasks_of_its_modules(
    tmp_path: Path, launch: Callable[..., subprocess.Popen[str]], start: list[str]
) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").touch()
    (tmp_path / "mine.py").write_text(_TASKS)
    text = (
        "from mine import *\njob = echo.enqueue('found')\n"
        "if __name__ == '__main__':\n    scheduler.run_due()\n    print(job.refresh().result)\n"
    )
    (tmp_path / "package" / "__main__.py").write_text(text)
    process = launch([sys.executable, *start], cwd=tmp_path)
    out, err = process.communicate(text, timeout=60)
    assert (out, err) == ("found\n", "")


def test_multiprocessing_may_still_be_told_how_to_start(tmp_path: Path, launch: Callable[..., subprocess.Popen[str]]) -> None:
    main = (
        '\nif __name__ == "__main__":\n    echo.enqueue("x")\n    scheduler.run_due()\n'
        '    multiprocessing.set_start_method("spawn")\n    print("told")\n'
    )
    (tmp_path / "told.py").write_text(_TASKS + main)
    assert launch([sys.executable, "told.py"], cwd=tmp_path).communicate(timeout=60) == ("told\n", "")


def test_a_process_task_of_a_scheduler_in_memory_enqueues_into_it(
    tmp_path: Path, launch: Callable[..., subprocess.Popen[str]]
) -> None:
    main = (
        '\nif __name__ == "__main__":\n    job = enqueues.enqueue()\n    scheduler.run_due()\n'
        "    print(scheduler.get(job.refresh().result).task)\n"
    )
    (tmp_path / "memory.py").write_text(_TASKS.replace('"jobs.db"', '":memory:"') + main)
    assert launch([sys.executable, "memory.py"], cwd=tmp_path).communicate(timeout=60) == ("memory:other\n", "")
