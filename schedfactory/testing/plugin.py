"""The pytest plugin: the fixture `schedfactory_jobs`.

pytest loads this at the start of every run, so it imports the library where the fixture is used, not before.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import pendulum

    from schedfactory import Job, RemoteTask, Scheduler, Task

    AnyTask = Task[..., Any] | RemoteTask | str
    Duration = timedelta | float | str

_UNFINISHED = ("waiting", "scheduled", "queued", "running")
_MOST_LISTED = 20


class SchedfactoryJobs:
    """What the fixture `schedfactory_jobs` gives: a scheduler on a private file, and its jobs.

    Attributes:
        scheduler: the app's, or a fresh one. It runs the same SQL as in production.
        clock: its clock, which the test moves.

    >>> def test_signing_up_welcomes_the_user(schedfactory_jobs):
    ...     sign_up("ada")
    ...     schedfactory_jobs.assert_enqueued(welcome, name="ada")
    ...     schedfactory_jobs.clock.advance("10m")
    ...     assert schedfactory_jobs.run_due() == 1
    """

    def __init__(self, scheduler: Scheduler, clock: ManualClock) -> None:
        self.scheduler = scheduler
        self.clock = clock

    def run_due(self, limit: int | None = None) -> int:
        """Run in this thread what is due by the clock, and return the number of attempts; see `Scheduler.run_due`."""
        return self.scheduler.run_due(limit)

    def enqueued(self, task: AnyTask | None = None) -> list[Job[Any]]:
        """Return the jobs that have not finished, the oldest first: of this task (its name will do), or all."""
        name = None if task is None else _name(task)
        return self.scheduler.jobs(status=_UNFINISHED, task=name, limit=sys.maxsize)[::-1]

    def assert_enqueued(self, task: AnyTask, /, **args: Any) -> Job[Any]:
        """Fail unless an unfinished job of `task` has these arguments, maybe among others; return the oldest such job.

        Arguments are compared as they are stored, so an `Enum` or a `date` may be passed as itself.

        Raises:
            AssertionError: there is none; it lists what is enqueued.
            TypeError: the task has no parameter of that name.

        >>> schedfactory_jobs.assert_enqueued(welcome, name="ada").priority
        0
        """
        __tracebackhide__ = True
        found = self._matching(task, args)
        if not found:
            raise AssertionError(f"No job of {_described(task, args)} is enqueued.\n{self._listing(task)}")
        return found[0]

    def refute_enqueued(self, task: AnyTask, /, **args: Any) -> None:
        """Fail if an unfinished job of `task` has these arguments, maybe among others.

        Raises:
            AssertionError: there is one; it lists what is enqueued.
            TypeError: the task has no parameter of that name.
        """
        __tracebackhide__ = True
        if self._matching(task, args):
            raise AssertionError(f"A job of {_described(task, args)} is enqueued.\n{self._listing(task)}")

    def _matching(self, task: AnyTask, args: dict[str, Any]) -> list[Job[Any]]:
        _check_names(task, args)
        # A call of a remote task has its arguments as a row would have them, without a need for all of them.
        wanted = json.loads(self.scheduler.remote(_name(task)).call(**args).args)
        unordered = {name for name, value in args.items() if isinstance(value, (set, frozenset))}
        return [job for job in self.enqueued(task) if _has(job.args, wanted, unordered)]

    def _listing(self, task: AnyTask) -> str:
        jobs = sorted(self.enqueued(), key=lambda job: job.task != _name(task))
        lines = [f"  {job.id}: {job.task} {job.args} {job.status}, run_at {job.run_at}" for job in jobs[:_MOST_LISTED]]
        if len(jobs) > _MOST_LISTED:
            lines.append(f"  and {len(jobs) - _MOST_LISTED} more")
        if not jobs:
            lines.append("  nothing")
        finished = sum(number for status, number in self.scheduler.counts().items() if status not in _UNFINISHED)
        if finished:
            lines.append(f"Finished, which does not count: {finished}")
        return "\n".join(["Enqueued:", *lines])


class ManualClock:
    """A clock that stands at the moment it was made until the test moves it.

    Inside `freezegun.freeze_time` it shows the frozen time instead, plus what it was moved by.
    """

    def __init__(self) -> None:
        self._start = datetime.now(timezone.utc)
        self._moved = timedelta()

    def __call__(self) -> datetime:
        """Return what it shows, as a scheduler asks for it."""
        is_frozen = datetime.__module__ != "datetime"  # freezegun has put its own class in the place of the standard one
        return (datetime.now(timezone.utc) if is_frozen else self._start) + self._moved

    @property
    def now(self) -> pendulum.DateTime:
        """What it shows, in UTC."""
        import pendulum

        return pendulum.instance(self())

    def advance(self, by: Duration) -> pendulum.DateTime:
        """Move it on and return what it shows then.

        Args:
            by: a timedelta, pendulum's `Duration`, a number of seconds, or text such as "90s" or "1h30m".

        Raises:
            ValueError, TypeError: no such duration, or a negative one.

        >>> schedfactory_jobs.clock.advance("2m")
        DateTime(2026, 1, 1, 0, 2, 0, tzinfo=Timezone('UTC'))
        """
        from schedfactory import Snooze

        self._moved += Snooze(by).delay  # which reads all that the library takes for a duration
        return self.now


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the setting that names the app's scheduler."""
    parser.addini("schedfactory_app", "module:scheduler whose jobs the fixture schedfactory_jobs watches", default="")


