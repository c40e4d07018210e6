"""`run`: its usage, its signals, and what a killed one leaves."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import sys
from contextlib import closing

import pytest

from schedfactory.storage.migrate import head

APP = ("--app", "app:scheduler")


@pytest.fixture
def working(begin, folder, until):
    """Start `run`, and return the process once the job `slow` runs in it."""

    def start(*arguments):
        process = begin(*APP, "run", *arguments)
        until((folder / "started").exists)
        return process

    return start


@pytest.fixture
def shown(cli):
    """Return a job as `show --json` prints it."""
    return lambda number: json.loads(cli("--database", "jobs.db", "show", number, "--json").stdout)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run",), "run needs --app"),
        (("--database", "jobs.db", "run"), "run needs --app"),
        ((*APP, "run", "--workers", "0"), "0 is not in the range"),
        ((*APP, "run", "--workers", "many"), "'many' is not a valid integer"),
        ((*APP, "run", "--queue", "mail=2", "--queue", "sms"), "'sms' gives no slots"),
        ((*APP, "run", "--queue", "mail=2", "--queue", "mail=3"), "'mail=3' gives no slots"),
        ((*APP, "run", "--queue", "mail=two"), "Pass each as NAME=SLOTS"),
        ((*APP, "run", "--queue", "mail=0"), "queues['mail']=0 is fewer than one"),
        ((*APP, "run", "--queue", "mail=2", "--queue", "*=1", "--workers", "3"), "both say how many jobs of all other queues"),
        ((*APP, "run", "--queue", "*"), "means all others"),
    ],
)
def test_bad_usage_is_told_and_nothing_runs(cli, folder, arguments, said):
    assert said in " ".join(cli(*arguments, code=2).stderr.split())


def test_jobs_of_the_named_queues_alone_run(cli, begin, shown):
    cli(*APP, "enqueue", "add", "x=1")
    cli(*APP, "enqueue", "add", "x=2", "--queue", "a")
    cli(*APP, "enqueue", "add", "x=3", "--queue", "b")
    begin(*APP, "run", "--queue", "a", "--queue", "b", "--workers", "1")
    for number in (2, 3):
        assert cli("--database", "jobs.db", "wait", number).stdout.startswith(f"job {number} succeeded")
    assert shown(1)["status"] == "queued"


@pytest.mark.parametrize(("setting", "is_told"), [("", False), ("logging.getLogger('alembic').setLevel('INFO')", True)])
def test_the_steps_that_make_a_new_file_are_told_only_where_the_app_says_so(begin, folder, setting, is_told):
    (folder / "fresh.py").write_text(f"import logging\nfrom app import scheduler\n{setting}\n")
    process = begin("--app", "fresh:scheduler", "run")
    lines = []
    for line in process.stderr:
        lines.append(line)
        if line.startswith("Node 1 runs"):
            break
    else:
        pytest.fail("it never ran")
    assert ("alembic" in "".join(lines)) is is_told


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_running_job_end_and_the_exit_code_is_0(cli, working, folder, shown, number):
    cli(*APP, "enqueue", "slow")
    process = working()
    process.send_signal(number)
    (folder / "go").touch()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert said.endswith("Stopped.\n")
    assert (shown(1)["status"], shown(1)["result"]) == ("succeeded", "done")


@pytest.mark.parametrize("how", ["2>/dev/full", "2>&1 | true"])
def test_a_graceful_stop_is_exit_code_0_though_nobody_can_read_what_it_says(cli, launch, folder, until, shown, how):
    cli(*APP, "enqueue", "slow")
    line = f"(sh -c 'echo $$ >pid; exec \"{sys.executable}\" -m schedfactory --app app:scheduler run'; echo $? >code) {how}"
    process = launch(["sh", "-c", line], cwd=folder)
    until((folder / "started").exists)
    os.kill(int((folder / "pid").read_text()), signal.SIGTERM)
    (folder / "go").touch()
    process.communicate(timeout=60)
    until((folder / "code").exists)
    assert (folder / "code").read_text() == "0\n"
    assert shown(1)["status"] == "succeeded"


def test_a_second_signal_ends_it_at_once_with_128_plus_its_number(cli, working, until, shown):
    cli(*APP, "enqueue", "slow")
    process = working()

    def ended():
        process.terminate()
        return process.poll() is not None

    until(ended)
    assert process.returncode == 143
    assert shown(1)["status"] == "running"


def test_what_a_killed_run_had_in_hand_ends_in_the_next_one(cli, working, begin, folder, shown):
    cli(*APP, "enqueue", "slow")
    process = working()
    process.kill()
    process.wait(60)
    (folder / "go").touch()
    begin(*APP, "run")
    assert cli("--database", "jobs.db", "wait", 1).stdout.startswith("job 1 succeeded")
    job = shown(1)
    assert (job["result"], job["attempt"], job["crashes"]) == ("done", 2, 1)
    assert [one["status"] for one in job["attempts"]] == ["crashed", "succeeded"]


BROKEN = """
from app import scheduler
from schedfactory.running import node
from schedfactory.running.dispatcher import Dispatcher


def round(dispatcher, now):
    raise RuntimeError("a mistake of the library")


Dispatcher.round = round
node._AFTER_DEATH_S = 0.0
"""


def test_the_exit_code_is_70_when_the_dispatcher_cannot_be_kept_alive(cli, folder):
    (folder / "broken.py").write_text(BROKEN)
    said = cli("--app", "broken:scheduler", "run", code=70, traceback=True).stderr
    assert "RuntimeError: a mistake of the library" in said
    assert "stops for good: the dispatcher died 5 times" in said


def test_the_exit_code_is_70_when_the_file_gets_damaged(cli, working, folder):
    cli(*APP, "enqueue", "slow")
    process = working()
    with closing(sqlite3.connect(folder / "jobs.db", isolation_level=None)) as connection:
        version = connection.execute("PRAGMA schema_version").fetchone()[0]
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE sqlite_master SET sql = 'CREATE nonsense' WHERE name = 'schedfactory_jobs'")
        connection.execute(f"PRAGMA schema_version={version + 1}")
        connection.execute("COMMIT")
    (folder / "go").touch()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 70, said
    assert "the file is damaged" in said
    assert "stops for good" in said


def test_the_exit_code_is_70_when_a_newer_version_changes_the_tables_and_the_job_runs_again(cli, working, shown, folder):
    def set_revision(revision):
        with closing(sqlite3.connect(folder / "jobs.db", isolation_level=None)) as connection:
            connection.execute("UPDATE schedfactory_version SET version_num = ?", (revision,))

    cli(*APP, "enqueue", "slow")
    process = working()
    set_revision("9999")
    (folder / "go").touch()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 70, said
    assert "stops for good: " in said
    assert "has the schema 9999" in said
    assert "died" not in said
    set_revision(head())
    working()
    cli(*APP, "wait", "1")
    assert (shown(1)["status"], shown(1)["crashes"]) == ("succeeded", 1)


def test_an_error_of_the_library_is_one_line_and_exit_code_1(cli, folder):
    (folder / "lost.py").write_text("from schedfactory import Scheduler\nscheduler = Scheduler('no/such/folder/jobs.db')\n")
    assert cli("--app", "lost:scheduler", "run", code=1).stderr.startswith("Error: ")
