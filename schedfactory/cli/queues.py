"""Queues: `queues`, `queues set`, `queues pause`, `queues resume`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from schedfactory import Queue
from schedfactory.cli import render
from schedfactory.cli.jobs import as_json
from schedfactory.cli.live import show
from schedfactory.cli.source import Source, bad_usage, pass_source, with_source

COLUMNS = ("name", "paused", "max_size", "when_full", "concurrency", "rate", "queued", "scheduled", "running")
_NONE = "none"


class _Number(click.ParamType):  # type: ignore[type-arg]  # it takes none before click 8.4
    """An integer, or the word that takes a bound away."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the integer, or the word as it is."""
        return value if value == _NONE else click.INT.convert(value, param, ctx)


@click.group(invoke_without_command=True)
@as_json
@with_source
@pass_source
@click.pass_context
def queues(ctx: click.Context, source: Source, /, is_json: bool) -> None:
    """List the queues that have settings or jobs.

    On a terminal the list goes on showing what changes, until Ctrl-C."""
    if ctx.invoked_subcommand is not None:
        if is_json:
            raise click.UsageError("--json is for the list: schedfactory queues --json")
        return
    with source.scheduler() as scheduler:
        if is_json:
            found = [asdict(queue) for queue in scheduler.queues.list()]
            render.print_json([{name: queue[name] for name in COLUMNS} for queue in found])
        else:
            show(COLUMNS, scheduler.queues.list, _cells, "There is no queue with settings or jobs.")


@queues.command("set")
@click.argument("name", metavar="NAME")
@click.option("--max-size", type=_Number(), metavar="N", help="So many jobs that have not started it may hold.")
@click.option("--when-full", type=click.Choice(["raise", "wait"]), help="What an enqueue beyond that does.")
@click.option("--concurrency", type=_Number(), metavar="N", help="So many of its jobs run at the same time, over all nodes.")
@click.option("--rate", metavar="N/s|m|h|d", help='So many start in a stretch of time, over all nodes, such as "100/m".')
@with_source
@pass_source
def set_queue(source: Source, /, name: str, **given: Any) -> None:
    """Set what the queue NAME may hold and run; the nodes heed it at once. "none" takes a bound away.

    What is not given stays as it is.
    """
    settings: dict[str, Any] = {key: None if value == _NONE else value for key, value in given.items() if value is not None}
    if not settings:
        raise click.UsageError("nothing to set. Pass --max-size, --when-full, --concurrency or --rate.")
    with source.scheduler() as scheduler, bad_usage():
        _print(scheduler.queues.set(name, **settings))


@queues.command()
@click.argument("name", metavar="NAME")
@with_source
@pass_source
def pause(source: Source, /, name: str) -> None:
    """Let no job of the queue NAME start, on any node; those that run go on."""
    with source.scheduler() as scheduler, bad_usage():
        _print(scheduler.queues.pause(name))


@queues.command()
@click.argument("name", metavar="NAME")
@with_source
@pass_source
def resume(source: Source, /, name: str) -> None:
    """Let the jobs of the queue NAME start again."""
    with source.scheduler() as scheduler, bad_usage():
        _print(scheduler.queues.resume(name))


def _print(queue: Queue) -> None:
    render.print_table(COLUMNS, [_cells(queue)])


def _cells(queue: Queue) -> list[str]:
    shown = {True: "yes", False: "no", None: ""}
    values = asdict(queue)
    return [shown[value] if value is None or isinstance(value, bool) else str(value) for value in map(values.get, COLUMNS)]
