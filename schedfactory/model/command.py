"""An order to nodes or workers, as people see it: a frozen snapshot of its row."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal, Protocol

import pendulum

from schedfactory.model.clock import DurationLike, duration
from schedfactory.model.errors import NotConfigured

Kind = Literal["pause", "resume", "scale", "quit"]
DONE, UNDELIVERABLE, DIED = "done", "undeliverable", "the node died"


class Orders(Protocol):
    """What a snapshot asks of the scheduler it came from."""

    def reload(self, command: Command) -> Command:
        """Return a new snapshot."""
        ...

    def await_result(self, command: Command, timeout: timedelta | None) -> Command:
        """Return the command once it has a result."""
        ...


@dataclass(frozen=True, slots=True)
class Command:
    """An order that was given to a node, to one of its workers, or to all nodes at once. Reading it does no I/O.

    Attributes:
        id: of its row; of the first one, where it was given to all nodes.
        kind: "pause", "resume", "scale" or "quit".
        node: the node's id; None: all that ran when it was given.
        worker: the number of one worker, None for the node itself.
        workers: how many there are to be, for "scale".
        force: running jobs were asked to stop at once, for "quit".
        given_at: when it was given, in UTC.
        acknowledged_at: when the node took it, the last one of all nodes; None: not yet.
        result: None until it has been carried out. Then "done"; "undeliverable" where the node was not there any more;
            "the node died" where that happened after it had taken the order; else a sentence that says why not.
    """

    id: int
    kind: Kind
    node: int | None
    worker: int | None
    workers: int | None
    force: bool
    given_at: pendulum.DateTime
    acknowledged_at: pendulum.DateTime | None
    result: str | None
    _ids: tuple[int, ...] = field(default=(), repr=False, compare=False)
    _orders: Orders | None = field(default=None, repr=False, compare=False)

    def refresh(self) -> Command:
        """Read it again.

        Raises:
            NotFound: its row is gone; they are kept for a week.
        """
        return self._home.reload(self)

    def wait(self, timeout: DurationLike | None = None) -> Command:
        """Wait until the order has a result, and return the new snapshot. A dead node is noticed, also where no other lives.

        Args:
            timeout: a duration; None: for ever.

        Raises:
            WaitTimeout: the node has not carried it out by then; it may still do so.
            RuntimeError: without a timeout inside a task of the same scheduler, which may be what the node waits for.

        >>> scheduler.nodes.pause(7).wait("10s").result
        'undeliverable'
        """
        return self._home.await_result(self, None if timeout is None else duration(timeout, "timeout"))

    @property
    def _home(self) -> Orders:
        if self._orders is None:
            raise NotConfigured("this command belongs to no scheduler, so it can be neither read again nor waited for.")
        return self._orders
