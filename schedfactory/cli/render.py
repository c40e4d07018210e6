"""Jobs as people and programs read them: tables, and JSON with the columns as keys."""

from __future__ import annotations

import copy
import itertools
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

import click
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from schedfactory import Attempt, Job, LogLine, tables

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

COLUMNS = tuple(column.name for column in tables.jobs.columns if hasattr(Job, column.name))
_STYLES = {
    "succeeded": "green", "failed": "red", "running": "yellow", "cancelled": "dim", "paused": "magenta", "stopping": "magenta",
    "stopped": "dim", "dead": "red",
}  # fmt: skip


def json_of(job: Job[Any]) -> dict[str, Any]:
    """Return a job as JSON values, by column."""
    # A copy belongs to no scheduler, so its result is the stored JSON even where the app knows the task's types.
    plain = copy.copy(job)
    return {name: _json_value(getattr(plain, name)) for name in COLUMNS}


def json_of_fields(value: DataclassInstance) -> dict[str, Any]:
    """Return one of the library's values, such as an `Attempt`, as JSON values by field."""
    return {field.name: _json_value(getattr(value, field.name)) for field in fields(value)}


def print_json(document: Any) -> None:
    """Print one JSON document."""
    click.echo(json.dumps(document, ensure_ascii=not _takes_any_letter(), indent=2))


def print_json_line(document: Any) -> None:
    """Print one JSON document on one line."""
    click.echo(json.dumps(document, ensure_ascii=not _takes_any_letter()))


def remark(text: str) -> None:
    """Print a line on standard error; one that nobody can read is not worth a failure."""
    try:
        click.echo(text, err=True)
    except OSError:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - Python flushes it at its end, and would fail again


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
        click.echo(f"{name:{width}}  {clean(_text(getattr(plain, name)))}".rstrip())
    for attempt in attempts:
        took = seconds(attempt.finished_at - attempt.started_at) if attempt.started_at and attempt.finished_at else ""
        click.echo(
            f"\nattempt {attempt.number}: {_status(attempt)}, started {_text(attempt.started_at) or 'unknown'}"
            f"{f', took {took}' if took else ''}, node {_text(attempt.node)}, worker {_text(attempt.worker)}"
        )
        for line in (attempt.traceback or attempt.error or "").splitlines():
            click.echo(f"    {clean(line)}")


def print_logs(lines: Iterable[LogLine]) -> None:
    """Print what a job has said, attempt by attempt."""
    for attempt, said in itertools.groupby(lines, lambda line: line.attempt):
        click.echo(f"\nlog of attempt {attempt}:")
        for line in said:
            first, *rest = text_of(line).splitlines() or [""]
            click.echo(f"    {moment(line.at)} {clean(first)}")
            for more in rest:
                click.echo(f"        {clean(more)}")


def text_of(line: LogLine) -> str:
    """Return a line of a job's log with its level and logger: "WARNING shop: low on stock"."""
    return f"{line.level}{f' {line.logger}' if line.logger else ''}: {line.message}"


def moment(at: datetime) -> str:
    """Return a moment in UTC, to the millisecond."""
    return f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03}"


def print_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table, its lines cut at the terminal's edge; in full where the output goes elsewhere."""
    console, table = make_console(), CutTable(heads, rows)
    if console.is_terminal:
        console.print(table)
    else:
        click.echo("\n".join(line.plain for line in table.lines()))


class CutTable:
    """A table with a line for each row, in which a status has its colour; a terminal cuts off its right side.

    Laid out by hand: rich's own makes all columns narrower until some are gone, and pads every line to the longest one.

    Args:
        justify: on which side the cells are aligned, but for the first column's.
    """

    def __init__(self, heads: Sequence[str], rows: Iterable[Sequence[str]], justify: Literal["left", "right"] = "left") -> None:
        self._rows = [heads, *rows]
        self._justify: Literal["left", "right"] = justify

    def lines(self, room: int | None = None) -> Iterator[Text]:
        """Yield the lines, with no more than `room` letters of a cell: one may hold a megabyte."""
        cells = [[clean(cell[:room]) for cell in row] for row in self._rows]
        widths = [max(map(cell_len, column)) for column in zip(*cells)]
        if self._justify == "left":
            widths[-1] = 0
        for number, row in enumerate(cells):
            line = Text(style="" if number else "bold")
            for place, (cell, width) in enumerate(zip(row, widths)):
                blanks = " " * (width - cell_len(cell))
                line.append("  " if place else "")
                line.append(blanks if place and self._justify == "right" else "")
                line.append(cell, _STYLES.get(cell.partition("/")[0]))
                line.append("" if place and self._justify == "right" else blanks)
            line.rstrip()
            yield line

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in self.lines(options.max_width):
            line.truncate(options.max_width)
            yield line


def make_console(*, stderr: bool = False) -> Console:
    """Return a console that takes nothing in a job's text for an order to itself."""
    return Console(stderr=stderr, markup=False, highlight=False, emoji=False)


def seconds(length: timedelta | None) -> str:
    """Return a length of time: "0.31 s", "2 min 5 s", "3 h 0 min"."""
    if length is None:
        return ""
    found = length.total_seconds()
    if found < 60:
        return f"{found:.2f} s"
    minutes, rest = divmod(round(found), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _status(one: Job[Any] | Attempt) -> str:
    return f"{one.status}/{one.reason}" if one.reason else one.status


def _detail(job: Job[Any]) -> str:
    if job.error and job.status in ("failed", "cancelled", "queued", "scheduled"):
        return job.error
    if job.status == "running" and job.progress is not None:
        return f"{job.progress:.0%} {job.progress_message or ''}".rstrip()
    plain = copy.copy(job)
    return _text(plain.result if job.status == "succeeded" else plain.args)


def _json_value(value: Any) -> Any:
    """Return a value of a column as JSON has it."""
    return value.isoformat() if isinstance(value, datetime) else value


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat()
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def clean(text: str) -> str:
    """Return text on one line, without what a terminal would take for an order."""
    if text.isprintable():
        return text
    return text.translate({ord(sign): " " for sign in set(text) if not sign.isprintable()})


def _takes_any_letter() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "").startswith("utf")
