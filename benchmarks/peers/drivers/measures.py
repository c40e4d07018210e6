"""The scenarios: what is done with a peer's queue, and which figures come out, the same code for all of them."""

from __future__ import annotations

import contextlib
import queue
import random
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peer import Cannot, Queue, goal, late_ms


def _need(method: object, what: str) -> None:
    if method is None or method is False:
        raise Cannot(what)


def _drained(peer: Queue, jobs: int, workers: int, limit_s: float) -> tuple[float, float]:
    """Return jobs a second, and the share of the jobs that ran within the limit."""
    goal.reset(jobs)
    began = time.perf_counter()
    peer.start(workers)
    complete = goal.reached.wait(limit_s)
    if complete:
        peer.settle()
    took, seen = time.perf_counter() - began, goal.seen()
    peer.stop()
    if complete and goal.seen() != jobs:
        raise RuntimeError(f"{jobs} jobs were enqueued, and {seen} ran")
    return seen / took, seen / jobs


def _drained_again(peer: Queue, jobs: int, workers: int, limit_s: float) -> tuple[float, float]:
    """Fill and drain up to three times, as the time allows, and return the medians: one drain of a fast peer is short."""
    found = []
    deadline = time.monotonic() + limit_s
    while len(found) < 3 and (not found or time.monotonic() < deadline):
        peer.fill(jobs)
        found.append(_drained(peer, jobs, workers, limit_s))
        if found[-1][1] < 1:
            break  # what is left over would count for the next
    return statistics.median(rate for rate, _ in found), min(done for _, done in found)


def drain(peer: Queue, jobs: int, workers: int, limit_s: float) -> dict[str, Any]:
    peer.fill(jobs)
    rate, done = _drained(peer, jobs, workers, limit_s)
    return {"rate": rate, "done": done}


def beside(peer: Queue, kind: str, rows: int, jobs: int, workers: int, limit_s: float) -> dict[str, Any]:
    """The same file twice: as good as empty, and with many other jobs in it."""
    _need(peer.pile_future if kind == "future" else peer.pile_finished, f"no {kind} jobs in its file")
    peer.fill(20)
    _drained(peer, 20, workers, limit_s)  # so that both find everything warm
    empty, before = _drained_again(peer, jobs, workers, limit_s)
    (peer.pile_future if kind == "future" else peer.pile_finished)(rows)  # type: ignore[misc]
    rate, done = _drained_again(peer, jobs, workers, limit_s)
    return {"empty": empty, "rate": rate, "factor": empty / rate if rate else None, "done": min(before, done)}


def singles(peer: Queue, jobs: int) -> dict[str, Any]:
    peer.put("nothing", 0)
    return {"rate": jobs / _timed(lambda: peer.singles(jobs))}


def threads(peer: Queue, threads: int, jobs: int) -> dict[str, Any]:
    peer.put("nothing", 0)
    each = max(1, jobs // threads)
    return {"rate": threads * each / _timed(lambda: peer.threads(threads, each))}


def bulk(peer: Queue, jobs: int, batch: int) -> dict[str, Any]:
    _need(peer.put_many, "no call that enqueues many")
    put_many = peer.put_many
    assert put_many is not None
    peer.put("nothing", 0)

    def put_all() -> None:
        for first in range(0, jobs, batch):
            put_many("nothing", list(range(first, min(first + batch, jobs))))

    return {"rate": jobs / _timed(put_all)}


def same_process(peer: Queue, samples: int, workers: int, limit_s: float) -> dict[str, Any]:
    peer.start(workers)
    _one_by_one(lambda: peer.put("arrive", time.monotonic()), 1, limit_s)  # until everything has been started
    found = _one_by_one(lambda: peer.put("arrive", time.monotonic()), samples, limit_s)
    peer.stop()
    return {"samples": found}


def other_process(peer: Queue, samples: int, workers: int, limit_s: float) -> dict[str, Any]:
    _need(peer.shares, "its file is one process's")
    peer.put("nothing", 0)  # so that the tables are there
    peer.start(workers)
    command = [sys.executable, *sys.argv[:1], "produce", peer.place, peer.durability]
    with subprocess.Popen(command, stdin=subprocess.PIPE, text=True, bufsize=1) as producer:
        assert producer.stdin is not None
        say = producer.stdin.write
        _one_by_one(lambda: say("now\n"), 1, limit_s)  # until it has started and opened the file
        found = _one_by_one(lambda: say("now\n"), samples, limit_s)
    peer.stop()
    return {"samples": found}


def delayed(peer: Queue, samples: int, workers: int, limit_s: float) -> dict[str, Any]:
    _need(peer.put_at, "no delayed jobs")
    put_at = peer.put_at
    assert put_at is not None
    peer.start(workers)
    for _ in range(samples):
        run_at = time.time() + random.uniform(0.5, 0.5 + samples / 50)
        put_at("begin", run_at, run_at)
    deadline = time.monotonic() + 0.5 + samples / 50 + limit_s
    found = []
    with contextlib.suppress(queue.Empty):
        while len(found) < samples:
            found.append(late_ms.get(timeout=max(0.0, deadline - time.monotonic())))
    peer.stop()
    if not found:
        raise TimeoutError(f"none of {samples} delayed jobs started within {limit_s:.0f} s of its moment")
    return {"samples": found}


def idle(peer: Queue, seconds: float, workers: int) -> dict[str, Any]:
    """After one job, with the workers there and nothing to do."""
    goal.reset(1)
    peer.start(workers)
    peer.put("nothing", 0)
    goal.reached.wait(60)
    peer.settle()
    time.sleep(1)  # for the last round of whatever follows a job
    files, written, cpu, began = _files(peer.place), _written(), time.process_time(), time.monotonic()
    time.sleep(seconds)
    cpu, took = time.process_time() - cpu, time.monotonic() - began
    written = _written() - written
    if written == 0 and _files(peer.place) != files:
        written = sum(size for _, size, _ in _files(peer.place))
    peer.stop()
    figures = {"cpu_s_a_minute": cpu * 60 / took, "rss_mb": _rss_mb()}
    return figures if "://" in peer.place or "=" in peer.place else {**figures, "bytes_a_minute": written * 60 / took}


SCENARIOS: dict[str, Callable[..., dict[str, Any]]] = {
    "drain": drain,
    "beside": beside,
    "singles": singles,
    "threads": threads,
    "bulk": bulk,
    "same_process": same_process,
    "other_process": other_process,
    "delayed": delayed,
    "idle": idle,
}


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _one_by_one(enqueue: Callable[[], object], count: int, limit_s: float) -> list[float]:
    """Enqueue when all is asleep again, at uneven times, until there are enough or the time is over."""
    samples: list[float] = []
    deadline = time.monotonic() + limit_s
    while len(samples) < count and (not samples or time.monotonic() < deadline):
        time.sleep(random.uniform(0.005, 0.015))
        enqueue()
        samples.append(late_ms.get(timeout=max(60.0, limit_s)))
    return samples


def _files(place: str) -> list[tuple[str, int, int]]:
    """Return name, size and time of the last write of the files there."""
    found = Path(place).parent.rglob("*")
    return [(file.name, (stat := file.stat()).st_size, stat.st_mtime_ns) for file in sorted(found) if file.is_file()]


def _written() -> int:
    counts = Path("/proc/self/io")
    if not counts.exists():
        return 0
    return int(dict(line.split(": ") for line in counts.read_text().splitlines())["write_bytes"])


def _rss_mb() -> float:
    status = Path("/proc/self/status")
    if status.exists():
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        return int(fields["VmRSS"].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
