"""Random lives of jobs on a real file, held step by step against a small model in plain Python.

The test plays the workers of up to two nodes: the claims, the ends and the rounds are the real ones, only no thread calls them.
`HYPOTHESIS_PROFILE=long` looks much longer.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from schedfactory import Cancel, Fail, JobFinished, Retry, Scheduler, Snooze
from schedfactory.model.slots import Slots
from schedfactory.running.node import Node
from schedfactory.storage import claim, nodes

FINAL = ("succeeded", "failed", "cancelled")
UNSTARTED = ("scheduled", "queued")
MAX_CRASHES = 3
HARD_WAIT = timedelta(seconds=10)  # before a retry of the hard task; the soft one goes on at once

number = st.integers(0, 1_000)  # which of those there are
node_number = st.integers(0, 1)
seconds = st.sampled_from([0, 0, 0.001, 1, 10, 60])
a_call = st.tuples(
    st.integers(-1, 1), seconds, st.integers(1, 3), st.sampled_from([None, None, None, 5, 50]), st.booleans()
)  # priority, delay, attempts, expires, on_crash="fail"
how_it_ends = st.sampled_from(
    ["succeeds", "raises", "raises", "snoozes 0", "snoozes 0", "snoozes 30", "fails for good", "cancels itself", "times out"]
)


@dataclass
class Life:
    """One job as the model has it."""

    id: int
    priority: int
    run_at: datetime
    status: str
    expires_at: datetime | None
    max_attempts: int
    is_hard: bool
    reason: str | None = None
    attempt: int = 0
    failures: int = 0
    crashes: int = 0
    snoozes: int = 0
    node: int | None = None
    leftover: bool = False
    fence: int = 0
    finished_at: datetime | None = None
    cancel_requested: bool = False
    has_begun: bool = True  # False: claimed ahead of a worker
    was: str | None = None  # its reason before it was claimed ahead
    is_flagged: bool = False  # its code can see the cancel
    history: list[tuple[int, str, str | None]] = field(default_factory=list)

    def row(self):
        return (
            self.id, self.status, self.reason, self.priority, self.run_at, self.attempt, self.failures, self.crashes,
            self.snoozes, self.max_attempts, self.node, self.leftover, self.fence, self.expires_at, self.finished_at,
        )  # fmt: skip

    def end(self, status, reason, now):
        self.status, self.reason, self.finished_at = status, reason, now

    def go_back(self, reason, run_at, now):
        self.status = "scheduled" if run_at > now else "queued"
        self.reason, self.run_at = reason, run_at
        if not self.leftover:
            self.node = None
        if self.cancel_requested:
            self.end("cancelled", "user", now)

    def note(self, status, reason):
        self.history.append((self.attempt, status, reason))


class Model:
    """What the database should hold: the rules of the documentation, and nothing of how they are carried out."""

    def __init__(self):
        self.lives: dict[int, Life] = {}

    def those(self, *statuses):
        return [life for life in self.lives.values() if life.status in statuses]

    def round(self, node, now):
        """What every round does: expire, promote, pass cancels on."""
        for life in self.those(*UNSTARTED):
            if life.expires_at is not None and life.expires_at <= now:
                life.end("cancelled", "expired", now)
            elif life.run_at <= now:
                life.status = "queued"
        for life in self.those("running"):
            if life.node == node and life.cancel_requested:
                life.is_flagged = True

    def best(self):
        """The jobs that may be claimed, the best first."""
        free = [life for life in self.those("queued") if life.node is None]
        return sorted(free, key=lambda life: (-life.priority, life.run_at, life.id))

    def take(self, life, node, *, has_begun=True):
        life.status, life.reason, life.node, life.finished_at = "running", None, node, None
        life.attempt += 1
        life.fence += 1
        life.has_begun, life.is_flagged = has_begun, False

    def fail(self, life, reason, now):
        """A failure that may be tried again."""
        life.failures += 1
        life.note("failed", reason)
        if life.failures < life.max_attempts - life.snoozes:
            life.go_back("retry", now + HARD_WAIT * life.is_hard, now)
        else:
            life.end("failed", reason, now)

    def finish(self, life, how, now):
        if how == "succeeds":
            life.end("succeeded", None, now)
        elif how == "times out":
            life.leftover = True
            self.fail(life, "timeout", now)
        elif how.startswith("snoozes"):
            life.snoozes += 1
            life.max_attempts += 1
            life.note("snoozed", "snooze")
            life.go_back("snooze", now + timedelta(seconds=int(how.split()[1])), now)
        elif how == "fails for good":
            life.failures += 1
            life.note("failed", "task")
            life.end("failed", "task", now)
        elif how == "cancels itself":
            reason = "user" if life.is_flagged else "task"
            life.note("cancelled", reason)
            life.end("cancelled", reason, now)
        elif life.is_flagged:  # and raises
            life.note("cancelled", "user")
            life.end("cancelled", "user", now)
        else:
            self.fail(life, "error", now)

    def release(self, life, fence):
        if not life.leftover or life.fence != fence:
            return  # it was taken from that code
        life.leftover = False
        if life.status not in FINAL:
            life.node = None

    def die(self, node, now):
        """A node's process ends or seems to, and another one notices."""
        for life in self.those("running"):
            if life.node != node:
                continue
            if life.has_begun:
                life.crashes += 1
                life.note("crashed", "crash")
            else:
                life.attempt -= 1
            if life.cancel_requested:
                life.end("cancelled", "user", now)
            elif life.has_begun and (life.is_hard or life.crashes >= MAX_CRASHES):
                life.end("failed", "crashed", now)
            else:
                life.status, life.reason, life.node = "queued", "crash", None
        for life in self.lives.values():
            if life.leftover and life.node == node:
                self.release(life, life.fence)

    def cancel(self, life, now, is_here):
        if life.status in UNSTARTED:
            life.cancel_requested = True
            life.end("cancelled", "user", now)
            return 1
        if life.status == "running" and not life.cancel_requested:
            life.cancel_requested, life.is_flagged = True, is_here
            return 1
        return 0

    def requeue(self, life, now):
        if life.status not in FINAL:
            return 0
        if life.status == "succeeded":
            life.note("succeeded", None)
        life.status, life.reason, life.run_at, life.finished_at, life.expires_at = "queued", None, now, None, None
        life.failures = life.crashes = 0
        life.cancel_requested = False
        if not life.leftover:
            life.node = None
        return 1


