"""Whatever is killed at whatever moment: nothing acknowledged is lost, nothing succeeds twice, nothing runs beside itself.

Workers and producers on one file die by SIGKILL, from outside at random instants and from inside at failpoints, and
others take their seats at once. What they wrote down is then held against the database (`history.py`).
"""

from __future__ import annotations

import random
import signal
import time
from itertools import cycle
from statistics import median

import pytest
from factory_floor import FAILPOINTS
from seats import Seats
from witnesses import count

MIX = {"noop": 45, "slow": 25, "flaky": 12, "snoozy": 12, "once": 6}
POINTS = [(where, side) for where in FAILPOINTS for side in ("before", "after")]
OFTEN = ("begin", "commit", "finish", "claim", "end")  # what a worker calls again and again; the rest is met seldom
CHECKPOINTS = ["schedfactory.storage.checkpoint", "_PAGES", 60]
SEATS = ("p0", "p1", "w0", "w1", "w2", "w3")
SETTLED_S, RECOVERED_S = 60, 10


class Storm(Seats):
    """Four workers and two producers, some of whom carry a failpoint, until `kills` of them have died.

    Args:
        first: the failpoints of the first ones on a seat; then only they die.
        sabotage: the mistakes of the producers ("p") and of the workers ("w").
    """

    def __init__(self, *where, jobs, kills, mix=MIX, sabotage=None, first=None):
        super().__init__(*where)
        self.jobs, self.kills, self.mix = jobs, kills, mix
        self.first = first
        self.sabotage = sabotage or {}
        self.deaths = 0
        self.points = cycle(POINTS)
        self.quota = -(-jobs // 2)

    def rage(self):
        for seat in SEATS:
            self.seat(seat)
        while self.processes.keys() & {"p0", "p1"} or (not self.first and self.deaths < self.kills):
            self.replace_the_dead()
            if not self.first and self.deaths < min(self.kills, self.kills * 1.03 * self.acknowledged / self.jobs):
                time.sleep(random.uniform(0, 0.1))
                self.kill(random.choice(list(self.processes)))
            time.sleep(0.005)
        self.wait_for(self.is_over, "all jobs have ended", SETTLED_S)
        return self.leave()

    def seat(self, seat):
        options = {"constants": [CHECKPOINTS]}
        if seat[0] in self.sabotage:
            options["sabotage"] = self.sabotage[seat[0]]
        if seat.startswith("p"):
            options |= {"role": "produce", "quota": self.quota, "mix": self.mix}
        else:
            options |= {"role": "work"}
        if self.first is not None:
            if seat not in self.names and seat in self.first:
                options["failpoint"] = self.first[seat]
        elif self.deaths < self.kills and random.random() < 0.5:
            where, side = next(self.points)
            if seat.startswith("w") or where in ("begin", "commit", "checkpoint"):
                options["failpoint"] = where, side, random.randint(1, 60 if where in OFTEN else 2)
        self.start(seat, **options)

    def replace_the_dead(self):
        for seat, process in list(self.processes.items()):
            if process.poll() == 0 and seat.startswith("p"):
                del self.processes[seat]
            elif process.returncode is not None:
                is_killed = process.returncode == -signal.SIGKILL and self.names[seat] in self.armed | self.killed.keys()
                assert is_killed, f"{self.names[seat]} ended by itself: {self.errors()}"
                self.deaths += 1
                self.seat(seat)

    @property
    def acknowledged(self):
        return sum(count(self.folder / f"acks.{seat}") for seat in ("p0", "p1"))

    def is_over(self):
        self.replace_the_dead()
        return self.has_settled()


@pytest.fixture
def storm(tmp_path, launch, scheduler):
    return lambda **size: Storm(tmp_path, launch, scheduler, **size)


def test_a_storm_of_kills_loses_nothing_and_runs_nothing_beside_itself(storm, factor, figures):
    raging = storm(jobs=4_000 * factor, kills=40 * factor)
    history = raging.rage()
    assert history.violations() == []
    assert len(history.acks) >= 4_000 * factor
    assert raging.deaths >= 40 * factor
    recoveries = history.recoveries()
    assert max(recoveries) <= RECOVERED_S
    figures(
        jobs=len(history.jobs),
        attempts=sum(map(len, history.runs.values())),
        kills=raging.deaths,
        of_them_at_failpoints=f"{history.failpoints.total()} ({len(history.failpoints)} different)",
        crashes_charged=history.crashes,
        failed_by_three_crashes=sum(row["status"] == "failed" and row["task"] != "once" for row in history.jobs.values()),
        lost=0,
        double=0,
        recovery_s=f"{median(recoveries):.2f} (longest {max(recoveries):.2f})",
    )


def test_a_process_may_die_before_and_after_each_step(tmp_path, launch, scheduler, figures):
    seats = Seats(tmp_path, launch, scheduler)
    for where, side in POINTS:
        seats.start("w", "work", failpoint=(where, side, 4 if where in OFTEN else 1), constants=[CHECKPOINTS])
        while seats.processes["w"].poll() is None:
            if scheduler.counts()["queued"] < 30:
                enqueue_some(scheduler)
            time.sleep(0.01)
        assert seats.processes["w"].returncode == -signal.SIGKILL, seats.errors()
    seats.start("w", "work")
    seats.wait_for(seats.has_settled, "all jobs have ended", SETTLED_S)
    history = seats.leave()
    assert history.violations() == []
    assert history.failpoints == {f"{where}-{side}": 1 for where, side in POINTS}
    figures(failpoints=len(POINTS), jobs=len(history.jobs), crashes_charged=history.crashes, lost=0, double=0)


def enqueue_some(scheduler):
    tasks = random.choices(list(MIX), list(MIX.values()), k=30)
    key = f"tour.{time.monotonic_ns()}"
    calls = [
        scheduler.remote(task).call(key=f"{key}-{index}", of=len(tasks), times=random.randint(1, 2))
        for index, task in enumerate(tasks)
    ]
    scheduler.enqueue_many(calls)


@pytest.mark.parametrize(
    ("mistake", "objection", "deaths"),
    [
        ({"p": "acknowledge_before_the_commit"}, "lost", {"p0": ("commit", "before", 9), "p1": ("commit", "before", 5)}),
        ({"w": "forget_what_was_begun"}, "too often", dict.fromkeys(SEATS[2:], ("end", "before", 30))),
    ],
)
def test_the_storm_catches(storm, mistake, objection, deaths):
    history = storm(jobs=250, kills=len(deaths), mix={"noop": 1}, sabotage=mistake, first=deaths).rage()
    assert objection in {text.partition(":")[0] for text in history.violations()}
