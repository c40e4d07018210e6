"""One seed is one story: what happens in the simulated world, at random, until all faults end and every job must.

That last part, and its name, are TigerBeetle's ("liveness mode" of its VOPR): what only looks safe because it stands still
is found there.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from simulation_actions import PROCESSES, Actions
from simulation_process import LEASE_S, Process

from schedfactory.model.clock import unstamp

ROUNDS = 300  # in which every job must have ended


class Story(Actions):
    """A world, and who acts in it."""

    def __init__(self, seed: int, path: Path) -> None:
        super().__init__(seed, path)
        self.world.others = self._one_of_the_others
        self.kinds: dict[Callable[[], None], int] = {
            self.enqueue: 13, self.work: 34, self.round: 22, self.rescue: 6, self.tick: 2, self.cancel: 4,
            self.requeue: 3, self.update: 3, self.prune: 1, self.pass_time: 12, self.step_the_clock: 2, self.kill: 2,
            self.start: 6, self.stop: 3, self.go_on: 5, self.drain: 1, self.reboot: 1,
        }  # fmt: skip

    def play(self, steps: int) -> None:
        for _ in range(PROCESSES):
            self.start()
        for kind in self.chance.choices(list(self.kinds), list(self.kinds.values()), k=steps):
            kind()

    def _one_of_the_others(self, acting: Process) -> None:
        """What may come between: another process, or a worker of this one, which needs no database."""
        if self.chance.random() < 0.5:
            if acting.node is not None:
                self.work(acting)
        else:
            self.chance.choice((self.work, self.round, self.rescue, self.cancel, self.enqueue, self.requeue))()

    # The end

    def settle(self) -> int:
        """No more faults, everybody lives: return after how many rounds every job has ended."""
        world = self.world
        world.is_quiet = True
        world.sticky.clear()
        world.say("no more faults")
        for process in list(world.processes):
            process.is_stopped = False
            if process.node is None or process.queues is not None or process.node.is_stopping:
                process.die()
        for number in range(ROUNDS):
            rows = world.rules.rows()
            open_rows = [row for row in rows if row.status not in ("succeeded", "failed", "cancelled") or row.leftover]
            if not open_rows and not world.rules.running:
                world.rules.check_end()
                return number
            self.start()
            self._pass_time_until_something_is_due([row.run_at for row in open_rows if row.status == "scheduled"])
            for process in list(world.processes):
                world.act(process, "looks around", process.rescue)
                world.act(process, "round", process.round)
                for hand in list(process.hands):
                    world.act(
                        process, f"worker {hand.number}", lambda process=process, hand=hand: process.work(hand, "returns")
                    )
        raise AssertionError(f"after {ROUNDS} rounds without faults these have not ended: {open_rows}")

    def _pass_time_until_something_is_due(self, times: list[str]) -> None:
        world = self.world
        ahead = min((unstamp(time) - world.wall).total_seconds() for time in times) if times else 0.0
        world.pass_time(1.0 if not world.is_leased else LEASE_S / 4)
        world.wall += timedelta(seconds=max(ahead, 0.0))
        world.rules.clock_moved()


def run(seed: int, folder: Path, template: Path, steps: int = 150) -> Story:
    """Play one seed in a fresh copy of the template; a fault names the seed and how to see it again."""
    for file in folder.glob("jobs.db*"):
        file.unlink()
    path = folder / "jobs.db"
    shutil.copy(template, path)
    story = Story(seed, path)
    before = random.getstate()
    try:
        with story.world.begun():
            story.play(steps)
            story.settle()
    except BaseException as error:
        latest = "\n".join(story.world.log[-60:])
        error.add_note(f"{latest}\n\nThis was seed {seed}: SCHEDFACTORY_SEED={seed} pytest tests/crash/test_simulation.py")
        raise
    finally:
        random.setstate(before)
    return story
