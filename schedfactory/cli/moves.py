"""Changing: `enqueue`, `cancel`, `requeue`, `prune`, `migrate`."""

from __future__ import annotations

import json
import math
import shlex
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NoReturn, TypeVar

import click

from schedfactory import Call, DuplicateJob, Scheduler
from schedfactory.cli import render
from schedfactory.cli.jobs import ROW, STATUSES, Duration, existing
from schedfactory.cli.source import Source, bad_usage, pass_source, task_named, with_source

F = TypeVar("F", bound=Callable[..., Any])


@click.command()
@click.argument("task", metavar="TASK")
@click.argument("pairs", metavar="[NAME=JSON]...", nargs=-1)
@click.option("--priority", type=int, help="-100 to 100; higher runs first.")
@click.option("--delay", type=Duration(), metavar="DURATION", help='Start this much later, such as "90s", "10m" or "1h30m".')
@click.option(
    "--run-at", metavar="MOMENT", help='Start then at the earliest: ISO text with an offset, "2026-12-24T18:00+01:00".'
)
@click.option("--queue", metavar="NAME", help="The queue it waits in.")
@click.option("--tag", "tags", metavar="TEXT", multiple=True, help="A label; may be repeated.")
@with_source
@pass_source
def enqueue(source: Source, /, task: str, pairs: tuple[str, ...], tags: tuple[str, ...], **options: Any) -> None:
    """Store a job of the task named TASK and print its id.

    Each argument is NAME=JSON: user_id=42 'name="Ada"' 'to=["a", "b"]'. With --app the task's own options and types
    apply; without it the worker that runs the job supplies them.
    """
    args = _arguments(pairs)
    with source.scheduler(makes_tables=True) as scheduler:
        with bad_usage():
            call = _call(source, scheduler, task, args, options | {"tags": tags or None})
            job = scheduler.enqueue_many([call])[0]
        click.echo(job.id)
    if sys.stdout.isatty():
        render.remark(f"{job!r} is due at {job.run_at:%Y-%m-%d %H:%M:%S} UTC")


def _call(source: Source, /, scheduler: Scheduler, name: str, args: dict[str, Any], options: dict[str, Any]) -> Call[Any]:
    known = task_named(name) if source.app else None
    if known is None:
        if source.app:
            render.remark(f"Note: no module of {source.app} holds a task {name!r}; a worker that knows it will run it.")
        return scheduler.remote(name).options(**options).call(**args)
    positional, keywords = known.arguments.loads(json.dumps(args))
    return known.options(**options).call(*positional, **keywords)


def _arguments(pairs: tuple[str, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise click.UsageError(f"{pair!r} is not NAME=JSON. Pass an argument such as user_id=42 or 'name=\"Ada\"'.")
        if name in found:
            raise click.UsageError(f"the argument {name!r} was given twice. Pass it once.")
        try:
            found[name] = json.loads(text, parse_constant=_refuse, parse_float=_finite)
        except (ValueError, RecursionError):
            text = text if len(text) <= 60 else f"{text[:57]}..."
            quoted = shlex.quote(f"{name}={json.dumps(text, ensure_ascii=False)}")
            raise click.UsageError(f"the value of {name!r}, {text!r}, is not JSON. Text needs quotes: {quoted}.") from None
    return found


def _finite(text: str) -> float:
    found = float(text)
    return found if math.isfinite(found) else _refuse(text)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _choosing(command: F) -> F:
    """Add what chooses jobs: ids, or filters."""
    for option in (
        click.option("--queue", metavar="NAME", help="All in this queue."),
        click.option("--task", metavar="NAME", help="All of this task."),
        click.option("--status", multiple=True, type=click.Choice(STATUSES), help="All of this status; may be repeated."),
        click.argument("ids", metavar="[ID]...", nargs=-1, type=ROW),
    ):
        command = option(command)
    return command


@click.command()
@_choosing
@with_source
@pass_source
def cancel(source: Source, /, ids: tuple[int, ...], **filters: Any) -> None:
    """Cancel jobs, by ID or by filters.

    What has not started never will. What runs is asked to stop. Finished jobs do not change.
    """
    with source.scheduler() as scheduler:
        _report(_each(scheduler, scheduler.cancel, ids, filters), "cancelled")


@click.command()
@_choosing
@with_source
@pass_source
def requeue(source: Source, /, ids: tuple[int, ...], **filters: Any) -> None:
    """Run finished jobs again, by ID or by filters."""
    with source.scheduler() as scheduler:
        _report(_each(scheduler, scheduler.requeue, ids, filters), "requeued")


def _each(scheduler: Scheduler, move: Any, ids: tuple[int, ...], filters: dict[str, Any]) -> int:
    wanted = {name: value for name, value in filters.items() if value}
    if bool(ids) == bool(wanted):
        raise click.UsageError("pass either job IDs, or filters: --status, --task, --queue.")
    if wanted:
        with bad_usage():
            return int(move(**wanted))
    for job_id in ids:  # before any is changed
        existing(scheduler, job_id)
    done = 0
    for job_id in dict.fromkeys(ids):
        try:
            done += move(job_id)
        except DuplicateJob as error:
            before = f" The {done} before it had been changed already." if done else ""
            raise click.ClickException(f"{error}{before}") from error
    return done


def _report(count: int, what: str) -> None:
    click.echo(f"{count} job{'' if count == 1 else 's'} {what}")


@click.command()
@click.option("--older-than", default="30d", show_default=True, type=Duration(), metavar="DURATION", help="Since their end.")
@click.option(
    "--status", multiple=True, type=click.Choice(STATUSES[-3:]), help="Only these; may be repeated.  [default: all three]"
)
@with_source
@pass_source
def prune(source: Source, /, older_than: timedelta, status: tuple[str, ...]) -> None:
    """Delete finished jobs that ended long ago."""
    with source.scheduler() as scheduler, bad_usage():
        _report(scheduler.prune(older_than=older_than, status=status or None), "pruned")


@click.command()
@click.option("--sql", is_flag=True, help="Print the SQL that makes the tables in an empty file, and touch nothing.")
@with_source
@pass_source
def migrate(source: Source, /, sql: bool) -> None:
    """Bring the tables up to date; make the file where there is none."""
    if sql:
        click.echo(Scheduler.migration_sql(), nl=False)
        return
    with source.scheduler() as scheduler:
        scheduler.migrate()
    click.echo("The tables are up to date.")
