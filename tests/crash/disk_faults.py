"""A scheduler on a disk that fails, in a process of its own: `disk_faults.py DATABASE WHICH CASES STEP [SABOTAGE OBJECTION]`.

Each case says which calls fail (of disk_shim.c) with which error, once or for a while, and when. For k = 1, 1 + STEP, … the
k-th such call fails, until a run is clean, as in SQLite's own tests. What is not as promised goes to standard output.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

from disk import Shim
from disk_floor import LONG_S, SABOTAGES, Floor, Listener, has_ended, until, wait_idle

from schedfactory import StorageError
from schedfactory.storage import checkpoint

PAGES = 25  # written before a checkpoint, so that each run has one
RED_S = 0.5  # that long a lasting fault may go unnoticed, as it does where nothing needs what fails
LASTS_S = 1.5
DELAY_S = 0.2
shim = Shim()


class Case(NamedTuple):
    """`moment` is when the fault comes: before an "enqueue", before a "claim", or before jobs that run "finish"."""

    calls: str
    error: int
    sticky: bool
    moment: str

    def __str__(self) -> str:
        name = "any call" if " " in self.calls else self.calls
        return f"{name}, {os.strerror(self.error)}, {'lasting' if self.sticky else 'once'}, before {self.moment}"


def while_it_runs(floor: Floor, case: Case, k: int) -> bool:
    """One fault while a scheduler runs; return whether a call failed."""
    cause = f"{case}, call {k}"
    scheduler = floor.scheduler
    said = len(floor.log)
    if case.moment == "finish":
        floor.opened.clear()
        floor.enqueue("waits", "waits")
        for _ in range(2):
            if not floor.begun.acquire(timeout=LONG_S):
                floor.object(cause, "a job did not begin")
    if case.moment == "claim":
        floor.enqueue("often", "once", "fails", delay_s=DELAY_S)
    shim.arm(case.calls, k, case.error, sticky=case.sticky)
    floor.opened.set()
    if case.moment == "claim":  # nobody else writes
        until(lambda: shim.fired > 0 or has_ended(floor), LONG_S)
    else:
        other = threading.Thread(target=floor.enqueue, args=("often", "fails", "often"))
        other.start()
        floor.enqueue("often", "once", "often")
        other.join()
    was_red = case.sticky and until(lambda: not scheduler.health().ok, RED_S)
    if was_red:
        before, tried = scheduler.health(), shim.fired
        if not until(lambda: shim.fired > tried, LONG_S):  # it tries again, and is refused again
            floor.object(cause, "it has not tried again")
        after = scheduler.health()
        if after.ok or after.busy > before.busy or after.unsaved > after.busy:
            floor.object(cause, f"it claimed something, or said that it is well: {before}, {after}")
    fired = shim.heal()
    healed = time.monotonic()
    wait_idle(floor, cause)
    floor.slowest_s = max(floor.slowest_s, time.monotonic() - healed)
    if not until(lambda: scheduler.health().ok, floor.patience_s) or scheduler.health().unsaved:
        floor.object(cause, scheduler.health())
    check_log(floor, cause, floor.log[said:], was_red, fired)
    floor.check(cause)
    return fired > 0


def check_log(floor: Floor, cause: str, lines: list[tuple[int, str]], was_red: bool, fired: int) -> None:
    """One line says that it does not work, one that it works again; others of the node may say so once for themselves."""
    dispatcher = ["error" if level == logging.ERROR else "recovery" for level, text in lines if _STATE.search(text)]
    wanted = [["error", "recovery"]] if was_red else [["error", "recovery"], []] if fired else [[]]
    rest = [_OTHERS.search(text) for _, text in lines if not _STATE.search(text)]
    others = {match[0] for match in rest if match}
    if dispatcher not in wanted or len(others) < len(rest):
        floor.object(cause, f"it said {[text for _, text in lines]}")


_STATE = re.compile("claims nothing|works again")
_OTHERS = re.compile(r"cannot look after other nodes|\w+ cannot work")


def while_it_lasts(floor: Floor, case: Case, k: int) -> bool:
    """A fault that lasts some seconds while jobs end and others wait: once red, it stays so, and says nothing more."""
    cause = f"{case}, for {LASTS_S:g} s"
    scheduler = floor.scheduler
    said = len(floor.log)
    floor.opened.clear()
    floor.enqueue("waits", "waits", "waits")
    for _ in range(3):
        floor.begun.acquire(timeout=LONG_S)
    floor.enqueue("often", "once", "often")
    shim.arm(case.calls, k, case.error, sticky=True)
    floor.opened.set()
    if not until(lambda: not scheduler.health().ok, floor.patience_s):
        floor.object(cause, "nobody noticed")
    if until(lambda: scheduler.health().ok, LASTS_S):
        floor.object(cause, "it said that it is well")
    shim.heal()
    healed = time.monotonic()
    wait_idle(floor, cause)
    floor.slowest_s = max(floor.slowest_s, time.monotonic() - healed)
    check_log(floor, cause, floor.log[said:], True, 1)
    floor.check(cause)
    return False


def while_it_opens(floor: Floor, case: Case, k: int) -> bool:
    """One fault while a new file is made, opened, written and served; return whether a call failed."""
    cause = f"{case}, call {k}"
    for ending in ("", "-wal", "-shm", "-journal", "-nodes"):
        Path(f"{floor.path}{ending}").unlink(missing_ok=True)
    floor.acknowledged.clear()
    scheduler = floor.scheduler = floor.open()
    shim.arm(case.calls, k, case.error, sticky=case.sticky)
    floor.enqueue("often", "fails")
    try:
        scheduler.start(workers=2)
    except StorageError as error:
        floor.refused[0] = str(error)
    fired = shim.heal()
    try:
        if not scheduler.is_running:
            scheduler.start(workers=2)
        floor.enqueue("once")
        if not floor.acknowledged:
            floor.object(cause, f"the disk is well, and yet: {floor.refused}")
        scheduler.wait_idle(f"{floor.patience_s}s")
        floor.check(cause)
    except StorageError as error:
        floor.object(cause, f"the disk is well, and yet: {error}")
    scheduler.close()
    return fired > 0


def main(path: str, which: str, cases: str, step: str, sabotage: str = "", objection: str = "") -> None:
    checkpoint._PAGES = PAGES
    if sabotage:
        SABOTAGES[sabotage]()
    floor = Floor(path)
    if sabotage:
        floor.patience_s = 2.0
    logging.getLogger("schedfactory").addHandler(Listener(floor.log))
    cycle = {"running": while_it_runs, "opening": while_it_opens, "lasting": while_it_lasts}[which]
    if which != "opening":
        floor.scheduler.start(workers=3)
    for case in (Case(*case) for case in json.loads(cases)):
        k, fired = 1, True
        while fired and not (sabotage and any(objection in text for text in floor.objections)):
            fired = cycle(floor, case, k)
            floor.cycles += 1
            floor.hits += fired
            k += int(step)
    floor.scheduler.stop("1s" if sabotage else "30s")
    floor.scheduler.close()
    found = {
        "objections": floor.objections,
        "acknowledged": floor.acknowledged,
        "cycles": floor.cycles,
        "hits": floor.hits,
        "refused": len(floor.refused),
        "slowest_s": floor.slowest_s,
    }
    sys.stdout.write(json.dumps(found))
    sys.stdout.flush()
    os._exit(0)  # what a sabotaged run has left behind need not be waited for


if __name__ == "__main__":
    main(*sys.argv[1:])
