"""Following: `tail` prints what happens to jobs, in whichever process, as it happens."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta

import click

from schedfactory.cli import render
from schedfactory.cli.follow import Event, Follower
from schedfactory.cli.jobs import STATUSES, Duration
from schedfactory.cli.source import Source, pass_source, with_source

_LOOK_S = 0.1  # at least; a look that takes long is followed by a longer pause
_SHARE = 10


@click.command()
@click.option("--task", metavar="NAME", help="Jobs of this task.")
@click.option("--queue", metavar="NAME", help="Jobs in this queue.")
@click.option("--status", "statuses", multiple=True, type=click.Choice(STATUSES), help="What leads to this; may be repeated.")
@click.option("--logs/--no-logs", "has_logs", default=True, help="Print what jobs say while they run, too.  [default: logs]")
@click.option(
    "--for", "length", type=Duration(), metavar="DURATION", help='End after this long, such as "90s"; else Ctrl-C ends it.'
)
@click.option("--lines", metavar="N", type=click.IntRange(min=1), help="End after so many lines.")
@click.option("--json", "is_json", is_flag=True, help="Print one JSON object a line.")
@with_source
@pass_source
def tail(
    source: Source,
    /,
    task: str | None,
    queue: str | None,
    statuses: tuple[str, ...],
    has_logs: bool,
    length: timedelta | None,
    lines: int | None,
    is_json: bool,
) -> None:
    """Print what happens to jobs from now on: new ones, starts, ends, and what they say.

    It sees all processes that work on the file."""
    seconds = None if length is None else length.total_seconds()
    wanted = set(statuses or STATUSES)
    with source.scheduler() as scheduler:
        try:
            follower = Follower(scheduler, task, queue)
            render.remark("Following. Ctrl-C stops it.")
            for event in _events(follower, seconds):
                if event.status in wanted and (has_logs or event.kind != "log"):
                    render.print_json_line(_json(event)) if is_json else click.echo(_text(event))
                    lines = None if lines is None else lines - 1
                    if lines == 0:
                        break
        except KeyboardInterrupt:
            pass  # that is how one stops to look


def _events(follower: Follower, seconds: float | None) -> Iterator[Event]:
    end = None if seconds is None else time.monotonic() + seconds
    while True:
        began = time.monotonic()
        yield from follower.look()
        now = time.monotonic()
        if end is not None and now >= end:
            return
        pause = max(_LOOK_S, _SHARE * (now - began))
        time.sleep(pause if end is None else max(min(pause, end - now), 0))


def _json(event: Event) -> dict[str, object]:
    job, line = event.job, event.line
    found: dict[str, object] = {
        "at": event.at.isoformat(), "event": event.kind, "id": job.id, "task": job.task, "queue": job.queue,
        "status": event.status, "attempt": event.attempt,
    }  # fmt: skip
    if line is not None:
        return found | {"level": line.level, "logger": line.logger, "message": line.message}
    if event.kind == "end":
        return found | {"reason": event.reason, "run_s": event.took_s, "error": event.error}
    return found


def _text(event: Event) -> str:
    job = event.job
    said = f"{render.moment(event.at)} job {job.id} {job.task} "
    if event.line is not None:
        said += render.text_of(event.line)
    elif event.kind == "start":
        said += f"started{f', attempt {event.attempt}' if event.attempt > 1 else ''}"
    elif event.kind == "new":
        said += event.status + (f" until {render.moment(job.run_at)}" if event.status == "scheduled" else "")
    else:
        took = "" if event.took_s is None else f" in {render.seconds(timedelta(seconds=event.took_s))}"
        said += f"{event.status}{f'/{event.reason}' if event.reason else ''}{took}{f': {event.error}' if event.error else ''}"
    return render.clean(said)
