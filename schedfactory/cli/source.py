"""Which scheduler a command works on: the one of `--app`, or a plain one on `--database`."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from schedfactory import SchedfactoryError, Scheduler, Task

F = TypeVar("F", bound=Callable[..., Any])


@dataclass
class Source:
    """What `--database` and `--app` said; what stands on the command line counts more than the environment."""

    given: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def app(self) -> str | None:
        """The "module:scheduler" that counts, None where a database was named instead."""
        if len(self.given) > 1:
            raise click.UsageError("--database and --app were both given. Pass one: an app's scheduler has its own database.")
        return self.given.get("app") if self.given else self.environment.get("app")

    @property
    def database(self) -> str | None:
        """The database that counts, None for the default one."""
        return self.given.get("database", self.environment.get("database"))

    @contextmanager
    def scheduler(self, *, makes_tables: bool = False) -> Iterator[Scheduler]:
        """Give the scheduler, and close it at the end.

        A command that only looks at a database makes no tables, so a mistyped path is an error and leaves no file.
        """
        if self.app is not None:
            found = load(self.app)
        else:
            with bad_usage():
                found = Scheduler(self.database, migrate=makes_tables)
        with closing(found):
            yield found


def with_source(command: F, *, is_group: bool = False) -> F:
    """Add `--database` and `--app`. A command's own are hidden: the group's help shows them."""
    for name, metavar, what in (
        ("app", "MODULE:NAME", "The Scheduler of a program, such as app:scheduler; looked for in the working directory too."),
        ("database", "URL", "Path or URL of the file."),
    ):
        command = click.option(
            f"--{name}",
            metavar=metavar,
            help=what,
            envvar=f"SCHEDFACTORY_{name.upper()}" if is_group else None,
            show_envvar=is_group,
            hidden=not is_group,
            expose_value=False,
            callback=_note,
        )(command)
    return command


pass_source = click.make_pass_decorator(Source, ensure=True)


def _note(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    source = ctx.ensure_object(Source)
    if value is not None and param.name is not None:
        is_from_env = ctx.get_parameter_source(param.name) is ParameterSource.ENVIRONMENT
        (source.environment if is_from_env else source.given)[param.name] = value


@contextmanager
def bad_usage() -> Iterator[None]:
    """Turn a value that the library refuses into bad usage of the command."""
    try:
        yield
    except SchedfactoryError:
        raise
    except (ValueError, TypeError) as error:
        raise click.UsageError(str(error)) from error


def load(app: str) -> Scheduler:
    """Return the scheduler that "module:name" means, looking in the working directory first.

    Raises:
        UsageError: there is no such module, nothing of that name in it, or it is something else.
    """
    module_name, _, name = app.partition(":")
    if not module_name or not name or "/" in module_name or module_name.endswith(".py"):
        raise click.UsageError(
            f"--app {app!r} is not module:name. For `scheduler = Scheduler(…)` in app.py pass --app app:scheduler."
        )
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.insert(0, folder)
    module = _import(module_name, folder)
    try:
        found = attrgetter(name)(module)
    except AttributeError:
        there = [key for key, value in vars(module).items() if isinstance(value, Scheduler)]
        hint = f"It has {', '.join(there)}." if there else "Make one there: scheduler = Scheduler(…)."
        raise click.UsageError(f"--app {app!r}: the module {module_name!r} has no {name!r}. {hint}") from None
    if not isinstance(found, Scheduler):
        raise click.UsageError(
            f"--app {app!r} is a {type(found).__name__}, no Scheduler. Name the variable that holds the Scheduler."
        )
    return found


def _import(module_name: str, folder: str) -> Any:
    try:
        return importlib.import_module(module_name)
    except SystemExit as error:
        raise click.UsageError(
            f"--app: importing {module_name!r} ended the program: sys.exit({error.code!r}){_place(error)}. Put what only the "
            'program itself is to do under `if __name__ == "__main__":`.'
        ) from error
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name and f"{module_name}.".startswith(f"{error.name}."):
            raise click.UsageError(
                f"--app: there is no module {module_name!r} in {folder} or on Python's path. "
                "Run from the folder that holds it, or install it."
            ) from None
        raise click.UsageError(
            f"--app: importing {module_name!r} failed: {type(error).__name__}: {error}{_place(error)}. "
            f'`python -c "import {module_name}"` shows all of it.'
        ) from error


def _place(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f" ({trace.tb_frame.f_code.co_filename}, line {trace.tb_lineno})" if trace else ""


def task_named(name: str) -> Task[..., Any] | None:
    """Return the task of that name or alias which a loaded module holds, None where none does."""
    for module in list(sys.modules.values()):
        for value in list(getattr(module, "__dict__", {}).values()):
            if isinstance(value, Task) and name in (value.name, *value.aliases):
                return value
    return None
