"""A process that is merely stopped keeps its jobs, and one whose jobs were taken by force can change nothing any more.

SIGSTOP stands for every long silence: a suspended machine, a full swap, a debugger. Lease systems give the jobs of a
silent process away and run them twice (hexpm#1825); here the lock of a stopped process is held all the while.
"""

from __future__ import annotations

import random
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from seats import Seats
from sqlalchemy import select
from witnesses import count

from schedfactory.storage import nodes
from schedfactory.storage.locks import lock_file
from schedfactory.storage.tables import nodes as nodes_table

LEASE_S = 1.0
SILENCE_S = 2.5
SETTINGS = {"scheduler": {"lease": LEASE_S}}


class Workshop(Seats):
    """Jobs that run until they are released, and processes that are stopped meanwhile."""

    def stop(self, seat):
        """SIGSTOP."""
        self.processes[seat].send_signal(signal.SIGSTOP)
        file = Path(f"/proc/{self.processes[seat].pid}/stat")
        self.wait_for(lambda: file.read_text().rpartition(")")[2].split()[0] == "T", f"{seat} has stopped")

    def go_on(self, seat):
        """SIGCONT."""
        self.processes[seat].send_signal(signal.SIGCONT)

    def connect(self, timeout=30):
        return sqlite3.connect(self.folder / "jobs.db", timeout=timeout, isolation_level=None)

    def enqueue(self, task):
        return self.scheduler.remote(task).enqueue(key=f"{task}-0", of=1, times=0)

    def release(self, task, fence):
        (self.folder / f"release.{task}-0.{fence}").touch()

    def told(self, what, task):
        """Return what was written of a job's runs: (fence, name of the process), or (fence, how it ended)."""
        at = {"start": 4, "end": 6}[what]
        return [(int(words[3]), words[at]) for words in self.effects() if words[:2] == [what, f"{task}-0"]]

    def has_lost(self, job, attempt):
        """Tell whether a process has said that an attempt of its had lost its job."""
        said = f"job {job.id}: attempt {attempt} had lost its job"
        return any(words[0] == "WARNING" and said in " ".join(words) for words in self.effects())

    def rows(self, *jobs):
        with closing(self.connect()) as connection:
            return [connection.execute("SELECT * FROM schedfactory_jobs WHERE id = ?", (job.id,)).fetchone() for job in jobs]

    def let_others_take_over(self, seat):
        """Have a process given up for its silence, as one of another host is: an operator writes that into its row."""
        with closing(self.connect()) as connection:
            pid = self.processes[seat].pid
            connection.execute("UPDATE schedfactory_nodes SET host = 'other', boot_id = 'other' WHERE pid = ?", (pid,))

    def take_away(self, seat):
        """Do to a process that lives what a rescuer does to the dead."""
        database = self.scheduler._house.database
        with database.read() as conn:
            node = conn.execute(select(nodes_table.c.id).where(nodes_table.c.pid == self.processes[seat].pid)).scalar_one()
        lock = lock_file(database.path)
        database.write(lambda conn: nodes.rescue(conn, lock, node, self.scheduler._house.clock()))


@pytest.fixture
def workshop(tmp_path, launch, scheduler, freeze):
    found = Workshop(tmp_path, launch, scheduler)
    found.freeze = freeze
    return found


# Left alone


def keep_silent(workshop, seconds, **how):
    """Stop a process that has a job for longer than a lease, beside one that works, or until that one takes the job.

    Returns the job, how many jobs the other one did meanwhile, and the history.
    """
    first = workshop.start("a", "work", **SETTINGS, **how)
    job = workshop.enqueue("hold")
    workshop.wait_for(lambda: workshop.told("start", "hold"), "the job runs")
    workshop.start("b", "work", **SETTINGS, **how)
    workshop.freeze(workshop.processes["a"])
    noop = workshop.scheduler.remote("noop")
    noop.enqueue(key="b.0-0", of=1, times=0).wait("30s")  # the other one is there
    end = time.monotonic() + seconds
    others = 1
    while time.monotonic() < end and len(workshop.told("start", "hold")) == 1:
        noop.enqueue(key=f"b.{others}-0", of=1, times=0).wait("30s")
        others += 1
        time.sleep(0.02)
    assert workshop.told("start", "hold")[0] == (1, first)
    workshop.go_on("a")
    workshop.release("hold", 1)
    workshop.release("hold", 2)
    workshop.wait_for(workshop.has_settled, "the job has ended")
    workshop.wait_for(lambda: len(workshop.told("end", "hold")) == len(workshop.told("start", "hold")), "its code has ended")
    return job, others, workshop.leave()


