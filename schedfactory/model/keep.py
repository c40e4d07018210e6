"""How long finished jobs stay."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from schedfactory.model.clock import DurationLike, duration
from schedfactory.model.job import FINAL

KeepLike = Mapping[str, DurationLike | None] | DurationLike
Keep = Mapping[str, timedelta | None]

KEPT: Keep = {"succeeded": timedelta(days=30), "failed": timedelta(days=90), "cancelled": timedelta(days=30)}


def check_keep(given: KeepLike | None, otherwise: Keep = KEPT) -> Keep:
    """Return how long jobs of each final status are kept; None means for ever.

    Args:
        given: one duration for all three, or a mapping by final status; a status that is missing has its usual time.

    Raises:
        ValueError, TypeError: a status that is not final, a bad duration.

    >>> check_keep({"failed": None})["failed"] is None
    True
    """
    if given is None or not isinstance(given, Mapping):
        kept = None if given is None else duration(given, "keep")
        return dict.fromkeys(FINAL, kept)
    for status in given:
        if status not in FINAL:
            raise ValueError(f"keep={dict(given)!r}: {status!r} is no final status. There are {', '.join(FINAL)}.")
    wanted = {status: None if time is None else duration(time, f"keep[{status!r}]") for status, time in given.items()}
    return {**otherwise, **wanted}
