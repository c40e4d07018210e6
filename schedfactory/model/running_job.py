"""A job while it runs: what the task's code sees of it, and how orders reach that code."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import pendulum

from schedfactory.model import codec
from schedfactory.model.clock import Clock, system_clock, to_pendulum
from schedfactory.model.errors import LostLease
from schedfactory.model.job import read_moment, read_tags
from schedfactory.model.log import Line, Lines
from schedfactory.model.outcome import Cancel, Cause, clean

# What a claim reads of a row, in this order.
CLAIMED = (
    "id", "uid", "task", "queue", "priority", "args", "tags", "run_at", "expires_at", "attempt", "failures",
    "max_attempts", "retry", "timeout_ms", "fence", "reason", "crashes", "on_crash", "snoozes",
)  # fmt: skip
_PRIORITY, _RUN_AT, _ID = (CLAIMED.index(name) for name in ("priority", "run_at", "id"))

_guard = threading.RLock()


def claim_order(row: Sequence[Any]) -> tuple[int, str, int]:
    """Return what sorts rows as a claim does, the best first."""
    return (-row[_PRIORITY], row[_RUN_AT], row[_ID])


class RunningJob:
    """The job that `current_job()` gives: its facts, its progress, its log, and whether it is asked to stop.

    >>> @scheduler.task
    ... def render(pages: int) -> None:
    ...     job = current_job()
    ...     for page in range(pages):
    ...         job.raise_if_cancelled()
    ...         job.set_progress(page / pages, f"page {page}")
    """

    __slots__ = (
        "_clock", "_note", "_run_at", "_tags", "attempt", "began", "cause", "crashes", "expires_at", "failures", "fence",
        "has_ended", "id", "is_ahead", "lines", "max_attempts", "node", "noted", "on_crash", "priority", "progress", "queue",
        "reason", "retry", "row", "settled", "snoozes", "started", "stored_args", "task", "timeout_ms", "took", "uid", "worker",
    )  # fmt: skip

    def __init__(
        self,
        row: tuple[Any, ...],
        node: int,
        worker: int | None,
        started: datetime,
        note: Callable[[RunningJob], None],
        clock: Clock = system_clock,
    ) -> None:
        (
            self.id, self.uid, self.task, self.queue, self.priority, self.stored_args, self._tags, self._run_at,
            self.expires_at, attempt, self.failures, self.max_attempts, self.retry, self.timeout_ms, fence, self.reason,
            self.crashes, self.on_crash, self.snoozes,
        ) = row  # fmt: skip
        self.row = row  # as the claim read it
        self.attempt: int = attempt + 1
        self.fence: int = fence + 1
        self.node = node
        self.worker = worker
        self.started = started  # aware, as the house keeps moments; a worker that takes it from ahead sets it anew
        self._note = note
        self._clock = clock
        self.began: float | None = None  # by the monotonic clock, once its code has started
        self.took = 0.0  # seconds, once it has ended
        self.cause: Cause | None = None
        self.progress: tuple[float | None, str | None] = (None, None)
        self.lines: Lines | None = None  # made with the first one
        self.noted = True
        self.settled = False
        self.has_ended = False
        self.is_ahead = worker is None  # claimed for no worker yet, and its row says so

    def __repr__(self) -> str:
        return f"<RunningJob {self.id} {self.task} attempt={self.attempt}>"

    @property
    def args(self) -> dict[str, Any]:
        """The stored arguments, plain JSON by parameter name."""
        return dict(codec.decode_plain(self.stored_args))

    @property
    def tags(self) -> list[str]:
        """The text labels."""
        return read_tags(self._tags)

    @property
    def run_at(self) -> pendulum.DateTime:
        """The earliest start, in UTC."""
        return read_moment(self._run_at)

    @property
    def started_at(self) -> pendulum.DateTime:
        """When this attempt started, in UTC."""
        return to_pendulum(self.started)

    @property
    def cancelled(self) -> bool:
        """True once this attempt is asked to stop: by `cancel()`, its timeout, a shutdown, or because it lost its job."""
        return self.cause is not None

    def raise_if_cancelled(self) -> None:
        """Raise `Cancel` once this attempt is asked to stop: the job ends cancelled, or goes back at a shutdown.

        Raises:
            Cancel: the request.
            LostLease: another attempt has the job, or will get it; what this one does is not stored.
        """
        self._check_lease()
        if self.cause is not None:
            raise Cancel(f"cancelled (cause: {self.cause})")

    def set_progress(self, progress: float, message: str | None = None) -> None:
        """Say how far this attempt is. The row shows it within a second; what is said faster than that replaces what was.

        Args:
            progress: from 0 to 1.
            message: a short text; without one the older text stays.

        Raises:
            ValueError: not in 0…1.
            TypeError: no number, or no text.
            LostLease: this attempt no longer has its job.
        """
        try:
            fits = 0 <= progress <= 1
        except TypeError as error:
            raise TypeError(f"progress={progress!r} is no number. Pass one from 0 to 1: done / total.") from error
        if not fits:
            raise ValueError(f"progress={progress!r} is not in 0…1. Pass done / total.")
        if message is not None and not isinstance(message, str):
            raise TypeError(f"message={message!r} is no text.")
        self._check_lease()
        self.progress = (float(progress), self.progress[1] if message is None else clean(message, 1_000))
        self._tell()

    def log(self, text: str) -> None:
        """Keep a line in the job's log, beside the captured records of `logging`; `Job.logs()` returns them.

        The lines are stored at most a quarter of a second later, which is what a crash may cost, and at the latest with the
        job's end. An attempt keeps its first 1,000 lines, up to 262,144 characters, and counts the rest; a line is cut at
        10,000 characters.

        Raises:
            TypeError: no text.
            LostLease: this attempt no longer has its job.

        >>> @scheduler.task
        ... def load(path: str) -> None:
        ...     current_job().log(f"reading {path}")
        """
        if not isinstance(text, str):
            raise TypeError(f"log({text!r}): this is no text. Pass a str, such as an f-string.")
        self._check_lease()
        self.keep("INFO", None, text)

    def keep(self, level: str, logger: str | None, message: str) -> None:
        """Keep a line, unless this attempt has lost its job or has ended; see `log`."""
        if self.cause in ("lost", "timeout") or self.has_ended:
            return
        if self._own_lines().add(self._clock(), level, logger, message):
            self._tell()

    def relay(self, progress: tuple[float | None, str | None], lines: Sequence[Line]) -> None:
        """Take in what this job's code has said in a worker process."""
        self.progress = progress
        if lines:
            self._own_lines().relay(lines)
        self._tell()

    def _own_lines(self) -> Lines:
        if self.lines is None:
            with _guard:  # several threads of a task may say their first line at once
                self.lines = self.lines or Lines()
        return self.lines

    def _tell(self) -> None:
        if self.noted:
            self.noted = False
            self._note(self)

    def _check_lease(self) -> None:
        if self.cause in ("lost", "timeout"):
            raise LostLease(f"job {self.id}: attempt {self.attempt} ended without this code (cause: {self.cause}).")
