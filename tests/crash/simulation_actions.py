"""What may happen in the simulated world: each method is one thing, whose details are drawn by lot."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from simulation_process import Hand, Process
from simulation_world import World

from schedfactory import DatabaseBusy, JobFinished, StorageError, StorageFull

PROCESSES = 3
ENDINGS = {
    "returns": 40, "looks": 15, "raises": 15, "snoozes": 4, "snoozes long": 2, "asks to be tried later": 3,
    "fails for good": 3, "cancels itself": 3, "exits": 2, "tells": 13,
}  # fmt: skip


class Actions:
    """Everything that one of the processes may do, or suffer."""

    def __init__(self, seed: int, path: Path) -> None:
        self.world = World(seed, path)
        self.chance = self.world.chance
        self.token = 0  # of the latest call

    def one_of(self, processes: list[Process]) -> Process | None:
        return self.chance.choice(processes) if processes else None

    @property
    def awake(self) -> list[Process]:
        return [process for process in self.world.processes if not process.is_stopped]

    @property
    def nodes(self) -> list[Process]:
        return [process for process in self.awake if process.node is not None and process not in self.world.acting]

    # Nodes and their workers

    def start(self) -> None:
        world = self.world
        if len(world.processes) >= PROCESSES:
            return
        world.born += 1
        process = Process(world, world.born)
        world.processes.append(process)
        workers = self.chance.randint(1, 3)
        queues = ["mail"] if not world.is_quiet and self.chance.random() < 0.15 else None
        world.act(process, f"starts with {workers} for {queues}", lambda: process.start(workers, queues))

    def work(self, process: Process | None = None) -> None:
        process = process or self.one_of(self.nodes)
        if process is not None and process.hands:
            hands = process.hands
            busy = [hand for hand in hands if hand.job is not None or not hand.inbox.empty()]
            hand = self.chance.choice(busy if busy and self.chance.random() < 0.7 else hands)
            [how] = self.chance.choices(list(ENDINGS), list(ENDINGS.values()))
            self.work_with(process, hand, how)

    def work_with(self, process: Process, hand: Hand, how: str) -> None:
        self.world.act(process, f"worker {hand.number}", lambda: process.work(hand, how))

    def round(self) -> None:
        process = self.one_of(self.nodes)
        if process is not None:
            self.world.act(process, "round", process.round)

    def rescue(self) -> None:
        process = self.one_of(self.nodes)
        if process is not None:
            self.world.act(process, "looks around", process.rescue)

    def tick(self) -> None:
        process = self.one_of(self.nodes)
        if process is not None:
            self.world.rules.pruned = True
            self.world.act(process, "tick", lambda: process.node._ticker.round(self.world.wall) and None)

    def kill(self) -> None:
        process = self.one_of(self.world.processes)
        if process is not None:
            process.die()
            self.world.say(f"{process.number} is killed")

    def stop(self) -> None:
        process = self.one_of(self.awake)
        if process is not None:
            process.is_stopped = True
            self.world.say(f"{process.number} is stopped")

    def go_on(self) -> None:
        process = self.one_of([process for process in self.world.processes if process.is_stopped])
        if process is not None:
            process.is_stopped = False
            self.world.say(f"{process.number} goes on")

    def drain(self) -> None:
        process = self.one_of(self.nodes)
        if process is not None:
            self.world.act(process, "drains", process.node.drain)

    def reboot(self) -> None:
        if self.chance.random() < 0.3:
            for process in list(self.world.processes):
                process.die()
            self.world.boot += 1
            self.world.locks.rings.clear()  # nobody synced them
            self.world.say("the host boots")

    # People and programs

    def enqueue(self) -> None:
        process = self.one_of([one for one in self.awake if one not in self.world.acting])
        if process is None:
            return
        rules = self.world.rules
        names = [self.chance.choice(list(self.world.tasks))] if self.chance.random() < 0.85 else ["soft"] * 8
        tokens = range(self.token + 1, self.token + 1 + len(names))
        self.token += len(names)
        options = self._options()

        def call() -> str:
            tasks = process.scheduler.tasks
            try:
                jobs = process.scheduler.enqueue_many(
                    tasks.get(name).options(**options).call(token) for name, token in zip(names, tokens)
                )
            except StorageError as error:
                if isinstance(error, (DatabaseBusy, StorageFull)) or "Nothing was stored" in str(error):
                    rules.refused.update(tokens)
                raise
            rules.promised.update((token, job.id) for token, job in zip(tokens, jobs))
            return f"as {[job.id for job in jobs]}"

        self.world.act(process, f"enqueues {names} {list(tokens)} {options}", call)

    def _options(self) -> dict[str, Any]:
        chance = self.chance
        options: dict[str, Any] = {
            "priority": chance.choice((-1, 0, 0, 1)),
            "delay": chance.choice((0, 0, 0, 1, 10, 3_600)),
            "queue": chance.choice(("default", "default", "mail")),
            "expires": chance.choice((None, None, None, None, 5, 4_000)),
        }
        if chance.random() < 0.2:
            options["retry"] = chance.randint(1, 4)
        return options

    def _any_job(self) -> int:
        return self.chance.choice(list(self.world.rules.lives) or [1])

    def _change(self, what: str, change: Callable[[Any, int], object]) -> None:
        process = self.one_of([one for one in self.awake if one not in self.world.acting])
        if process is not None:
            job = self._any_job()
            self.world.act(process, f"{what} {job}", lambda: change(process.scheduler, job))

    def cancel(self) -> None:
        self._change("cancels", lambda scheduler, job: scheduler.cancel(job))

    def requeue(self) -> None:
        def requeue(scheduler: Any, job: int) -> object:
            self.world.rules.requeued.add(job)
            return scheduler.requeue(job)

        self._change("requeues", requeue)

    def update(self) -> None:
        chance = self.chance
        new: dict[str, Any] = chance.choice(
            (
                {"priority": chance.randint(-1, 1)},
                {"queue": "mail"},
                {"run_at": self.world.wall + timedelta(seconds=chance.choice((-60, 5, 600)))},
            )
        )

        def update(scheduler: Any, job: int) -> object:
            found = scheduler.get(job)
            try:
                return None if found is None else found.update(**new).status
            except JobFinished:
                return "which has ended"

        self._change(f"updates {sorted(new.items())} of", update)

    def prune(self) -> None:
        process = self.one_of(self.awake)
        if process is not None:
            self.world.rules.pruned = True
            self.world.act(process, "prunes", lambda: process.scheduler.prune(older_than="1m"))

    # Time

    def pass_time(self) -> None:
        seconds = self.chance.choice((0.0005, 0.001, 0.003, 0.02, 0.3, 1.0, 4.0, 20.0))
        self.world.pass_time(seconds)

    def step_the_clock(self) -> None:
        hours = self.chance.choice((-30.0, -1.0, -0.01, 0.01, 1.0, 30.0))
        self.world.wall += timedelta(hours=hours)
        self.world.rules.clock_moved()
        self.world.say(f"the clock steps by {hours} h")
