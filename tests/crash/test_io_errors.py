"""Disk calls that fail: nothing acknowledged or finished is lost, nothing runs twice, and it is said once.

As SQLite does with itself (sqlite.org/testing.html, "I/O error testing"): the k-th write, sync, change of length or opening
fails, for one k after the other, until a run meets no failure any more; after each run an integrity check, and a job.
"""

from __future__ import annotations

import errno
import itertools
import json
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from subprocess import Popen
from typing import Any

import disk
import pytest

SLACK_S = 10.0  # for a busy machine, beside the 5 s in which claims resume
ANY = "write sync truncate open"
TRIES = 6
ERRORS = (errno.EIO, errno.ENOSPC, errno.EROFS)
MOMENTS = ("enqueue", "claim", "finish")
Case = tuple[str, int, bool, str]

ONCE: list[Case] = [
    *(("write", error, False, moment) for error in ERRORS for moment in MOMENTS),
    *((calls, errno.EIO, False, moment) for calls in ("sync", "truncate", "open") for moment in MOMENTS),
]
FOR_A_WHILE: list[Case] = [(ANY, error, True, moment) for error in ERRORS for moment in MOMENTS]
FOR_A_WHILE_OF_ONE_KIND: list[Case] = [("write", errno.ENOSPC, True, "finish"), ("sync", errno.EIO, True, "enqueue")]
OPENING: list[Case] = [(ANY, error, sticky, "opening") for error in ERRORS for sticky in (False, True)]


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return disk.build(tmp_path_factory.mktemp("shim"))


@pytest.fixture
def run(launch: Callable[..., Popen[str]], shim: Path, path: Path) -> Callable[..., dict[str, Any]]:
    """Let a scheduler meet faults on a file of its own, and return what came out."""
    numbers = itertools.count()

    def start(which: str, cases: list[Case], step: int = 1, *sabotage: str) -> dict[str, Any]:
        program = Path(disk.__file__).with_name("disk_faults.py")
        database = path.with_name(f"jobs{next(numbers)}.db")
        command = [sys.executable, program, database, which, json.dumps(cases), str(step), *sabotage]
        child = launch(command, env=disk.environment(shim, database))
        out, errors = child.communicate(timeout=1_000)
        assert child.returncode == 0, errors
        return json.loads(out) | {"database": database}

    return start


@pytest.mark.parametrize(
    ("which", "cases", "step"),
    [("running", ONCE, 4), ("running", FOR_A_WHILE, 18), ("running", FOR_A_WHILE_OF_ONE_KIND, 5), ("opening", OPENING, 9)],
    ids=["once", "for a while", "for a while, of one kind", "while it opens"],
)
def test_what_was_promised_holds_when_a_call_to_the_disk_fails(
    run: Callable[..., dict[str, Any]],
    factor: int,
    figures: Callable[..., None],
    which: str,
    cases: list[Case],
    step: int,
) -> None:
    found = run(which, cases, max(1, step // factor))

    assert not found["objections"], "\n".join(found["objections"])
    assert found["slowest_s"] < 5 + SLACK_S
    assert found["cycles"] > found["hits"] > 0
    if which == "running":
        assert_all_is_in(found["database"], found["acknowledged"])
    figures(
        runs=found["cycles"],
        with_failing_calls=found["hits"],
        calls_refused=found["refused"],
        lost=0,
        twice=0,
        slowest_recovery=f"{found['slowest_s']:.1f} s",
    )


def assert_all_is_in(path: Path, acknowledged: dict[str, int]) -> None:
    """Look at the file as another program would, after the process has ended."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        rows = connection.execute("SELECT id, task, status, args FROM schedfactory_jobs").fetchall()
    found = {str(row[0]): json.loads(row[3])["token"] for row in rows}
    assert acknowledged.items() <= found.items()
    assert {row[2] for row in rows if row[1] != "fails"} == {"succeeded"}


@pytest.mark.parametrize(
    ("calls", "error"),
    [("sync", errno.EIO), ("write", errno.EIO), ("write", errno.ENOSPC), (ANY, errno.EROFS)],
    ids=["syncs", "writes", "full", "all, read-only"],
)
def test_a_fault_that_lasts_is_told_once_and_health_stays_red(
    run: Callable[..., dict[str, Any]], figures: Callable[..., None], calls: str, error: int
) -> None:
    found = run("lasting", [(calls, error, True, "finish")])

    assert not found["objections"], "\n".join(found["objections"])
    assert found["slowest_s"] < 5 + SLACK_S
    figures(recovery=f"{found['slowest_s']:.1f} s")


@pytest.mark.parametrize(
    ("sabotage", "which", "case", "objection"),
    [
        ("drop_results", "lasting", ("write", errno.EIO, True, "finish"), "jobs due or running"),
        ("forget_unclear_claims", "running", ("sync", errno.EIO, True, "claim"), "jobs due or running"),
        ("believe_the_error", "running", ("sync", errno.EIO, True, "enqueue"), "it was stored"),
    ],
)
def test_the_harness_catches_a_library_that_does_not_look(
    run: Callable[..., dict[str, Any]], sabotage: str, which: str, case: Case, objection: str
) -> None:
    for _ in range(TRIES):  # a commit that failed comes back only where no other connection was open just then
        if any(objection in text for text in run(which, [case] * 2, 3, sabotage, objection)["objections"]):
            return
    pytest.fail(f"nobody said: {objection}")
