"""Tasks and calls: what can run, and what is asked to."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, NoReturn, ParamSpec, Protocol, TypeVar, Unpack

import msgspec

from schedfactory.model.arguments import Arguments, dumps_unchecked
from schedfactory.model.errors import NotConfigured
from schedfactory.model.job import Job
from schedfactory.model.keys import KeyTemplate, key_of_all
from schedfactory.model.limit import Limit, limits_of
from schedfactory.model.options import CallOptions, KeepLike, Options, TaskOptions, check_keep, check_of_task
from schedfactory.model.retry import MOST_ATTEMPTS, ONCE, Retry, retry_of

OnCrash = Literal["requeue", "fail"]
Isolation = Literal["thread", "process"]
P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Home(Protocol):
    """Where calls become jobs: a scheduler."""

    def enqueue_calls(self, calls: Sequence[Call[Any]]) -> list[Job[Any]]: ...
    def work_on(self, path: str) -> None: ...


class Call(msgspec.Struct, Generic[R_co], frozen=True, gc=False):
    """A task with its arguments and options: a value. Nothing is stored until it is enqueued.

    >>> scheduler.enqueue_many([add.call(1, 2), add.options(priority=9).call(3, 4)])  # doctest: +SKIP
    """

    task: str
    args: str
    options: Options
    unique_key: str | None = None


class Task(Generic[P, R]):
    """A registered function. Calling it calls the function; `enqueue` makes a job of the call.

    Made by `@scheduler.task` or `@registry.task`.

    >>> add(2, 3)
    5
    >>> add.enqueue(2, 3).status
    'queued'
    """

    def __init__(
        self,
        function: Callable[P, R],
        *,
        name: str | None = None,
        aliases: Iterable[str] = (),
        on_crash: OnCrash = "requeue",
        isolation: Isolation = "thread",
        keep: KeepLike | None = None,
        limit: Limit | Sequence[Limit] | None = None,
        **options: Unpack[TaskOptions],
    ) -> None:
        check_function(function, name)
        self.function = function
        self.name = _check_name(name) if name is not None else name_of(function)
        if isinstance(aliases, str):
            raise TypeError(f"aliases={aliases!r} is one text. Pass a list: [{aliases!r}].")
        if not isinstance(aliases, Iterable):
            raise TypeError(f'aliases={aliases!r} is no list of names. Pass one, such as ["app:older_name"].')
        self.aliases = tuple(_check_name(alias) for alias in aliases)
        self.arguments = Arguments(function)
        retry = options.pop("retry", None)  # the task's own may hold callables and classes, which a row cannot
        self.retry = ONCE if retry is None else retry_of(retry)
        check_of_task(options, function.__name__)
        if on_crash not in ("requeue", "fail"):
            raise ValueError(f'on_crash={on_crash!r} is unknown. Pass "requeue" or "fail".')
        self.isolation = _check_isolation(isolation, function)
        self.defaults = replace(Options().but(**options), max_attempts=self.retry.max_attempts, on_crash=on_crash)
        self.keep = None if keep is None else check_keep(keep)
        self.limits = limits_of(limit, self.name, self.arguments)
        self._options = self.defaults
        self._key = self._key_template()
        self._home: list[Home] = []  # shared by the task and all that .options() makes of it
        functools.update_wrapper(self, function, updated=())  # what the function has been given stays its own

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Task {self.name}>"

    def options(self, **options: Unpack[CallOptions]) -> Task[P, R]:
        """Return this task with other options for the calls made through it; the task itself stays as it is.

        Args:
            options: `queue`, `priority`, `run_at` or `delay`, `retry`, `timeout`, `expires`, `tags`, `unique`: see
                `CallOptions`.

        Raises:
            ValueError, TypeError: naming the option and its value.

        >>> job = add.options(delay="10m", priority=50).enqueue(2, 3)
        >>> job.status
        'scheduled'
        """
        twin: Task[P, R] = object.__new__(type(self))
        twin.__dict__.update(self.__dict__, _options=self._options.but(**options))
        if "unique" in options:
            twin._key = twin._key_template()
        return twin

    def _key_template(self) -> KeyTemplate | None:
        unique = self._options.unique
        return None if unique is None else unique.template(self.arguments.names)

    def _unique_key(self, bound: dict[str, Any], text: str) -> str:
        received = self.arguments.received(bound, text)
        if self._key is None:
            return key_of_all(self.arguments.without_defaults(received))
        return self._key.render(self.arguments.with_defaults(received))

    def call(self, /, *args: P.args, **kwargs: P.kwargs) -> Call[R]:
        """Bind arguments and return the call, to be enqueued later.

        Raises:
            TypeError: the function could not be called like this.
            NotSerializable: an argument that would not come back as it is.
            ValueError: an argument of which no unique key can be made.
        """
        bound = self.arguments.bind(args, kwargs)
        text = self.arguments.dumps(bound)
        return Call(self.name, text, self._options, None if self._options.unique is None else self._unique_key(bound, text))

    def enqueue(self, /, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """Store a job for this call and return its snapshot. When this returns, the job survives a crash.

        With `unique` it may be the snapshot of a job that was there before; then `is_new` is False.

        Raises:
            TypeError: the function could not be called like this.
            NotSerializable: an argument that would not come back as it is.
            PayloadTooLarge: the arguments are over the scheduler's `max_payload`.
            DuplicateJob: another job holds its unique key, and `on_conflict` is "raise".
            NotConfigured: no scheduler has included this task's registry.
            StorageError: the database did not take it; nothing was stored.
        """
        return self._scheduler.enqueue_calls((self.call(*args, **kwargs),))[0]

    if not TYPE_CHECKING:  # a checker is to know that they are not there

        def __getattr__(self, name: str) -> NoReturn:
            if name in ("delay", "apply_async", "send", "schedule"):
                raise AttributeError(f"{self!r} has no .{name}(). Use .enqueue(…), with .options(delay=…) before it for later.")
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @property
    def home(self) -> Home | None:
        """Where its calls become jobs, None before a scheduler has included it."""
        return self._home[0] if self._home else None

    @property
    def _scheduler(self) -> Home:
        if not self._home:
            raise NotConfigured(f"{self!r} belongs to no scheduler yet. Call scheduler.include(registry) first.")
        return self._home[0]

    def check_home(self, home: Home) -> None:
        """Refuse a second place where this task's calls become jobs.

        Raises:
            ValueError: it has another one already.
        """
        if self._home and self._home[0] is not home:
            raise ValueError(f"{self!r} already belongs to another scheduler. Give each scheduler a registry of its own.")

    def belong_to(self, home: Home) -> None:
        """Make `home` the place where this task's calls become jobs; `check_home` comes first."""
        self._home[:] = [home]

    def limit_of(self, timeout_ms: int | None) -> timedelta | None:
        """Return a row's run time limit; a row that has none takes this task's."""
        return self.defaults.timeout if timeout_ms is None else timedelta(milliseconds=timeout_ms)

    def retry_for(self, max_attempts: int | None, stored: str | None) -> Retry:
        """Return a row's retry: its own numbers and names over this task's."""
        if stored is None and max_attempts in (None, self.retry.max_attempts):
            return self.retry
        changes: dict[str, Any] = {} if stored is None else msgspec.json.decode(stored, type=dict[str, Any])
        if max_attempts is not None:
            changes["max_attempts"] = min(max_attempts, MOST_ATTEMPTS)  # snoozes may have raised it beyond
        return replace(self.retry, **changes) if changes else self.retry


