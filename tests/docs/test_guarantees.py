"""The page of guarantees: its promises are those below, word for word, and each names tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "guarantees.md").read_text("utf-8")

PROMISES = {
    "G1": "With `full`, a job whose enqueue returned exists after SIGKILL or power loss.",
    "G2": "With `normal`, SIGKILL loses nothing; power loss may drop the newest commits, never the schema or integrity.",
    "G3": "A due job whose task a live node knows is started at least once, and again after each crash up to `max_crashes=3`, "
    "then `failed`/`crashed`.",
    "G4": "SQLite, nodes on one host: a job never has two attempts running, under SIGSTOP, suspend or clock jump, unless an "
    "operator forces it.",
    "G6": "Exactly one attempt commits `succeeded`; a stale finish, progress or step changes 0 rows and raises `LostLease`.",
    "G9": 'With `on_crash="fail"`, after a start whose end was not recorded the job never starts again by itself, even across '
    "power loss.",
    "G10": "After kill -9, orphans are claimable in ≤ 2 s (SQLite), ≤ 20 s (PostgreSQL), ≤ 60 s (lease fallback).",
    "G11": "A claim takes the best (priority, run_at, id) claimable at that instant.",
    "G12": "No start before `run_at` by the database host's clock; after any jump, due work is re-evaluated in ≤ 5 s.",
    "G13": "After `cancel()` returns, a queued job never starts; a running one sees the flag in ≤ 1 s; a process task is dead "
    "5 s later.",
    "G14": "After `stop()` returns nothing starts; unfinished jobs stay owned until their code or process ends.",
    "G15": "A live process never drops a finished result: it retries until stored and claims nothing meanwhile.",
    "G16": "Nothing in a row is imported, unpickled or evaluated.",
    "G17": "No limit is ever exceeded: over all nodes no more jobs run at the same time, and no more start in any window, than "
    "it says, also when processes die.",
}
_ROW = re.compile(r"^\| (G\d+) \| (.+?) \| (.+?) \|$", re.M)
_TEST = re.compile(r"\[`(test_\w+)`\]\(\.\./(tests/[\w/]+\.py)\)")


def test_the_page_makes_the_promises_word_for_word() -> None:
    assert {number: said for number, said, _ in _ROW.findall(PAGE)} == PROMISES


@pytest.mark.parametrize("number", PROMISES)
def test_each_promise_names_tests_that_exist(number: str) -> None:
    [proof] = [proof for found, _, proof in _ROW.findall(PAGE) if found == number]
    named = _TEST.findall(proof)
    assert named
    for test, file in named:
        tree = ast.parse((ROOT / file).read_text("utf-8"))
        assert test in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
