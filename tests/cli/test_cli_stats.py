"""`stats`: a table of the queues, JSON, and a view that moves on a terminal."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from datetime import datetime, timedelta, timezone

import pytest

from schedfactory import Scheduler
from schedfactory.cli.stats import Pace


@pytest.fixture
def filled(folder):
    """Two mails, of which one waits since a while, one that was cancelled, and a sum that is for later."""
    scheduler = Scheduler(folder / "jobs.db")
    mail = scheduler.remote("mail").options(queue="mail")
    mail.options(run_at=datetime.now(timezone.utc) - timedelta(hours=2)).enqueue()
    mail.enqueue()
    mail.enqueue().cancel()
    scheduler.remote("add").options(delay="1d").enqueue()
    scheduler.close()
    return folder / "jobs.db"


def test_stats_in_a_pipe_is_a_table_with_a_row_for_each_queue(cli, filled):
    head, default, mail = cli("--database", filled, "stats").stdout.splitlines()
    assert head.split() == [
        "queue", "waiting", "scheduled", "queued", "running", "succeeded", "failed", "cancelled", "oldest", "due"
    ]  # fmt: skip
    assert default.split() == ["default", "0", "1", "0", "0", "0", "0", "0"]
    assert mail.split() == ["mail", "0", "0", "2", "0", "0", "0", "1", "2", "h", "0", "min"]


def test_stats_as_json_is_a_list_of_objects_with_the_statuses_as_keys(cli, filled):
    default, mail = json.loads(cli("--database", filled, "stats", "--json").stdout)
    assert (default["queue"], default["scheduled"], default["oldest_due_at"]) == ("default", 1, None)
    assert (mail["queue"], mail["queued"], mail["cancelled"]) == ("mail", 2, 1)
    age = datetime.now(timezone.utc) - datetime.fromisoformat(mail["oldest_due_at"])
    assert timedelta(hours=2) <= age < timedelta(hours=2, minutes=10)


def test_stats_of_no_jobs_prints_nothing_on_standard_output(cli, folder):
    cli("--database", "jobs.db", "migrate")
    done = cli("--database", "jobs.db", "stats")
    assert (done.stdout, done.stderr) == ("", "There are no jobs.\n")
    assert cli("--database", "jobs.db", "stats", "--json").stdout == "[]\n"


def test_stats_on_a_terminal_goes_on_until_ctrl_c_which_is_exit_code_0(folder, filled):
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "schedfactory", "--database", str(filled), "stats"]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "120", "LINES": "30"}
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=folder, env=environment)
    os.close(theirs)
    said = b""
    try:
        while b"jobs a second have ended lately" not in said:
            said += os.read(ours, 10_000)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert b"mail" in said
    assert b"Traceback" not in said


def test_the_pace_is_that_of_the_last_ten_seconds_and_begins_anew_after_a_prune():
    pace = Pace()
    assert pace.add(0.0, 100) is None
    assert pace.add(2.0, 110) == 5.0
    assert pace.add(11.0, 200) == 10.0
    assert pace.add(12.0, 50) is None
    assert pace.add(13.0, 51) == 1.0


def test_stats_in_python_are_sorted_by_queue_and_tell_since_when_the_oldest_due_one_waits(still, clock):
    for queue, delay in (("mail", 0), ("mail", 60), ("cpu", 0)):
        still.remote("work").options(queue=queue, delay=delay).enqueue()
    began = clock.now
    clock.advance(seconds=30)
    still.remote("work").options(queue="mail").enqueue()
    found = still.stats()
    assert [(one.queue, one.queued, one.scheduled, one.oldest_due_at) for one in found] == [
        ("cpu", 1, 0, began),
        ("mail", 2, 1, began),
    ]
