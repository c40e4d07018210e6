"""What must hold in the simulated world at every moment, told by an SQL client that stands outside and by who runs what."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import datetime
from functools import wraps
from typing import TYPE_CHECKING, Any, NamedTuple

from schedfactory.model.clock import stamp, unstamp
from schedfactory.storage import read

if TYPE_CHECKING:
    from simulation_process import Process
    from simulation_world import World
    from sqlalchemy import Connection

FINAL = ("succeeded", "failed", "cancelled")


class Seen(NamedTuple):
    """A row as the client sees it."""

    id: int
    token: int
    task: str
    status: str
    reason: str | None
    run_at: str
    attempt: int
    failures: int
    crashes: int
    fence: int
    node: int | None
    leftover: int
    result: str | None
    is_asked_to_stop: int


_ROWS = (
    "SELECT id, json_extract(args, '$.token'), task, status, reason, run_at, attempt, failures, crashes, fence, node, leftover,"
    " result, cancel_requested_at IS NOT NULL FROM schedfactory_jobs ORDER BY id"
)
_BEST = (
    "SELECT id, run_at, expires_at FROM schedfactory_jobs"
    " WHERE (status = 'queued' OR (status = 'scheduled' AND run_at <= :now)) AND node IS NULL"
    " AND (:queue IS NULL OR queue = :queue) ORDER BY priority DESC, run_at, id LIMIT :most"
)


class Start(NamedTuple):
    """Code that was begun."""

    attempt: int
    fence: int
    process: Process


class Life:
    """What is known of one job since it was enqueued, or requeued."""

    def __init__(self, row: Seen, now: datetime) -> None:
        self.row = row
        self.latest = now  # the latest moment that the clock has shown since `run_at` was set
        self.base = 0  # attempts before the latest requeue
        self.starts: list[Start] = []  # since then
        self.success: int | None = None  # the fence of the attempt that has succeeded since then


def kept(check: Callable[..., None]) -> Callable[..., None]:
    """Remember an objection: the code under test may catch the error, and try again."""

    @wraps(check)
    def checked(rules: Rules, *given: Any) -> None:
        try:
            check(rules, *given)
        except AssertionError as error:
            rules.objection = rules.objection or error
            raise

    return checked


class Rules:
    """Watches a world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.objection: AssertionError | None = None
        self._client: sqlite3.Connection | None = None
        self._version: object = None
        self.lives: dict[int, Life] = {}
        self.running: dict[int, tuple[Process, Any]] = {}  # whose code runs, by job
        self.returned: list[tuple[Process, Any]] = []
        self.ended_at: dict[int, datetime] = {}
        self.promised: dict[int, int] = {}  # tokens of acknowledged jobs, and their ids
        self.refused: set[int] = set()  # tokens of jobs of which was said that they were not stored
        self.requeued: set[int] = set()  # that someone has asked to run again, successfully or not
        self.pruned = False
        self.begun = self.succeeded = self.deaths = self.lost = 0

    def open(self) -> None:
        self._client = sqlite3.connect(self._world.path, isolation_level=None)

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    def ask(self, sql: str, *values: object) -> list[Any]:
        assert self._client is not None
        return self._client.execute(sql, values).fetchall()

    def rows(self) -> list[Seen]:
        return [Seen(*row) for row in self.ask(_ROWS)]

    # What is told to it

    def clock_moved(self) -> None:
        for life in self.lives.values():
            life.latest = max(life.latest, self._world.wall)

    def died(self, process: Process) -> None:
        self.deaths += 1
        self.running = {job: run for job, run in self.running.items() if run[0] is not process}
        self.returned = [one for one in self.returned if one[0] is not process]

    @kept
    def begins(self, process: Process, job: Any) -> None:
        world = self._world
        life = self.lives[job.id]
        other = self.running.get(job.id)
        assert world.is_leased or other is None, f"job {job.id} begins while attempt {other and other[1].attempt} runs"
        self.running[job.id] = (process, job)
        row = life.row
        is_its_own = (row.status, row.fence, row.node) == ("running", job.fence, process.node.id)
        assert world.is_leased or is_its_own, f"job {job.id} begins with fence {job.fence}, but its row says {row}"
        fences = [start.fence for start in life.starts]
        assert job.fence not in fences, f"job {job.id} begins twice with fence {job.fence}"
        assert world.is_leased or job.fence > max(fences, default=0), f"job {job.id}: fence {job.fence} follows {fences}"
        if not world.is_leased and world.boot == 1:  # else the notes of what was begun are not to be had
            assert all(start.attempt < job.attempt for start in life.starts), f"job {job.id}: a start was not counted"
        if row.task == "hard":
            known = {
                row[0]
                for row in self.ask("SELECT number FROM schedfactory_attempts WHERE job_id = ? AND status <> 'crashed'", job.id)
            }
            missing = [start.attempt for start in life.starts if start.attempt not in known]
            assert not missing, f"job {job.id} must not begin again: the end of {missing} was never recorded"
        self.begun += 1
        life.starts.append(Start(job.attempt, job.fence, process))

    def ends(self, process: Process, job: Any, ending: Any) -> None:
        if self.running.get(job.id, (None, None))[1] is job:
            del self.running[job.id]
        if not job.settled:
            self.ended_at[job.id] = self._world.wall
            if ending.status == "succeeded":
                self.returned.append((process, job))

    # What must hold

    @kept
    def check_claim(self, process: Process, conn: Connection, rows: list[Any]) -> None:
        """A claim takes the best of what is due, and nothing before its time or too late."""
        now = self._world.wall
        given = {"now": stamp(now), "queue": process.queues and process.queues[0], "most": len(rows)}
        best = conn.connection.driver_connection.execute(_BEST, given).fetchall()  # type: ignore[union-attr]
        assert [row[0] for row in rows] == [row[0] for row in best], f"claimed {rows}, but the best are {best}"
        assert process.node._dispatcher.trouble is None, "claimed while what has ended could not be stored"
        assert not process.node._dispatcher.is_draining, "claimed while it stops"
        for job, run_at, expires_at in best:
            life = self.lives[job]
            latest = max(now, life.latest) if life.row.run_at == run_at else max(now, self.ended_at.get(job, now))
            assert unstamp(run_at) <= latest, f"job {job} is claimed at {latest}, before {run_at}"
            assert expires_at is None or expires_at > stamp(now), f"job {job} is claimed at {now}, after {expires_at}"

    @kept
    def check_round(self, process: Process) -> None:
        """After a round a node knows which jobs are its own, and which of them are asked to stop."""
        in_flight = process.node._dispatcher.hand.in_flight
        for row in self.rows():
            if row.status == "running" and row.node == process.node.id:
                job = in_flight.get(row.id)
                assert job is not None, f"job {row.id} is node {row.node}'s, which does not know it"
                assert job.fence == row.fence, f"job {row.id} has fence {row.fence}, and its node thinks {job.fence}"
                assert job.cause is not None or not row.is_asked_to_stop, f"job {row.id} does not see that it is cancelled"

    @kept
    def check(self) -> None:
        """After every action."""
        version = self.ask("PRAGMA data_version")
        if version == self._version:
            return
        self._version = version
        rows = self.rows()
        assert len({row.token for row in rows}) == len(rows), "a call was stored twice"
        assert not self.refused.intersection(row.token for row in rows), "stored what was said not to be stored"
        ids = {row.id: row.token for row in rows}
        for token, job in list(self.promised.items()):
            if job not in ids and self.pruned and self.lives[job].row.status in FINAL:
                del self.promised[token]
            else:
                assert ids.get(job) == token, f"job {job} was acknowledged and is gone"
        self.lives = {job: life for job, life in self.lives.items() if job in ids}
        for row in rows:
            self._compare(row)
        self._check_attempts(rows)
        self._check_counts(rows)
        if not self._world.acting:
            self.requeued, self.pruned = set(), False

    def _compare(self, row: Seen) -> None:
        now = self._world.wall
        life = self.lives.setdefault(row.id, Life(row, now))
        before, life.row = life.row, row
        assert row.fence >= before.fence, f"job {row.id}: its fence fell to {row.fence}"
        if row.run_at != before.run_at:
            life.latest = max(now, self.ended_at.get(row.id, now))
        if before.status in FINAL and (row.status, row.fence) != (before.status, before.fence):
            assert row.id in self.requeued, f"job {row.id} had ended, and is {row.status}"
            life.base, life.starts, life.success = before.attempt, [], None
        if row.status == "succeeded":
            if life.success is None:
                self.succeeded += 1
            assert life.success in (None, row.fence), f"job {row.id} has succeeded twice"
            life.success = row.fence
            assert row.result == str(row.fence), f"job {row.id} has the result of attempt {row.result}"

    def _check_attempts(self, rows: list[Seen]) -> None:
        """Every attempt has one line, but the one that the row tells of; failures and crashes are those since the requeue."""
        recorded: dict[int, list[tuple[int, str]]] = {row.id: [] for row in rows}
        for job, number, status in self.ask("SELECT job_id, number, status FROM schedfactory_attempts ORDER BY job_id, number"):
            assert job in recorded, f"there is an attempt of job {job}, which is not there"
            recorded[job].append((number, status))
        for row in rows:
            past = row.attempt - (row.status in ("running", "succeeded"))
            lines = recorded[row.id]
            assert [number for number, _ in lines] == list(range(1, past + 1)), f"{row} has the attempts {lines}"
            new = [status for number, status in lines if number > self.lives[row.id].base]
            told = (row.failures, row.crashes)
            assert told == (new.count("failed"), new.count("crashed")), f"{row} has the attempts {lines}"

    def _check_counts(self, rows: list[Seen]) -> None:
        counted: dict[str, int] = {}
        for status, number in self.ask(str(read._COUNT._statement)):
            counted[status] = counted.get(status, 0) + number
        real: dict[str, int] = {}
        for row in rows:
            real[row.status] = real.get(row.status, 0) + 1
        assert {status: number for status, number in counted.items() if number} == real, f"counts() says {counted}, not {real}"

    def check_end(self) -> None:
        """After all faults: nothing is left, and whatever was returned by a process that lives on is stored."""
        for process, job in self.returned:
            life = self.lives.get(job.id)
            self.lost += job.cause == "lost"
            is_known = job.cause == "lost" or life is None or life.base >= job.attempt or life.success == job.fence
            assert is_known, f"job {job.id}: process {process.number} has lost the result of fence {job.fence}"
            assert self._world.is_leased or job.cause != "lost", f"job {job.id} was taken from a node that lives"
        assert self.ask("PRAGMA integrity_check") == [("ok",)]
