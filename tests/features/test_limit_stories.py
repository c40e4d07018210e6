"""Random stories of several nodes: no limit is ever exceeded, no room is left unused, and the best of a line goes first.

`python -m pytest tests/features/test_limit_stories.py -k "17"` tells the story of the seed 17 again.
"""

from __future__ import annotations

import json
import random
import sqlite3
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from floor import Player, most_in_a_window

from schedfactory import Limit, Scheduler
from schedfactory.model.clock import stamp


class Row(NamedTuple):
    """A job, as far as limits matter."""

    id: int
    task: str
    args: str
    queue: str
    priority: int
    run_at: str
    started_at: str | None
    crashes: int

    @property
    def place(self) -> tuple[int, str, int]:
        return (-self.priority, self.run_at, self.id)


class Story:
    """A lot of jobs, two or three nodes, and what an observer knows of the limits."""

    def __init__(self, seed: int, path: Path, clock: Any, limits: list[Limit], queue_limit: int | None, pools: bool) -> None:
        self.pools = pools
        self.dice = random.Random(seed)
        self.clock = clock
        self.limits = limits
        self.slots = {} if queue_limit is None else {"queue:mail": queue_limit}
        self.scheduler = Scheduler(path, clock=clock, durability="normal")
        self.one = self.scheduler.task(name="one", limit=limits)(one)
        self.two = self.scheduler.task(name="two", limit=[limit for limit in limits if limit.key == "a:{a}"])(two)
        self.free = self.scheduler.task(name="free")(free)
        self.scheduler.queues.set("mail", concurrency=queue_limit)
        self.is_paused = False
        self.starts: list[str] = []
        self.rows = sqlite3.connect(path)
        self.nodes = [self.make_node() for _ in range(self.dice.randint(2, 3))]

    def close(self) -> None:
        for node in self.nodes:
            node.close()
        self.rows.close()
        self.scheduler.close()

    def make_node(self) -> Player:
        if not self.pools or self.dice.random() < 0.6:
            return Player(self.scheduler, self.clock, self.dice.randint(1, 5))
        return Player(self.scheduler, self.clock, None, {"mail": self.dice.randint(1, 2), "*": self.dice.randint(1, 3)})

    def find(self, condition: str) -> list[Row]:
        names = ", ".join(Row._fields)
        return [Row(*row) for row in self.rows.execute(f"SELECT {names} FROM schedfactory_jobs WHERE {condition}")]

    def keys(self, row: Row) -> dict[str, int | None]:
        """Return what a job counts by, and how many slots that has."""
        args = json.loads(row.args)
        found: dict[str, int | None] = {}
        for limit in self.limits:
            if row.task == "one" or (row.task == "two" and limit.key == "a:{a}"):
                found["task:one" if limit.key is None else f"limit:{limit.key.format(**args)}"] = limit.concurrency
        if f"queue:{row.queue}" in self.slots:
            found[f"queue:{row.queue}"] = self.slots[f"queue:{row.queue}"]
        return found

    @property
    def rate(self) -> int | None:
        return next((int(limit.rate[:-2]) for limit in self.limits if limit.rate is not None), None)

    def may_start(self, row: Row, in_use: Counter[str], instead_of: frozenset[str] = frozenset()) -> bool:
        if self.is_paused and row.queue == "mail":
            return False
        if row.task == "one" and self.rate is not None:
            recent = [start for start in self.starts if start > stamp(self.clock.now - timedelta(seconds=1.01))]
            if len(recent) >= self.rate:
                return False
        return all(slots is None or in_use[key] - (key in instead_of) < slots for key, slots in self.keys(row).items())

    def round(self, node: Player) -> list[int]:
        started = node.round()
        now = {row.id: row for row in self.find("status = 'running'")}
        self.starts += [str(now[job].started_at) for job in started if now[job].task == "one"]
        return started

    def check_slots(self) -> Counter[str]:
        in_use = Counter(key for row in self.find("status = 'running'") for key in self.keys(row))
        for row in self.find("status = 'running'"):
            for key, slots in self.keys(row).items():
                assert slots is None or in_use[key] <= slots, f"{key} has {in_use[key]} of {slots}"
        return in_use

    def check_order(self, started: list[int]) -> None:
        in_use = self.check_slots()
        for row in self.find("status = 'running'"):
            if row.id in started:
                own = frozenset(self.keys(row))
                better = [one for one in self.find("status = 'queued' AND node IS NULL") if one.place < row.place]
                assert not [one for one in better if self.may_start(one, in_use, own)], f"{row} went before"

    def check_use(self) -> None:
        """Assert that nobody is idle while there is a job that may start; after the ticks have done what they do."""
        for _ in range(6):
            for node in self.nodes:
                node.tick()
                self.round(node)
        in_use = self.check_slots()
        if self.find("crashes > 1 AND status IN ('queued', 'running')"):
            return  # one that runs alone
        for node in self.nodes:
            for row in self.find("status = 'queued' AND node IS NULL") if node.desk.idle else ():
                [pool] = [pool for pool in node.node._slots.pools if pool.serves(row.queue)]
                busy = sum(pool.serves(job.queue) for job, _ in node.jobs.values())
                if pool.size is None or busy < pool.size:
                    assert not self.may_start(row, in_use), f"{row} could run"

    def act(self) -> None:
        dice, node = self.dice, self.dice.choice(self.nodes)
        waiting = self.find("status = 'queued'")
        chance = dice.random()
        if chance < 0.3:
            self.scheduler.enqueue_many([self.call() for _ in range(dice.randint(1, 30))])
        elif chance < 0.65:
            for job in [job for job in node.jobs if dice.random() < 0.6]:
                node.end(job)
        elif chance < 0.7:
            self.nodes.remove(node)
            node.vanish()
            node.is_rescued(by=self.nodes[0])
            self.nodes.append(self.make_node())
            for one in self.nodes:
                one.tick()
        elif chance < 0.75 and waiting:
            self.scheduler.cancel(dice.choice(waiting).id)
        elif chance < 0.8 and waiting:
            self.scheduler.get(dice.choice(waiting).id).update(priority=dice.choice([0, 20]))  # type: ignore[union-attr]
        elif chance < 0.83 and self.slots:
            (self.scheduler.queues.resume if self.is_paused else self.scheduler.queues.pause)("mail")
            self.is_paused = not self.is_paused
        self.clock.advance(milliseconds=dice.choice([0, 1, 50, 300]))

    def call(self) -> Any:
        task = self.dice.choice([self.one, self.one, self.two, self.free])
        task = task.options(priority=self.dice.choice([0, 0, 5, 9]), queue=self.dice.choice(["default", "mail"]))
        return task.call(self.dice.randint(0, 2), self.dice.randint(0, 2))

    def end(self) -> None:
        """Let everything run that is left."""
        if self.is_paused:
            self.scheduler.queues.resume("mail")
            self.is_paused = False
        for _ in range(2_000):
            if not self.find("status IN ('queued', 'running')"):
                return
            self.clock.advance(seconds=1.2)
            for node in self.nodes:
                for job in list(node.jobs):
                    node.end(job)
                self.round(node)
                node.tick()
            self.check_slots()
        raise AssertionError(f"left: {self.find('''status IN ('queued', 'running')''')}")


