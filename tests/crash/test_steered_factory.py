"""Three processes on one file, random orders, settings changed under load, SIGKILL in between.

Triggers note every committed change in the order of the commits; the replay of that says whether a limit was ever exceeded,
or a key held twice.
"""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import time
from collections import Counter, defaultdict
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from steered_floor import ACCOUNTS
from witnesses import count, lines

from schedfactory import Scheduler
from schedfactory.model.clock import unstamp

FLOOR = Path(__file__).with_name("steered_floor.py")
SECONDS = 12
UNFINISHED = ("waiting", "scheduled", "queued", "running")
WITNESS = """
CREATE TABLE steered (seq INTEGER PRIMARY KEY, what TEXT, id, task TEXT, status TEXT, key TEXT, holds INTEGER, value);
CREATE TRIGGER steered_new AFTER INSERT ON schedfactory_jobs BEGIN
    INSERT INTO steered (what, id, task, status, key, holds) VALUES (
        'job', NEW.id, NEW.task, NEW.status, coalesce(NEW.unique_key, NEW.args), NEW.fence <= NEW.unique_fence);
END;
CREATE TRIGGER steered_change AFTER UPDATE OF status ON schedfactory_jobs BEGIN
    INSERT INTO steered (what, id, task, status, key, holds) VALUES (
        'job', NEW.id, NEW.task, NEW.status, coalesce(NEW.unique_key, NEW.args), NEW.fence <= NEW.unique_fence);
END;
CREATE TRIGGER steered_set AFTER INSERT ON schedfactory_queues BEGIN
    INSERT INTO steered (what, id, value) VALUES ('queue', NEW.name, iif(NEW.paused, 0, NEW.concurrency));
END;
CREATE TRIGGER steered_reset AFTER UPDATE ON schedfactory_queues BEGIN
    INSERT INTO steered (what, id, value) VALUES ('queue', NEW.name, iif(NEW.paused, 0, NEW.concurrency));
END;
"""


