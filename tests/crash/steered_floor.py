"""The processes of the steered factory: nodes that take orders, and enqueue for one another what is limited and unique.

`python steered_floor.py NAME` works in the current folder until its input ends, or an order makes it quit.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from pathlib import Path

from witnesses import Log

from schedfactory import Limit, QueueFull, Scheduler, Unique, current_job

ACCOUNTS, KEYS = 3, 4
scheduler = Scheduler("jobs.db")
effects = Log(Path("effects"))


def work() -> None:
    """Take a little while, and write down when that was."""
    job = current_job()
    effects("start", job.task, job.id, job.fence, time.monotonic_ns())
    time.sleep(random.uniform(0.001, 0.01))
    effects("end", job.task, job.id, job.fence, time.monotonic_ns())


@scheduler.task(name="limited", limit=Limit(2, key="account:{account}"))
def limited(account: int) -> None:
    work()


@scheduler.task(name="rated", limit=Limit(rate="20/s"))
def rated() -> None:
    work()


@scheduler.task(name="shop", queue="shop")
def shop() -> None:
    work()


@scheduler.task(name="keyed", unique="key:{number}")
def keyed(number: int) -> None:
    work()


@scheduler.task(name="waiting_room", unique=Unique("key:{number}", until="started", on_conflict="replace"))
def waiting_room(number: int, nonce: float) -> None:
    work()


@scheduler.task(name="noop")
def noop() -> None:
    work()


def produce(seed: str) -> None:
    """Enqueue a little of everything until there is enough."""
    chance = random.Random(seed)
    acks = Log(Path("acks"))
    while not Path("enough").exists():
        calls = [
            limited.call(chance.randrange(ACCOUNTS)),
            keyed.call(chance.randrange(KEYS)),
            waiting_room.call(chance.randrange(KEYS), chance.random()),
            shop.call(),
            chance.choice([rated.call(), noop.call()]),
        ]
        try:
            for job in scheduler.enqueue_many(chance.sample(calls, chance.randint(1, 5))):
                acks(job.id, job.task, job.unique_key or "-", job.is_new)
        except QueueFull:
            effects("full", "shop")
        time.sleep(chance.uniform(0, 0.03))


def main() -> None:
    def leave() -> None:
        sys.stdin.read()
        os.kill(os.getpid(), 15)

    threading.Thread(target=leave, daemon=True).start()
    threading.Thread(target=produce, args=(sys.argv[1],), daemon=True).start()
    scheduler.run(workers=3)


if __name__ == "__main__":
    main()
