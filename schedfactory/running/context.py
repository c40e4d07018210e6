"""Which job the code that asks belongs to."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import Any

from schedfactory.model.errors import NotInJob
from schedfactory.model.running_job import RunningJob

Home = tuple[object, int | None]
is_worker_process = False  # one of isolation="process"
is_importing = False  # and not yet done with the program's main module
_current: contextvars.ContextVar[tuple[RunningJob, object, int | None]] = contextvars.ContextVar("schedfactory_job")


def current_job() -> RunningJob:
    """Return the job that the calling code runs in.

    Raises:
        NotInJob: it runs in none. A thread that a task starts itself must be given a copy of the context.

    >>> current_job()
    Traceback (most recent call last):
    schedfactory.model.errors.NotInJob: no job runs here. Call current_job() inside a task.
    """
    found = _current.get(None)
    if found is None:
        raise NotInJob("no job runs here. Call current_job() inside a task.")
    return found[0]


def capturing() -> tuple[RunningJob, int] | None:
    """Return the job that the calling code runs in, and from which level on it keeps records of `logging`; None: neither."""
    found = _current.get(None)
    return None if found is None or found[2] is None else (found[0], found[2])


def is_inside(owner: object) -> bool:
    """Tell whether the calling code runs in a job of this scheduler's."""
    found = _current.get(None)
    return found is not None and found[1] is owner


def refuse_worker_process(what: str, *, at_import: bool = False) -> None:
    """Let nothing start in a worker process, which imports the program's main module to find its tasks.

    Args:
        at_import: refuse it during that import only.

    Raises:
        RuntimeError: this is one.
    """
    if is_importing or (is_worker_process and not at_import):
        raise RuntimeError(
            f'{what} was called in a worker process of isolation="process", which imports the main module. '
            'Put it under: if __name__ == "__main__":'
        )


def call(job: RunningJob, home: Home, function: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]) -> Any:
    """Call a task's function as this job, in a context of its own: what it sets there ends with it.

    Args:
        home: the scheduler that it runs for, and the lowest level of `logging` records that are kept with it.
    """
    return contextvars.copy_context().run(_enter, job, home, function, args, kwargs)


def _enter(job: RunningJob, home: Home, function: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]) -> Any:
    _current.set((job, *home))
    return function(*args, **kwargs)
