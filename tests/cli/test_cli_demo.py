"""`demo`, from its first line to the SQL that it prints."""

from __future__ import annotations

import os
import pty
import re
import shlex
import signal
import subprocess
import sys

import pytest

STATUSES = "SELECT status, count(*) FROM schedfactory_history GROUP BY status"


def test_the_demo_runs_twenty_jobs_and_tells_of_them_by_sql(cli, folder, sql):
    said = cli("demo", SCHEDFACTORY_DATABASE="production.db", SCHEDFACTORY_APP="app:scheduler").stdout
    assert [file.name for file in folder.glob("*.db")] == ["schedfactory-demo.db"]
    assert len(re.findall(r"^job \d+ started \(demo\.\w+, priority -?\d+", said, re.MULTILINE)) == 20
    assert len(re.findall(r"^job \d+ succeeded in \d+\.\d\d s$", said, re.MULTILINE)) == 20
    assert "passed over for one of lower priority: 0." in said
    order = [int(word) for word in re.search(r"in the order of their start:\n(.*)", said)[1].split()]
    assert order[:10] == sorted((50, 50, 50, 50, 10, 10, 10, 10, 0, 0), reverse=True)
    assert "FROM schedfactory_history" in said
    assert len(re.findall(r"^\d+ +demo\.\w+ +-?\d+ +succeeded +1 ", said, re.MULTILINE)) == 20
    query = "SELECT count(*), count(DISTINCT priority), sum(run_at > created_at) FROM schedfactory_history"
    assert sql("schedfactory-demo.db", query) == [(20, 5, 4)]
    further = shlex.split(said.splitlines()[-1])[1:]
    assert sum(row[1] for row in sql(*further)) == 20


def test_a_killed_demo_is_finished_by_the_next_one(begin, cli, sql):
    process = begin("demo", "--database", "my jobs.db")
    assert any("started" in line for line in process.stdout)
    process.kill()
    process.wait(60)
    said = cli("demo", "--database", "my jobs.db").stdout
    assert "jobs of an earlier run had not ended" in said
    assert "sqlite3 'my jobs.db'" in said
    assert sql("my jobs.db", STATUSES) == [("succeeded", 40)]
    assert sql("my jobs.db", "SELECT 1 FROM schedfactory_history WHERE attempt = 2")


def test_ctrl_c_lets_running_jobs_end_and_keeps_the_others(begin, sql):
    process = begin("demo")
    assert any("started" in line for line in process.stdout)
    process.send_signal(signal.SIGINT)
    said, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert "Start the demo again to go on." in said
    found = dict(sql("schedfactory-demo.db", STATUSES))
    assert found["succeeded"] >= 10
    assert not found.keys() - {"succeeded", "queued", "scheduled"}


def test_on_a_terminal_bars_show_what_runs(folder):
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "120", "LINES": "50"}
    command = [sys.executable, "-m", "schedfactory", "demo"]
    process = subprocess.Popen(command, cwd=folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    said = b""
    try:
        while part := os.read(ours, 65536):
            said += part
    except OSError:  # how Linux tells of the other end being closed
        pass
    os.close(ours)
    assert process.wait(60) == 0
    assert "of 20 jobs have ended" in said.decode()
    assert "succeeded in" in said.decode()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--app", "app:scheduler", "demo"), "brings its own tasks"),
        (("demo", "--database", ":memory:"), "Pass a path"),
    ],
)
def test_what_the_demo_cannot_work_on_is_bad_usage(cli, arguments, said):
    assert said in cli(*arguments, code=2).stderr
