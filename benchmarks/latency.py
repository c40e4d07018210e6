"""How long it takes from the call to the start on an idle machine, and how late a delayed job starts."""

from __future__ import annotations

import queue
import random
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

from benchmarks.figures import Bench, Figure, percentiles
from schedfactory import Scheduler

_late_ms: queue.SimpleQueue[float] = queue.SimpleQueue()


def arrive(sent_at: float) -> None:
    _late_ms.put((time.monotonic() - sent_at) * 1000)  # one clock for all processes of the machine


def begin(due_at: float) -> None:
    _late_ms.put((time.time() - due_at) * 1000)


def same_process(bench: Bench) -> list[Figure]:
    scheduler = Scheduler(bench.file())
    task = scheduler.task(arrive)
    with scheduler.running(workers=4):
        samples = _one_by_one(lambda: task.enqueue(time.monotonic()), bench.many(200))
    scheduler.close()
    return percentiles("enqueue to start, same process", samples, "ms")


def other_process(bench: Bench) -> list[Figure]:
    path = bench.file()
    scheduler = Scheduler(path)
    scheduler.task(arrive)
    command = [sys.executable, "-m", "benchmarks.latency", str(path)]
    with (
        scheduler.running(workers=4),
        subprocess.Popen(command, stdin=subprocess.PIPE, text=True, bufsize=1, cwd=Path(__file__).parent.parent) as producer,
    ):
        assert producer.stdin is not None
        say = producer.stdin.write
        _one_by_one(lambda: say("now\n"), 1)  # until it has started and opened the file
        samples = _one_by_one(lambda: say("now\n"), bench.many(200))
    scheduler.close()
    return percentiles("enqueue to start, other process", samples, "ms")


def delayed(bench: Bench) -> list[Figure]:
    scheduler = Scheduler(bench.file())
    task = scheduler.task(begin)
    count = bench.many(100)
    with scheduler.running(workers=4):
        for _ in range(count):
            run_at = datetime.now(timezone.utc) + timedelta(seconds=random.uniform(0.5, 0.5 + count / 50))
            task.options(run_at=run_at).enqueue(run_at.timestamp())
        samples = [_late_ms.get(timeout=60) for _ in range(count)]
    scheduler.close()
    return [
        *percentiles("start after run_at", samples, "ms"),
        Figure("start after run_at, the earliest", min(samples), "ms", at_least=0),
    ]


def _one_by_one(enqueue: Callable[[], object], count: int) -> list[float]:
    """Enqueue when all is asleep again, at uneven times."""
    samples = []
    for _ in range(count):
        time.sleep(random.uniform(0.005, 0.015))
        enqueue()
        samples.append(_late_ms.get(timeout=60))
    return samples


def _produce(path: Path) -> None:
    """Enqueue a job for each line of the standard input."""
    task = Scheduler(path).task(arrive)
    for _ in sys.stdin:
        task.enqueue(time.monotonic())


SCENARIOS = [same_process, other_process, delayed]

if __name__ == "__main__":
    _produce(Path(sys.argv[1]))
