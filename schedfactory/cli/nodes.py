"""Nodes: `nodes`, and what they are told by `nodes pause`, `resume`, `scale` and `quit`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import click

from schedfactory import Command, NodeInfo
from schedfactory.cli import render
from schedfactory.cli.jobs import ROW, Duration, as_json
from schedfactory.cli.live import show
from schedfactory.cli.source import Source, bad_usage, pass_source, with_source

_HEADS = ("id", "status", "host", "pid", "started_at (UTC)", "workers", "busy", "queues", "tasks")
_THREADS = click.IntRange(1, 2**31 - 1)


@click.group(invoke_without_command=True)
@click.option("--limit", default=100, show_default=True, type=ROW, help="How many at most.")
@click.option("--once", is_flag=True, help="On a terminal, too: print them once, instead of showing what changes.")
@as_json
@with_source
@pass_source
@click.pass_context
def nodes(ctx: click.Context, source: Source, /, limit: int, once: bool, is_json: bool) -> None:
    """List the nodes, those that are there first, or tell them what to do.

    On a terminal the list stays and shows what changes, until Ctrl-C.
    """
    if ctx.invoked_subcommand is not None:
        if is_json:
            raise click.UsageError("--json is for the list: schedfactory nodes --json")
        return
    with source.scheduler() as scheduler:
        if is_json:
            render.print_json([render.json_of_fields(node) for node in scheduler.nodes.list(limit)])
        else:
            nothing = "No node has worked on this database within a week."
            show(_HEADS, lambda: scheduler.nodes.list(limit), _cells, nothing, once)


def _cells(node: NodeInfo) -> list[str]:
    return [
        str(node.id),
        node.status,
        node.host,
        str(node.pid),
        f"{node.started_at:%Y-%m-%d %H:%M:%S}",
        str(node.workers),
        str(node.busy),
        _queues(node),
        ", ".join(node.tasks),
    ]


def _queues(node: NodeInfo) -> str:
    if isinstance(node.queues, dict):
        return ", ".join(f"{name}={slots}" for name, slots in node.queues.items())
    return ", ".join(node.queues) if node.queues else "all"


def _ordering(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what all orders take."""
    for option in (
        click.option(
            "--timeout", type=Duration(), metavar="DURATION", help='As --wait, but no longer than this, such as "30s" or "10m".'
        ),
        click.option("--wait", "waits", is_flag=True, help="Wait until that is done."),
        click.argument("node", metavar="[NODE]", required=False, type=ROW),
    ):
        command = option(command)
    return pass_source(with_source(command))


@nodes.command()
@_ordering
def pause(source: Source, /, **how: Any) -> None:
    """Let NODE, or all nodes, claim no more until they are told to resume.

    What runs goes on. Exits 1 where the order cannot be carried out."""
    _give(source, "pause", **how)


@nodes.command()
@_ordering
def resume(source: Source, /, **how: Any) -> None:
    """Let NODE, or all nodes, claim again."""
    _give(source, "resume", **how)


@nodes.command()
@click.option("--workers", required=True, type=_THREADS, help="How many jobs it is to run at the same time.")
@_ordering
def scale(source: Source, /, workers: int, **how: Any) -> None:
    """Let NODE, or each of all nodes, have so many workers. Who has to go ends after his job."""
    _give(source, "scale", workers=workers, **how)


@nodes.command()
@click.option("--worker", type=_THREADS, metavar="N", help="Only this worker of NODE ends, after the job that it has.")
@click.option("--force", is_flag=True, help="Ask running jobs to stop at once; they run again elsewhere, or later.")
@_ordering
def quit(source: Source, /, worker: int | None, force: bool, **how: Any) -> None:  # noqa: A001 - the command's name
    """Let NODE, or all nodes, stop: running jobs may end, and `run` returns."""
    _give(source, "quit", worker=worker, force=force, **how)


def _give(source: Source, kind: str, /, node: int | None, waits: bool, timeout: timedelta | None, **how: Any) -> None:
    with source.scheduler() as scheduler, bad_usage():
        command: Command = getattr(scheduler.nodes, kind)(node, **how)
        if waits or timeout is not None:
            command = command.wait(timeout)
    click.echo(f"{kind} of {_whom(command)}: {command.result or 'given'}")
    if command.result not in (None, "done"):
        raise click.exceptions.Exit(1)


def _whom(command: Command) -> str:
    node = "all nodes" if command.node is None else f"node {command.node}"
    return node if command.worker is None else f"worker {command.worker} of {node}"
