"""A power loss at any moment: what a returned enqueue, a stored end and a claimed once-only job are worth afterwards.

One process works on a disk that notes every write and sync (disk_shim.c). From its trace thousands of states are built that a
power loss might have left (disk.py), and each is opened and held against what the library had said until that moment.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen
from time import perf_counter
from typing import Any

import disk
import pytest
from disk_oracle import Said, look, objections, whole_schema

from schedfactory import Scheduler
from schedfactory.storage import nodes

STATES = 3_000  # of each durability
RESTARTS = 20  # of these states, in which a scheduler goes on
Launch = Callable[..., Popen[str]]


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return disk.build(tmp_path_factory.mktemp("shim"))


@dataclass
class Outcome:
    """What a replay has seen: states by the promises that they break."""

    states: int = 0
    seconds: float = 0
    broken: dict[str, int] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)
    restarted: int = 0

    def count(self, step: int, broken: Sequence[str]) -> None:
        self.states += 1
        for one in broken:
            kind = one.partition(":")[0]
            if kind not in self.broken:
                self.examples.append(f"after {step} steps: {one}")
            self.broken[kind] = self.broken.get(kind, 0) + 1


def record(launch: Launch, shim: Path, tmp_path: Path, durability: str, seed: int, sabotage: str = "") -> list[disk.Step]:
    folder = tmp_path / f"{durability}-{seed}"
    folder.mkdir()
    database, trace = folder / "jobs.db", folder / "trace"
    command = [sys.executable, disk.PROGRAMS, database, durability, str(seed), sabotage]
    child = launch(command, env=disk.environment(shim, database, trace))
    _, errors = child.communicate(timeout=120)
    assert child.returncode == 0, errors
    steps = disk.read_trace(trace)
    assert disk.marks(steps)[-1][1] == "closed"
    return steps


def replay(
    steps: Sequence[disk.Step], durability: str, number: int, seed: int, restart: Callable[[Path, Said], None] | None = None
) -> Outcome:
    """Look at `number` states that a power loss may leave; in some of them a scheduler goes on."""
    marks = disk.marks(steps)
    said = Said([int(text.split()[1]) for _, text in marks if text.startswith("stored")])
    outcome = Outcome()
    schema = whole_schema()
    started = perf_counter()
    heard = 0
    with disk.scratch() as folder:
        database = Path(folder) / "jobs.db"
        for crash in disk.crashes(steps, number, random.Random(seed)):
            while heard < len(marks) and marks[heard][0] <= crash.step:
                said.hear(marks[heard][1])
                heard += 1
            disk.put_down(crash, database)
            outcome.count(crash.step, objections(look(database), said, schema, durability))
            if restart is not None and outcome.states % (number // RESTARTS) == 0:
                disk.put_down(crash, database)
                restart(database, said)
                outcome.restarted += 1
    outcome.seconds = perf_counter() - started
    return outcome


def go_on(database: Path, said: Said) -> None:
    """Let a scheduler of the next boot run what is there: all of it ends, and nothing begins that must not."""
    ran: list[int] = []
    scheduler = Scheduler(database, keep=None)

    def run(token: int, filling: str) -> int:
        ran.append(token)
        return token

    for name, on_crash in (("often", "requeue"), ("once", "fail"), ("fails", "requeue")):
        scheduler.task(name=name, on_crash=on_crash)(run)
    ordinary = scheduler.tasks.get("often").enqueue(token=0, filling="")
    scheduler.run_due()
    counts = scheduler.counts()
    scheduler.close()
    assert ran.count(0) == 1, f"job {ordinary.id} did not run once"
    again = [job for job in said.began if said.tokens.get(job) in ran]
    assert not again, "a once-only job began twice"
    assert not counts["queued"] + counts["scheduled"] + counts["running"], counts
    Path(f"{database}-nodes").unlink()  # the next state has had none that counts


@pytest.mark.parametrize("durability", ["full", "normal"])
def test_a_power_loss_breaks_no_promise(
    launch: Launch,
    shim: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    factor: int,
    figures: Callable[..., None],
    durability: str,
) -> None:
    monkeypatch.setattr(nodes, "boot_id", lambda: "the boot after the power loss")
    dice = random.Random(f"{durability}{factor}")
    states = 0
    seconds = 0.0
    for _ in range(factor):
        seed = dice.getrandbits(32)
        outcome = replay(record(launch, shim, tmp_path, durability, seed), durability, STATES, seed, go_on)
        assert not outcome.broken, f"seed {seed}: {outcome.broken} {outcome.examples}"
        states, seconds = states + outcome.states, seconds + outcome.seconds
    figures(states=states, restarted=RESTARTS * factor, lost=0, damaged=0, states_per_s=round(states / seconds))


@pytest.mark.parametrize(
    ("sabotage", "durability", "objection"),
    [
        ("never_sync", "full", "acknowledged jobs are lost"),
        ("acknowledge_early", "full", "acknowledged jobs are lost"),
        ("migrate_unsynced", "normal", "tables are missing"),
        ("claim_unsynced", "normal", "once-only jobs that had begun may begin again"),
    ],
)
def test_the_harness_catches_a_library_that_syncs_too_little(
    launch: Launch, shim: Path, tmp_path: Path, sabotage: str, durability: str, objection: str
) -> None:
    outcome = replay(record(launch, shim, tmp_path, durability, 1, sabotage), durability, 300, 1)

    assert objection in outcome.broken, outcome


def test_the_disk_keeps_what_was_synced_and_may_lose_the_rest() -> None:
    steps: list[Any] = [
        disk.Step(disk.CREATE, 1, 0, b""),
        disk.Step(disk.SYNC, disk.FOLDER, 0, b""),
        disk.Step(disk.WRITE, 1, 0, b"a" * 1_024),
        disk.Step(disk.SYNC, 1, 0, b""),
        disk.Step(disk.WRITE, 1, 0, b"b" * 1_024),
        disk.Step(disk.TRUNCATE, 1, 512, b""),
    ]
    dice = random.Random(0)

    before = {bytes(crash.files[""]) for crash in disk.crashes(steps[:4], 50, dice, first=4)}
    after = {bytes(crash.files[""]) for crash in disk.crashes(steps, 5_000, dice, first=6)}

    halves = [b"a" * 512, b"b" * 512]
    assert before == {b"a" * 1_024}
    assert after == {*halves, *(one + other for one in halves for other in halves)}