class RemoteTask:
    """A task whose code is elsewhere, known by its name; its arguments are keywords only.

    Options that are not given are left to the task of the node that claims the job.

    >>> scheduler.remote("mail.welcome").options(queue="mail").enqueue(user_id=42).queue
    'mail'
    """

    def __init__(self, name: str, home: Home, options: Options = Options()) -> None:  # noqa: B008 - frozen
        self.name = _check_name(name)
        self._home = home
        self._options = options
        self._key = None if options.unique is None else options.unique.template(None)

    def options(self, **options: Unpack[CallOptions]) -> RemoteTask:
        """Return it with other options, as `Task.options` does."""
        return RemoteTask(self.name, self._home, self._options.but(**options))

    def call(self, /, **kwargs: Any) -> Call[Any]:
        """Return the call, to be enqueued later. Whether its arguments bind is known where it runs."""
        args = dumps_unchecked(kwargs)
        if self._options.unique is None:
            return Call(self.name, args, self._options)
        return Call(self.name, args, self._options, key_of_all(kwargs) if self._key is None else self._key.render(kwargs))

    def enqueue(self, /, **kwargs: Any) -> Job[Any]:
        """Store a job for this call, as `Task.enqueue` does."""
        return self._home.enqueue_calls((self.call(**kwargs),))[0]


def name_of(function: Callable[..., Any]) -> str:
    """Return "module:qualname", the same whether the module is imported or run as a script."""
    module = function.__module__
    if module in ("__main__", "__mp_main__"):  # the second in a worker process, for the same file
        # Of what was decorated, for a decorator has its own module's. A profiler calls the program's spec "__main__", too.
        program = getattr(inspect.unwrap(function), "__globals__", {})
        spec, file = program.get("__spec__"), program.get("__file__")
        if spec is not None and spec.name != "__main__":
            module = spec.name
        elif file and not file.startswith("<"):  # as for a program on the standard input
            module = Path(file).stem
    return f"{module}:{function.__qualname__}"


def check_function(function: object, name: str | None = None) -> None:
    """Refuse what cannot be found again by a name.

    Raises:
        TypeError: a lambda, a method, a nested function without `name`, an `async def`, a generator, no function.
    """
    if inspect.ismethod(function):
        raise TypeError(f"{function!r} is a method, whose object cannot be stored. Define a function at the top of a module.")
    if not inspect.isfunction(function) and not inspect.isbuiltin(function):
        raise TypeError(f"{function!r} is no plain function. Pass one defined with def at the top of a module.")
    qualname = function.__qualname__
    inner = qualname.rpartition("<locals>.")[2]
    if function.__name__ == "<lambda>":
        raise TypeError(f"{function!r} is a lambda, which no other process could find. Define it with def.")
    if "." in inner:
        raise TypeError(f"{qualname} is a method, whose object cannot be stored. Define a function at the top of a module.")
    if "<locals>" in qualname and name is None:
        raise TypeError(f"{qualname} is defined inside a function, so its name may not be unique. Pass @task(name=…).")
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"{qualname} is a coroutine or a generator; a task is a plain function that returns its result.")


def _check_name(name: str) -> str:
    if not isinstance(name, str) or not name or len(name) > 255 or not name.isprintable():
        raise ValueError(f"the task name {name!r} is not 1 to 255 printable characters.")
    return name


def _check_isolation(isolation: Isolation, function: Callable[..., Any]) -> Isolation:
    if isolation not in ("thread", "process"):
        raise ValueError(f'isolation={isolation!r} is unknown. Pass "thread" or "process".')
    if isolation == "process" and "<locals>" in function.__qualname__:
        raise TypeError(
            f"{function.__qualname__} is defined inside a function, where a worker process cannot find it. "
            'Define it at the top of a module, or leave out isolation="process".'
        )
    return isolation
