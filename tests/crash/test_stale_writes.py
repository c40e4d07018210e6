"""Each condition on fence, status, node and leftover by itself: a row that differs in just this one is not written to."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from schedfactory import RunningJob
from schedfactory.model import outcome
from schedfactory.model.slots import Slots
from schedfactory.storage import changes, claim, finish, nodes, notes
from schedfactory.storage.claim import Scope
from schedfactory.storage.locks import lock_file

HERE, ELSEWHERE = 1, 2  # nodes
LATER = timedelta(days=1)


class Table:
    """A file, what claims and writes in it, and a client that moves rows behind its back."""

    def __init__(self, still: Any, clock: Any, client: sqlite3.Connection) -> None:
        self.still, self.clock, self._client = still, clock, client
        self.write: Callable[..., Any] = still._house.database.write

    def sql(self, statement: str, *values: object) -> list[Any]:
        return self._client.execute(statement, values).fetchall()

    def set(self, **columns: object) -> None:
        """Make every row of the jobs so."""
        self.sql(f"UPDATE schedfactory_jobs SET {', '.join(f'{name} = ?' for name in columns)}", *columns.values())

    def claimed(self, *, ahead: bool = False) -> RunningJob:
        """Enqueue a job, and claim it as the first worker of this node."""
        self.still.remote("work").enqueue()
        rows = self.write(lambda conn: self._take(conn, [] if ahead else [1]))
        return RunningJob(rows[0], HERE, None if ahead else 1, self.clock.now, lambda job: None)

    def _take(self, conn: Any, workers: list[int]) -> list[Any]:
        rows = Scope(("work",)).due(conn, 1)
        claim.take(conn, rows, HERE, workers, self.clock.now)
        return rows

    def all(self) -> list[Any]:
        return [self.sql(f"SELECT * FROM schedfactory_{name}") for name in ("jobs", "attempts", "totals", "logs")]


@pytest.fixture
def table(still: Any, clock: Any, path: Any) -> Iterator[Table]:
    still.counts()
    with closing(sqlite3.connect(path, isolation_level=None)) as client:
        yield Table(still, clock, client)


def succeed(conn: Any, job: RunningJob, now: Any) -> None:
    assert finish.finish(conn, [(job, outcome.succeeded("1"), now)]) == [job]


def fail(conn: Any, job: RunningJob, now: Any) -> None:
    assert finish.finish(conn, [(job, outcome.failed("error", "x"), now)]) == [job]


def tell(conn: Any, job: RunningJob, now: Any) -> None:
    job.progress = (0.5, "late")
    assert notes.progress(conn, [job]) == [job]


def say(conn: Any, job: RunningJob, now: Any) -> None:
    assert not notes.write_lines(conn, job, [(1, now, "INFO", None, "late")])


def give_back(conn: Any, job: RunningJob, now: Any) -> None:
    claim.give_back(conn, [(job.id, job.fence, HERE, None)])


def label(conn: Any, job: RunningJob, now: Any) -> None:
    claim.label(conn, [(job.id, job.fence, HERE, 7, now + LATER)])


@pytest.mark.parametrize("write", [succeed, fail, tell, say, give_back, label])
@pytest.mark.parametrize("other", [{"fence": 2}, {"status": "queued"}, {"node": ELSEWHERE}], ids=str)
def test_an_attempt_writes_only_to_the_row_that_is_its_own(table, write, other):
    job = table.claimed()
    table.set(**other)
    before = table.all()
    table.write(lambda conn: write(conn, job, table.clock.now))
    assert table.all() == before


@pytest.mark.parametrize("workers", [[1], []], ids=["for a worker", "ahead"])
@pytest.mark.parametrize("other", [{"status": "scheduled"}, {"node": ELSEWHERE}], ids=str)
def test_only_what_is_queued_and_held_by_nobody_is_taken(table, workers, other):
    table.still.remote("work").enqueue()
    rows = table.write(lambda conn: Scope(("work",)).due(conn, 1))
    table.set(**other)
    before = table.all()
    with pytest.raises(RuntimeError, match="1 of 1 jobs stayed queued"):
        table.write(lambda conn: claim.take(conn, rows, HERE, workers, table.clock.now))
    assert rows
    assert table.all() == before


@pytest.mark.parametrize("status", ["running", "succeeded"])
def test_a_row_that_cannot_be_taken_is_refused_only_while_it_is_queued(table, status):
    job = table.claimed()
    table.set(status=status)
    before = table.all()[0]
    table.write(lambda conn: claim.refuse(conn, job.id, "x", table.clock.now))
    assert table.all()[0] == before


def test_giving_back_a_claim_does_not_cancel_the_next_one(table):
    job = table.claimed()
    table.set(fence=2, cancel_requested_at="2026-01-02 03:04:05.000000")
    before = table.all()
    table.write(lambda conn: give_back(conn, job, None))
    assert table.all() == before


@pytest.mark.parametrize("other", [{"status": "failed"}, {"node": ELSEWHERE}], ids=str)
def test_claims_of_a_commit_that_failed_are_given_back_only_where_this_node_still_has_them(table, other):
    table.claimed()
    table.set(**other)
    before = table.all()
    table.write(lambda conn: claim.give_back_others(conn, HERE, []))
    assert table.all() == before


@pytest.mark.parametrize(("fence", "status"), [(1, "running"), (2, "queued")])
def test_of_its_own_claims_a_node_gives_back_those_that_it_does_not_have_in_hand_with_their_fence(table, fence, status):
    job = table.claimed()
    table.set(fence=fence)
    table.write(lambda conn: claim.give_back_others(conn, HERE, [(job.id, 1)]))
    assert table.sql("SELECT status FROM schedfactory_jobs") == [(status,)]


def test_a_claim_that_a_failed_commit_made_is_cancelled_where_someone_has_cancelled_it_meanwhile(table):
    job = table.claimed()
    table.still.cancel(job.id)
    table.write(lambda conn: claim.give_back_others(conn, HERE, []))
    assert table.sql("SELECT status, reason FROM schedfactory_jobs") == [("cancelled", "user")]
    assert table.still.counts()["cancelled"] == 1


@pytest.mark.parametrize("other", [{"fence": 2}, {"leftover": 0}], ids=str)
def test_left_over_code_lets_go_only_of_what_it_holds(table, other):
    job = table.claimed()
    table.set(**({"status": "queued", "leftover": 1} | other))
    before = table.all()
    table.write(lambda conn: finish.release(conn, [job]))
    assert table.all() == before


@pytest.mark.parametrize("status", ["running", "succeeded", "failed", "cancelled"])
def test_time_moves_only_what_waits(table, status):
    table.claimed()
    table.set(status=status, expires_at="2026-01-02 03:04:06.000000")
    before = table.all()
    table.clock.advance(days=1)
    table.write(lambda conn: (claim.expire(conn, table.clock.now), claim.promote(conn, table.clock.now)))
    assert table.all() == before


@pytest.mark.parametrize("other", [{"status": "succeeded"}, {"status": "queued"}, {"node": ELSEWHERE}], ids=str)
def test_a_rescue_takes_only_what_the_dead_node_ran(table, other):
    table.claimed()
    table.set(**other)
    before = table.all()
    table.write(lambda conn: nodes.rescue(conn, lock(), HERE, table.clock.now))
    assert table.all() == before


@pytest.mark.parametrize("other", [{"status": "failed"}, {"node": ELSEWHERE}], ids=str)
def test_a_note_of_the_dead_node_labels_only_what_that_node_ran(table, other):
    job = table.claimed(ahead=True)
    table.sql("INSERT INTO schedfactory_nodes VALUES (1, 'running', 'h', 'b', 1, 'l', 0, 1, NULL, 0, '2026', NULL, NULL, 0)")
    table.set(**other)
    before = table.all()
    table.write(lambda conn: nodes.rescue(conn, lock({(job.id, job.fence): 5}), HERE, table.clock.now))
    assert table.all() == before


@pytest.mark.parametrize("is_its_own", [True, False])
def test_a_rescue_frees_what_left_over_code_of_the_dead_node_held_and_nothing_else(table, is_its_own):
    table.claimed()
    table.set(status="queued", leftover=1, node=HERE if is_its_own else ELSEWHERE)
    table.write(lambda conn: nodes.rescue(conn, lock(), HERE, table.clock.now))
    assert table.sql("SELECT node, leftover FROM schedfactory_jobs") == [(None, 0) if is_its_own else (ELSEWHERE, 1)]


def test_a_rescue_does_not_write_to_what_the_dead_node_had_finished(table):
    """It would change nothing, at the cost of the whole history."""
    job = table.claimed()
    table.write(lambda conn: finish.finish(conn, [(job, outcome.succeeded("1"), table.clock.now)]))
    table.sql("CREATE TRIGGER no BEFORE UPDATE ON schedfactory_jobs BEGIN SELECT raise(ABORT, 'written to'); END")
    assert table.write(lambda conn: nodes.rescue(conn, lock(), HERE, table.clock.now)) == []


def test_a_node_keeps_the_first_thing_that_is_known_of_its_end(table, path):
    node, _ = register(table, path)
    table.write(lambda conn: nodes.rescue(conn, lock(), node, table.clock.now))
    table.write(lambda conn: nodes.leave(conn, node, table.clock.now + LATER))
    dead = table.sql("SELECT status, stopped_at FROM schedfactory_nodes")
    assert [row[0] for row in dead] == ["dead"]
    table.sql("UPDATE schedfactory_nodes SET status = 'stopped'")
    table.write(lambda conn: nodes.rescue(conn, lock(), node, table.clock.now + LATER))
    assert table.sql("SELECT status, stopped_at FROM schedfactory_nodes") == [("stopped", dead[0][1])]
    lock_file(path).release(node)


def test_a_node_takes_the_slot_of_one_that_has_ended_and_none_that_is_in_use(table, path):
    first, second = register(table, path), register(table, path)
    assert (first[1], second[1]) == (0, 1)
    table.write(lambda conn: nodes.leave(conn, first[0], table.clock.now))
    third = register(table, path)
    assert third[1] == 0
    for node, _ in (first, second, third):
        lock_file(path).release(node)


def test_only_nodes_that_ended_long_ago_are_forgotten(table, path):
    node, _ = register(table, path)
    table.sql("UPDATE schedfactory_nodes SET stopped_at = '2020-01-01 00:00:00.000000'")
    again, _ = register(table, path)
    assert table.sql("SELECT id FROM schedfactory_nodes") == [(node,), (again,)]
    table.sql("UPDATE schedfactory_nodes SET status = 'stopped' WHERE id = ?", node)
    third, _ = register(table, path)
    assert table.sql("SELECT id FROM schedfactory_nodes") == [(again,), (third,)]
    for one in (node, again, third):
        lock_file(path).release(one)


@pytest.mark.parametrize("status", ["succeeded", "failed", "cancelled"])
def test_people_change_nothing_that_has_ended(table, status):
    table.claimed()
    table.set(status=status)
    before = table.all()
    mine = changes.is_job(1)
    assert table.write(lambda conn: changes.cancel(conn, mine, table.clock.now)) == ([], [])
    assert not table.write(lambda conn: changes.change(conn, 1, table.clock.now, priority=1, run_at=None, queue=None))
    assert not table.write(lambda conn: changes.change(conn, 1, table.clock.now, priority=None, run_at=None, queue=None))
    assert table.all() == before


@pytest.mark.parametrize("status", ["scheduled", "queued", "running"])
def test_what_has_not_ended_is_neither_requeued_nor_pruned(table, status):
    table.claimed()
    table.still.remote("work").enqueue()  # the newest row stays in any case
    table.sql("UPDATE schedfactory_jobs SET status = ?, finished_at = '2020-01-01 00:00:00.000000' WHERE id = 1", status)
    before = table.all()
    assert table.write(lambda conn: changes.requeue(conn, changes.is_job(1), table.clock.now)) == []
    assert table.write(lambda conn: changes.prune(conn, 0, changes.is_job(1)))[0] == 0
    assert table.all() == before


def test_what_left_over_code_holds_is_not_pruned(table):
    table.claimed()
    table.still.remote("work").enqueue()
    table.sql("UPDATE schedfactory_jobs SET status = 'failed', leftover = 1 WHERE id = 1")
    assert table.write(lambda conn: changes.prune(conn, 0, changes.is_job(1)))[0] == 0


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_a_requeue_leaves_a_line_of_success_only_where_there_was_one(table, status):
    table.claimed()
    table.set(status=status)
    assert table.write(lambda conn: changes.requeue(conn, changes.is_job(1), table.clock.now)) == [1]
    assert table.sql("SELECT * FROM schedfactory_attempts") == []


def test_a_cancel_flags_what_runs_and_ends_what_does_not(table):
    table.claimed()
    table.still.remote("work").enqueue()
    assert table.write(lambda conn: changes.cancel(conn, changes.is_job(1), table.clock.now)) == ([], [1])
    assert table.write(lambda conn: changes.cancel(conn, changes.is_job(2), table.clock.now)) == ([2], [])
    assert table.sql("SELECT status FROM schedfactory_jobs ORDER BY id") == [("running",), ("cancelled",)]


def register(table: Table, path: Any) -> tuple[int, int]:
    return table.write(lambda conn: nodes.register(conn, lock_file(path), Slots(1), (), table.clock.now))


def lock(begun: dict[tuple[int, int], int] | None = None) -> Any:
    """A lock file whose rings say this."""
    return SimpleNamespace(ring=lambda slot: SimpleNamespace(read=lambda: begun or {}))
