"""`queues`: what queues may hold and run."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from contextlib import closing

import pytest

from schedfactory import Scheduler

FILE = ("--database", "jobs.db")
HEADS = ["name", "paused", "max_size", "when_full", "concurrency", "rate", "queued", "scheduled", "running"]


@pytest.fixture
def filled(folder):
    """Two jobs in one queue, one of them for later, and settings of another."""
    with closing(Scheduler(folder / "jobs.db")) as scheduler:
        scheduler.remote("add").options(queue="sums").enqueue(x=1)
        scheduler.remote("add").options(queue="sums", delay="1h").enqueue(x=1)
        scheduler.queues.set("mail", max_size=10, when_full="wait", concurrency=2, rate="100/m")


def test_queues_lists_settings_and_jobs(cli, filled):
    heads, *lines = [line.split() for line in cli(*FILE, "queues").stdout.splitlines()]
    assert heads == HEADS
    assert lines == [["mail", "no", "10", "wait", "2", "100/m", "0", "0", "0"], ["sums", "no", "raise", "1", "1", "0"]]


def test_queues_json_is_a_list_of_objects_with_the_columns_as_keys(cli, filled):
    found = json.loads(cli("queues", "--json", *FILE).stdout)
    assert [list(queue) for queue in found] == [HEADS] * 2
    assert found[0] == dict(zip(HEADS, ["mail", False, 10, "wait", 2, "100/m", 0, 0, 0]))
    assert found[1]["max_size"] is None


def test_queues_without_any_says_so(cli):
    cli("migrate", *FILE)
    done = cli(*FILE, "queues")
    assert (done.stdout, done.stderr) == ("", "There is no queue with settings or jobs.\n")
    assert cli(*FILE, "queues", "--json").stdout == "[]\n"


def test_queues_set_changes_what_is_given_and_prints_the_queue(cli, filled):
    heads, line = cli(*FILE, "queues", "set", "sums", "--max-size", 5, "--when-full", "wait").stdout.splitlines()
    assert (heads.split(), line.split()) == (HEADS, ["sums", "no", "5", "wait", "1", "1", "0"])
    line = cli("queues", "set", "sums", "--concurrency", 3, "--rate", "7/h", *FILE).stdout.splitlines()[1]
    assert line.split() == ["sums", "no", "5", "wait", "3", "7/h", "1", "1", "0"]


@pytest.mark.parametrize("option", ["--max-size", "--concurrency", "--rate"])
def test_queues_set_none_takes_a_bound_away(cli, filled, option):
    cli(*FILE, "queues", "set", "mail", option, "none")
    [queue] = [one for one in json.loads(cli(*FILE, "queues", "--json").stdout) if one["name"] == "mail"]
    assert queue[option.removeprefix("--").replace("-", "_")] is None
    assert sum(queue[name] is None for name in ("max_size", "concurrency", "rate")) == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "nothing to set. Pass --max-size, --when-full, --concurrency or --rate."),
        (("--max-size", "0"), "max_size=0 is not usable"),
        (("--max-size", "many"), "'many' is not a valid integer"),
        (("--concurrency", "0"), "concurrency=0 is fewer than one"),
        (("--concurrency", "1.5"), "'1.5' is not a valid integer"),
        (("--rate", "fast"), "rate='fast' is not understood"),
        (("--when-full", "drop"), "'drop' is not one of 'raise', 'wait'"),
    ],
)
def test_queues_set_with_something_else_is_bad_usage_and_changes_nothing(cli, filled, options, said):
    before = cli(*FILE, "queues").stdout
    assert said in cli(*FILE, "queues", "set", "mail", *options, code=2).stderr
    assert cli(*FILE, "queues").stdout == before


def test_queues_pause_and_queues_resume(cli, filled):
    assert cli(*FILE, "queues", "pause", "sums").stdout.splitlines()[1].split()[:2] == ["sums", "yes"]
    assert [queue["paused"] for queue in json.loads(cli(*FILE, "queues", "--json").stdout)] == [False, True]
    assert cli(*FILE, "queues", "resume", "sums").stdout.splitlines()[1].split()[:2] == ["sums", "no"]


@pytest.mark.parametrize("command", ["pause", "resume", "set"])
def test_a_queue_must_be_named(cli, filled, command):
    assert "Missing argument 'NAME'" in cli(*FILE, "queues", command, code=2).stderr
    assert "queue=''" in cli(*FILE, "queues", command, "", *(("--rate", "1/s") if command == "set" else ()), code=2).stderr


def test_json_is_for_the_list(cli, filled):
    assert "--json is for the list" in cli(*FILE, "queues", "--json", "pause", "sums", code=2).stderr


def test_a_file_that_is_not_there_is_an_error_and_not_made(cli, folder):
    assert "jobs.db is missing" in cli(*FILE, "queues", "pause", "mail", code=1).stderr
    assert not list(folder.glob("*.db"))


def test_on_a_terminal_queues_shows_what_changes_until_ctrl_c(cli, folder, filled):
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "120", "LINES": "50"}
    command = [sys.executable, "-m", "schedfactory", *FILE, "queues"]
    process = subprocess.Popen(command, cwd=folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    said = b""
    while b"100/m" not in said:
        said += os.read(ours, 65536)
    cli(*FILE, "queues", "set", "mail", "--rate", "77/h")
    while b"77/h" not in said:
        said += os.read(ours, 65536)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    os.close(ours)
    assert b"Traceback" not in said
