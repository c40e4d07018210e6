"""How the cost of a job grows: with the rows in the file, with threads, processes and payloads; and that memory does not."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from benchmarks.figures import Bench, Figure
from schedfactory import Limit, Scheduler

ROWS = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
THREADS = (1, 2, 4, 8, 16, 32, 64)
PROCESSES = (1, 2, 4, 8)
PAYLOADS = (10, 100, 1_000, 10_000, 100_000, 1_000_000)
BLOCKED = 10_000
DRAINED = (10_000, 100_000, 1_000_000)
# As a history, or for later, of rows that no round looks at.
_FILL = """
    WITH RECURSIVE many (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM many WHERE n < ?)
    INSERT INTO schedfactory_jobs (task, args, priority, status, run_at, started_at, finished_at, attempt)
    SELECT 'nothing', '{"value":"x"}', 100, ?, ?, ?, ?, ? FROM many
"""


def nothing(value: str) -> None:
    pass


def rows(bench: Bench) -> list[Figure]:
    """Beside finished jobs, and beside jobs for later that have the highest priority."""
    found = []
    for status in ("succeeded", "scheduled"):
        for wanted in ROWS:
            number = bench.many(wanted)
            with closing(_scheduler(bench, "normal")) as scheduler:
                _fill(scheduler, number, status)
                what = f"beside {number:,} {status} jobs"
                task = scheduler.tasks.get("nothing")
                found.append(_rate(f"enqueues {what}", 500, lambda task=task: _enqueue(task, 500)))
                found.append(Figure(f"counts() {what}", _ms(scheduler.counts), "ms"))
                found.append(Figure(f"jobs(limit=100) {what}", _ms(scheduler.jobs), "ms"))
                found.append(_drain(scheduler, f"drained {what}", 4, bench.many(5_000)))
    return found


def threads(bench: Bench) -> list[Figure]:
    """Enqueues of so many threads at once, synced; and so many workers."""
    found = []
    for number in THREADS:
        with closing(_scheduler(bench, "full")) as scheduler:
            task, each = scheduler.tasks.get("nothing"), max(1, bench.many(2_000) // number)
            many = [threading.Thread(target=_enqueue, args=(task, each)) for _ in range(number)]
            found.append(_rate(f"enqueues of {number} threads, full", each * number, lambda many=many: _run(many)))
            found.append(_drain(scheduler, f"drained by {number} workers, full", number, bench.many(10_000)))
    return found


def processes(bench: Bench) -> list[Figure]:
    """So many processes on one file, which enqueue one by one, or drain with two workers each."""
    found = []
    for number in PROCESSES:
        for what, durability in (("enqueue", "full"), ("drain", "normal")):
            with closing(_scheduler(bench, durability)) as scheduler:
                count = bench.many(1_000 if what == "enqueue" else 10_000)
                if what == "drain":
                    task = scheduler.tasks.get("nothing")
                    scheduler.enqueue_many([task.call("x") for _ in range(count)])
                path = scheduler._house.database.path
                took = _with_processes(number, [str(path), what, durability, str(count // number)], scheduler)
                found.append(Figure(f"{what} by {number} processes, {durability}", count / took, "jobs/s"))
    return found


def payloads(bench: Bench) -> list[Figure]:
    found = []
    for size in PAYLOADS:
        with closing(_scheduler(bench, "normal", max_payload=2_000_000)) as scheduler:
            task, text = scheduler.tasks.get("nothing"), "x" * size
            count = max(10, min(bench.many(5_000), 50_000_000 // size))
            calls = [task.call(text) for _ in range(count)]
            found.append(_rate(f"enqueue_many of {size:,} bytes", count, lambda calls=calls: scheduler.enqueue_many(calls)))
            found.append(_drain(scheduler, f"drained with {size:,} bytes", 4, 0))
    return found


def memory(bench: Bench) -> list[Figure]:
    """What a drain adds to the memory of a fresh process that has only to work."""
    found = []
    for wanted in DRAINED:
        number = bench.many(wanted)
        with closing(_scheduler(bench, "normal")) as scheduler:
            _fill(scheduler, number, "queued")
            path = scheduler._house.database.path
        done = subprocess.run(_command(path, "memory", "normal", "0"), cwd=_ROOT, capture_output=True, text=True, check=True)
        found.append(Figure(f"memory that {number:,} jobs drained have added", float(done.stdout), "MiB"))
    return found


def limits(bench: Bench) -> list[Figure]:
    """Jobs without a limit, where nothing is limited, where something else is, and beside blocked jobs of higher priority."""
    found = []
    for what in ("where nothing is limited", "where something else is limited", f"beside {BLOCKED:,} blocked jobs"):
        with closing(_scheduler(bench, "normal")) as scheduler:
            if what != "where nothing is limited":
                scheduler.queues.set("other", concurrency=1)
                other = scheduler.task(name="other", priority=100, limit=Limit(rate="1/d"))(nothing)
                number = 1 if what == "where something else is limited" else bench.many(BLOCKED) + 1
                scheduler.enqueue_many([other.call("x") for _ in range(number)])
                scheduler.run_due()
            for round_ in ("at first", "later"):
                task, count = scheduler.tasks.get("nothing"), bench.many(20_000)
                last = scheduler.enqueue_many([task.call("x") for _ in range(count)])[-1]
                began = time.perf_counter()
                with scheduler.running(4):
                    last.wait("30m")
                    took = time.perf_counter() - began
                found.append(Figure(f"drained {what}, {round_}", count / took, "jobs/s"))
    return found


SCENARIOS = [rows, threads, processes, payloads, memory, limits]
_ROOT = Path(__file__).parent.parent


def _scheduler(bench: Bench, durability: str, **given: Any) -> Scheduler:
    scheduler = Scheduler(bench.file(), durability=durability, keep=None, **given)
    scheduler.task(name="nothing")(nothing)
    scheduler.counts()
    return scheduler


def _fill(scheduler: Scheduler, number: int, status: str) -> None:
    now = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%S.%f")
    at = now if status == "succeeded" else None
    values = (number, status, "9999-01-01 00:00:00.000000" if status == "scheduled" else now, at, at, int(at is not None))
    with scheduler._house.database._leading:
        driver = scheduler._house.database._open().driver
        driver.execute("BEGIN IMMEDIATE")
        driver.execute(_FILL, values)
        if status == "succeeded":
            driver.execute("INSERT INTO schedfactory_totals VALUES ('default', 'succeeded', ?)", (number,))
        driver.execute("COMMIT")
        driver.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
        driver.execute("UPDATE schedfactory_version SET version_num = version_num")  # the commit that cuts back the log


def _drain(scheduler: Scheduler, name: str, workers: int, count: int) -> Figure:
    task = scheduler.tasks.get("nothing")
    scheduler.enqueue_many([task.call("x") for _ in range(count)])
    waiting = scheduler.counts()["queued"]
    began = time.perf_counter()
    with scheduler.running(workers):
        scheduler.wait_idle("30m")
        took = time.perf_counter() - began
    return Figure(name, waiting / took, "jobs/s")


def _rate(name: str, count: int, run: Callable[[], object]) -> Figure:
    began = time.perf_counter()
    run()
    return Figure(name, count / (time.perf_counter() - began), "jobs/s")


def _ms(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return (time.perf_counter() - began) * 1000


def _enqueue(task: Any, number: int) -> None:
    for _ in range(number):
        task.enqueue("x")


def _run(many: list[threading.Thread]) -> None:
    for thread in many:
        thread.start()
    for thread in many:
        thread.join()


def _command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "benchmarks.growth", *map(str, arguments)]


def _with_processes(number: int, arguments: list[str], scheduler: Scheduler) -> float:
    """Return how long processes took that begin at the same time, once all are ready."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    many = [subprocess.Popen(_command(*arguments), cwd=_ROOT, text=True, **pipes) for _ in range(number)]
    for process in many:
        assert process.stdout is not None
        process.stdout.readline()
    began = time.perf_counter()
    for process in many:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    if arguments[1] == "drain":
        scheduler.wait_idle("10m")
    else:
        for process in many:
            assert process.stdout is not None
            process.stdout.readline()
    took = time.perf_counter() - began
    for process in many:
        process.communicate()
    return took


def _resident() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / (1 << 20)


def _play(path: str, what: str, durability: str, count: str) -> None:
    """Be one of the processes."""
    scheduler = Scheduler(path, durability=durability, keep=None)
    task = scheduler.task(name="nothing")(nothing)
    scheduler.counts()
    if what == "memory":
        with scheduler.running(4):
            time.sleep(0.2)  # its first rounds
            before = _resident()
            scheduler.wait_idle("30m")
            print(_resident() - before)
        return
    print("ready", flush=True)
    input()
    if what == "enqueue":
        for _ in range(int(count)):
            task.enqueue("x")
        print("done", flush=True)
    else:
        scheduler.start(2)
        sys.stdin.read()  # until everything is done
    scheduler.close()


if __name__ == "__main__":
    _play(*sys.argv[1:])