def test_a_stopped_process_keeps_its_jobs_beyond_its_lease(workshop, figures):
    job, others, history = keep_silent(workshop, SILENCE_S)
    assert history.violations() == []
    assert (job.refresh().attempt, job.refresh().crashes) == (1, 0)
    figures(silent_s=SILENCE_S, lease_s=LEASE_S, jobs_of_the_other_meanwhile=others, taken=0)


def test_the_harness_catches_a_rescue_by_timeout(workshop):
    _, _, history = keep_silent(workshop, 30, sabotage="rescue_by_timeout")
    assert "overlap" in {text.partition(":")[0] for text in history.violations()}


def test_processes_stopped_at_random_instants_lose_no_job_to_each_other(workshop, factor, figures):
    workers = [f"w{number}" for number in range(3)]
    for seat in workers:
        workshop.start(seat, "work", **SETTINGS)
    workshop.start("p0", "produce", quota=10**9, mix={"noop": 1, "slow": 3, "snoozy": 1}, **SETTINGS)
    rounds = 4 * factor
    for _ in range(rounds):
        wait_for_work(workshop, 200)
        time.sleep(random.uniform(0, 0.05))
        seat = random.choice(workers)
        workshop.stop(seat)
        time.sleep(1.5 * LEASE_S)
        workshop.go_on(seat)
    (workshop.folder / "enough").touch()
    workshop.wait_for(workshop.has_settled, "all jobs have ended")
    history = workshop.leave()
    assert history.violations() == []
    assert {row["crashes"] for row in history.jobs.values()} == {0}
    figures(stops=rounds, of_s=1.5 * LEASE_S, jobs=len(history.jobs), taken=0, lost=0, double=0)


def wait_for_work(workshop, more):
    before = count(workshop.folder / "effects")
    workshop.wait_for(lambda: count(workshop.folder / "effects") > before + more, "work goes on")


# Taken by force


def take_by_force(workshop, is_other, **how):
    """Take two jobs from a stopped process and give them to another one, or to it; return what its late code changed."""
    workshop.start("a", "work", **SETTINGS, **how)
    jobs = [workshop.enqueue("hold"), workshop.enqueue("talk")]
    workshop.wait_for(lambda: workshop.told("start", "hold") and workshop.told("start", "talk"), "the jobs run")
    if is_other:
        workshop.start("b", "work", **SETTINGS)
    workshop.freeze(workshop.processes["a"])
    if is_other:
        workshop.let_others_take_over("a")
    else:
        workshop.take_away("a")
        workshop.go_on("a")
    workshop.wait_for(lambda: len(workshop.told("start", "hold")) == len(workshop.told("start", "talk")) == 2, "they run again")
    before = workshop.rows(*jobs)
    if is_other:
        workshop.go_on("a")
    workshop.wait_for(lambda: workshop.told("end", "talk") == [(1, "LostLease")], "its code is told so")
    workshop.release("hold", 1)
    workshop.wait_for(
        lambda: all(workshop.has_lost(job, 1) for job in jobs) or workshop.rows(*jobs) != before, "its end was refused"
    )
    changed = sum(row != was for row, was in zip(workshop.rows(*jobs), before))
    workshop.release("hold", 2)
    workshop.release("talk", 2)
    workshop.wait_for(lambda: len(workshop.told("end", "hold")) == len(workshop.told("end", "talk")) == 2, "both have ended")
    workshop.wait_for(workshop.has_settled, "the ends are stored")
    return changed, workshop.leave(), frozenset(job.id for job in jobs)


@pytest.mark.parametrize("is_other", [True, False], ids=["by another process", "by itself"])
def test_a_process_whose_jobs_were_taken_by_force_changes_nothing(workshop, is_other, figures):
    changed, history, jobs = take_by_force(workshop, is_other)
    assert changed == 0
    assert history.violations(forced=jobs) == []
    figures(taken_by_force=len(jobs), late_writes_that_changed_a_row=changed)


@pytest.mark.parametrize(
    ("is_other", "mistake"),
    [(True, "finish_without_any_guard"), (False, "finish_without_the_fence")],
    ids=["by another process", "by itself"],
)
def test_the_harness_catches_a_missing_fence(workshop, is_other, mistake):
    changed, history, jobs = take_by_force(workshop, is_other, sabotage=mistake)
    assert changed == 1
    assert "stale" in {text.partition(":")[0] for text in history.violations(forced=jobs)}