class Clock:
    def __init__(self):
        self.now = datetime(2026, 1, 2, tzinfo=timezone.utc)

    def __call__(self):
        return self.now


class Folder:
    """One place for all runs, with a migrated file to copy; its lock file stays, for a process never closes that."""

    def __init__(self):
        self.path = Path(tempfile.mkdtemp(prefix="state-machine-")) / "jobs.db"
        self.template = self.path.with_name("template.db")
        scheduler = Scheduler(self.template)
        scheduler.counts()
        scheduler.close()

    def fresh(self):
        for file in self.path.parent.glob("jobs.db*"):
            if not file.name.endswith("-nodes"):
                file.unlink()
        shutil.copy(self.template, self.path)
        return self.path


folder = None


@pytest.fixture(scope="module", autouse=True)
def _folder():
    global folder
    folder = Folder()
    yield
    shutil.rmtree(folder.path.parent)


class Machine(RuleBasedStateMachine):
    @initialize(calls=st.lists(a_call, min_size=1, max_size=4))
    def begin(self, calls):
        self.clock = Clock()
        self.scheduler = Scheduler(folder.fresh(), clock=self.clock, durability="normal")
        self.elsewhere = Scheduler(folder.path, clock=self.clock, durability="normal")
        self.then = None  # what the code that runs next raises

        def act() -> int:
            if self.then is not None:
                raise self.then
            return 7

        self.soft = self.scheduler.task(name="soft", retry=Retry(1, backoff="constant", base=0))(act)
        waits = Retry(1, backoff="constant", base=HARD_WAIT, jitter=False)
        self.hard = self.scheduler.task(name="hard", retry=waits, on_crash="fail")(act)
        self.reader = sqlite3.connect(folder.path)
        self.model = Model()
        self.fences = {}
        self.nodes = [self.new_node(), self.new_node()]
        self.lost = []  # nodes and jobs that were taken from them, whose code does not know it
        for call in calls:
            self.enqueue_one(*call)

    @property
    def now(self):
        return self.clock.now

    def new_node(self):
        node = Node(self.scheduler._house.shop(self.scheduler), Slots(1))
        node._dispatcher.workers = 0  # claims are asked for one by one
        node.in_hand = []  # the running jobs, whose code has begun
        node.is_given_up = False
        node.suspects = set()  # those that were there at two deaths
        node.late = []  # those whose code ran over its time
        return node

    def teardown(self):
        if not hasattr(self, "nodes"):
            return
        try:
            for life in self.model.lives.values():
                told = [(one.number, one.status, one.reason) for one in self.scheduler.get(life.id).attempts()]
                latest = [(life.attempt, life.status, None)] if life.status in ("running", "succeeded") else []
                assert told == life.history + latest
            assert self.reader.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        finally:
            for node in self.nodes:
                node._wake.close()
                node._lock.release(node.id)
            self.reader.close()
            self.elsewhere.close()
            self.scheduler.close()

    # Steps

    @rule(call=a_call)
    def enqueue(self, call):
        self.enqueue_one(*call)

    def enqueue_one(self, priority, delay, attempts, expires, is_hard):
        task = self.hard if is_hard else self.soft
        job = task.options(priority=priority, delay=delay, retry=attempts, expires=expires).enqueue()
        run_at = self.now + timedelta(seconds=delay)
        life = Life(
            job.id, priority, run_at, "scheduled" if run_at > self.now else "queued",
            None if expires is None else run_at + timedelta(seconds=expires), attempts, is_hard,
        )  # fmt: skip
        assert job.id not in self.model.lives
        self.model.lives[job.id] = life

    @precondition(lambda self: self.model.those(*UNSTARTED))
    @rule(which=node_number)
    def claim(self, which):
        self.claim_for(self.nodes[which])

    @precondition(lambda self: self.model.those(*UNSTARTED))
    @rule(which=node_number, how=how_it_ends)
    def claim_and_finish(self, which, how):
        node = self.nodes[which]
        job = self.claim_for(node)
        if job is not None:
            self.end(node, job, how)

    def claim_for(self, node):
        seat = node._worker(1)
        job = node._dispatcher.claim_for(seat, self.now)
        self.model.round(node.id, self.now)
        best = self.model.best()[:1]
        is_suspicious = any(life.crashes >= MAX_CRASHES - 1 for life in best)
        if is_suspicious or node.suspects:  # what may kill its process runs alone
            may_count = any(other is node for other, _ in self.lost)  # code that lost its job and still runs
            if (node.in_hand and (is_suspicious or node.suspects.intersection(node.in_hand))) or (job is None and may_count):
                best = []
        assert [one.id for one in (job,) if one] == [life.id for life in best]
        if job is not None:
            self.model.take(best[0], node.id)
            assert (job.attempt, job.fence) == (best[0].attempt, best[0].fence)
            node.in_hand.append(job)
            if is_suspicious:
                node.suspects.add(job)
        return job

    @precondition(lambda self: any(node.in_hand for node in self.nodes))
    @rule(which=number, how=how_it_ends)
    def finish(self, which, how):
        running = [(node, job) for node in self.nodes for job in node.in_hand]
        self.end(*running[which % len(running)], how)

    def end(self, node, job, how):
        node.in_hand.remove(job)
        life = self.model.lives[job.id]
        if how == "times out":
            assert node._desk.settle(job)
            job.cause = job.cause or "timeout"
            node._desk.ended.append((job, node._attempts.time_out(job, timedelta(seconds=1)), self.now))
            node.late.append(job)
        else:
            self.then = raised(how)
            self.run(node, job)
        node._dispatcher.round(self.now)
        self.model.finish(life, how, self.now)
        self.model.round(node.id, self.now)

    @precondition(lambda self: any(node.late for node in self.nodes))
    @rule(which=number, how=st.sampled_from(["succeeds", "raises"]))
    def late_code_ends(self, which, how):
        late = [(node, job) for node in self.nodes for job in node.late]
        node, job = late[which % len(late)]
        self.then = raised(how)
        node.late.remove(job)
        self.run(node, job)
        node._dispatcher.round(self.now)
        if job.id in self.model.lives:  # else it was pruned
            self.model.release(self.model.lives[job.id], job.fence)
        self.model.round(node.id, self.now)

    @rule(which=node_number)
    def round(self, which):
        node = self.nodes[which]
        node._dispatcher.round(self.now)
        self.model.round(node.id, self.now)

    @precondition(lambda self: self.model.lives)
    @rule(which=number, is_here=st.booleans())
    def cancel(self, which, is_here):
        """In this process the code sees it at once, from another one after the next round."""
        life = self.pick(which)
        scheduler = self.scheduler if is_here else self.elsewhere
        assert scheduler.cancel(life.id) == self.model.cancel(life, self.now, is_here)

    @precondition(lambda self: self.model.those(*FINAL))
    @rule(which=number)
    def requeue(self, which):
        life = self.pick(which, *FINAL)
        assert self.scheduler.requeue(life.id) == self.model.requeue(life, self.now) == 1

    @precondition(lambda self: self.model.lives)
    @rule(which=number, priority=st.integers(-2, 2), wait=st.sampled_from([None, -5, 0, 5]))
    def update(self, which, priority, wait):
        life = self.pick(which)
        run_at = None if wait is None else self.now + timedelta(seconds=wait)
        job = self.scheduler.get(life.id)
        if life.status in FINAL:
            with pytest.raises(JobFinished):
                job.update(priority=priority, run_at=run_at)
            return
        job.update(priority=priority, run_at=run_at)
        life.priority = priority
        if run_at is not None and life.status != "running":
            life.run_at = run_at
            if life.status in UNSTARTED:
                life.status = "scheduled" if run_at > self.now else "queued"

    @rule(by=st.sampled_from([0.001, 1, 4.999, 10, 30, 100]))
    def clock_goes_on(self, by):
        self.clock.now += timedelta(seconds=by)

    @precondition(lambda self: any(life.run_at > self.now for life in self.model.those("scheduled")))
    @rule(by=st.sampled_from([-0.001, 0, 0, 0]))
    def clock_goes_on_to_the_next_start(self, by):
        self.clock.now = min(life.run_at for life in self.model.those("scheduled") if life.run_at > self.now)
        self.clock.now += timedelta(seconds=by)

    @rule(by=st.sampled_from([0.001, 5, 100]))
    def clock_steps_back(self, by):
        self.clock.now -= timedelta(seconds=by)

    @precondition(lambda self: self.model.those("queued"))
    @rule(which=node_number, most=st.integers(1, 3))
    def claim_ahead(self, which, most):
        node = self.nodes[which]

        def take(conn):
            rows = node._current_scopes()[0].due(conn, most)
            claim.take(conn, rows, node.id, [], self.now)
            return [row[0] for row in rows]

        taken = self.scheduler._house.database.write(take)
        best = self.model.best()[:most]
        assert taken == [life.id for life in best]
        for life in best:
            life.was = life.reason
            self.model.take(life, node.id, has_begun=False)

    @precondition(lambda self: self.ahead())
    @rule(which=number)
    def begin_one_that_was_claimed_ahead(self, which):
        """A worker notes that it begins it; the row does not say so yet."""
        life = self.ahead()[which % len(self.ahead())]
        [node] = [node for node in self.nodes if node.id == life.node]
        if node.is_given_up:  # that is for nodes with a lock file of their own, where these notes would be
            return
        node._desk._begun(life.id, life.fence, 1)
        life.has_begun = True

    @precondition(lambda self: self.ahead())
    @rule(which=number)
    def give_back_one_that_was_claimed_ahead(self, which):
        life = self.ahead()[which % len(self.ahead())]
        back = [(life.id, life.fence, life.node, life.was)]
        self.scheduler._house.database.write(lambda conn: claim.give_back(conn, back))
        life.attempt -= 1
        life.go_back(life.was, life.run_at, life.run_at)

    @precondition(lambda self: self.model.those("running") or any(node.late for node in self.nodes))
    @rule(which=node_number)
    def kill(self, which):
        node = self.nodes[which]
        node._wake.close()
        node._lock.release(node.id)
        self.lost += [(node, job) for job in node.in_hand]
        self.scheduler.run_due(limit=0)  # any other node looks after the dead
        self.model.die(node.id, self.now)
        self.model.round(None, self.now)
        self.nodes[which] = self.new_node()

    @precondition(lambda self: self.model.those("running") or any(node.late for node in self.nodes))
    @rule(which=node_number)
    def give_up_a_node_that_lives(self, which):
        """As one of another host that was silent for too long; it goes on."""
        node = self.nodes[which]
        self.scheduler._house.database.write(lambda conn: nodes.rescue(conn, node._lock, node.id, self.now))
        self.lost += [(node, job) for job in node.in_hand]
        node.in_hand = []
        node.is_given_up = True
        self.model.die(node.id, self.now)

    @precondition(lambda self: self.lost)
    @rule(which=number, how=st.sampled_from(["succeeds", "raises", "snoozes 0"]))
    def code_that_lost_its_job_ends(self, which, how):
        node, job = self.lost.pop(which % len(self.lost))
        self.then = raised(how)
        self.run(node, job)
        node._dispatcher.round(self.now)
        assert job.cause == "lost"
        self.model.round(node.id, self.now)

    @precondition(lambda self: self.model.those(*FINAL))
    @rule(keep=st.sampled_from([0, 20, 1_000]))
    def prune(self, keep):
        before = self.now - timedelta(seconds=keep)
        newest = max(self.model.lives)
        gone = [
            life.id for life in self.model.those(*FINAL) if life.finished_at < before and life.id < newest and not life.leftover
        ]
        assert self.scheduler.prune(older_than=keep) == len(gone)
        for one in gone:
            del self.model.lives[one]

    # What must hold after every step

    @invariant()
    def rows_are_the_models(self):
        if hasattr(self, "model"):
            rows = self.reader.execute(
                "SELECT id, status, reason, priority, run_at, attempt, failures, crashes, snoozes, max_attempts, node,"
                " leftover, fence, expires_at, finished_at FROM schedfactory_jobs ORDER BY id"
            ).fetchall()
            assert [read(row) for row in rows] == [
                life.row() for life in sorted(self.model.lives.values(), key=lambda one: one.id)
            ]

    @invariant()
    def counts_are_the_models(self):
        if hasattr(self, "model"):
            counts = self.scheduler.counts()
            assert counts == {status: len(self.model.those(status)) for status in counts}
            totals = self.reader.execute("SELECT status, sum(jobs) FROM schedfactory_totals GROUP BY status").fetchall()
            assert {status: jobs for status, jobs in totals if jobs} == {
                status: counts[status] for status in FINAL if counts[status]
            }

    @invariant()
    def a_node_knows_what_it_has_in_hand(self):
        for node in getattr(self, "nodes", []):
            assert all(node._dispatcher.hand.in_flight.get(job.id) is job for job in node.in_hand)

    @invariant()
    def a_fence_only_grows(self):
        if hasattr(self, "model"):
            for job, fence in self.reader.execute("SELECT id, fence FROM schedfactory_jobs").fetchall():
                assert fence >= self.fences.get(job, 0)
                self.fences[job] = fence

    @invariant()
    def a_result_is_there_where_a_job_has_succeeded_and_nowhere_else(self):
        if hasattr(self, "model"):
            wrong = "SELECT count(*) FROM schedfactory_jobs WHERE (status = 'succeeded') <> (result IS NOT NULL)"
            assert self.reader.execute(wrong).fetchone() == (0,)

    # Choices

    def pick(self, which, *statuses):
        lives = self.model.those(*statuses) if statuses else list(self.model.lives.values())
        return lives[which % len(lives)]

    def run(self, node, job):
        """Let the code go on to its end, as a worker does."""
        node._desk.end(job, node._attempts.run(job), self.now)

    def ahead(self):
        return [life for life in self.model.those("running") if not life.has_begun and not life.cancel_requested]


def raised(how):
    if how.startswith("snoozes"):
        return Snooze(int(how.split()[1]))
    return {"raises": ValueError("x"), "fails for good": Fail("x"), "cancels itself": Cancel("x")}.get(how)


def read(row):
    *facts, expires_at, finished_at = row
    return (*facts[:4], moment(facts[4]), *facts[5:11], bool(facts[11]), facts[12], moment(expires_at), moment(finished_at))


def moment(text):
    return None if text is None else datetime.fromisoformat(text + "+00:00")


# A failure is shown as it was found; the long profile makes it small, which takes minutes.
settings.register_profile(
    "ci", max_examples=120, stateful_step_count=40, deadline=None, database=None, print_blob=True,
    suppress_health_check=list(HealthCheck), phases=(Phase.explicit, Phase.generate),
)  # fmt: skip
settings.register_profile(
    "long", settings.get_profile("ci"), max_examples=3_000, stateful_step_count=100, phases=tuple(set(Phase) - {Phase.explain})
)
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "ci")

TestLivesOfJobs = pytest.mark.timeout(110 if PROFILE == "ci" else 0)(Machine.TestCase)
TestLivesOfJobs.settings = settings.get_profile(PROFILE)
