"""Seeds of the simulated world, one story each: nothing acknowledged is lost, nothing runs twice at a time, all ends.

`SCHEDFACTORY_SEED=7 pytest tests/crash/test_simulation.py` plays the one story again, exactly.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import simulation
from simulation_process import Lock

from schedfactory import Scheduler
from schedfactory.running.dispatcher import Dispatcher
from schedfactory.running.rescuer import Rescuer
from schedfactory.storage import claim, enqueue, finish, nodes, sqlite
from schedfactory.storage.claim import Scope
from schedfactory.storage.database import Database

ONLY = os.environ.get("SCHEDFACTORY_SEED")
PARTS = 6
SEEDS = int(os.environ.get("SCHEDFACTORY_SEEDS", "50"))  # in each part, times the factor
RAM = Path("/dev/shm")  # where a commit costs no disk

pytestmark = pytest.mark.timeout(300 * int(os.environ.get("SCHEDFACTORY_CRASH_FACTOR", "1")))  # read before any fixture is


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a migrated file to copy, and room for one world after the other."""
    with tempfile.TemporaryDirectory(prefix="simulation-", dir=RAM if os.access(RAM, os.W_OK) else None) as name:
        prepare(Path(name))
        yield Path(name)


def prepare(folder: Path) -> None:
    scheduler = Scheduler(folder / "template.db")
    scheduler.counts()
    scheduler.close()


def play(folder: Path, seed: int) -> simulation.Story:
    return simulation.run(seed, folder, folder / "template.db")


@pytest.mark.parametrize("part", range(PARTS))
def test_whatever_a_seed_decides_nothing_is_lost_and_nothing_is_done_twice(folder, factor, figures, part):
    if ONLY is not None:
        seeds = range(int(ONLY), int(ONLY) + (part == 0))
    else:
        seeds = range(part, PARTS * SEEDS * factor, PARTS)
    told = dict.fromkeys(("starts", "successes", "faults", "deaths", "interruptions"), 0)
    for seed in seeds:
        world = play(folder, seed).world
        rules = world.rules
        for name, number in zip(told, (rules.begun, rules.succeeded, world.faults, rules.deaths, world.interruptions)):
            told[name] += number
    if seeds and ONLY is None:
        assert all(told.values()), told
    figures(seeds=len(seeds), **told, lost=0, double=0)


def test_a_seed_is_one_story_here_and_in_any_other_process(folder):
    here = [play(folder, seed).world.log for seed in (3, 3, 4)]
    assert here[0] == here[1] != here[2]
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import pathlib, test_simulation as here;"
        "folder = pathlib.Path(sys.argv[2]); print(here.digest(here.play(folder, 3).world.log))"
    )
    command = [sys.executable, "-c", program, str(Path(__file__).parent), str(folder)]
    other = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | {"PYTHONHASHSEED": "7"})
    assert other.stdout.strip() == digest(here[0])


def digest(log: list[str]) -> str:
    return hashlib.sha256("\n".join(log).encode()).hexdigest()


# The rules object where the house is sabotaged: each of these is a mistake that others have made.


def a_rescue_by_time_out(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Lock, "is_alive", lambda lock, node: (found := lock._locks.holders.get(node)) and not found.is_stopped)


def a_commit_that_is_acknowledged_before_it_happens(patch: pytest.MonkeyPatch) -> None:
    real, count = sqlite.commit, iter(range(1_000_000))

    def commit(driver: Any, deadline: float) -> None:
        if next(count) % 40 == 39:
            driver.rollback()
        else:
            real(driver, deadline)

    patch.setattr(sqlite, "commit", commit)


def a_claim_that_takes_any_job(patch: pytest.MonkeyPatch) -> None:
    due = Scope.due
    patch.setattr(Scope, "due", lambda scope, conn, most: due(scope, conn, most + 1)[::-1][:most])


def a_job_that_must_not_start_again_and_does(patch: pytest.MonkeyPatch) -> None:
    real = enqueue.to_rows
    place = enqueue._COLUMNS.index("on_crash")
    patch.setattr(
        enqueue, "to_rows", lambda calls, now: [(*row[:place], "requeue", *row[place + 1 :]) for row in real(calls, now)]
    )


def ends_that_are_dropped_when_the_database_fails(patch: pytest.MonkeyPatch) -> None:
    keep = Dispatcher._keep

    def drop(dispatcher: Dispatcher, batch: Any, error: BaseException) -> float:
        batch.ended = []
        return keep(dispatcher, batch, error)

    patch.setattr(Dispatcher, "_keep", drop)


def an_enqueue_that_is_repeated_after_an_unclear_commit(patch: pytest.MonkeyPatch) -> None:
    write = Database.write_together

    def again(database: Database, works: Any, item: Any, **how: Any) -> Any:
        if how.pop("was_stored", None) is None:  # a round of a node, which looks at what it has in hand
            return write(database, works, item, **how)
        try:
            return write(database, works, item, **how)
        except Exception as error:
            if "is not known" not in str(error):
                raise
            return write(database, works, item, **how)

    patch.setattr(Database, "write_together", again)


def a_rescuer_that_sleeps(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Rescuer, "round", lambda rescuer, now, is_busy: 1.0)


def a_promotion_that_is_early(patch: pytest.MonkeyPatch) -> None:
    later, real = simulation.timedelta(seconds=2), claim.promote
    patch.setattr(claim, "promote", lambda conn, now: real(conn, now + later))


def code_that_had_begun_and_is_not_charged(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(nodes, "_label_begun", lambda conn, lock, node: None)


def totals_that_forget_failures(patch: pytest.MonkeyPatch) -> None:
    real = finish.totals.add_jobs
    patch.setattr(finish.totals, "add_jobs", lambda conn, job_ids: real(conn, job_ids[:1]))


SABOTAGE = {
    a_rescue_by_time_out: "begins while attempt|node that lives|its row says|does not know it",
    a_commit_that_is_acknowledged_before_it_happens: "is gone|does not know it|but its row says|lost the result",
    a_claim_that_takes_any_job: "but the best are",
    a_job_that_must_not_start_again_and_does: "must not begin again",
    ends_that_are_dropped_when_the_database_fails: "have not ended|lost the result",
    an_enqueue_that_is_repeated_after_an_unclear_commit: "stored twice",
    a_rescuer_that_sleeps: "have not ended",
    a_promotion_that_is_early: "before",
    code_that_had_begun_and_is_not_charged: "was not counted",
    totals_that_forget_failures: "counts",
}


@pytest.mark.parametrize("sabotage", SABOTAGE, ids=lambda sabotage: sabotage.__name__)
def test_the_harness_catches(folder, figures, monkeypatch, sabotage: Callable[[pytest.MonkeyPatch], None]):
    sabotage(monkeypatch)
    seeds = iter(range(200))
    with pytest.raises(AssertionError, match=SABOTAGE[sabotage]) as caught:
        for seed in seeds:
            play(folder, seed)
    figures(caught_by_seed=next(seeds) - 1, objection=str(caught.value).splitlines()[0][:90])
