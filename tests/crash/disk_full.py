"""A scheduler whose disk fills up while jobs run, in a process of its own: `disk_full.py DATABASE HOW SIZES ROUNDS`.

HOW is "tmpfs" where the database's folder is a small disk of its own, which a file fills, or "shim", where disk_shim.c refuses
every write that would make a file longer. SIZES are those of the first results, round by round: "2000 300000".
"""

from __future__ import annotations

import errno
import itertools
import json
import logging
import os
import resource
import sys
import time
from pathlib import Path
from typing import NamedTuple

from disk import Shim
from disk_floor import LONG_S, SABOTAGES, Floor, Listener, has_ended, until, wait_idle

from schedfactory.storage import checkpoint

PAGES = 150  # written before a checkpoint: the disk is small
REFUSED = 60  # calls that are tried while the disk is full
SETTLED_S = 1.0
WATCHED_S = 0.7
CHANGES = 10  # of state, until nothing fits any more, and back


class SmallDisk:
    """A file that takes all the room there is."""

    def __init__(self, folder: Path) -> None:
        self._filler = folder / "filler"

    def fill(self) -> None:
        with self._filler.open("ab", buffering=0) as file:
            for size in (65_536, 4_096, 512, 1):
                try:
                    while file.write(bytes(size)):
                        pass
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise

    def free(self) -> None:
        self._filler.unlink()


class ShimmedDisk:
    """A disk on which no file can become longer."""

    def __init__(self, shim: Shim) -> None:
        self._shim = shim

    def fill(self) -> None:
        self._shim.arm("grow", 1, errno.ENOSPC, sticky=True)

    def free(self) -> None:
        self._shim.heal()


class Round(NamedTuple):
    """What came of one filling of the disk."""

    was_held_up: bool
    refused: int
    seconds: float


def go_round(floor: Floor, disk: SmallDisk | ShimmedDisk, cause: str) -> Round:
    """Fill the disk while jobs run, end them, watch, and free it; return what came of it."""
    scheduler = floor.scheduler
    said, refused = len(floor.log), len(floor.refused)
    floor.opened.clear()
    floor.enqueue(*["waits"] * 4)
    for _ in range(4):
        floor.begun.acquire(timeout=LONG_S)
    floor.enqueue(*["often"] * 40)
    disk.fill()
    end = time.monotonic() + LONG_S
    while len(floor.refused) - refused < REFUSED and time.monotonic() < end:
        floor.enqueue("often")  # what fits in room that the log has already is stored
    floor.opened.set()
    if not until(lambda: not scheduler.health().ok or has_ended(floor), LONG_S):  # the log may have room
        floor.object(cause, f"neither held up nor ready: {scheduler.health()}")
    was_held_up = watch(floor, cause)
    disk.free()
    freed = time.monotonic()
    wait_idle(floor, cause)
    seconds = time.monotonic() - freed
    if not until(lambda: scheduler.health().ok, floor.patience_s) or scheduler.health().unsaved:
        floor.object(cause, scheduler.health())
    floor.check(cause)
    check_log(floor, cause, [text for _, text in floor.log[said:]])
    return Round(was_held_up, len(floor.refused) - refused, seconds)


def check_log(floor: Floor, cause: str, lines: list[str]) -> None:
    """One line for each change of state: the log may have room for some ends, and then none for the next ones."""
    kinds = ["error" if "claims nothing" in text else "recovery" if "works again" in text else text for text in lines]
    if kinds != ["error", "recovery"] * (len(kinds) // 2) or len(kinds) > CHANGES:
        floor.object(cause, f"it said {lines}")


def watch(floor: Floor, cause: str) -> bool:
    """See that nothing is claimed while nothing fits, and how little is kept; return whether it came to that."""
    scheduler = floor.scheduler
    state, since = (0, 0), time.monotonic()
    end = since + LONG_S
    while time.monotonic() < min(since + SETTLED_S, end):  # a small write may fit where a larger one did not
        if state != (floor.runs.total(), len(floor.log)):
            state, since = (floor.runs.total(), len(floor.log)), time.monotonic()
        time.sleep(0.01)
    if has_ended(floor):
        return False
    first = scheduler.health()
    end = time.monotonic() + WATCHED_S
    while time.monotonic() < end:
        health = scheduler.health()
        if health.ok or health.busy > first.busy or health.unsaved > health.busy:
            floor.object(cause, f"it claimed something, or said that it is well: {first}, then {health}")
            return True
        time.sleep(0.01)
    if state != (floor.runs.total(), len(floor.log)):
        floor.object(cause, f"jobs began, or it said something, while the disk was full: {floor.log[state[1] :]}")
    return True


def main(path: str, how: str, sizes: str, rounds: str, sabotage: str = "") -> None:
    checkpoint._PAGES = PAGES
    floor = Floor(path)
    if sabotage:
        SABOTAGES[sabotage]()
        floor.patience_s = 2.0
    logging.getLogger("schedfactory").addHandler(Listener(floor.log))
    disk = SmallDisk(Path(path).parent) if how == "tmpfs" else ShimmedDisk(Shim())
    floor.scheduler.start(workers=4)
    rounds_done = []
    grown = []
    for number, size in zip(range(int(rounds)), itertools.cycle(map(int, sizes.split()))):
        floor.size = size
        rounds_done.append(go_round(floor, disk, f"round {number + 1}, results of {size} bytes"))
        grown.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
    floor.scheduler.stop("1s" if sabotage else "30s")
    floor.scheduler.close()
    found = {
        "objections": floor.objections,
        "stored": len(floor.acknowledged),
        "held_up": sum(done.was_held_up for done in rounds_done),
        "refused": sum(done.refused for done in rounds_done),
        "slowest_s": max(done.seconds for done in rounds_done),
        "grown_mib": grown[-1] - grown[0],
    }
    sys.stdout.write(json.dumps(found))
    sys.stdout.flush()
    os._exit(0)  # what a sabotaged run has left behind need not be waited for


if __name__ == "__main__":
    main(*sys.argv[1:])