class Factory:
    """Nodes that die and are replaced, and whoever steers them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.scheduler = Scheduler(folder / "jobs.db")
        self.scheduler.migrate()
        with closing(sqlite3.connect(folder / "jobs.db", timeout=30)) as connection:
            connection.executescript(WITNESS)
        self.nodes: list[subprocess.Popen[str]] = []
        self.started = self.kills = 0
        self.commands: list[Any] = []

    def fill(self) -> None:
        """Replace the dead, and those that were told to quit."""
        for node in self.nodes:
            assert node.poll() in (None, 0, -9), (self.folder / "stderr").read_text()[-2000:]
            if node.returncode is not None and node.stdin is not None:
                node.stdin.close()
        self.nodes = [node for node in self.nodes if node.returncode is None]
        while len(self.nodes) < 3:
            self.started += 1
            with (self.folder / "stderr").open("a") as errors:
                self.nodes.append(
                    subprocess.Popen(
                        [sys.executable, FLOOR, f"n{self.started}"], cwd=self.folder, stdin=subprocess.PIPE,
                        stdout=subprocess.DEVNULL, stderr=errors, text=True,
                    )
                )  # fmt: skip

    def steer(self) -> None:
        """Do one thing to the factory."""
        running = [node.id for node in self.scheduler.nodes.list() if node.status in ("running", "paused")]
        node = random.choice([*running, None, 999_999]) if running else None
        nodes, queues = self.scheduler.nodes, self.scheduler.queues
        action = random.randrange(10)
        if action == 0:
            victim = random.choice(self.nodes)
            victim.kill()
            victim.wait(30)
            self.kills += 1
        elif action == 1:
            self.commands += [nodes.pause(node), nodes.resume()]
        elif action == 2:
            self.commands.append(nodes.scale(node, workers=random.randint(1, 5)))
        elif action == 3:
            self.commands.append(nodes.quit(node or 999_999, worker=random.randint(1, 3)))
        elif action == 4 and node is not None:
            self.commands.append(nodes.quit(node, force=random.random() < 0.5))
        elif action == 5:
            queues.pause("shop")
        elif action == 6:
            queues.resume("shop")
        elif action == 7:
            with closing(sqlite3.connect(self.folder / "jobs.db", timeout=30)) as connection, connection:
                connection.execute("UPDATE schedfactory_queues SET concurrency = ?", (random.randint(1, 4),))
        else:
            queues.set("shop", concurrency=random.randint(1, 4), max_size=random.choice([5, 50, None]))

    def settle(self) -> None:
        """Let everything end."""
        (self.folder / "enough").touch()
        self.scheduler.queues.set("shop", concurrency=4, max_size=None)
        self.scheduler.queues.resume("shop")
        end = time.monotonic() + 60
        while any(self.scheduler.counts()[status] for status in UNFINISHED):
            self.fill()
            self.scheduler.nodes.resume()
            for node in self.scheduler.nodes.list():
                if node.status == "running" and node.workers < 3:
                    self.scheduler.nodes.scale(node.id, workers=3)
            assert time.monotonic() < end, (
                self.scheduler.counts(),
                [job.explain() for job in self.scheduler.jobs(status=UNFINISHED)],
            )
            time.sleep(0.2)

    def leave(self) -> None:
        for node in self.nodes:
            assert node.stdin is not None
            node.stdin.close()
        for node in self.nodes:
            assert node.wait(30) in (0, -15), (self.folder / "stderr").read_text()[-2000:]
        self.scheduler.close()


@pytest.fixture
def factory(tmp_path: Path) -> Any:
    found = Factory(tmp_path)
    yield found
    for node in found.nodes:
        node.kill()
        node.wait(30)
        assert node.stdin is not None
        node.stdin.close()
    found.scheduler.close()


def rows(folder: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(folder / "jobs.db")) as connection:
        return connection.execute(query).fetchall()


def replay(folder: Path) -> Counter[str]:
    """Go through all commits in their order; return the most that ran at a time, by what bounds them."""
    allowed: int | None = None
    running: dict[str, set[int]] = defaultdict(set)
    held: dict[tuple[str, str], int] = {}
    most: Counter[str] = Counter()
    for what, job, task, status, key, holds, value in rows(
        folder, "SELECT what, id, task, status, key, holds, value FROM steered ORDER BY seq"
    ):
        if what == "queue":
            allowed = value
            continue
        bound = f"{task} {key}" if task == "limited" else task
        before = job in running[bound]
        (running[bound].add if status == "running" else running[bound].discard)(job)
        if task == "shop" and status == "running" and not before and allowed is not None:
            assert len(running[bound]) <= allowed, f"job {job} is one more than {allowed} in the queue"
        most[bound] = max(most[bound], len(running[bound]))
        if task in ("keyed", "waiting_room"):
            if status in UNFINISHED and holds:
                assert held.setdefault((task, key), job) == job, f"{job} and {held[task, key]} both hold {key}"
            elif held.get((task, key)) == job:
                del held[task, key]
    return most


def fastest(folder: Path, number: int) -> float:
    """Return the shortest time in seconds in which `number` rated jobs were started."""
    started = sorted(
        unstamp(at)
        for (at,) in rows(
            folder,
            "SELECT started_at FROM schedfactory_jobs WHERE task = 'rated' AND started_at IS NOT NULL UNION ALL"
            " SELECT a.started_at FROM schedfactory_attempts AS a JOIN schedfactory_jobs AS j ON j.id = a.job_id"
            " WHERE j.task = 'rated' AND a.number < j.attempt",
        )
    )
    return min(((last - first).total_seconds() for first, last in zip(started, started[number - 1 :])), default=60)


def test_no_limit_is_exceeded_no_key_held_twice_and_every_order_ends_whatever_happens(
    factory: Factory, factor: int, figures: Any
) -> None:
    end = time.monotonic() + SECONDS * factor
    while time.monotonic() < end or factory.kills < 3:
        factory.fill()
        factory.steer()
        time.sleep(random.uniform(0.02, 0.2))
    factory.settle()
    factory.leave()
    most = replay(factory.folder)
    assert max(most[f'limited {{"account":{account}}}'] for account in range(ACCOUNTS)) == 2, most
    assert fastest(factory.folder, 21) >= 1
    acknowledged = {int(line[0]) for line in lines(factory.folder / "acks")}
    ended = {row[0] for row in rows(factory.folder, "SELECT id FROM schedfactory_jobs WHERE status = 'succeeded'")}
    assert acknowledged <= ended
    results = Counter(row[0] for row in rows(factory.folder, "SELECT result FROM schedfactory_commands"))
    assert None not in results
    assert results["done"] > 0
    assert results["undeliverable"] > 0
    figures(kills=factory.kills, orders=results.total(), jobs=len(ended), enqueues=count(factory.folder / "acks"), exceeded=0)
