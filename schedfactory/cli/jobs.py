"""Reading: `jobs`, `show`, `explain`, `wait`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import click

from schedfactory import Job, NotFound, Scheduler, Snooze
from schedfactory.cli import render
from schedfactory.cli.live import watching
from schedfactory.cli.source import Source, bad_usage, pass_source, with_source

STATUSES = ("waiting", "scheduled", "queued", "running", "succeeded", "failed", "cancelled")
ROW = click.IntRange(1, 2**63 - 1)  # what a row's id can be
as_json = click.option("--json", "is_json", is_flag=True, help="Print one JSON document.")


class Duration(click.ParamType):  # type: ignore[type-arg]  # it takes none before click 8.4
    """A length of time as text, such as "90s": a command line has no numbers of seconds, as Python has."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Return the timedelta."""
        try:
            found: timedelta = Snooze(value).delay  # which reads all that the library takes for a duration
        except ValueError as error:
            # The library's words, without its advice, which is for Python.
            what = str(error).removeprefix("delay=").partition(" Pass ")[0]
            self.fail(f'{what} Pass a number with its unit, such as "90s" or "10m".', param, ctx)
        return found


@click.command()
@click.option("--status", "statuses", multiple=True, type=click.Choice(STATUSES), help="May be repeated: any of them.")
@click.option("--task", metavar="NAME", help="Jobs of this task.")
@click.option("--queue", metavar="NAME", help="Jobs in this queue.")
@click.option("--tag", metavar="TEXT", help="Jobs with this label.")
@click.option("--limit", default=100, show_default=True, type=ROW, help="How many at most.")
@click.option("--before-id", type=ROW, metavar="ID", help="Only lower ids: the next page, after the last id of this one.")
@as_json
@with_source
@pass_source
def jobs(source: Source, /, statuses: tuple[str, ...], is_json: bool, **filters: Any) -> None:
    """List jobs, the newest first."""
    with source.scheduler() as scheduler, bad_usage():
        found = scheduler.jobs(status=statuses or None, **filters)
    if is_json:
        render.print_json([render.json_of(job) for job in found])
    elif found:
        render.print_table(render.JOB_HEADS, render.job_rows(found))
    else:
        render.remark("No job matches.")


@click.command()
@click.argument("job_id", metavar="ID", type=ROW)
@as_json
@with_source
@pass_source
def show(source: Source, /, job_id: int, is_json: bool) -> None:
    """Show one job, its attempts with their tracebacks, and what it has said."""
    with source.scheduler() as scheduler:
        job = existing(scheduler, job_id)
        attempts, logs = job.attempts(), job.logs()
    if is_json:
        parts = {
            "attempts": [render.json_of_fields(one) for one in attempts],
            "logs": [render.json_of_fields(one) for one in logs],
        }
        render.print_json(render.json_of(job) | parts)
    else:
        render.print_job(job, attempts)
        render.print_logs(logs)


@click.command()
@click.argument("job_id", metavar="ID", type=ROW)
@as_json
@with_source
@pass_source
def explain(source: Source, /, job_id: int, is_json: bool) -> None:
    """Say why a job is not running yet."""
    with source.scheduler() as scheduler:
        found = existing(scheduler, job_id).explain()
    if is_json:
        render.print_json([render.json_of_fields(found)])
    else:
        click.echo(f"job {job_id} [{found.code}] {found.text}")


@click.command()
@click.argument("job_id", metavar="ID", type=ROW)
@click.option(
    "--timeout", type=Duration(), metavar="DURATION", help='Give up after this long, such as "90s" or "10m"; the job goes on.'
)
@with_source
@pass_source
@click.pass_context
def wait(ctx: click.Context, source: Source, /, job_id: int, timeout: timedelta | None) -> None:
    """Wait for a job's end.

    Exits 1 when it did not succeed, or not in time."""
    with source.scheduler() as scheduler:
        job = existing(scheduler, job_id)
        with watching([job], stderr=True), bad_usage():
            try:
                job = job.wait(timeout)
            except NotFound as error:
                raise click.ClickException(str(error)) from error
    click.echo(f"job {job.id} {outcome(job)}")
    ctx.exit(0 if job.status == "succeeded" else 1)


def existing(scheduler: Scheduler, job_id: int) -> Job[Any]:
    """Return the job of that id.

    Raises:
        ClickException: there is none.
    """
    job = scheduler.get(job_id)
    if job is None:
        raise click.ClickException(f"there is no job {job_id}. It was pruned, or is in another database.")
    return job


def outcome(job: Job[Any]) -> str:
    """Return how a job ended, in a few words: "succeeded in 0.31 s"."""
    took = f" in {render.seconds(job.run_time)}" if job.run_time is not None else ""
    if job.status == "succeeded":
        return f"succeeded{took}"
    return f"{job.status}/{job.reason}{took}{f': {job.error}' if job.error else ''}"
