"""What a job says while it runs: lines, kept up to a bound, on their way to the database."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Sequence
from datetime import datetime

from schedfactory.model.outcome import clean

MOST_LINES = 1_000  # of an attempt
MOST_TEXT = 262_144  # characters of their messages
LONGEST = 10_000  # characters of one message
_LONGEST_NAME = 200

Line = tuple[int, datetime, str, str | None, str]  # number in the attempt, moment, level, logger, message


class Lines:
    """What one attempt has said and nobody has stored yet. Any of its threads adds; one that hands over peeks and discards.

    The first lines are kept, up to the bounds above. Of the rest there is a count, in a last line that is written anew when it
    has doubled, and at the end: so a task that says a lot costs the database little.
    """

    __slots__ = ("_dropped", "_guard", "_kept", "_said_of_dropped", "_size", "pending")

    def __init__(self) -> None:
        self.pending: deque[Line] = deque()
        self._kept = self._size = self._dropped = self._said_of_dropped = 0
        self._guard = threading.RLock()  # a signal's handler may say something, too

    def add(self, at: datetime, level: str, logger: str | None, message: str) -> bool:
        """Keep a line, or count it; return whether there is something new to hand over."""
        message = clean(_shortened(message), LONGEST)
        with self._guard:
            if self._dropped or self._kept >= MOST_LINES or self._size + len(message) > MOST_TEXT:
                self._dropped += 1
                return self._dropped >= 2 * self._said_of_dropped and self._tell_dropped(at)
            number = self._kept = self._kept + 1  # its own, also where a signal's handler comes in between from here on
            self._size += len(message)
            name = None if logger is None else clean(logger, _LONGEST_NAME)
            self.pending.append((number, at, clean(level, _LONGEST_NAME), name, message))
            return True

    def relay(self, lines: Sequence[Line]) -> None:
        """Take in what a worker process has kept by these rules already."""
        with self._guard:
            self.pending.extend(lines)

    def end(self, at: datetime) -> None:
        """Say how many lines were not kept, now that there will be no more."""
        with self._guard:
            if self._dropped > self._said_of_dropped:
                self._tell_dropped(at)

    def peek(self, most: int) -> list[Line]:
        """Return the oldest lines; they stay until they are discarded."""
        # By their place: what is added meanwhile, by a signal's handler in this very thread too, spoils an iteration.
        return [self.pending[place] for place in range(min(most, len(self.pending)))]

    def discard(self, number: int) -> None:
        """Forget so many of the oldest lines, which are stored now."""
        for _ in range(number):
            self.pending.popleft()

    def _tell_dropped(self, at: datetime) -> bool:
        self._said_of_dropped = self._dropped
        message = f"{self._dropped} more line{'s were' if self._dropped > 1 else ' was'} not kept: an attempt keeps "
        message += f"{MOST_LINES:,} lines and {MOST_TEXT:,} characters."
        self.pending.append((MOST_LINES + 1, at, "WARNING", "schedfactory", message))
        return True


def _shortened(message: str) -> str:
    if len(message) <= LONGEST:
        return message
    end = f" … ({len(message):,} characters)"
    return message[: LONGEST - len(end)] + end


def check_level(given: str | int | None) -> int | None:
    """Return the number of a level of `logging`, None for None.

    Raises:
        ValueError: an unknown name, a negative number.
        TypeError: neither a name nor a number.

    >>> check_level("info")
    20
    """
    if given is None:
        return None
    if isinstance(given, str):
        known = logging.getLevelNamesMapping()
        found = known.get(given.strip().upper(), known.get(given))
        if found is None:
            raise ValueError(f"capture_logs={given!r} is no level of logging. Pass one of {', '.join(known)}, or None.")
        return found
    if isinstance(given, bool) or not isinstance(given, int):
        raise TypeError(f'capture_logs={given!r} is neither a level nor None. Pass "INFO", logging.INFO or None for no logs.')
    if given < 0:
        raise ValueError(f"capture_logs={given!r} is negative. Pass a level such as logging.INFO, or None for no logs.")
    return given
