"""A node as people see it: a frozen snapshot of its row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pendulum

NodeStatus = Literal["running", "paused", "stopping", "stopped", "dead"]


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """A node of the file, in this process or another.

    Attributes:
        id: what `job.node` says, never used again.
        host, pid: where it runs, or ran.
        started_at: when it started, in UTC.
        status: "running", "paused" (claims nothing, on someone's order), "stopping" (claims nothing any more, code still
            runs), "stopped", or "dead": its process ended without a word. Of a node on this host the operating system tells
            that at once, before anyone has taken its jobs.
        workers: how many jobs it runs at the same time.
        busy: how many it has in hand now.
        queues: what `start(queues=…)` said: None for all, a list of names, or slots by name.
        tasks: the names of the tasks that it knows.
    """

    id: int
    host: str
    pid: int
    started_at: pendulum.DateTime
    status: NodeStatus
    workers: int
    busy: int
    queues: list[str] | dict[str, int] | None
    tasks: tuple[str, ...]
