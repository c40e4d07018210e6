"""The examples in the docstrings of the public interface, run as they stand."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import schedfactory
import schedfactory.model
from schedfactory import Scheduler

MODULES = (
    "schedfactory",
    "schedfactory.scheduler",
    "schedfactory.queries",
    "schedfactory.nodes",
    "schedfactory.running.context",
    "schedfactory.running.reporter",
    "schedfactory.storage.tables",
    *(f"schedfactory.model.{module.name}" for module in pkgutil.iter_modules(schedfactory.model.__path__)),
)
PUBLIC = {name: getattr(schedfactory, name) for name in schedfactory.__all__}


def examples() -> list[doctest.DocTest]:
    finder = doctest.DocTestFinder(exclude_empty=True)
    return [test for name in MODULES for test in finder.find(importlib.import_module(name), name) if test.examples]


@pytest.mark.parametrize("test", examples(), ids=lambda test: test.name)
def test_the_example_of_this_docstring_does_what_it_says(
    test: doctest.DocTest, scheduler: Scheduler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they may use: their module's names, the public ones, and a scheduler with the task `add` and one job of it."""
    monkeypatch.chdir(tmp_path)

    @scheduler.task(name="add")
    def add(x: int, y: int) -> int:
        return x + y

    add.enqueue(2, 3)
    test.globs = {**test.globs, **PUBLIC, "scheduler": scheduler, "add": add}
    report: list[str] = []
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=report.append, clear_globs=False)
    for made in test.globs.values():
        if isinstance(made, Scheduler):
            made.close()
    assert not result.failed, "".join(report)


def test_every_public_class_and_function_has_a_docstring() -> None:
    assert [name for name, value in PUBLIC.items() if callable(value) and not value.__doc__] == []
