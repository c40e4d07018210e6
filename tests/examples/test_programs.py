"""The programs of `examples/`, each run as a user runs it."""

from __future__ import annotations

import gzip
import hashlib
import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from schedfactory import Scheduler, tables

EXAMPLES = Path(__file__).parents[2] / "examples"
HANG_S = 60

Start = Callable[..., "subprocess.Popen[str]"]
Look = Callable[[str], Scheduler]


@pytest.fixture
def start(tmp_path: Path, launch: Start) -> Start:
    """Start an example in an empty folder; what still runs at the end is killed."""

    def begin(name: str, *arguments: object, stdout: int = subprocess.PIPE) -> subprocess.Popen[str]:
        return launch([sys.executable, EXAMPLES / name, *arguments], cwd=tmp_path, stdin=None, stdout=stdout)

    return begin


@pytest.fixture
def look(tmp_path: Path) -> Iterator[Look]:
    """Open a file that an example has left."""
    with ExitStack() as stack:
        yield lambda name: stack.enter_context(closing(Scheduler(tmp_path / name)))


def finished(process: subprocess.Popen[str], code: int = 0) -> str:
    """Return what a program printed, once it has ended as it should."""
    output, errors = process.communicate(timeout=HANG_S)
    assert process.returncode == code, errors
    return output if code == 0 else errors


def test_the_factory_reports_start_and_end_of_each_job_and_waits_for_all(start: Start, look: Look) -> None:
    output = finished(start("factory.py", 3, 8))
    for job_id in range(1, 9):
        assert re.search(rf" job {job_id} start$", output, re.M)
        assert re.search(rf" job {job_id} end succeeded$", output, re.M)
    for job in look("factory.db").jobs():
        assert (job.status, job.result) == ("succeeded", f"part {job.id}")
        assert job.created_at <= job.started_at <= job.finished_at
        assert job.worker in (1, 2, 3)


