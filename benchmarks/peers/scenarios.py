"""What is measured, with how much, and which figures of it stand in the table."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.peers.catalogue import MACHINE, POSTGRESQL

WORKERS = 4
DRAINED = 10_000
LIMIT_S = 15.0  # for somebody who is slow: what was done until then counts
BATCHES = (1, 10, 100, 1_000, 10_000)
SIZES = (10_000, 100_000, 1_000_000)
FULL_SIZE = 1_000_000

Parameters = Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """One figure of a scenario, as a row of the table."""

    figure: str
    title: str
    unit: str


@dataclass(frozen=True)
class Scenario:
    """One thing that a driver is asked to do; `parameters` depend on the scale of the run.

    Attributes:
        by: whose it is among the yardsticks; of no one, all queues do it.
    """

    key: str
    does: str
    durability: str
    parameters: Callable[[float], Parameters]
    rows: tuple[Row, ...] = ()
    by: str = ""


def scaled(count: float, scale: float, least: int = 1) -> int:
    return max(least, round(count * scale))


def _drain(durability: str) -> Scenario:
    return Scenario(
        f"drain-{durability}",
        "drain",
        durability,
        lambda scale: {"jobs": scaled(DRAINED, scale, 20), "workers": WORKERS, "limit_s": LIMIT_S},
        (Row("rate", f"{DRAINED:,} no-ops drained by {WORKERS} workers, {durability}", "jobs/s"),),
    )


def _singles(durability: str, jobs: int) -> Scenario:
    title = f"enqueued one by one, {durability}"
    row = Row("rate", title, "jobs/s")
    return Scenario(f"singles-{durability}", "singles", durability, lambda scale: {"jobs": scaled(jobs, scale, 10)}, (row,))


def _threads(threads: int) -> Scenario:
    return Scenario(
        f"threads-{threads}",
        "threads",
        "full",
        lambda scale: {"threads": threads, "jobs": scaled(8_000, scale, threads)},
        (Row("rate", f"enqueued by {threads} threads at once, full", "jobs/s"),),
    )


def _bulk(batch: int) -> Scenario:
    def parameters(scale: float) -> Parameters:
        return {"jobs": scaled(5_000 if batch < 100 else 50_000, scale, 10), "batch": batch}

    rows = (Row("rate", f"enqueued in bulk, {batch:,} a call, normal", "jobs/s"),) if batch == BATCHES[-1] else ()
    return Scenario(f"bulk-{batch}", "bulk", "normal", parameters, rows)


def _beside(kind: str, size: int, title: str) -> Scenario:
    def parameters(scale: float) -> Parameters:
        jobs = scaled(DRAINED // 2, scale, 20)
        return {"kind": kind, "rows": scaled(size, scale, 10), "jobs": jobs, "workers": WORKERS, "limit_s": LIMIT_S}

    rows = (Row("factor", title, "x slower"),) if size == FULL_SIZE else ()
    return Scenario(f"{kind}-{size}", "beside", "normal", parameters, rows)


def _latency(key: str, does: str, title: str, count: int) -> Scenario:
    quantiles = tuple(Row(figure, f"{title}, {figure}", "ms") for figure in ("p50", "p99"))
    least = (Row("least", f"{title}, the earliest", "ms"),) if does == "delayed" else ()
    return Scenario(
        key,
        does,
        "full",
        lambda scale: {
            "samples": scaled(count, scale, 2),
            "workers": WORKERS,
            "limit_s": LIMIT_S if does == "delayed" else max(LIMIT_S * min(scale, 1), 0.5),
        },
        (*quantiles, *least),
    )


SCENARIOS: tuple[Scenario, ...] = (
    _drain("full"),
    _drain("normal"),
    _singles("full", 4_000),
    _singles("normal", 10_000),
    _threads(8),
    _threads(32),
    *(_bulk(batch) for batch in BATCHES),
    _latency("same", "same_process", "enqueue to start, same process, full", 300),
    _latency("other", "other_process", "enqueue to start, from another process, full", 300),
    _latency("delayed", "delayed", "start after run_at", 100),
    _beside("future", FULL_SIZE, "drained beside 1,000,000 future jobs of higher priority"),
    *(_beside("finished", size, "drained beside 1,000,000 finished jobs") for size in SIZES),
    Scenario(
        "idle",
        "idle",
        "full",
        lambda scale: {"seconds": max(20 * scale, 0.2), "workers": WORKERS},
        (
            Row("cpu_s_a_minute", "idle", "CPU s/min"),
            Row("bytes_a_minute", "written while idle", "bytes/min"),
            Row("rss_mb", "memory of the process, idle (RSS)", "MB"),
        ),
    ),
)


def _lifecycle(through: str, batch: int, durability: str) -> Scenario:
    name = {"sqlite3": "sqlite3", "sqlalchemy": "SQLAlchemy Core", "psycopg": "PostgreSQL by psycopg"}[through]
    by = POSTGRESQL if through == "psycopg" else MACHINE
    way = f"{name}, {'one by one' if batch == 1 else f'in batches of {batch}'}"
    jobs = 20_000 if batch > 1 else 2_000
    return Scenario(
        f"{through}-{batch}-{durability}",
        "lifecycle",
        durability,
        lambda scale: {"through": through, "batch": batch, "jobs": scaled(jobs, scale, 10)},
        (
            Row("insert", f"{way}, {durability}: insert", "rows/s"),
            Row("claim_and_finish", f"{way}, {durability}: claim and finish", "rows/s"),
            Row("rate", f"{way}, {durability}: the whole life", "rows/s"),
            *((Row("log_bytes", f"{way}, {durability}: written to its log", "bytes/row"),) if by == POSTGRESQL else ()),
        ),
        by,
    )


LIMITS: tuple[Scenario, ...] = (
    Scenario(
        "syncs",
        "syncs",
        "full",
        lambda scale: {"count": scaled(2_000, scale, 10)},
        (Row("rate", "4 KiB written and synced (fdatasync)", "syncs/s"),),
        MACHINE,
    ),
    *(
        _lifecycle(through, batch, durability)
        for durability in ("full", "normal")
        for through in ("sqlite3", "sqlalchemy")
        for batch in (1, 100)
    ),
    *(_lifecycle("psycopg", batch, "full") for batch in (1, 100)),
)


def figures_of(samples: Sequence[float]) -> dict[str, float]:
    """Return the percentiles of one round's samples."""
    if not samples:
        return {}
    cuts = statistics.quantiles([*samples, *samples], n=100, method="inclusive")  # twice, because it takes two samples
    return {"p50": cuts[49], "p99": cuts[98], "least": min(samples)}
