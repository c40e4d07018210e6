"""What scenarios are given, and what they return."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Bench:
    """Where a scenario works, and how much it does."""

    folder: Path
    scale: float = 1.0
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    def file(self) -> Path:
        """Return the path of a database that does not exist yet."""
        return self.folder / f"{next(self._numbers)}.db"

    def many(self, count: int) -> int:
        """Return a number of jobs, or of seconds, at this run's scale."""
        return max(1, round(count * self.scale))


@dataclass(frozen=True)
class Figure:
    """A number with a name and a unit, and what it should be at least or at most."""

    name: str
    value: float
    unit: str
    at_least: float | None = None
    at_most: float | None = None


Scenario = Callable[[Bench], list[Figure]]


def percentiles(name: str, samples: Sequence[float], unit: str) -> list[Figure]:
    """Return the 50th and the 99th percentile."""
    cuts = statistics.quantiles([*samples, *samples], n=100, method="inclusive")  # twice, because it takes two samples
    return [Figure(f"{name}, p50", cuts[49], unit), Figure(f"{name}, p99", cuts[98], unit)]


def short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 or value == 0 else f"{value:.3g}"
