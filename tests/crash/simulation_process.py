"""One program of the simulated world: everything in it is the real thing, but for its threads, its locks and its sleep."""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING, Any

from schedfactory import Scheduler
from schedfactory.model.outcome import CANCELLED
from schedfactory.model.slots import slots_of
from schedfactory.running.node import Node

if TYPE_CHECKING:
    from simulation_world import World

LEASE_S = 3.0


class Locks:
    """What the bytes of the lock file would tell: which node's process lives. Its rings outlive the processes."""

    def __init__(self) -> None:
        self.holders: dict[int, Process] = {}
        self.rings: dict[int, dict[tuple[int, int], int]] = {}


class Lock:
    """The lock file as one process has it open: `storage.locks.LockFile` and its `Ring`, without a file."""

    path = "simulated"

    def __init__(self, locks: Locks, process: Process, name: str) -> None:
        self._locks, self._process, self.name = locks, process, name

    def hold(self, node: int) -> None:
        self._locks.holders[node] = self._process

    def seize(self, byte: int) -> bool:
        return self._locks.holders.setdefault(byte, self._process) is self._process

    def release(self, byte: int) -> None:
        self._locks.holders.pop(byte, None)

    def leave(self) -> None:
        pass

    def is_alive(self, node: int) -> bool:
        return node in self._locks.holders

    def ring(self, slot: int) -> Ring:
        return Ring(self._process, self._locks.rings.setdefault(slot, {}))


class Ring:
    def __init__(self, process: Process, notes: dict[tuple[int, int], int]) -> None:
        self._process, self._notes = process, notes

    def clear(self) -> None:
        self._notes.clear()

    def note(self, job: int, fence: int, worker: int) -> None:
        self._process.world.fault("note")
        self._notes[job, fence] = worker

    def read(self) -> dict[tuple[int, int], int]:
        return dict(self._notes)


class Wake:
    """Nobody sleeps."""

    def __init__(self, *_: object) -> None:
        pass

    def ring(self) -> None:
        pass

    def close(self) -> None:
        pass


class Hand:
    """A worker whose steps the world takes one by one."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.quits = False
        self.inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.job: Any = None


class Process:
    """A program that enqueues, and after `start` has a node. All of it is the real thing but threads and locks."""

    def __init__(self, world: World, number: int) -> None:
        self.world, self.number = world, number
        self.is_stopped = False  # as by SIGSTOP
        self.is_alive = True
        self.hands: list[Hand] = []
        self.node: Any = None
        self.lock = Lock(world.locks, self, f"file {number}" if world.is_leased else "file")
        self.scheduler = Scheduler(
            world.path, clock=world.clock, durability=world.durability, lock_timeout="1s", lease=LEASE_S, keep="10h"
        )
        for name, options in world.tasks.items():
            self.scheduler.task(name=name, **options)(world.code)

    def start(self, workers: int, queues: list[str] | None) -> None:
        node = Node(self.scheduler._house.shop(self.scheduler), slots_of(workers, queues))
        self.node, self.queues = node, queues
        self.hands = [Hand(number + 1) for number in range(workers)]
        node._dispatcher.on_leftover = self._replace

    def _replace(self, job: Any) -> None:
        """Put another in the place of one whose code ran over its time, by the rule of `Node._replace`."""
        dispatcher = self.node._dispatcher
        [stuck] = [hand for hand in self.hands if hand.number == job.worker]
        if len(dispatcher.hand.leftovers) > dispatcher.workers or stuck.quits or dispatcher.is_draining:
            return
        if self.node._desk.give_up(job, stuck):
            self.hands.append(Hand(max(hand.number for hand in self.hands) + 1))

    def round(self) -> None:
        dispatcher, interruptions = self.node._dispatcher, self.world.interruptions
        dispatcher.round(self.world.clock())
        if dispatcher.trouble is None and self.world.interruptions == interruptions:
            self.world.rules.check_round(self)
        if dispatcher.is_draining and not self.node.busy:
            self.node._leave()
            self.node, self.hands = None, []

    def rescue(self) -> None:
        self.node._rescuer.round(self.world.clock(), bool(self.node.busy))

    def work(self, hand: Hand, how: str) -> str:
        """Take the next step of a worker: to sit down, to begin, or to end. The counterpart of `Worker`."""
        desk, world = self.node._desk, self.world
        if hand.job is not None:
            return self._go_on(hand, how)
        if not hand.inbox.empty():
            return self._begin(hand, hand.inbox.get())
        if hand in desk.idle:
            return "waits"
        if hand.quits:
            self.hands.remove(hand)
            return "quits"
        if desk.ahead:
            job = desk.ahead.popleft()
            desk.begin(job, hand, world.clock())
            return self._begin(hand, job)
        desk.idle.append(hand)
        return "sits down"

    def _begin(self, hand: Hand, job: Any) -> str:
        job.began = self.world.steady
        if job.cause == "user" and job.is_ahead:
            self.node._desk.end(job, CANCELLED, self.world.clock())
            return f"leaves {job.id}, which was cancelled"
        hand.job = job
        self.world.rules.begins(self, job)
        return f"begins {job.id} fence {job.fence}"

    def _go_on(self, hand: Hand, how: str) -> str:
        job, world = hand.job, self.world
        if how == "tells":
            if job.cause not in ("lost", "timeout"):
                job.set_progress(0.5, str(job.fence))
            return f"tells of {job.id}"
        world.how = how
        ending = self.node._attempts.run(job)
        job.took = world.steady - job.began
        hand.job = None
        world.rules.ends(self, job, ending)
        self.node._desk.end(job, ending, world.clock())
        return f"ends {job.id} fence {job.fence}: {how}, {ending.status}"

    def die(self) -> None:
        self.is_alive = False
        self.world.processes.remove(self)
        holders = self.world.locks.holders
        for byte in [byte for byte, process in holders.items() if process is self]:
            del holders[byte]
        self.scheduler._house.database.close()  # an open transaction is rolled back, as the system would do
        self.world.rules.died(self)
