"""How far ahead of the workers jobs may be claimed: at most 5 ms of work a worker, by what was measured.

Claiming ahead saves no-ops from waiting for a commit each. What takes 5 ms or more is never claimed ahead, so that a job
of higher priority never waits behind more than that.
"""

from __future__ import annotations

from collections.abc import Iterable

AHEAD_S = 0.005
AHEAD_JOBS = 128  # a worker, whatever the measure says
_MOST_AHEAD = 1_024  # a node, whose ring of begun jobs holds four times as many
_SHORTEST_S = 0.00002
_WEIGHT = 0.2
_JUMP = 8  # a single measurement counts as this many times the estimate at most: a thread may have waited for its turn


class Pace:
    """The usual run time of each task, in seconds: a moving average."""

    def __init__(self) -> None:
        self._usual: dict[str, float] = {}

    def observe(self, task: str, seconds: float) -> None:
        usual = self._usual.get(task)
        if usual is None:
            self._usual[task] = seconds
        else:
            self._usual[task] = usual + _WEIGHT * (min(seconds, usual * _JUMP + _SHORTEST_S) - usual)

    def most_ahead(self, workers: int) -> int:
        """Return how many jobs could lie ahead if all were of the fastest task."""
        fastest = min(self._usual.values(), default=AHEAD_S)
        if fastest >= AHEAD_S:
            return 0
        return min(int(workers * AHEAD_S / max(fastest, _SHORTEST_S)), workers * AHEAD_JOBS, _MOST_AHEAD)

    def fitting(self, tasks: Iterable[str], workers: int, seconds_ahead: float) -> int:
        """Return how many of these tasks, in order, may be claimed beside the work that lies ahead already."""
        budget = workers * AHEAD_S - seconds_ahead
        fit = 0
        for task in tasks:
            usual = self._usual.get(task, AHEAD_S)
            budget -= max(usual, _SHORTEST_S)
            if usual >= AHEAD_S or budget < 0:
                break
            fit += 1
        return fit

    def seconds(self, tasks: Iterable[str]) -> float:
        """Return how long these would take one after the other."""
        return sum(max(self._usual.get(task, AHEAD_S), _SHORTEST_S) for task in tasks)