def test_the_factory_refuses_to_run_with_fewer_than_one_worker(start: Start, look: Look) -> None:
    assert "ValueError: workers=0 is fewer than one" in finished(start("factory.py", 0), code=1)
    assert look("factory.db").jobs() == []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Real files of many sizes, some of them in a folder below."""
    chance = random.Random(5)
    root = tmp_path / "papers"
    (root / "old").mkdir(parents=True)
    for name, size in {"a.txt": 3_000, "b.bin": 3_000_000, "old/a.txt": 150_000, "old/c": 40_000, "empty": 0}.items():
        (root / name).write_bytes(chance.randbytes(size))
    return root


def test_the_archive_compresses_every_file_but_the_cancelled_one(start: Start, tmp_path: Path, folder: Path) -> None:
    output = finished(start("archive.py", folder))
    target = tmp_path / "papers-archive"
    packed = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
    assert packed == {"a.txt.gz", "b.bin.gz", "old/a.txt.gz", "old/c.gz"}
    for name in packed:
        content = (folder / name.removesuffix(".gz")).read_bytes()
        assert gzip.decompress((target / name).read_bytes()) == content
        assert hashlib.sha256(content).hexdigest() in output
    assert f"{folder / 'empty'} is not worth it: cancelled" in output


def test_the_archive_starts_the_largest_file_first_and_keeps_progress_and_results(
    start: Start, look: Look, folder: Path
) -> None:
    output = finished(start("archive.py", folder, "packed"))
    jobs = look("archive.db").jobs(status="succeeded")[::-1]
    sizes = [job.result["size"] for job in jobs]
    assert sizes == sorted(sizes, reverse=True) == [3_000_000, 150_000, 40_000, 3_000]
    assert [job.priority for job in jobs] == sorted((job.priority for job in jobs), reverse=True)
    assert [job.started_at for job in jobs] == sorted(job.started_at for job in jobs if job.started_at)
    assert {job.progress for job in jobs} == {1.0}
    slowest = output.partition("The slowest:\n")[2].splitlines()
    assert len(slowest) == 4
    assert "3,000,000 ->" in "".join(slowest)


def test_the_archive_can_be_run_again_in_the_folder_that_its_database_lies_in(
    start: Start, look: Look, tmp_path: Path, folder: Path
) -> None:
    finished(start("archive.py", folder, "packed"))
    finished(start("archive.py", tmp_path, "again"))
    archived = {Path(job.args["file"]).name for job in look("archive.db").jobs()}
    assert not any(name.startswith("archive.db") for name in archived)
    assert "a.txt.gz" in archived


@contextmanager
def served(start: Start) -> Iterator[httpx.Client]:
    """Give a client of the web example, which uvicorn serves on a free port of this machine, and stop that at the end."""
    process = start("web.py", 0, stdout=subprocess.DEVNULL)
    assert process.stderr is not None
    address = next(found[1] for line in process.stderr if (found := re.search(r"running on (http://127\.0\.0\.1:\d+)", line)))
    with httpx.Client(base_url=address, timeout=HANG_S) as client:
        yield client
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=HANG_S)


@pytest.fixture
def web(start: Start) -> Iterator[httpx.Client]:
    with served(start) as client:
        yield client


def follow(web: httpx.Client, url: str, until: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """Ask again and again, as a browser would, until the answer is what it should be."""
    seen = {}
    for _ in range(10_000):
        seen = web.get(url).raise_for_status().json()
        if until(seen):
            return seen
    raise AssertionError(f"it stayed {seen}")


def test_the_web_app_answers_a_post_at_once_with_a_link_to_the_queued_task(web: httpx.Client) -> None:
    answer = web.post("/tasks", json={"below": 1000})
    assert answer.status_code == 202
    assert answer.headers["location"] == answer.json()["url"]
    done = follow(web, answer.headers["location"], lambda seen: seen["status"] == "succeeded")
    assert done["result"] == 168
    assert done["seconds"] > 0


def test_the_web_app_shows_progress_and_the_time_so_far_and_a_delete_cancels(web: httpx.Client) -> None:
    url = web.post("/tasks", json={"below": 10**9}).headers["location"]
    early = follow(web, url, lambda seen: seen["status"] == "running" and seen["progress"])
    later = follow(web, url, lambda seen: seen["progress"] > early["progress"] and seen["seconds"] > early["seconds"])
    assert later["message"].endswith(" so far")
    assert web.delete(url).status_code == 200
    end = follow(web, url, lambda seen: seen["status"] != "running")
    assert (end["status"], end["result"]) == ("cancelled", None)


def test_the_web_app_refuses_what_the_task_does_not_take(web: httpx.Client) -> None:
    for body in (b'{"below": "many"}', b'{"above": 3}', b"{}", b"[3]", b"no json", b"\xff"):
        assert web.post("/tasks", content=body).status_code == 422
    assert web.get("/tasks/1").status_code == 404
    assert web.delete("/tasks/1").status_code == 404


def test_a_task_of_the_web_app_that_a_stop_interrupts_starts_again_with_the_next_process(start: Start, look: Look) -> None:
    for attempt in (1, 2):
        with served(start) as web:
            if attempt == 1:
                web.post("/tasks", json={"below": 10**9})
            follow(web, "/tasks/1", lambda seen: seen["status"] == "running")
        job = look("web.db").get(1)
        assert job is not None
        assert (job.is_finished, job.attempt) == (False, attempt)


def test_nightly_work_waits_for_its_time_in_the_file_while_no_process_lives(start: Start, look: Look, tmp_path: Path) -> None:
    run_at = datetime.now(timezone.utc) + timedelta(seconds=1)
    finished(start("nightly.py", "plan", run_at.isoformat()))
    assert finished(start("nightly.py", "list")).count("not run yet") == 2

    worker = start("nightly.py", "work")
    jobs = [job.wait(timeout=HANG_S) for job in look("nightly.db").jobs()]
    worker.send_signal(signal.SIGINT)
    finished(worker)
    assert [job.status for job in jobs] == ["succeeded", "succeeded"]
    assert all(job.started_at is not None and job.started_at >= run_at for job in jobs)
    assert (tmp_path / jobs[1].result).read_text()
    assert finished(start("nightly.py", "list")).count("succeeded") == 2


def test_nightly_work_survives_a_worker_that_is_killed_before_its_time(start: Start, look: Look) -> None:
    run_at = datetime.now(timezone.utc) + timedelta(seconds=2)
    finished(start("nightly.py", "plan", run_at.isoformat()))
    nodes = look("nightly.db")
    killed = start("nightly.py", "work")
    while not is_served(nodes):
        assert killed.poll() is None
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()

    start("nightly.py", "work")
    assert [job.wait(timeout=HANG_S).status for job in nodes.jobs()] == ["succeeded", "succeeded"]


def is_served(scheduler: Scheduler) -> bool:
    with scheduler.reading() as connection:
        return connection.execute(select(tables.nodes)).first() is not None


def test_nightly_work_without_a_moment_is_planned_for_the_next_two_o_clock(start: Start, look: Look) -> None:
    finished(start("nightly.py", "plan"))
    now = datetime.now().astimezone()
    for job in look("nightly.db").jobs():
        assert job.status == "scheduled"
        assert job.run_at.astimezone(now.tzinfo).hour == 2
        assert now < job.run_at <= now + timedelta(days=1)


def test_nightly_work_for_a_moment_without_a_time_zone_is_refused(start: Start, look: Look) -> None:
    assert "has no time zone" in finished(start("nightly.py", "plan", "2030-01-01T02:00"), code=1)
    assert look("nightly.db").jobs() == []
