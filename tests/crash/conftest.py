"""The harnesses behind docs/guarantees.md: how long they run, and the figures that they print at the end."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

_FIGURES = "figures"


FACTOR = int(os.environ.get("SCHEDFACTORY_CRASH_FACTOR", "1"))


@pytest.fixture(scope="session")
def factor() -> int:
    """How many times longer than in CI a harness runs: the environment variable SCHEDFACTORY_CRASH_FACTOR."""
    return FACTOR


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == Path(__file__).parent and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(180 + 120 * FACTOR))


@pytest.fixture
def figures(record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """Tell what a harness did and what came out, for the table at the end of the run: `figures(kills=100, lost=0)`."""

    def tell(**found: object) -> None:
        record_property(_FIGURES, ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in found.items()))

    return tell


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    lines = sorted(
        f"{report.nodeid.rpartition('::')[2]}: {text} ({report.duration:.0f} s)"
        for report in terminalreporter.getreports("passed")
        for name, text in getattr(report, "user_properties", ())
        if name == _FIGURES
    )
    if lines:
        terminalreporter.section("figures of the harnesses")
        for line in lines:
            terminalreporter.write_line(line)
