"""Counting: `stats`, a table that moves while someone looks at it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from datetime import datetime, timezone

import click
from rich.console import Group
from rich.text import Text

from schedfactory import QueueStats, Scheduler
from schedfactory.cli import render
from schedfactory.cli.jobs import STATUSES, as_json
from schedfactory.cli.live import keep_showing
from schedfactory.cli.source import Source, pass_source, with_source

_PACE_S = 10.0
HEADS = ("queue", *STATUSES, "oldest due")


@click.command()
@as_json
@with_source
@pass_source
def stats(source: Source, /, is_json: bool) -> None:
    """Count the jobs of each queue.

    On a terminal the table goes on, and tells how many jobs end, until Ctrl-C."""
    with source.scheduler() as scheduler:
        pace = Pace()
        if is_json:
            render.print_json([render.json_of_fields(one) for one in scheduler.stats()])
        elif keep_showing(lambda: _view(scheduler, pace)):
            pass
        elif found := scheduler.stats():
            render.print_table(HEADS, rows(found))
        else:
            render.remark("There are no jobs.")


def rows(found: Sequence[QueueStats]) -> list[list[str]]:
    """Return the cells under `HEADS`."""
    now = datetime.now(timezone.utc)
    return [
        [
            one.queue,
            *(str(getattr(one, status)) for status in STATUSES),
            "" if one.oldest_due_at is None else render.seconds(max(now, one.oldest_due_at) - one.oldest_due_at),
        ]
        for one in found
    ]


class Pace:
    """How many jobs end a second, over the last ten."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def add(self, now: float, ended: int) -> float | None:
        """Take in how many have ended by now; return the pace, None until there are two samples."""
        if self._samples and ended < self._samples[-1][1]:
            self._samples.clear()  # pruned, or requeued
        self._samples.append((now, ended))
        while self._samples[0][0] < now - _PACE_S:
            self._samples.popleft()
        (first_at, first), (last_at, last) = self._samples[0], self._samples[-1]
        return None if last_at <= first_at else (last - first) / (last_at - first_at)


def _view(scheduler: Scheduler, pace: Pace) -> Group:
    found = scheduler.stats()
    lately = pace.add(time.monotonic(), sum(one.succeeded + one.failed + one.cancelled for one in found))
    table = render.CutTable(HEADS, rows(found), justify="right")
    said = "" if lately is None else f"{lately:.1f} jobs a second have ended lately. "
    return Group(table, Text(f"{said}Ctrl-C stops to look.", style="dim"))
