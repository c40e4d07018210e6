"""The oracle itself: a history without a fault passes, and each single contradiction in it is found and named."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing

import pytest
from history import History
from seats import Seats
from witnesses import Log

TASKS = ("noop", "flaky", "snoozy", "once")
JOB = {task: number for number, task in enumerate(TASKS, 1)}


@pytest.fixture(scope="module")
def stories():
    return {}


@pytest.fixture
def story(tmp_path, launch, scheduler, stories, tmp_path_factory):
    """A folder with a true story of four jobs, to be changed."""
    if not stories:
        seats = Seats(tmp_path, launch, scheduler)
        calls = [scheduler.remote(task).call(key=f"call-{index}", of=4, times=1) for index, task in enumerate(TASKS)]
        acks = Log(tmp_path / "acks.p0")
        for job in scheduler.enqueue_many(calls):
            acks(job.args["key"], job.id, job.uid)
        seats.start("w", "work")
        seats.wait_for(seats.has_settled, "all jobs have ended")
        assert seats.leave().violations() == []
        scheduler.close()
        stories["folder"] = tmp_path_factory.mktemp("story") / "of"
        stories["counts"] = {"succeeded": 4}
        shutil.copytree(tmp_path, stories["folder"])
    folder = tmp_path / "told"
    shutil.copytree(stories["folder"], folder)
    return folder


def objections(folder, counts=None):
    return {text.partition(":")[0] for text in History(folder, {}, counts or {"succeeded": 4}).violations()}


@pytest.mark.parametrize(
    ("objection", "sql"),
    [
        ("lost", "DELETE FROM schedfactory_jobs WHERE id = 1"),
        ("lost", "UPDATE schedfactory_jobs SET uid = 'another' WHERE id = 1"),
        ("stored twice", "INSERT INTO schedfactory_jobs (task, args, status) SELECT task, args, status FROM schedfactory_jobs"),
        ("in part", "DELETE FROM schedfactory_jobs WHERE id = 1"),
        ("never ended", "UPDATE schedfactory_jobs SET status = 'running' WHERE id = 1"),
        ("after the end", "UPDATE schedfactory_jobs SET status = 'succeeded' WHERE id = 1"),
        ("successes", "UPDATE schedfactory_jobs SET status = 'succeeded' WHERE id = 1"),
        ("successes", "UPDATE schedfactory_jobs SET status = 'failed' WHERE id = 1"),
        ("stale", "UPDATE schedfactory_jobs SET result = '2' WHERE id = 1"),
        ("end", f"UPDATE schedfactory_jobs SET failures = 2 WHERE id = {JOB['flaky']}"),
        ("end", f"UPDATE schedfactory_jobs SET snoozes = 0 WHERE id = {JOB['snoozy']}"),
        ("end", "UPDATE schedfactory_jobs SET status = 'failed', reason = 'crashed' WHERE id = 1"),
        ("too often", f"UPDATE schedfactory_jobs SET failures = 0 WHERE id = {JOB['flaky']}"),
        ("counts", "DELETE FROM schedfactory_jobs WHERE id = 1"),
    ],
)  # fmt: skip
def test_a_row_that_contradicts_what_was_told_is_found(story, objection, sql):
    with closing(sqlite3.connect(story / "jobs.db")) as connection, connection:
        connection.execute(sql)
    assert objection in objections(story)


@pytest.mark.parametrize(
    ("objection", "line"),
    [
        ("lost", "call-9 9 uid"),
        ("one claim, two starts", "start call-0 1 1 w.1 1"),
        ("overlap", "start call-0 1 2 w.1 1"),
        ("too often", "start call-0 1 2 w.1 1"),
        ("again", f"start call-3 {JOB['once']} 2 w.1 1"),
        ("out of nothing", "end call-0 1 1 w.1 1 OSError"),
        ("logged", "ERROR w.1 it claims nothing"),
    ],
)
def test_a_line_that_contradicts_the_rows_is_found(story, objection, line):
    Log(story / ("acks.p0" if line.startswith("call") else "effects"))(*line.split())
    assert objection in objections(story)


def test_a_run_without_an_end_ended_when_its_process_was_killed(story):
    effects = Log(story / "effects")
    with closing(sqlite3.connect(story / "jobs.db")) as connection, connection:
        connection.execute("UPDATE schedfactory_jobs SET crashes = 1 WHERE id = 1")
    effects("start", "call-0", 1, 0, "dead.1", 5)
    assert objections(story) == {"overlap"}
    effects("death", "dead.1", "commit-before", 10, 10.0)
    assert objections(story) == set()
    effects("death", "dead.1", "commit-before", 2**62, 10.0)
    assert objections(story) == {"overlap"}
