"""`backup` and `doctor`."""

from __future__ import annotations

import json
from contextlib import closing

import pytest

from schedfactory import Scheduler

APP = ("--app", "app:scheduler")
FILE = ("--database", "jobs.db")
PLAIN = ("doctor", "--ignore", "sqlite")  # which depends on the machine


@pytest.fixture
def filled(folder):
    """A job that can run, one whose task is missing, two whose arguments do not fit."""
    with closing(Scheduler(folder / "jobs.db")) as scheduler:
        for task, args in (("add", {"x": 1}), ("gone", {}), ("add", {"z": 1}), ("add", {"z": 1})):
            scheduler.remote(task).enqueue(**args)


def test_backup_prints_the_path_of_the_copy(cli, folder, filled):
    assert cli(*FILE, "backup", "copy.db").stdout == f"{folder / 'copy.db'}\n"
    assert len(json.loads(cli("--database", "copy.db", "jobs", "--json").stdout)) == 4


def test_backup_replaces_nothing(cli, folder, filled):
    (folder / "copy.db").write_text("mine")
    said = cli(*FILE, "backup", "copy.db", code=1).stderr
    assert said == f"Error: {folder / 'copy.db'} is there already, and a backup replaces nothing. Pass another path.\n"
    assert (folder / "copy.db").read_text() == "mine"


def test_backup_to_a_missing_folder_is_an_error_in_one_line(cli, filled):
    assert "could not be copied to" in cli(*FILE, "backup", "missing/copy.db", code=1).stderr


@pytest.mark.parametrize("command", [("backup", "copy.db"), ("doctor",)])
def test_a_file_that_is_not_there_is_an_error_and_not_made(cli, folder, command):
    assert "jobs.db is missing" in cli(*FILE, *command, code=1).stderr
    assert not list(folder.glob("*.db"))


def test_doctor_finds_nothing_in_a_database_that_is_well(cli, filled):
    done = cli(*FILE, *PLAIN)
    assert (done.stdout, done.stderr) == ("", "Nothing was found.\n")
    assert cli(*FILE, *PLAIN, "--json").stdout == "[]\n"


def test_doctor_with_an_app_looks_at_its_tasks_and_their_arguments(cli, filled):
    lines = cli(*APP, *PLAIN, code=1).stdout.splitlines()
    assert [line.partition(" of the task")[0] for line in lines] == [
        "tasks: job 2 is",
        "arguments: 2 jobs, such as job 3, are",
    ]


def test_what_is_ignored_does_not_count(cli, filled):
    assert [one["code"] for one in json.loads(cli(*APP, *PLAIN, "--ignore", "tasks", "--json", code=1).stdout)] == ["arguments"]
    assert cli(*APP, *PLAIN, "--ignore", "tasks", "--ignore", "arguments").stdout == ""


def test_doctor_prints_findings_as_json(cli, filled):
    findings = json.loads(cli(*APP, *PLAIN, "--json", code=1).stdout)
    assert [set(one) for one in findings] == [{"code", "text"}] * 2
    assert "aliases=['gone']" in findings[0]["text"]


def test_an_unknown_code_is_bad_usage(cli, filled):
    assert "is not one of 'sqlite'" in cli(*FILE, "doctor", "--ignore", "sqlit", code=2).stderr
