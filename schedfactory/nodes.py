"""The nodes of a database, and the orders to them: `scheduler.nodes` and `scheduler.commands`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

from schedfactory.house import House
from schedfactory.model.clock import Monotonic
from schedfactory.model.command import DONE, Command, Kind
from schedfactory.model.errors import NotFound, WaitTimeout
from schedfactory.model.job import read_moment, read_optional_moment
from schedfactory.model.node import NodeInfo
from schedfactory.model.options import LARGEST, check_flag, check_int, check_storable
from schedfactory.running import context
from schedfactory.running.undelivered import Undelivered, announce
from schedfactory.storage import commands, nodes
from schedfactory.storage.locks import LockFile, lock_file
from schedfactory.storage.statement import Row

_LOOK_S = 0.5  # between looks at whether the node still lives


class Nodes:
    """All nodes that work on the database, in whichever process, and what they are told to do.

    A node is named by its id, which is what `job.node` says; None means all that run now. An order is a row: its node obeys
    within milliseconds, also while all its workers are busy, and says so in the row.

    >>> [node.status for node in scheduler.nodes.list()]
    []
    >>> with scheduler.running(workers=2):
    ...     print(scheduler.nodes.pause().wait("10s").result, scheduler.nodes.list()[0].status)
    done paused
    """

    def __init__(self, house: House, owner: object) -> None:
        self._house = house
        self._commands = Commands(house, owner)

    def list(self, limit: int = 100) -> list[NodeInfo]:
        """Return the nodes that are there, then those that were, the newest first. Those are kept for a week.

        Args:
            limit: how many at most.
        """
        check_int(limit, "limit", 1)
        with _lock(self._house) as lock, self._house.database.read() as conn:
            return nodes.listed(conn, lock, min(limit, LARGEST))

    def pause(self, node: int | None = None) -> Command:
        """Let a node claim no more, until `resume` or its end. Its running jobs go on; what it had claimed ahead goes back.

        A node of `run_due()` ends after the job that it has.
        """
        return self._commands.give("pause", node)

    def resume(self, node: int | None = None) -> Command:
        """Let a node claim again."""
        return self._commands.give("resume", node)

    def scale(self, node: int | None = None, *, workers: int) -> Command:
        """Let a node have so many workers: it hires, or lets some go after their job, idle ones first.

        Where `start()` was given slots by queue, no queue gets more than those.

        Raises:
            ValueError: fewer than one.
        """
        return self._commands.give("scale", node, workers=check_int(workers, "workers", 1))

    def quit(self, node: int | None = None, worker: int | None = None, *, force: bool = False) -> Command:
        """Let a node stop as by `stop()`, or one of its workers end after the job that it has.

        The command is done when the node has left, and `run()` then returns; or when the worker's thread is gone. The node
        of that worker goes on with one fewer; with none it stays, and runs nothing until `scale` gives it some.

        Args:
            worker: the number of a worker, which is what `job.worker` says; None: the node itself.
            force: ask the running jobs to stop at once, and kill process tasks that do not. They go back, and run again.

        Raises:
            ValueError: a worker without its node.
            TypeError: `force` is neither True nor False.
        """
        check_flag(force, "force")
        if worker is not None:
            check_int(worker, "worker", 1)
            if node is None:
                raise ValueError(f"worker={worker} of which node? Pass that, too: quit(node, worker={worker}).")
        return self._commands.give("quit", node, worker=worker, force=force)


class Commands:
    """The orders that were given, to look up what has become of them. They are kept for a week."""

    def __init__(self, house: House, owner: object) -> None:
        self._house = house
        self._owner = owner

    def list(self, limit: int = 100) -> list[Command]:
        """Return the latest orders, one for each node that was told, the newest first.

        Args:
            limit: how many at most.

        >>> command = scheduler.nodes.pause(7)
        >>> [(command.kind, command.node, command.result) for command in scheduler.commands.list()]
        [('pause', 7, 'undeliverable')]
        """
        check_int(limit, "limit", 1)
        with self._house.database.read() as conn:
            rows = commands.latest(conn, min(limit, LARGEST))
        return [self._snapshot([row], row[2]) for row in rows]

    def give(
        self, kind: Kind, node: int | None, *, worker: int | None = None, workers: int | None = None, force: bool = False
    ) -> Command:
        """Store an order; what the methods of `scheduler.nodes` are made of."""
        context.refuse_worker_process(f"nodes.{kind}()", at_import=True)
        for value, what in ((node, "node"), (worker, "worker"), (workers, "workers")):
            if value is not None:
                check_storable(check_int(value, what, 1), what)
        house, now = self._house, self._house.clock()
        with _lock(house) as lock:
            given = house.database.write(
                lambda conn: commands.give(conn, kind, node, lock, now, worker=worker, workers=workers, force=force)
            )
        for order, result in given:
            house.reporter.tell("command", order, "given", now, kind)
            if result is not None:
                house.reporter.tell("command", order, "done", now, result)
        return self._load([order for order, _ in given], node)

    # What snapshots ask of the scheduler they came from (`model.command.Orders`).

    def reload(self, command: Command) -> Command:
        """Return a new snapshot; see `Command.refresh`."""
        return self._load(command._ids, command.node)

    def await_result(self, command: Command, timeout: timedelta | None) -> Command:
        """Return the command once it has a result; see `Command.wait`."""
        if timeout is None and context.is_inside(self._owner):
            raise RuntimeError(
                "waiting for a node without a timeout inside a task of the same scheduler may be what that node waits for. "
                "Pass a timeout."
            )
        house = self._house
        with _lock(house) as lock:
            undelivered = Undelivered(house.database, lock, house.settings.lease_s, self._announce)

            def look() -> Command | None:
                found = self.reload(command)
                if found.result is None:
                    undelivered.round()
                    found = self.reload(command)
                return found if found.result is not None else None

            seconds = None if timeout is None else timeout.total_seconds()
            done = house.waiting.until(-command._ids[-1], look, self._state, seconds)
        if done is None:
            raise WaitTimeout(f"{command.kind} has no result after {seconds:g} s. The order stands; wait again.")
        return done

    def _state(self) -> object:
        """Return what changes with every commit, and every half second: a node that dies commits nothing."""
        state = self._house.database.state()
        return None if state is None else (state, Monotonic.now() // _LOOK_S)

    def _announce(self, ended: Sequence[tuple[int, str]]) -> None:
        announce(ended, self._house.waiting, self._house.reporter, self._house.clock())

    def _load(self, ids: Sequence[int], node: int | None) -> Command:
        with self._house.database.read() as conn:
            rows = commands.get(conn, ids)
        if len(rows) < len(ids):
            raise NotFound(f"the command {ids[0]} is gone: its row was deleted. They are kept for a week.")
        return self._snapshot(rows, node)

    def _snapshot(self, rows: Sequence[Row], node: int | None) -> Command:
        first = rows[0]
        taken = [row[7] for row in rows]
        return Command(
            id=first[0],
            kind=first[1],
            node=node,
            worker=first[3],
            workers=first[4],
            force=bool(first[5]),
            given_at=read_moment(first[6]),
            acknowledged_at=None if None in taken else read_optional_moment(max(taken)),
            result=_result(rows),
            _ids=tuple(row[0] for row in rows),
            _orders=self,
        )


def _result(rows: Sequence[Row]) -> str | None:
    """Return what has become of an order to several nodes, None while it is pending for one of them."""
    results = {row[2]: row[8] for row in rows}
    if None in results.values():
        return None
    failed = {node: result for node, result in results.items() if result != DONE}
    if len(rows) == 1 or not failed:
        return str(rows[0][8])
    return "; ".join(f"node {node}: {result}" for node, result in failed.items())


@contextmanager
def _lock(house: House) -> Iterator[LockFile]:
    house.database.open()
    lock = lock_file(house.database.path)
    try:
        yield lock
    finally:
        lock.leave()
