"""Registries: the tasks that a scheduler, or a library without one, knows by their names."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, ParamSpec, TypeVar, Unpack, cast, overload

from schedfactory.model.errors import UnknownTask
from schedfactory.model.limit import Limit
from schedfactory.model.options import Keep, KeepLike, TaskOptions
from schedfactory.model.task import Call, Home, Isolation, OnCrash, Task

P = ParamSpec("P")
R = TypeVar("R")


class TaskRegistry:
    """Tasks without a scheduler, for libraries and app factories; `scheduler.include(registry)` brings them in.

    >>> tasks = TaskRegistry()
    >>> @tasks.task(name="report")
    ... def report(month: str) -> str:
    ...     return month.upper()
    >>> report("may")
    'MAY'
    """

    def __init__(self) -> None:
        self._tasks: dict[str, Task[..., Any]] = {}
        self._by_function: dict[Callable[..., Any], Task[..., Any]] = {}
        self._parents: list[TaskRegistry] = []
        self._home: Home | None = None
        self.is_limited = False  # some task is

    @overload
    def task(self, function: Callable[P, R], /) -> Task[P, R]: ...
    @overload
    def task(
        self,
        *,
        name: str | None = None,
        aliases: Iterable[str] = (),
        on_crash: OnCrash = "requeue",
        isolation: Isolation = "thread",
        keep: KeepLike | None = None,
        limit: Limit | Sequence[Limit] | None = None,
        **options: Unpack[TaskOptions],
    ) -> Callable[[Callable[P, R]], Task[P, R]]: ...
    def task(self, *function: Any, **options: Any) -> Any:
        """Register a function as a task, with the options its jobs have unless a call says otherwise.

        Args:
            name: the stable name in the rows; without it "module:qualname".
            aliases: older names whose rows this task runs too.
            on_crash: when a process dies under the job, "requeue" runs it again, and ends it `failed`/`crashed` the third
                time; "fail" does so at once: after a start whose end was not recorded it never starts again by itself.
            isolation: "process" runs its jobs in a worker process, started on demand, which is killed at a timeout, a few
                seconds after a cancel, and with this process; where it dies, only its own job is charged with a crash.
            keep: how long finished jobs of this task stay, in the place of the scheduler's `keep`: a duration, or a mapping
                by final status in which None means for ever.
            limit: how many run at the same time, and start in a stretch of time, over all nodes: a `Limit`, or several.
            options: `queue`, `priority`, `retry`, `timeout`, `expires`, `tags`, `unique`: see `TaskOptions`; `retry` may
                hold callables and exception classes here.

        Raises:
            TypeError: a lambda, a method, a nested function without `name`, or with `isolation="process"`, an `async def` or a
                generator, or an annotation that JSON cannot tell apart.
            ValueError: a bad option, or a name that another function has.
        """
        if function:
            return self.add(Task(*function, **options))
        return lambda found: self.add(Task(found, **options))

    def add(self, task: Task[P, R]) -> Task[P, R]:
        """Register a task that exists; a redefinition of the same function replaces the older one (a reload, a notebook)."""
        self._check(task)
        self._take(task)
        return task

    def _check(self, task: Task[..., Any]) -> None:
        """Refuse a task that cannot come in here, or in a registry that includes this one."""
        for name in (task.name, *task.aliases):
            other = self._tasks.get(name)
            if other is not None and other is not task and _place(other.function) != _place(task.function):
                raise ValueError(f"the task name {name!r} is taken by {_place(other.function)}. Pass another name=.")
        if self._home is not None:
            task.check_home(self._home)
        for parent in self._parents:
            parent._check(task)

    def _take(self, task: Task[..., Any]) -> None:
        for parent in self._parents:
            parent._take(task)
        if self._home is not None:
            task.belong_to(self._home)
        self.is_limited |= bool(task.limits)
        for name in (task.name, *task.aliases):
            self._tasks[name] = task
        self._by_function[task.function] = task

    def include(self, registry: TaskRegistry) -> None:
        """Bring in all tasks of another registry, also those that it gets later; where one is refused, none of them."""
        if not isinstance(registry, TaskRegistry):
            raise TypeError(f"{registry!r} is no TaskRegistry. Pass one; a Scheduler's own is scheduler.tasks.")
        if registry is self or registry.includes(self):
            raise ValueError(f"{registry!r} cannot be included: it would include itself.")
        tasks = list(registry._tasks.values())
        for task in tasks:
            self._check(task)
        for task in tasks:
            self._take(task)
        registry._parents.append(self)

    def includes(self, other: TaskRegistry) -> bool:
        """Tell whether the tasks of another registry come in here, also by way of a third one."""
        return any(parent is self or self.includes(parent) for parent in other._parents)

    def serve(self, home: Home) -> None:
        """Make the calls of the tasks registered from now on jobs of `home`."""
        self._home = home

    def ensure(self, function: Callable[P, R]) -> Task[P, R]:
        """Return the task of a function, registered on the way."""
        if isinstance(function, Call):
            raise TypeError(f"a call of {function.task} is no function: it has its arguments. Pass it to enqueue_many([call]).")
        if isinstance(function, Task):
            is_mine = function.home is self._home and function.name in self._tasks
            return function if is_mine else self.add(function)
        known = self._by_function.get(function) if isinstance(function, Hashable) else None
        return self.add(Task(function)) if known is None else cast("Task[P, R]", known)

    def get(self, name: str) -> Task[..., Any]:
        """Return the task of that name or alias.

        Raises:
            UnknownTask: there is none.
        """
        try:
            return self._tasks[name]
        except KeyError:
            raise UnknownTask(
                f"no task is named {name!r} here. Import its module, or register it with @scheduler.task."
            ) from None

    def find(self, name: str) -> Task[..., Any] | None:
        """Return the task of that name or alias, or None."""
        return self._tasks.get(name)

    def kept(self) -> dict[str, Keep]:
        """Return how long the jobs of tasks that say so are kept, by name and alias."""
        return {name: task.keep for name, task in self._tasks.items() if task.keep is not None}

    def names(self) -> tuple[str, ...]:
        """Return all names and aliases, sorted."""
        return tuple(sorted(self._tasks))


def _place(function: Callable[..., Any]) -> str:
    return f"{function.__module__}.{function.__qualname__}"
