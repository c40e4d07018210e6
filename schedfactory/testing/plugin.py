"""The pytest plugin: the fixture `schedfactory_jobs`.

pytest loads this at the start of every run, so it imports the library where the fixture is used, not before.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
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
        """Return the jobs that have not finished, the oldest first: of this task (a name of it will do), or all."""
        jobs = self.scheduler.jobs(status=_UNFINISHED, limit=sys.maxsize)[::-1]
        if task is None:
            return jobs
        known = self.scheduler.tasks.find(_name(task))
        names = [_name(task)] if known is None else [known.name, *known.aliases]
        return [job for job in jobs if job.task in names]

    def assert_enqueued(self, task: AnyTask, /, **args: Any) -> Job[Any]:
        """Fail unless an unfinished job of `task` has these arguments, maybe among others; return the oldest such job.

        Arguments are compared as they are stored, so an `Enum` or a `date` may be passed as itself. Where the task is known,
        a job has its defaults, too, and what its `**more` takes is passed as in a call.

        Raises:
            AssertionError: there is none; it lists what is enqueued.
            TypeError: the task has no parameter of that name, or it cannot have that value.

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
            TypeError: the task has no parameter of that name, or it cannot have that value.
            UnknownTask: a name that no task and no job has. For a task whose code is elsewhere pass `scheduler.remote(name)`.
        """
        __tracebackhide__ = True
        self._refuse_unheard(task)
        if self._matching(task, args):
            raise AssertionError(f"A job of {_described(task, args)} is enqueued.\n{self._listing(task)}")

    def _matching(self, task: AnyTask, args: dict[str, Any]) -> list[Job[Any]]:
        wanted = self._stored(args)
        unordered = {name for name, value in args.items() if isinstance(value, (set, frozenset))}
        known = task if callable(task) else self.scheduler.tasks.find(_name(task))
        if known is None:
            return [job for job in self.enqueued(task) if _has(job.args, wanted, unordered)]
        _check(known, wanted)
        defaults = self._defaults(known, wanted)
        return [job for job in self.enqueued(task) if _has(_received(known, defaults, job.args), wanted, unordered)]

    def _stored(self, args: dict[str, Any]) -> dict[str, Any]:
        """Return arguments as a row would have them: those of a remote task, which need not be all."""
        found: dict[str, Any] = json.loads(self.scheduler.remote("any").call(**args).args)
        return found

    def _defaults(self, task: Task[..., Any], wanted: Iterable[str]) -> dict[str, Any]:
        from schedfactory import NotSerializable

        defaults = task.arguments.with_defaults({})
        found: dict[str, Any] = {}
        for name in defaults.keys() & set(wanted):
            with suppress(NotSerializable):  # so nothing that is wanted can equal it
                found |= self._stored({name: defaults[name]})
        return found

    def _refuse_unheard(self, task: AnyTask) -> None:
        """Refuse a misspelt name, which would let every refutation pass."""
        from schedfactory import UnknownTask

        if isinstance(task, str) and self.scheduler.tasks.find(task) is None and not self.scheduler.jobs(task=task, limit=1):
            raise UnknownTask(
                f"no task and no job is named {task!r} here. Import its module, or pass scheduler.remote({task!r}) if its code "
                "is elsewhere."
            )

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


def _check(task: Task[..., Any], wanted: dict[str, Any]) -> None:
    """Refuse a misspelt argument, and a value that it cannot have: either would let every refutation pass."""
    known, rest = task.arguments.names, _rest(task)
    named = {name: value for name, value in wanted.items() if name in known}
    if more := {name: value for name, value in wanted.items() if name not in known}:
        if rest is None:
            raise TypeError(f"{task.name} has no parameter {next(iter(more))!r}; it has {', '.join(known) or 'none'}.")
        named[rest] = more
    for name, value in named.items():
        try:
            task.arguments.reader([name])(json.dumps({name: value}))
        except Exception as error:
            raise TypeError(f"{task.name} cannot have {name}={value!r}: {error}") from error


def _rest(task: Task[..., Any]) -> str | None:
    """Return the name of the parameter that takes all other keywords."""
    parameters = task.arguments.signature.parameters.values()
    return next((one.name for one in parameters if one.kind is one.VAR_KEYWORD), None)


def _received(task: Task[..., Any], defaults: dict[str, Any], stored: dict[str, Any]) -> dict[str, Any]:
    """Return what the function will get, by the names by which a call would pass it."""
    more = stored.get(_rest(task) or "")
    return (more if isinstance(more, dict) else {}) | defaults | stored


def _has(args: dict[str, Any], wanted: dict[str, Any], unordered: set[str]) -> bool:
    return all(name in args and _same(args[name], value, name in unordered) for name, value in wanted.items())


def _same(stored: Any, wanted: Any, is_unordered: bool) -> bool:
    if is_unordered and isinstance(stored, list):
        return sorted(map(json.dumps, stored)) == sorted(map(json.dumps, wanted))
    return bool(stored == wanted)


def _described(task: AnyTask, args: dict[str, Any]) -> str:
    return _name(task) + (" with " + ", ".join(f"{name}={value!r}" for name, value in args.items()) if args else "")
