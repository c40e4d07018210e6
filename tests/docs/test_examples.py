"""Every example of the README and of `docs/` is run, and prints what the page says."""

from __future__ import annotations

import inspect
import re
import shutil
import sys
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from pages import PAGES, ROOT, blocks, carry_out, process

import schedfactory
from schedfactory import Scheduler, Task
from schedfactory.cli import commands
from schedfactory.model.options import CallOptions

NAMES = [page.name for page in PAGES]


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_the_examples_of_this_page_print_what_it_says(page: Path, tmp_path: Path) -> None:
    missing = carry_out(page, tmp_path)
    if missing:
        pytest.skip(f"not installed here, so these commands were left out: {', '.join(sorted(missing))}")


def test_the_web_app_of_the_readme_answers_at_once_and_works_afterwards(tmp_path: Path) -> None:
    for block in blocks(ROOT / "README.md"):
        if file := re.match(r"# ((?:app|web)\.py)\n", block.text):
            (tmp_path / file[1]).write_text(block.text)
    with process([sys.executable, "-m", "uvicorn", "web:app", "--port", "0"], tmp_path) as server:
        assert server.stdout is not None
        address = next(found[1] for line in server.stdout if (found := re.search(r"running on (\S+)", line)))
        with httpx.Client(base_url=address) as client:
            answer = client.post("/sums")
            assert answer.status_code == 202
            with closing(Scheduler(tmp_path / "jobs.db")) as scheduler:
                scheduler.wait_idle(timeout="60s")
            assert client.get(answer.headers["location"]).json() == {"status": "succeeded", "result": 5}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_the_links_of_this_page_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_block_of_this_page_says_what_it_is(page: Path) -> None:
    assert page.read_text("utf-8").count("\n```") == 2 * len(blocks(page))


def test_every_option_of_a_task_is_in_the_docs() -> None:
    page = (ROOT / "docs/tasks.md").read_text("utf-8")
    options = {*CallOptions.__annotations__, *inspect.signature(Task).parameters} - {"function", "options"}
    assert {name for name in options if f"`{name}`" not in page} == set()


def test_every_argument_of_a_scheduler_is_in_the_docs() -> None:
    page = (ROOT / "docs/running.md").read_text("utf-8")
    assert {name for name in inspect.signature(Scheduler).parameters if f"`{name}`" not in page} == set()


def test_every_command_is_in_the_docs() -> None:
    page = (ROOT / "docs/command-line.md").read_text("utf-8")
    assert {name for name in commands.commands if not re.search(rf"^\| `{name}\b", page, re.M)} == set()


def test_every_public_name_is_in_the_docs() -> None:
    text = "".join(page.read_text("utf-8") for page in PAGES)
    assert [name for name in schedfactory.__all__ if not re.search(rf"\b{name}\b", text)] == []
