"""The factory of the first visit: 20 jobs on 10 workers, with priorities and delays, on a real file."""

from __future__ import annotations

import hashlib
import os
import shlex
import threading
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import click

from schedfactory import Call, Job, Scheduler, StatusReport, TaskRegistry, current_job
from schedfactory.cli import render
from schedfactory.cli.jobs import STATUSES, outcome
from schedfactory.cli.live import Say, watching
from schedfactory.cli.source import Source, bad_usage, pass_source

WORKERS = 10
_FILE = "schedfactory-demo.db"
_STEPS = 8
# Priority and delay of each job, in the order in which they are enqueued: the urgent ones come last.
_ORDERS: tuple[tuple[int, str | None], ...] = (
    *((-10, None),) * 3,
    *((0, None),) * 5,
    (90, "1s"),
    (0, "1500ms"),
    (0, "2s"),
    (90, "2s"),
    *((10, None),) * 4,
    *((50, None),) * 4,
)
_HISTORY = """\
SELECT id, task, priority AS prio, status, attempt AS try,
       substr(started_at, 15, 9) AS started,
       round(wait_ms) AS wait_ms, round(run_ms) AS run_ms, result
FROM schedfactory_history WHERE id >= {first} ORDER BY started_at, priority DESC, id"""
_FURTHER = "SELECT task, count(*), round(avg(run_ms)) FROM schedfactory_history GROUP BY task"

tasks = TaskRegistry()


# Stable names: rows of an earlier run, or of an earlier version, find their code by them.
@tasks.task(name="demo.weld")
def weld(part: int) -> str:
    """Hash a part over and over; both tasks compute for real, and let other threads compute meanwhile."""
    seam = b"part %d" % part
    for step in _steps("seam"):
        seam = hashlib.pbkdf2_hmac("sha256", seam, b"%d" % step, 100_000)
    return seam.hex()[:12]


@tasks.task(name="demo.paint")
def paint(part: int) -> str:
    """Compress a part's surface, coat by coat."""
    coat = b"part %d " % part * 80_000
    for _ in _steps("coat"):
        coat = zlib.compress(coat * 7, 9)[:1_000] * 600
    return f"{zlib.crc32(coat):08x}"


def _steps(name: str) -> Iterator[int]:
    for step in range(_STEPS):
        current_job().set_progress(step / _STEPS, f"{name} {step + 1} of {_STEPS}")
        yield step


@click.command()
@click.option("--database", metavar="PATH", help=f"The file to work on.  [default: {_FILE}]")
@pass_source
@click.pass_context
def demo(ctx: click.Context, source: Source, database: str | None) -> None:
    """Watch 20 jobs on 10 workers.

    They have priorities, a few have delays, and SQL tells in the end what happened. Every run adds to the file; jobs
    of a demo that was killed run to their end in the next one.
    """
    if "app" in source.given:
        raise click.UsageError("the demo brings its own tasks. Leave out --app.")
    path = (database or source.given.get("database") or _FILE).removeprefix("sqlite:///")
    if path == ":memory:":
        raise click.UsageError("the demo shows that jobs survive, which :memory: does not. Pass a path.")
    with bad_usage():
        scheduler = Scheduler(path)
    scheduler.include(tasks)
    with closing(scheduler):
        jobs = _enqueue(scheduler, path)
        _work(scheduler, jobs)
        done = [job.refresh() for job in jobs]
        _read(scheduler, path, done)
    ctx.exit(0 if all(job.status in ("succeeded", "queued", "scheduled") for job in done) else 1)


def _enqueue(scheduler: Scheduler, path: str) -> list[Job[Any]]:
    earlier = [job for job in scheduler.jobs(status=STATUSES[:4], limit=10_000) if job.task in (weld.name, paint.name)]
    jobs = scheduler.enqueue_many(_calls())
    click.echo(f"{len(jobs)} jobs for {WORKERS} workers, the most urgent ones last, are in\n{os.path.abspath(path)}")
    if earlier:
        click.echo(f"{len(earlier)} jobs of an earlier run had not ended; they run to their end too.")
    click.echo("Kill this (even by kill -9) and start it again: no job is lost. Ctrl-C stops it.\n")
    return [*reversed(earlier), *jobs]


def _calls() -> Iterator[Call[str]]:
    for part, (priority, delay) in enumerate(_ORDERS, 1):
        yield (weld if part % 2 else paint).options(priority=priority, delay=delay).call(part)


def _work(scheduler: Scheduler, jobs: Sequence[Job[Any]]) -> None:
    reports = scheduler.reports("job")
    with watching(jobs) as say:
        teller = threading.Thread(target=_tell, args=(scheduler, reports, say), daemon=True)
        teller.start()
        try:
            with scheduler.running(workers=WORKERS):
                for job in jobs:
                    job.wait()
        except KeyboardInterrupt:
            say("Stopping: what runs may end, the rest stays in the file. Start the demo again to go on.")
        finally:
            scheduler.close()  # which ends the reports; the next use opens the file again
            teller.join()


def _tell(scheduler: Scheduler, reports: Iterator[StatusReport], say: Say) -> None:
    for report in reports:
        job = scheduler.get(report.id)
        if job is None:
            continue
        if report.status == "start":
            delay = job.run_at - job.created_at
            later = f", delayed by {render.seconds(delay)}" if delay else ""
            say(f"job {job.id} started ({job.task}, priority {job.priority}{later})")
        elif report.status == "end":
            say(f"job {job.id} {outcome(job)}")


def _read(scheduler: Scheduler, path: str, jobs: Sequence[Job[Any]]) -> None:
    started = [(job.started_at, -job.priority, job.id, job) for job in jobs if job.started_at is not None]
    click.echo("\nTheir priorities, in the order of their start:\n" + " ".join(f"{-entry[1]}" for entry in sorted(started)))
    passed = sum(
        any(late.run_at <= at < late_at and late.priority > early.priority for at, _, _, early in started)
        for late_at, _, _, late in started
    )
    click.echo(f"Due jobs that were passed over for one of lower priority: {passed}.")
    sql = _HISTORY.format(first=min(job.id for job in jobs))
    click.echo(f"\nThe history is a view in the file. By SQL:\n\n{sql};\n")
    with scheduler.reading() as connection:
        found = connection.exec_driver_sql(sql)
        render.print_table(list(found.keys()), [[_cell(value) for value in row] for row in found])
    click.echo(f'\nLook further:\n\nsqlite3 {shlex.quote(path)} "{_FURTHER}"')


def _cell(value: object) -> str:
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
