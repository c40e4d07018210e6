"""What the project set out to reach, reached or not, and how far it is from what the machine can do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.peers.catalogue import MACHINE, OURS, PEERS

Median = Callable[[str, str, str], float | None]  # of whom, in which scenario, which figure
_EMBEDDED = [peer.name for peer in PEERS if not peer.needs_postgresql]


@dataclass(frozen=True)
class Goal:
    """`value` is None where somebody it compares with did not run."""

    what: str
    unit: str
    value: Callable[[Median], float | None]
    at_least: float | None = None
    at_most: float | None = None


def _ours(scenario: str, figure: str = "rate") -> Callable[[Median], float | None]:
    return lambda median: median(OURS, scenario, figure)


def _times(peer: str, scenario: str) -> Callable[[Median], float | None]:
    return lambda median: _divide(median(OURS, scenario, "rate"), median(peer, scenario, "rate"))


def _times_best(scenario: str) -> Callable[[Median], float | None]:
    def value(median: Median) -> float | None:
        rates = [rate for name in _EMBEDDED if (rate := median(name, scenario, "rate")) is not None]
        return _divide(median(OURS, scenario, "rate"), max(rates, default=None))

    return value


def _of_limit(scenario: str, limit: str, figure: str) -> Callable[[Median], float | None]:
    return lambda median: _divide(median(OURS, scenario, "rate"), median(MACHINE, limit, figure))


def _divide(ours: float | None, theirs: float | None) -> float | None:
    return None if ours is None or not theirs else ours / theirs


GOALS = (
    Goal("drained, full", "jobs/s", _ours("drain-full"), at_least=30_000),
    Goal("drained, full, to huey", "x", _times("huey", "drain-full"), at_least=10),
    Goal("drained, full, to APScheduler", "x", _times("APScheduler", "drain-full"), at_least=8),
    Goal("drained, normal", "jobs/s", _ours("drain-normal"), at_least=35_000),
    Goal("drained, normal, to huey", "x", _times("huey", "drain-normal"), at_least=4),
    Goal("drained, normal, to plainjob", "x", _times("plainjob", "drain-normal"), at_least=1.7),
    Goal("enqueued one by one, full, to huey", "x", _times("huey", "singles-full"), at_least=0.9),
    Goal("enqueued one by one, normal, to huey", "x", _times("huey", "singles-normal"), at_least=0.6),
    Goal("enqueued by 8 threads, full, to the best on SQLite", "x", _times_best("threads-8"), at_least=2),
    Goal("enqueued by 32 threads, full, to the best on SQLite", "x", _times_best("threads-32"), at_least=3),
    Goal("enqueued in bulk, normal", "jobs/s", _ours("bulk-10000"), at_least=100_000),
    Goal("enqueue to start, same process, p50", "ms", _ours("same", "p50"), at_most=1.0),
    Goal("enqueue to start, same process, p99", "ms", _ours("same", "p99"), at_most=4.0),
    Goal("enqueue to start, other process, p50", "ms", _ours("other", "p50"), at_most=2.0),
    Goal("idle", "CPU s/min", _ours("idle", "cpu_s_a_minute"), at_most=0.1),
    Goal("start after run_at, p50", "ms", _ours("delayed", "p50"), at_most=1.1),
    Goal("start after run_at, p99", "ms", _ours("delayed", "p99"), at_most=5.0),
    Goal("start after run_at, the earliest", "ms", _ours("delayed", "least"), at_least=0.0),
    Goal("beside 1M future jobs of higher priority", "x slower", _ours("future-1000000", "factor"), at_most=1.2),
    Goal("beside 1M finished jobs", "x slower", _ours("finished-1000000", "factor"), at_most=1.2),
    Goal("written while idle", "bytes/min", _ours("idle", "bytes_a_minute"), at_most=0),
    Goal("memory, idle", "MB", _ours("idle", "rss_mb"), at_most=60),
)

DISTANCES = (
    Goal("enqueued one by one, full, of syncs/s", "x", _of_limit("singles-full", "syncs", "rate")),
    Goal("enqueued one by one, full, of sqlite3 one by one", "x", _of_limit("singles-full", "sqlite3-1-full", "insert")),
    Goal("enqueued one by one, normal, of sqlite3 one by one", "x", _of_limit("singles-normal", "sqlite3-1-normal", "insert")),
    Goal("enqueued by 32 threads, full, of syncs/s", "x", _of_limit("threads-32", "syncs", "rate")),
    Goal("enqueued in bulk, normal, of sqlite3 in batches", "x", _of_limit("bulk-10000", "sqlite3-100-normal", "insert")),
    Goal("enqueued in bulk, normal, of SQLAlchemy in batches", "x", _of_limit("bulk-10000", "sqlalchemy-100-normal", "insert")),
    Goal("drained, full, of sqlite3 in batches", "x", _of_limit("drain-full", "sqlite3-100-full", "claim_and_finish")),
    Goal("drained, full, of SQLAlchemy in batches", "x", _of_limit("drain-full", "sqlalchemy-100-full", "claim_and_finish")),
    Goal("drained, normal, of sqlite3 in batches", "x", _of_limit("drain-normal", "sqlite3-100-normal", "claim_and_finish")),
    Goal(
        "drained, normal, of SQLAlchemy in batches", "x", _of_limit("drain-normal", "sqlalchemy-100-normal", "claim_and_finish")
    ),
)


def judge(goals: tuple[Goal, ...], median: Median) -> list[dict[str, Any]]:
    """Return each goal with its value; `reached` is None where there is no value or nothing to reach."""
    rows = []
    for goal in goals:
        value = goal.value(median)
        reached = None
        if value is not None and goal.at_least is not None:
            reached = value >= goal.at_least
        elif value is not None and goal.at_most is not None:
            reached = value <= goal.at_most
        row = {"what": goal.what, "unit": goal.unit, "value": value}
        rows.append({**row, "at_least": goal.at_least, "at_most": goal.at_most, "reached": reached})
    return rows
