"""The house rules that a machine can hold: what is exported, how large rooms are, what an import costs."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import schedfactory

PACKAGE = Path(schedfactory.__file__).parent
LINES = 360
CORE_LINES = 4_400


def public() -> dict[str, Any]:
    """Return all that is exported, and the methods and properties that people use on it."""
    found = {name: getattr(schedfactory, name) for name in schedfactory.__all__}
    for name, one in list(found.items()):
        for part, value in inspect.getmembers(one) if inspect.isclass(one) else []:
            if not part.startswith("_") and (inspect.isfunction(value) or isinstance(value, property)):
                found[f"{name}.{part}"] = value
    return found


def test_what_is_exported_is_there_sorted_and_complete() -> None:
    names = schedfactory.__all__
    assert sorted(set(names)) == sorted(names)
    exported = {name for name, value in vars(schedfactory).items() if not name.startswith("_") and _is_ours(value)}
    assert exported == set(names)


def _is_ours(value: Any) -> bool:
    """Tell a name that people are given from a room that was imported on the way."""
    if isinstance(value, types.ModuleType):
        return value is schedfactory.tables
    return str(getattr(value, "__module__", "")).startswith("schedfactory")


def test_what_is_public_has_a_docstring() -> None:
    assert [name for name, one in public().items() if not (one.__doc__ or "").strip()] == []


def test_each_file_is_short_enough_to_read_and_says_what_lives_there() -> None:
    files = {str(file.relative_to(PACKAGE)): file.read_text("utf-8") for file in PACKAGE.rglob("*.py")}
    assert {name: len(text.splitlines()) for name, text in files.items() if len(text.splitlines()) > LINES} == {}
    assert [name for name, text in files.items() if not text.startswith('"""')] == []


def test_the_core_is_small_enough_for_an_afternoon() -> None:
    page = (Path(__file__).parents[1] / "docs" / "development.md").read_text("utf-8")
    part = page.partition("## The core")[2].partition("\n## ")[0]
    core = re.findall(r"`((?:model|storage|running)/\w+\.py)`", part)
    lines = sum(len((PACKAGE / name).read_text("utf-8").splitlines()) for name in core)
    assert f"is {len(core)} files, about {round(lines, -2):,} lines" in part
    assert lines <= CORE_LINES


def test_an_import_brings_only_what_a_job_needs() -> None:
    unwanted = ["alembic", "click", "rich", "freezegun", "pytest", "hypothesis", "pydantic", "starlette"]
    program = f"import sys, schedfactory; print([name for name in {unwanted} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
