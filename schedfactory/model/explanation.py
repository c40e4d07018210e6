"""Why a job is not running yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pendulum

Code = Literal[
    "finished", "running", "next", "scheduled", "upstream", "ahead", "limit", "rate", "queue_full", "queue_paused",
    "node_paused", "unknown_task", "no_node",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Explanation:
    """What keeps a job from running; as text it is its `text`.

    | code | what keeps it |
    |---|---|
    | `finished`, `running` | nothing: it has ended, or runs |
    | `scheduled` | its `run_at` is ahead |
    | `queue_paused` | its queue is paused |
    | `no_node` | no node runs, or none serves its queue |
    | `unknown_task` | no running node knows its task |
    | `node_paused` | all nodes that could run it are paused, or have no workers |
    | `queue_full` | its queue runs as many jobs as its `concurrency` says |
    | `limit`, `rate` | a limit of its task, or the rate of its queue, has no room |
    | `ahead` | others go first |
    | `next` | nothing: the next free worker takes it |

    Attributes:
        ahead: how many jobs go first.
        estimated_start: when it should start, by how long such jobs took lately; None where nobody can tell.
    """

    code: Code
    text: str
    ahead: int = 0
    estimated_start: pendulum.DateTime | None = None

    def __str__(self) -> str:
        return self.text
