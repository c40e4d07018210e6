"""Every guard is needed: without any one of them a test fails. The mutants are made in copies of the package.

`guards.py` finds them. A mutant that lives means that a test is missing, or that the guard says nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import guards
import pytest

import schedfactory

PACKAGE = Path(schedfactory.__file__).parent
TESTS = Path(__file__).parents[1]
# The quickest first: most mutants die in the first file.
FILES = ("crash/test_stale_writes.py", "running/test_late_workers.py", "storage/test_changes.py", "storage/test_claim.py")
FOUND = guards.find(PACKAGE / "storage")
RUN = (
    "import importlib.util, sys, pytest; place = importlib.util.find_spec('schedfactory').origin;"
    "assert place.startswith(sys.argv[1]), place; sys.exit(pytest.main(sys.argv[2:]))"
)


@pytest.fixture
def run(tmp_path: Path) -> Callable[[guards.Guard | None], subprocess.CompletedProcess[str]]:
    """Run the tests against a copy of the package that lacks a guard."""

    def against_a_copy_without(guard: guards.Guard | None) -> subprocess.CompletedProcess[str]:
        copy = tmp_path / "schedfactory"
        shutil.copytree(PACKAGE, copy)  # with what is compiled already
        if not (PACKAGE / "_migrations").exists():
            (tmp_path / "migrations").symlink_to(PACKAGE.parent / "migrations")
        if guard is not None:
            guards.remove(copy / "storage", guard)
        options = ["-x", "-q", "-n", "0", "--tb=line"]
        for plugin in ("randomly", "cacheprovider", "hypothesispytest", "benchmark", "cov"):
            options += ["-p", f"no:{plugin}"]
        command = [sys.executable, "-P", "-c", RUN, str(tmp_path), *options, *(str(TESTS / file) for file in FILES)]
        environment = os.environ | {"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=TESTS.parent, check=False)

    return against_a_copy_without


@pytest.mark.parametrize("guard", FOUND, ids=lambda guard: guard.name)
def test_a_test_fails_without(run, figures, guard):
    done = run(guard)
    if guard.name in guards.REDUNDANT:
        assert done.returncode == 0, f"it is said to be redundant, and is not:\n{done.stdout}"
        return
    assert done.returncode != 0, f"no test needs it: {guard.name}"
    assert done.returncode == 1, f"the tests did not run:\n{done.stdout}{done.stderr}"
    killers = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    assert killers, f"the tests did not run:\n{done.stdout}{done.stderr}"
    figures(killed_by=killers[0].split("::")[1].split(" - ")[0])


def test_no_test_fails_with_all_of_them(run):
    done = run(None)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_guards_are_found():
    names = [guard.name for guard in FOUND]
    assert len(names) > 35
    for statement in (
        "claim: _TAKE:",
        "claim: _GIVE_BACK:",
        "finish: _MINE:",
        "finish: _RELEASE:",
        "notes: _PROGRESS:",
        "notes: _LINE:",
    ):
        assert sum(name.startswith(statement) for name in names) >= 2, statement
    assert set(guards.REDUNDANT) <= set(names)
