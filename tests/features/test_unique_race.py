"""Many processes want the same keys at once, and one of them dies: no key ever has two jobs, and no two of its runs overlap."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from schedfactory import Scheduler

PROCESSES, THREADS, CALLS, KEYS = 4, 8, 40, 6
KILLED = 0  # the seat whose process dies
LONG_S = 90.0

# Each run writes down when it began and ended, on the clock that all processes share.
PROGRAM = """
    import os, random, sys, threading, time
    from schedfactory import DuplicateJob, RetryAfter, Scheduler, Unique, current_job

    path, effects, threads, calls, keys = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
    scheduler = Scheduler(path, durability="normal")
    out = os.open(effects, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(what, key):
        os.write(out, f'["{what}", "{key}", {current_job().id}, {current_job().attempt}, {time.monotonic_ns()}]\\n'.encode())

    def body(key):
        note("begin", key)
        time.sleep(random.uniform(0, 0.003))
        note("end", key)
        if random.random() < 0.1:
            raise RetryAfter(0, "again")

    held = scheduler.task(name="held", unique=Unique("{key}", on_conflict="keep"), retry=1000)(body)
    loud = scheduler.task(name="loud", unique=Unique("{key}", on_conflict="raise"), retry=1000)(body)
    soon = scheduler.task(name="soon", unique=Unique("{key}", until="started", on_conflict="replace"), retry=1000)(body)
    late = scheduler.task(
        name="late", retry=1000, unique=Unique("{key}", until="started", on_conflict="debounce", max_wait="20ms")
    )(body)
    go = threading.Event()

    def produce():
        go.wait()
        for _ in range(calls):
            task, key = random.choice((held, loud, soon, late)), random.randrange(keys)
            try:
                if random.random() < 0.2:
                    scheduler.enqueue_many([task.call(f"{task.name}-{(key + n) % keys}") for n in range(3)])
                elif random.random() < 0.1:
                    scheduler.requeue(task=task.name, status="succeeded", args={"key": f"{task.name}-{key}"})
                elif random.random() < 0.1:
                    scheduler.cancel(task=task.name, status="queued", args={"key": f"{task.name}-{key}"})
                else:
                    task.options(delay="5ms" if task is late else 0).enqueue(f"{task.name}-{key}")
            except DuplicateJob:
                pass

    makers = [threading.Thread(target=produce) for _ in range(threads)]
    for maker in makers:
        maker.start()
    print("ready", flush=True)
    sys.stdin.readline()
    with scheduler.running(workers=4):
        go.set()
        for maker in makers:
            maker.join()
        print("made", flush=True)
        scheduler.wait_idle("60s")
"""

# What the unique index ought to make impossible is written down here, by other means.
WITNESS = """
    CREATE TABLE doubles (task TEXT, unique_key TEXT, ids TEXT);
    CREATE TRIGGER see_insert AFTER INSERT ON schedfactory_jobs BEGIN {look} END;
    CREATE TRIGGER see_update AFTER UPDATE ON schedfactory_jobs BEGIN {look} END;
"""
LOOK = """
    INSERT INTO doubles SELECT task, unique_key, group_concat(id) FROM schedfactory_jobs
    WHERE unique_key = NEW.unique_key AND task = NEW.task AND status NOT IN ('succeeded', 'failed', 'cancelled')
    AND (task IN ('held', 'loud') OR fence = 0) GROUP BY task, unique_key HAVING count(*) > 1;
"""


@pytest.fixture
def witnessed(scheduler: Scheduler, path: Path) -> Callable[[str], list[Any]]:
    """Watch every row that is written, and return what runs SQL on the file."""
    scheduler.migrate()

    def run(statement: str) -> list[Any]:
        with closing(sqlite3.connect(path, timeout=LONG_S)) as client:
            return client.execute(statement).fetchall()

    with closing(sqlite3.connect(path)) as client:
        client.executescript(WITNESS.format(look=LOOK))
    return run


@pytest.fixture
def effects(tmp_path: Path) -> Path:
    return tmp_path / "effects.jsonl"


@pytest.fixture
def race(witnessed: object, program: Any, path: Path, effects: Path) -> list[subprocess.Popen[str]]:
    """Start all processes, and let them go at the same moment."""
    words = [str(number) for number in (THREADS, CALLS, KEYS)]
    processes = [program(PROGRAM, str(path), str(effects), *words, name=f"app{seat}.py") for seat in range(PROCESSES)]
    for process in processes:
        assert process.stdout.readline() == "ready\n", process.stderr.read()
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    return processes


def runs_of(effects: Path) -> dict[str, list[tuple[int, int | None, int, int]]]:
    """Return, by key, when each run began and ended, with its job and attempt; one that died has no end."""
    found: dict[tuple[str, int, int], list[int]] = defaultdict(list)
    for line in effects.read_text().splitlines():
        _, key, job, attempt, at = json.loads(line)
        found[key, job, attempt].append(at)
    by_key = defaultdict(list)
    for (key, job, attempt), moments in found.items():
        by_key[key].append((moments[0], moments[1] if len(moments) > 1 else None, job, attempt))
    return {key: sorted(runs) for key, runs in by_key.items()}


def overlaps(runs: list[tuple[int, int | None, int, int]], killed_at: int) -> list[Any]:
    """Return the neighbours of which the later one began before the earlier one had ended, or died."""
    return [(one, two) for one, two in pairwise(runs) if two[0] < (one[1] or killed_at)]


def test_no_key_ever_has_two_jobs_and_runs_of_one_key_never_overlap(
    race: list[subprocess.Popen[str]], witnessed: Callable[[str], list[Any]], effects: Path, scheduler: Scheduler
) -> None:
    end = time.monotonic() + LONG_S
    while not effects.exists() or effects.read_bytes().count(b"\n") < 50:
        assert time.monotonic() < end, "they never began"
        time.sleep(0.001)
    killed_at = time.monotonic_ns()
    race[KILLED].send_signal(signal.SIGKILL)
    for process in race:
        said, complaints = process.communicate(timeout=LONG_S)
        assert process.returncode == (-signal.SIGKILL if process is race[KILLED] else 0), said + complaints

    assert witnessed("SELECT * FROM doubles") == []
    assert witnessed("PRAGMA integrity_check") == [("ok",)]
    assert {job.status for job in scheduler.jobs(limit=100_000)} <= {"succeeded", "cancelled"}
    found = runs_of(effects)
    assert set(found) == {f"{task}-{key}" for task in ("held", "loud", "soon", "late") for key in range(KEYS)}
    for key, runs in found.items():
        if key.startswith(("held", "loud")):
            assert overlaps(runs, killed_at) == [], key
    assert sum(map(len, found.values())) > PROCESSES * KEYS


def test_the_witness_sees_two_holders(witnessed: Callable[[str], list[Any]], path: Path) -> None:
    with closing(sqlite3.connect(path)) as client, client:
        client.execute("DROP INDEX schedfactory_jobs_unique")
        for _ in range(2):
            client.execute("INSERT INTO schedfactory_jobs (task, unique_key, unique_fence) VALUES ('held', 'k', 9)")
    assert [row[:2] for row in witnessed("SELECT * FROM doubles")] == [("held", "k")]
    assert overlaps([(1, 5, 1, 1), (3, 6, 2, 1)], 0) != []
    assert overlaps([(1, None, 1, 1), (3, 6, 2, 1)], 4) != [] == overlaps([(1, None, 1, 1), (5, 6, 2, 1)], 4)
