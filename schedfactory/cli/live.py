"""What moves while jobs run, on a terminal only: a bar for each running job, tables that follow what they show."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import click
from rich.console import RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from schedfactory import Job, NotFound
from schedfactory.cli.render import CutTable, make_console, print_table, remark

T = TypeVar("T")
Say = Callable[[str], None]
_BAR = 24
_PAUSE_S = 0.5


@contextmanager
def watching(jobs: Sequence[Job[Any]], *, stderr: bool = False) -> Iterator[Say]:
    """Show bars for those jobs inside the block, and give a function that prints a line above them.

    Where the output is no terminal there are only the lines.
    """
    console = make_console(stderr=stderr)
    if not console.is_terminal:
        yield lambda line: click.echo(line, err=stderr)
        return
    with Live(get_renderable=lambda: _bars(jobs), console=console, refresh_per_second=8, transient=True):
        yield lambda line: console.print(line, soft_wrap=True)


def show(
    heads: Sequence[str], load: Callable[[], Sequence[T]], cells: Callable[[T], Sequence[str]], nothing: str, once: bool = False
) -> None:
    """Print a table of what `load` gives, or `nothing`; on a terminal show what becomes of it, unless only `once`."""
    if not once and keep_showing(lambda: CutTable(heads, map(cells, load()))):
        return
    found = load()
    print_table(heads, map(cells, found)) if found else remark(nothing)


def keep_showing(view: Callable[[], RenderableType]) -> bool:
    """Show a view, and again what has become of it, until Ctrl-C; return False where the output is no terminal."""
    console = make_console()
    if not console.is_terminal:
        return False
    with suppress(KeyboardInterrupt), Live(console=console, auto_refresh=False) as live:
        while True:
            live.update(view(), refresh=True)
            time.sleep(_PAUSE_S)
    return True


def _bars(jobs: Sequence[Job[Any]]) -> Table:
    grid = Table.grid(padding=(0, 2))
    try:
        now = [job.refresh() for job in jobs]
    except NotFound:  # pruned meanwhile
        return grid
    for job in now:
        if job.status == "running" or len(now) == 1:
            bar = ProgressBar(total=1, completed=job.progress or 0, width=_BAR, pulse=job.progress is None)
            grid.add_row(f"job {job.id}", bar, f"{job.task} {job.status}", job.progress_message or "")
    if len(now) > 1:
        ended = sum(job.is_finished for job in now)
        grid.add_row(
            "all", ProgressBar(total=len(now), completed=ended, width=_BAR), f"{ended} of {len(now)} jobs have ended", ""
        )
    return grid
