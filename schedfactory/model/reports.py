"""What happened to a job, a worker, a node or a command, for who listens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pendulum

Subject = Literal["job", "worker", "node", "command"]
SUBJECTS: tuple[Subject, ...] = ("job", "worker", "node", "command")


@dataclass(frozen=True, slots=True)
class StatusReport:
    """One thing that happened in this process.

    | subject | id | status | detail |
    |---|---|---|---|
    | `job` | the job's id | `queued`, `start`, `end` | at `end`: the final or the next status |
    | `worker` | its number in the node | `start`, `quit` | empty |
    | `node` | the node's id | `start`, `pause`, `resume`, `scale`, `stop` | at `scale`: how many workers |
    | `command` | the command's id | `given`, `acknowledged`, `done` | at `given`: its kind; at `done`: its result |

    `at` is the moment by the scheduler's clock, in UTC. Reports are made after the commit of what they tell, are kept
    nowhere, and end with the process; what must survive is in the database.
    """

    subject: Subject
    id: int
    status: str
    at: pendulum.DateTime
    detail: str = ""


def subjects_of(given: tuple[str, ...]) -> tuple[Subject, ...]:
    """Return the subjects that were named, all of them where none was.

    Raises:
        ValueError: an unknown subject.
    """
    for one in given:
        if one not in SUBJECTS:
            raise ValueError(f'subject {one!r} is unknown. Pass "job", "worker", "node" or "command".')
    return tuple(one for one in SUBJECTS if one in given or not given)
