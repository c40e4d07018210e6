"""Tasks, signals and callables of the user's that do what they should not."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schedfactory import Retry, Scheduler
from schedfactory.storage.database import Database


def test_what_a_decorator_has_left_on_the_function_does_not_replace_the_tasks_own(still: Scheduler) -> None:
    def busy(function: Callable[[], int]) -> Any:
        @functools.wraps(function)
        def wrapped() -> int:
            return function()

        wrapped.retry = wrapped.name = wrapped.keep = object()  # type: ignore[attr-defined]
        return wrapped

    @still.task(name="decorated", retry=3)
    @busy
    def decorated() -> int:
        return 7

    job = decorated.enqueue()
    still.run_due()
    assert job.refresh().result == 7
    assert (decorated.name, decorated.retry.max_attempts) == ("decorated", 3)


def test_stored_arguments_take_their_own_places_also_beside_defaults(still: Scheduler) -> None:
    @still.task(name="rest")
    def rest(a: int = 1, *more: int) -> list[Any]:
        return [a, list(more)]

    @still.task(name="places")
    def places(a: int = 1, b: int = 2, c: int = 3, /) -> list[int]:
        return [a, b, c]

    calls = [
        ({"more": [7, 8]}, "rest", [1, [7, 8]]),
        ({"b": 5}, "places", [1, 5, 3]),
        ({}, "places", [1, 2, 3]),
        ({}, "rest", [1, []]),
    ]
    jobs = [(still.remote(name).enqueue(**args), expected) for args, name, expected in calls]
    still.run_due()
    assert [job.refresh().result for job, _ in jobs] == [expected for _, expected in jobs]


def test_a_backoff_that_raises_a_base_exception_kills_no_worker(scheduler: Scheduler, noop: Any) -> None:
    def backoff(_n: int, _error: BaseException) -> str:
        raise SystemExit(1)

    @scheduler.task(name="fails", retry=Retry(2, backoff=backoff, base=0))
    def fails() -> None:
        raise ValueError

    with scheduler.running(workers=1):
        assert fails.enqueue().wait("60s").failures == 2
        assert noop.enqueue().get_result("60s") == 1
        assert scheduler.health().workers == 1


def test_a_clock_that_fails_kills_no_worker(path: Path, clock: Any) -> None:
    broken = threading.Event()

    def now() -> Any:
        if broken.is_set() and threading.current_thread().name.startswith("schedfactory-worker"):
            raise OSError("no time today")
        return clock()

    scheduler = Scheduler(path, clock=now)

    @scheduler.task(name="breaks")
    def breaks() -> None:
        broken.set()

    @scheduler.task(name="noop")
    def noop() -> int:
        return 1

    with scheduler.running(workers=1):
        job = breaks.enqueue().wait("60s")
        assert (job.status, job.error) == ("failed", "OSError: no time today")
        broken.clear()
        assert noop.enqueue().get_result("60s") == 1
    scheduler.close()


@pytest.fixture
def alarm() -> Any:
    """Set what SIGALRM does; it is as it was afterwards."""
    before = signal.getsignal(signal.SIGALRM)
    yield lambda handler: signal.signal(signal.SIGALRM, handler)
    signal.signal(signal.SIGALRM, before)


def test_a_signals_handler_that_writes_while_its_thread_does_is_refused(scheduler: Scheduler, noop: Any, alarm: Any) -> None:
    refused: list[BaseException] = []

    def handler(*_: Any) -> None:
        try:
            noop.enqueue()
        except RuntimeError as error:
            refused.append(error)

    alarm(handler)
    database = scheduler._house.database
    database.write(lambda conn: os.kill(os.getpid(), signal.SIGALRM))
    assert "a signal's handler wants to write" in str(refused[0])
    assert noop.enqueue().status == "queued"


@pytest.mark.parametrize(
    ("place", "call"),
    [("_lead", "enqueue"), ("_carry_out", "enqueue"), ("_finish", "enqueue"), ("_disconnect", "close"), ("_open", "enqueue")],
)
def test_a_signals_handler_is_refused_wherever_its_thread_has_the_lock(
    scheduler: Scheduler, noop: Any, alarm: Any, monkeypatch: pytest.MonkeyPatch, place: str, call: str
) -> None:
    noop.enqueue()
    refused: list[RuntimeError] = []

    def handler(*_: Any) -> None:
        with pytest.raises(RuntimeError, match="a signal's handler wants to write") as caught:
            noop.enqueue()
        refused.append(caught.value)

    real = getattr(Database, place)

    def interrupted(database: Database, *arguments: Any, **named: Any) -> Any:
        if not refused and database._leading.locked():
            os.kill(os.getpid(), signal.SIGALRM)
        return real(database, *arguments, **named)

    alarm(handler)
    monkeypatch.setattr(Database, place, interrupted)
    {"enqueue": noop.enqueue, "close": scheduler.close}[call]()
    monkeypatch.undo()
    assert len(refused) == 1
    assert noop.enqueue().status == "queued"


def test_a_signals_handler_may_write_to_another_database_than_the_one_its_thread_is_writing_to(
    scheduler: Scheduler, noop: Any, alarm: Any, tmp_path: Path
) -> None:
    other = Scheduler(tmp_path / "other.db")
    jobs: list[Any] = []
    is_held, may_go = threading.Event(), threading.Event()

    def hold(_conn: Any) -> None:
        is_held.set()
        assert may_go.wait(60)

    def let_go() -> None:
        pause = threading.Event()
        while not other._house.database._waiting:
            pause.wait(0.001)
        may_go.set()

    def handler(*_: Any) -> None:
        threading.Thread(target=let_go).start()
        jobs.append(other.remote("work").enqueue())

    alarm(handler)
    other.counts()
    holder = threading.Thread(target=other._house.database.write, args=(hold,))
    holder.start()
    assert is_held.wait(60)
    scheduler._house.database.write(lambda conn: os.kill(os.getpid(), signal.SIGALRM))
    holder.join(60)
    assert [job.refresh().status for job in jobs] == ["queued"]
    other.close()


def test_a_signals_handler_may_stop_the_scheduler_that_is_being_started(scheduler: Scheduler, noop: Any, alarm: Any) -> None:
    alarm(lambda *_: scheduler.stop("5s"))
    with scheduler._guard:
        os.kill(os.getpid(), signal.SIGALRM)
    assert not scheduler.is_running


def test_what_a_signals_handler_raises_ends_run_due_and_gives_the_job_back(still: Scheduler, alarm: Any) -> None:
    def leave(*_: Any) -> None:
        raise SystemExit(3)

    alarm(leave)

    @still.task(name="work")
    def work() -> None:
        os.kill(os.getpid(), signal.SIGALRM)
        time.sleep(60)

    job = work.enqueue()
    with pytest.raises(SystemExit):
        still.run_due()
    job = job.refresh()
    assert (job.status, job.reason) == ("queued", "shutdown")


def test_a_system_exit_of_the_tasks_own_fails_its_job_in_run_due_too(still: Scheduler) -> None:
    @still.task(name="leaves")
    def leaves() -> None:
        raise SystemExit(3)

    job = leaves.enqueue()
    assert still.run_due() == 1
    assert job.refresh().error == "SystemExit: 3"


def test_all_schedulers_of_a_process_share_the_time_to_stop_at_its_end(program: Callable[..., subprocess.Popen[str]]) -> None:
    found = program(
        """
        import threading, time
        import schedfactory.scheduler
        from schedfactory import Scheduler
        schedfactory.scheduler.STOP_S = 5.0
        began = []
        for name in ("a.db", "b.db", "c.db", "d.db"):
            scheduler = Scheduler(name)
            @scheduler.task(name="deaf")
            def deaf():
                began.append(1)
                time.sleep(600)
            deaf.enqueue()
            scheduler.start(1)
        while len(began) < 4:
            time.sleep(0.01)
        print(time.monotonic(), flush=True)
        """
    )
    out, _ = found.communicate(timeout=60)
    assert time.monotonic() - float(out) < 5 * 4  # one after the other they would have had that long
    assert found.returncode == 0


def test_databases_that_are_closed_give_back_their_descriptors(tmp_path: Path) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = None
    for number in range(12):
        scheduler = Scheduler(tmp_path / f"{number}.db")
        scheduler.run_due()
        scheduler.close()
        if number == 1:
            before = descriptors()
    assert descriptors() == before


def test_two_names_of_one_file_are_one_database(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "real.db")
    one, other = Scheduler(tmp_path / "real.db"), Scheduler(tmp_path / "link.db")
    assert one._house.database.path == other._house.database.path == (tmp_path / "real.db").resolve()


def test_an_interrupt_while_a_fork_waits_for_readers_leaves_the_database_usable(
    program: Callable[..., subprocess.Popen[str]],
) -> None:
    found = program(
        """
        import os, signal, threading, time
        from schedfactory import Scheduler

        signal.signal(signal.SIGINT, signal.default_int_handler)
        scheduler = Scheduler("jobs.db")
        scheduler.counts()
        reads, ends = threading.Event(), threading.Event()

        def read():
            with scheduler.reading():
                reads.set()
                ends.wait(60)

        reader = threading.Thread(target=read)
        reader.start()
        reads.wait()
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        child = os.fork()
        if not child:
            os._exit(0)
        os.waitpid(child, 0)
        ends.set()
        reader.join()
        scheduler.remote("x").enqueue()
        child = os.fork()
        if not child:
            os._exit(0)
        os.waitpid(child, 0)
        print(scheduler.counts()["queued"])
        """
    )
    out, _ = found.communicate(timeout=60)
    assert out == "1\n"


def test_a_second_run_of_one_scheduler_leaves_the_first_one_its_end(scheduler: Scheduler) -> None:
    first = threading.Thread(target=scheduler.run, args=(1,))
    first.start()
    while not scheduler.is_running:
        time.sleep(0.001)
    with pytest.raises(RuntimeError, match="runs already"):
        scheduler.run(1)
    scheduler.stop()
    first.join(60)
    assert not first.is_alive()


def test_numbers_of_workers_that_have_ended_are_given_again(scheduler: Scheduler) -> None:
    @scheduler.task(name="slow", timeout="20ms")
    def slow() -> None:
        time.sleep(0.05)

    with scheduler.running(workers=2):
        scheduler.enqueue_many([slow.call() for _ in range(30)])[-1].wait("60s")
        scheduler.wait_idle("60s")
        assert scheduler._node is not None
        assert len(scheduler._node._staff.workers) <= 8