def one(a: int, b: int) -> None: ...


def two(a: int, b: int) -> None: ...


def free(a: int, b: int) -> None: ...


def tell(story: Story, steps: int, *, is_strict: bool) -> None:
    for _ in range(steps):
        story.act()
        started = story.round(story.dice.choice(story.nodes))
        if is_strict:
            story.check_order(started)
        else:
            story.check_slots()
        if story.dice.random() < 0.2:
            story.check_use()
    story.end()
    if story.rate is not None:
        assert most_in_a_window(story.starts, timedelta(seconds=1)) <= story.rate


@pytest.fixture
def seat(path: Path, clock: Any) -> Iterator[Any]:
    made: list[Story] = []

    def make(*given: Any) -> Story:
        made.append(Story(given[0], path, clock, *given[1:]))
        return made[-1]

    yield make
    for story in made:
        story.close()


@pytest.mark.parametrize("seed", range(6))
def test_with_one_limit_a_job_nobody_goes_before_a_better_one_that_could_start(seat: Any, seed: int) -> None:
    dice = random.Random(seed)
    tell(seat(seed, [Limit(dice.randint(1, 3), key="a:{a}")], None, False), 40, is_strict=True)


@pytest.mark.parametrize("seed", range(10, 22))
def test_with_several_limits_a_job_none_is_exceeded_and_no_room_is_left_unused(seat: Any, seed: int) -> None:
    dice = random.Random(seed)
    limits = [
        Limit(dice.randint(1, 3), key="a:{a}"),
        dice.choice([Limit(dice.randint(1, 5)), Limit(dice.randint(1, 3), key="b:{b}")]),
        *dice.choice([[], [Limit(rate=f"{dice.randint(2, 8)}/s", key="r")]]),
    ]
    dice.shuffle(limits)
    tell(seat(seed, limits, dice.choice([None, 1, 3]), True), 40, is_strict=False)
