"""Jobs as people and programs read them: tables, and JSON with the columns as keys."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import click
from rich.console import Console
from rich.segment import Segment, Segments
from rich.table import Table
from rich.text import Text

from schedfactory import Attempt, Job, tables

COLUMNS = tuple(column.name for column in tables.jobs.columns if hasattr(Job, column.name))
_ATTEMPT = ("number", "status", "reason", "started_at", "finished_at", "node", "worker", "error", "traceback")
_STYLES = {"succeeded": "green", "failed": "red", "running": "yellow", "cancelled": "dim"}
_WIDEST = 10_000  # a pipe has no width: nothing is cut


def json_of(job: Job[Any]) -> dict[str, Any]:
    """Return a job as JSON values, by column."""
    # A copy belongs to no scheduler, so its result is the stored JSON even where the app knows the task's types.
    plain = copy.copy(job)
    return {name: _json_value(_column(plain, name)) for name in COLUMNS}


def json_of_attempt(attempt: Attempt) -> dict[str, Any]:
    """Return an attempt as JSON values."""
    return {name: _json_value(getattr(attempt, name)) for name in _ATTEMPT}


def print_json(document: Any) -> None:
    """Print one JSON document."""
    click.echo(json.dumps(document, ensure_ascii=not _takes_any_letter(), indent=2))


def job_rows(jobs: Iterable[Job[Any]]) -> list[list[str]]:
    """Return the cells of a list of jobs, under `JOB_HEADS`."""
    return [
        [
            str(job.id),
            _status(job),
            job.task,
            job.queue,
            str(job.priority),
            f"{job.run_at:%Y-%m-%d %H:%M:%S}",
            seconds(job.run_time),
            str(job.attempt),
            _detail(job),
        ]
        for job in jobs
    ]


JOB_HEADS = ("id", "status", "task", "queue", "prio", "run_at (UTC)", "took", "try", "error, progress, result or args")


def print_job(job: Job[Any], attempts: Iterable[Attempt]) -> None:
    """Print all columns of a job, and its attempts with their tracebacks."""
    plain = copy.copy(job)
    width = max(map(len, COLUMNS))
    for name in COLUMNS:
        click.echo(f"{name:{width}}  {_clean(_text(_column(plain, name)))}".rstrip())
    for attempt in attempts:
        took = seconds(attempt.finished_at - attempt.started_at) if attempt.started_at and attempt.finished_at else ""
        click.echo(
            f"\nattempt {attempt.number}: {_status(attempt)}, started {_text(attempt.started_at) or 'unknown'}"
            f"{f', took {took}' if took else ''}, node {_text(attempt.node)}, worker {_text(attempt.worker)}"
        )
        for line in (attempt.traceback or attempt.error or "").splitlines():
            click.echo(f"    {_clean(line)}")


def print_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table, its lines cut at the terminal's edge; in full where the output goes elsewhere."""
    console = make_console()
    table = table_of(heads, rows)
    with console.capture() as captured:
        for line in console.render_lines(table, console.options.update(width=_WIDEST), pad=False):
            console.print(Segments([*Segment.adjust_line_length(line, console.width, pad=False), Segment.line()]), end="")
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


def table_of(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Return a table whose cells give no orders to the terminal."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in heads:
        table.add_column(head, no_wrap=True)
    for row in rows:
        table.add_row(*(Text(_clean(cell), style=_STYLES.get(cell.partition("/")[0], "")) for cell in row))
    return table


def make_console(*, stderr: bool = False) -> Console:
    """Return a console that takes nothing in a job's text for an order to itself."""
    console = Console(stderr=stderr, markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = _WIDEST
    return console


def seconds(length: timedelta | None) -> str:
    """Return a length of time: "0.31 s", "2 min 5 s", "3 h 0 min"."""
    if length is None:
        return ""
    found = length.total_seconds()
    if found < 60:
        return f"{found:.2f} s"
    minutes, rest = divmod(round(found), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _column(job: Job[Any], name: str) -> Any:
    try:
        return getattr(job, name)
    except ValueError:  # written by SQL, and no JSON; the job itself will say so when it runs
        return None


def _status(one: Job[Any] | Attempt) -> str:
    return f"{one.status}/{one.reason}" if one.reason else one.status


def _detail(job: Job[Any]) -> str:
    if job.error and job.status in ("failed", "cancelled", "queued", "scheduled"):
        return job.error
    if job.status == "running" and job.progress is not None:
        return f"{job.progress:.0%} {job.progress_message or ''}".rstrip()
    plain = copy.copy(job)
    found = _column(plain, "result" if job.status == "succeeded" else "args")
    return _text(found)


def _json_value(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat()
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _clean(text: str) -> str:
    """Return text on one line, without what a terminal would take for an order."""
    return "".join(sign if sign.isprintable() else " " for sign in text)


def _takes_any_letter() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "").startswith("utf")