@pytest.fixture
def schedfactory_jobs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SchedfactoryJobs]:
    """The jobs of the app's scheduler (ini `schedfactory_app`), else of a fresh one, on a private file and a still clock."""
    freezegun = sys.modules.get("freezegun")
    if freezegun is not None:
        freezegun.configure(extend_ignore_list=["pendulum"])
    path = tmp_path_factory.mktemp("schedfactory") / "jobs.db"
    clock = ManualClock()
    with _scheduler(request.config.getini("schedfactory_app"), path, clock) as scheduler:
        yield SchedfactoryJobs(scheduler, clock)


@contextmanager
def _scheduler(app: str, path: Path, clock: ManualClock) -> Iterator[Scheduler]:
    from schedfactory import Scheduler

    if app:
        with _load(app, Scheduler).override(path, clock=clock) as scheduler:
            yield scheduler
        return
    scheduler = Scheduler(path, clock=clock)
    try:
        yield scheduler
    finally:
        scheduler.close()


def _load(app: str, kind: type[Scheduler]) -> Scheduler:
    module, _, name = app.partition(":")
    if not module or not name:
        raise pytest.UsageError(f"schedfactory_app = {app} is not of the form module:scheduler.")
    try:
        found = attrgetter(name)(import_module(module))
    except (ImportError, AttributeError) as error:
        raise pytest.UsageError(f"schedfactory_app = {app} was not found: {error}") from error
    if not isinstance(found, kind):
        raise pytest.UsageError(f"schedfactory_app = {app} is {found!r}, and no Scheduler.")
    return found


def _name(task: AnyTask) -> str:
    name = task if isinstance(task, str) else getattr(task, "name", None)
    if not isinstance(name, str):
        raise TypeError(f"{task!r} is no task. Pass one, a remote task or its name.")
    return name


def _check_names(task: AnyTask, args: dict[str, Any]) -> None:
    """Refuse a misspelt argument, which would let every refutation pass."""
    if not callable(task):
        return
    known = inspect.signature(task).parameters
    for name in args:
        if name not in known:
            raise TypeError(f"{_name(task)} has no parameter {name!r}; it has {', '.join(known) or 'none'}.")


def _has(args: dict[str, Any], wanted: dict[str, Any], unordered: set[str]) -> bool:
    return all(name in args and _same(args[name], value, name in unordered) for name, value in wanted.items())


def _same(stored: Any, wanted: Any, is_unordered: bool) -> bool:
    if is_unordered and isinstance(stored, list):
        return sorted(map(json.dumps, stored)) == sorted(map(json.dumps, wanted))
    return bool(stored == wanted)


def _described(task: AnyTask, args: dict[str, Any]) -> str:
    return _name(task) + (" with " + ", ".join(f"{name}={value!r}" for name, value in args.items()) if args else "")
