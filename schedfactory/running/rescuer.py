"""Looks after the other nodes: takes the jobs of the dead, and shows those who cannot see it that this one lives."""

from __future__ import annotations

import logging
from datetime import datetime

from schedfactory.model.clock import Monotonic
from schedfactory.model.errors import StorageError
from schedfactory.model.job import FINAL
from schedfactory.running.undelivered import Undelivered
from schedfactory.running.waiting import Waiting
from schedfactory.storage import nodes
from schedfactory.storage.database import Database
from schedfactory.storage.locks import LockFile

_log = logging.getLogger("schedfactory")

PROBE_S = 0.5  # between looks at the locks of other nodes
ALONE_S = 5.0  # where there is no other, until another process commits something
BEATS = 3  # in the time of one lease


class Rescuer:
    """The rounds in which one node looks around. Threads call `round`, a simulation may too.

    Args:
        lease_s: seconds without a new beat after which a node of another host is taken for dead, on this one's steady
            clock, if it has jobs.
    """

    def __init__(
        self, node: int, database: Database, lock: LockFile, waiting: Waiting, lease_s: float, undelivered: Undelivered
    ) -> None:
        self._node = node
        self._database = database
        self._lock = lock
        self._waiting = waiting
        self._lease_s = lease_s
        self._undelivered = undelivered
        self._due_at = 0.0
        self._beat_at = 0.0
        self._beyond_help: set[int] = set()
        self._heard: dict[int, tuple[int, float]] = {}  # the beat of each silent node, and since when it has been that

    def round(self, now: datetime, is_busy: bool) -> float:
        """Look around if it is time to, and return in how many seconds it is again."""
        left = self._due_at - Monotonic.now()
        if left > 0:
            return left
        pause = PROBE_S
        try:
            with self._database.read() as conn:
                others = nodes.look_around(conn, self._node, self._lock)
            for other in others.dead + self._given_up(others.silent):
                self._rescue(other, now)
            self._undelivered.round()
            if others.is_watched and is_busy and Monotonic.now() >= self._beat_at:
                self._beat_at = Monotonic.now() + self._lease_s / BEATS
                self._database.write(lambda conn: nodes.beat(conn, self._node), quiet=True)
            if not others.alive and not others.is_watched:
                pause = ALONE_S
        except StorageError as error:  # the dispatcher, whose rounds write, says so once
            _log.info("node %d cannot look after other nodes: %s", self._node, error)
        self._due_at = Monotonic.now() + pause
        return pause

    def look_soon(self) -> None:
        """Look again at the next round: another process has committed something."""
        self._due_at = min(self._due_at, Monotonic.now() + PROBE_S)

    def _given_up(self, silent: dict[int, int]) -> list[int]:
        moment = Monotonic.now()
        for node, beat in silent.items():
            if self._heard.get(node, (None,))[0] != beat:
                self._heard[node] = (beat, moment)
        self._heard = {node: heard for node, heard in self._heard.items() if node in silent}
        return [node for node, (_, since) in self._heard.items() if moment - since >= self._lease_s]

    def _rescue(self, other: int, now: datetime) -> None:
        try:
            rescued = self._database.write(lambda conn: nodes.rescue(conn, self._lock, other, now))
        except Exception as error:  # logged once, such as what a trigger of the user's says; the others go on
            if isinstance(error, StorageError) and not error.is_refusal:
                raise
            if other not in self._beyond_help:
                self._beyond_help.add(other)
                _log.exception("the jobs of node %d, which has died, cannot be taken from it", other)
            return
        _log.log(
            logging.WARNING if rescued else logging.INFO,
            "node %d has died; %d jobs were taken from it: %s",
            other,
            len(rescued),
            rescued[:20],
        )
        self._waiting.announce(job_id for job_id, status in rescued if status in FINAL)
