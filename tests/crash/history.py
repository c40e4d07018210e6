"""The oracle of the harnesses: what processes said they did, held against what the database says.

A history in the way of Jepsen (github.com/jepsen-io/jepsen): producers write down each job whose enqueue returned, task
bodies write down their start and their end, triggers in the database write down each committed change of a job's status.
None of these three can know what the others say, so a promise that was broken shows as a contradiction.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from witnesses import SECONDS, lines

FINAL = ("succeeded", "failed", "cancelled")
MAX_CRASHES = 3


@dataclass
class Run:
    """One execution of a job's code."""

    job: int
    fence: int
    process: str
    start: int
    end: int | None = None
    how: str | None = None


class History:
    """All that is known of one storm, read once its processes have ended.

    Args:
        folder: where `jobs.db`, `effects` and the files `acks.*` are.
        killed: the moment before each kill by the harness, by the name of the process; where it had killed itself a moment
            before, that counts.
        counts: what `Scheduler.counts()` said.
    """

    def __init__(self, folder: Path, killed: dict[str, tuple[int, float]], counts: dict[str, int]) -> None:
        self.counts = counts
        self.effects = lines(folder / "effects")
        self.acks = [words for file in sorted(folder.glob("acks.*")) for words in lines(file)]
        self.deaths = dict(killed)
        self.failpoints: Counter[str] = Counter()
        self.runs: dict[int, list[Run]] = defaultdict(list)
        self._twice: list[Run] = []
        names = self._read_effects()
        connection = sqlite3.connect(folder / "jobs.db", timeout=30)
        connection.row_factory = sqlite3.Row
        self.jobs = {row["id"]: row for row in connection.execute("SELECT * FROM schedfactory_jobs")}
        self.attempts: dict[int, list[str]] = defaultdict(list)
        for row in connection.execute("SELECT job_id, status FROM schedfactory_attempts ORDER BY number"):
            self.attempts[row["job_id"]].append(row["status"])
        self.nodes: dict[int, str] = {}
        self.born: dict[str, float] = {}
        for node, pid, born in connection.execute(f"SELECT id, pid, {SECONDS.format('started_at')} FROM schedfactory_nodes"):
            self.nodes[node] = names[pid]
            self.born[names[pid]] = born
        self.changes = connection.execute("SELECT * FROM witness ORDER BY seq").fetchall()
        self.integrity = connection.execute("PRAGMA integrity_check").fetchone()[0]
        connection.close()

    def _read_effects(self) -> dict[int, str]:
        names: dict[int, str] = {}
        known: dict[tuple[int, int], Run] = {}
        for words in self.effects:
            if words[0] == "death":
                _, name, failpoint, at, wall = words
                self.deaths[name] = (int(at), float(wall))
                self.failpoints[failpoint] += 1
            elif words[0] == "process":
                names[int(words[2])] = words[1]
            elif words[0] == "start":
                run = Run(int(words[2]), int(words[3]), words[4], int(words[5]))
                if (run.job, run.fence) in known:
                    self._twice.append(run)
                known[run.job, run.fence] = run
                self.runs[run.job].append(run)
            elif words[0] == "end":
                run = known[int(words[2]), int(words[3])]
                run.end, run.how = int(words[5]), words[6]
        return names

    def violations(self, forced: frozenset[int] = frozenset()) -> list[str]:
        """Return what must not be.

        Args:
            forced: jobs that an operator took from a live process, whose attempts may overlap.
        """
        return [
            *self._lost(),
            *self._stored_in_part_or_twice(),
            *self._unended(),
            *self._wrong_ends(),
            *self._started_twice(forced),
            *self._run_too_often(),
            *self._miscounted(),
            *(f"logged: {' '.join(words[1:])}" for words in self.effects if words[0] in ("ERROR", "CRITICAL")),
            *([] if self.integrity == "ok" else [f"integrity: {self.integrity}"]),
        ]

    def _lost(self) -> Iterator[str]:
        for key, job, uid in self.acks:
            row = self.jobs.get(int(job))
            if row is None or row["uid"] != uid or json.loads(row["args"])["key"] != key:
                yield f"lost: job {job} ({key}) was acknowledged and is not there"

    def _stored_in_part_or_twice(self) -> Iterator[str]:
        calls: Counter[str] = Counter()
        sizes: dict[str, int] = {}
        keys: Counter[str] = Counter()
        for row in self.jobs.values():
            args = json.loads(row["args"])
            call = args["key"].rpartition("-")[0]
            keys[args["key"]] += 1
            calls[call] += 1
            sizes[call] = args["of"]
        yield from (f"stored twice: {key}" for key, times in keys.items() if times > 1)
        yield from (f"in part: {size} jobs of {call} were one call" for call, size in sizes.items() if calls[call] != size)

    def _unended(self) -> Iterator[str]:
        for job, row in self.jobs.items():
            if row["status"] not in FINAL:
                yield f"never ended: job {job} is {row['status']}"

    def _wrong_ends(self) -> Iterator[str]:
        successes: Counter[int] = Counter()
        for change in self.changes:
            job = change["job"]
            if change["was"] in FINAL:
                yield f"after the end: job {job} was {change['was']} and became {change['became']}"
            if change["became"] == "succeeded":
                successes[job] += 1
                if change["result"] != str(change["fence"]):
                    yield f"stale: attempt {change['result']} of job {job} stored its success over {change['fence']}"
                if not any(run.fence == change["fence"] and run.how == "ok" for run in self.runs[job]):
                    yield f"out of nothing: job {job} succeeded and its code did not"
        for job, row in self.jobs.items():
            if successes[job] != (row["status"] == "succeeded"):
                yield f"successes: job {job} is {row['status']} and succeeded {successes[job]} times"
            yield from self._wrong_end(row)

    def _wrong_end(self, row: sqlite3.Row) -> Iterator[str]:
        job, times = row["id"], json.loads(row["args"])["times"]
        if row["status"] == "succeeded":
            wanted = (times if row["task"] == "flaky" else 0, times if row["task"] == "snoozy" else 0)
            if (row["failures"], row["snoozes"]) != wanted:
                yield f"end: job {job} failed {row['failures']} and snoozed {row['snoozes']} times instead of {wanted}"
        elif row["status"] in FINAL:
            crashes = self.attempts[job].count("crashed")
            if row["reason"] != "crashed" or crashes != (1 if row["task"] == "once" else MAX_CRASHES):
                yield f"end: job {job} ({row['task']}) is {row['status']}/{row['reason']} with {crashes} recorded crashes"

    def _started_twice(self, forced: frozenset[int]) -> Iterator[str]:
        for run in self._twice:
            yield f"one claim, two starts: job {run.job} with fence {run.fence}"
        for job, runs in self.runs.items():
            if job in forced:
                continue
            runs.sort(key=lambda run: run.start)
            for one, other in pairwise(runs):
                end = self._end_of(one)
                if end is None or end > other.start:
                    yield f"overlap: job {job} with fences {one.fence} by {one.process}, {other.fence} by {other.process}"

    def _end_of(self, run: Run) -> int | None:
        """Return when the code ended at the earliest: no later than it did, so that what overlaps here did overlap."""
        if run.end is not None:
            return run.end
        return self.deaths[run.process][0] if run.process in self.deaths else None

    def _run_too_often(self) -> Iterator[str]:
        for job, runs in self.runs.items():
            row = self.jobs.get(job)
            if row is None:
                yield f"lost: job {job} ran and is not there"
            elif len(runs) > 1 + row["failures"] + row["crashes"] + row["snoozes"]:
                yield f"too often: job {job} ran {len(runs)} times, was charged with {row['crashes']} crashes"
            if row is not None and row["task"] == "once" and len(runs) > 1:
                yield f"again: job {job} must not start after a crash, and did"

    def _miscounted(self) -> Iterator[str]:
        found = Counter(row["status"] for row in self.jobs.values())
        counted = {status: number for status, number in self.counts.items() if number}
        if counted != dict(found):
            yield f"counts: {counted} were told, {dict(found)} are there"

    def recoveries(self) -> list[float]:
        """Return, for each death that left jobs running, the seconds until the last one was taken from the dead.

        They count from when another node was there that lived to see it.
        """
        last: dict[str, float] = {}
        for change in self.changes:
            name = self.nodes.get(change["node"])
            if change["was"] == "running" and name in self.deaths and change["at"] > self.deaths[name][1]:
                last[name] = change["at"]
        return sorted(end - max(self.deaths[name][1], self._first_heir(end)) for name, end in last.items())

    def _first_heir(self, end: float) -> float:
        return min(born for name, born in self.born.items() if name not in self.deaths or self.deaths[name][1] > end)

    @property
    def crashes(self) -> int:
        """How many attempts ended by the death of their process."""
        return sum(found.count("crashed") for found in self.attempts.values())
