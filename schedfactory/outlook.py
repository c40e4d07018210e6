"""Why a job is not running yet, told from the rows and the nodes as they are now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from schedfactory.features.limits.claim import bounds_for
from schedfactory.features.limits.room import Room
from schedfactory.features.limits.rows import queue_bounds, rates_under
from schedfactory.model.clock import stamp, to_pendulum, unstamp
from schedfactory.model.explanation import Code, Explanation
from schedfactory.model.job import Job
from schedfactory.model.limit import Bound
from schedfactory.model.node import NodeInfo
from schedfactory.model.registry import TaskRegistry
from schedfactory.model.slots import Pool, pools_of
from schedfactory.storage import blocked, outlook
from schedfactory.storage.outlook import Place

if TYPE_CHECKING:
    from sqlalchemy import Connection


class Outlook:
    """One look at what goes on around a job.

    Args:
        nodes: those that are known, dead ones included.
    """

    def __init__(self, conn: Connection, tasks: TaskRegistry, nodes: Sequence[NodeInfo], now: datetime) -> None:
        self._conn = conn
        self._tasks = tasks
        self._nodes = [node for node in nodes if node.status in ("running", "paused")]
        self._dead = {node.id for node in nodes if node.status == "dead"}
        self._now = now

    def of(self, job: Job[Any]) -> Explanation:
        """Return what keeps this job, of which the snapshot is new, from running."""
        place = outlook.place(self._conn, job.id)
        if job.is_finished or place is None:
            return Explanation("finished", f"It ended {_ended(job)}.")
        if job.status == "running":
            died = f"It ran on node {job.node}, which has died: another one, or the next, does what its on_crash says."
            return Explanation(
                "running", died if job.node in self._dead else f"It runs on node {job.node}, since {job.started_at}."
            )
        if place.leftover:
            return Explanation("running", f"The code of its attempt that ran over its timeout still runs on node {job.node}.")
        if job.status == "waiting":
            return Explanation("upstream", "It follows jobs that have not ended.")
        if job.status == "scheduled" and unstamp(place.run_at) > self._now:
            why = f" ({job.reason})" if job.reason else ""
            return Explanation("scheduled", f"It starts at {job.run_at} at the earliest{why}.", 0, job.run_at)
        return self._of_due(job.id, place)

    def _of_due(self, job_id: int, job: Place) -> Explanation:
        queues = queue_bounds(self._conn)
        if job.queue in queues and queues[job.queue].is_paused:
            return Explanation(
                "queue_paused", f"Its queue {job.queue!r} is paused; scheduler.queues.resume({job.queue!r}) ends that."
            )
        able = [node for node in self._nodes if job.task in node.tasks]
        serving = [(node, pool) for node in able for pool in pools_of(node.queues) if pool.serves(job.queue)]
        awake = [(node, pool) for node, pool in serving if node.status == "running" and node.workers]
        if not self._nodes:
            return Explanation("no_node", "No node is running: start one with scheduler.start(), or schedfactory run.")
        if not able:
            ids = ", ".join(str(node.id) for node in self._nodes)
            return Explanation("unknown_task", f"No running node knows the task {job.task!r}; there are the nodes {ids}.")
        if not serving:
            return Explanation("no_node", f"No running node that knows its task serves the queue {job.queue!r}.")
        if not awake:
            ids = ", ".join(str(node.id) for node, _ in serving)
            return Explanation(
                "node_paused",
                "The nodes that could run it are paused, until scheduler.nodes.resume(…), or have no workers, until "
                f"scheduler.nodes.scale(…): {ids}.",
            )
        return self._of_bounds(job_id, job, queues) or self._of_order(job_id, job, awake, queues)

    def _of_bounds(self, job_id: int, job: Place, queues: Mapping[str, Bound]) -> Explanation | None:
        bounds = bounds_for(job.task, job.queue, job.args, self._tasks, queues)
        if job.blocked_by is not None and not bounds and self._tasks.find(job.task) is None:
            # Of a task that is not known here: its rates can be read from the starts, its concurrency nowhere.
            bounds = (Bound(job.blocked_by, 0, rates_under(self._conn, job.blocked_by)),)
        room = Room(self._conn, self._now)
        for bound in bounds:
            ahead = outlook.blocked_ahead(self._conn, job_id, job, bound.key)
            found = self._of_rates(job, bound, room, ahead) or self._of_slots(job, bound, room, ahead)
            if found is not None:
                return found
        return None

    def _of_rates(self, job: Place, bound: Bound, room: Room, ahead: int) -> Explanation | None:
        starts_at = max((room.next_start(bound.key, rate, ahead) for rate in bound.rates), default=self._now)
        if starts_at <= self._now:
            return None
        rates = " and ".join(rate.text for rate in bound.rates)
        return _told("rate", f"{_named(job, bound)} lets {rates} start, which are used up; {_others(ahead)}.", ahead, starts_at)

    def _of_slots(self, job: Place, bound: Bound, room: Room, ahead: int) -> Explanation | None:
        running = room.in_use[bound.key]
        if bound.concurrency is None or running + ahead < bound.concurrency:
            return None
        code: Code = "queue_full" if bound.key == blocked.queue_key(job.queue) else "limit"
        if not bound.concurrency:
            return _told(code, f"{_named(job, bound)} has no room; {_others(ahead)}.", ahead, None)
        usual = outlook.usual_seconds(self._conn).get(job.task)
        starts_at = None if usual is None else self._now + timedelta(seconds=usual * (ahead + 1) / bound.concurrency)
        many = f"{_named(job, bound)} lets {bound.concurrency} run at the same time, and {running} do"
        return _told(code, f"{many}; {_others(ahead)}.", ahead, starts_at)

    def _of_order(
        self, job_id: int, job: Place, pools: Sequence[tuple[NodeInfo, Pool]], queues: Mapping[str, Bound]
    ) -> Explanation:
        tasks = {task for node, _ in pools for task in node.tasks}
        first: Counter[str] = Counter()
        for task, queue, jobs in outlook.ahead(self._conn, job_id, job, stamp(self._now), tasks):
            is_paused = queue in queues and queues[queue].is_paused
            if not is_paused and any(pool.serves(queue) for _, pool in pools):
                first[task] += jobs
        workers = sum(min(node.workers, pool.size or node.workers) for node, pool in pools)
        free = sum(self._free(node, pool) for node, pool in pools)
        ahead = sum(first.values())
        starts_at = self._estimate(first, workers, free)
        if not ahead:
            when = "a worker is free" if free else "the next worker that is free for its queue takes it"
            return _told("next", f"It is the next one: {when}.", 0, starts_at)
        return _told(
            "ahead", f"{_others(ahead)}, by priority or because they are due longer, for {workers} workers.", ahead, starts_at
        )

    def _free(self, node: NodeInfo, pool: Pool) -> int:
        """Return how many workers of a node could take a job of this pool now."""
        free = node.workers - node.busy
        if pool.size is not None:
            running = outlook.running_on(self._conn, node.id)
            free = min(free, pool.size - sum(jobs for queue, jobs in running.items() if pool.serves(queue)))
        return max(free, 0)

    def _estimate(self, first: Mapping[str, int], workers: int, free: int) -> datetime | None:
        """Return when the workers should come to it, by how long each task usually takes."""
        if not workers or (free and not first):
            return self._now if workers else None
        usual = outlook.usual_seconds(self._conn)
        if not first.keys() <= usual.keys() or not (free or usual):
            return None
        seconds = sum(usual[name] * jobs for name, jobs in first.items())
        under_way = 0.0 if free else sum(usual.values()) / len(usual) / 2  # what runs is half done, on average
        return self._now + timedelta(seconds=(seconds / workers) + under_way)


def _told(code: Code, text: str, ahead: int, starts_at: datetime | None) -> Explanation:
    when = "" if starts_at is None else f" It should start at about {starts_at:%H:%M:%S} UTC."
    return Explanation(code, text[0].upper() + text[1:] + when, ahead, None if starts_at is None else to_pendulum(starts_at))


def _others(ahead: int) -> str:
    return "no other job goes first" if not ahead else "one job goes first" if ahead == 1 else f"{ahead} jobs go first"


def _ended(job: Job[Any]) -> str:
    reason = f"/{job.reason}" if job.reason else ""
    return f"{job.status}{reason} at {job.finished_at}"


def _named(job: Place, bound: Bound) -> str:
    return f"Its queue {job.queue!r}" if bound.key == blocked.queue_key(job.queue) else f"The limit {bound.key!r}"
