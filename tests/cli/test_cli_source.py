"""Which database and which app a command works on, and what it says where there is none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMANDS = "demo run enqueue jobs show explain wait stats tail cancel requeue queues nodes prune backup doctor migrate"


def test_the_version_is_printed(cli):
    assert cli("--version").stdout.startswith("schedfactory 0.")


def test_the_commands_are_those_that_exist(cli):
    said = cli("--help").stdout.partition("Commands:")[2]
    names = [line.split()[0] for line in said.splitlines() if line.strip()]
    assert " ".join(names) == COMMANDS


def test_an_unknown_command_is_bad_usage_with_exit_code_2(cli):
    assert "No such command" in cli("dashboard", code=2).stderr


def test_the_installed_script_is_the_same_program():
    script = Path(sys.executable).with_name("schedfactory")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("schedfactory 0.")


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (("--database", "other.db", "enqueue", "t"), {}),
        (("enqueue", "t", "--database", "other.db"), {}),
        (("--database", "sqlite:///other.db", "enqueue", "t"), {}),
        (("enqueue", "t"), {"SCHEDFACTORY_DATABASE": "other.db"}),
        (
            ("--database", "other.db", "enqueue", "t"),
            {"SCHEDFACTORY_DATABASE": "wrong.db", "SCHEDFACTORY_APP": "app:scheduler"},
        ),
    ],
)
def test_a_database_is_named_before_or_after_the_command_or_in_the_environment(cli, folder, arguments, environment):
    cli(*arguments, **environment)
    assert sorted(file.name for file in folder.glob("*.db")) == ["other.db"]


def test_without_any_name_it_is_schedfactory_db_here(cli, folder):
    cli("enqueue", "t")
    assert (folder / "schedfactory.db").exists()


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (("--app", "app:scheduler", "enqueue", "add", "x=1"), {}),
        (("enqueue", "add", "x=1", "--app", "app:scheduler"), {}),
        (("enqueue", "add", "x=1"), {"SCHEDFACTORY_APP": "app:scheduler"}),
    ],
)
def test_an_app_is_found_in_the_working_directory(folder, arguments, environment):
    script = Path(sys.executable).with_name("schedfactory")  # unlike python -m it does not put the directory on the path
    done = subprocess.run(
        [script, *arguments], cwd=folder, env=os.environ | environment, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
    assert (folder / "jobs.db").exists()


def test_a_database_and_an_app_together_are_bad_usage(cli):
    assert "Pass one" in cli("--database", "a.db", "--app", "app:scheduler", "jobs", code=2).stderr


@pytest.mark.parametrize(
    ("app", "said"),
    [
        ("app", "is not module:name"),
        ("app.py:scheduler", "is not module:name"),
        ("nowhere:scheduler", "there is no module 'nowhere'"),
        ("app:schedular", "has no 'schedular'. It has scheduler."),
        ("app:number", "is a int, no Scheduler"),
    ],
)
def test_a_wrong_app_is_bad_usage_that_says_what_is_wrong(cli, app, said):
    assert said in cli("--app", app, "run", code=2).stderr


def test_an_app_that_fails_to_import_is_bad_usage_that_says_where(cli, folder):
    (folder / "broken.py").write_text("import json\n\nimport not_there\n")
    said = cli("--app", "broken:scheduler", "run", code=2).stderr
    assert "No module named 'not_there'" in said
    assert "broken.py, line 3" in said


@pytest.mark.parametrize("code", ["0", "", "3", "'no settings'"])
@pytest.mark.parametrize("command", ["run", "jobs"])
def test_an_app_whose_import_ends_the_program_is_bad_usage_that_says_where(cli, folder, command, code):
    (folder / "ends.py").write_text(f"import sys\n\nsys.exit({code})\n")
    done = cli("--app", "ends:scheduler", command, code=2)
    assert f"importing 'ends' ended the program: sys.exit({code or None})" in done.stderr
    assert "ends.py, line 3" in done.stderr
    assert '`if __name__ == "__main__":`' in done.stderr


def test_another_kind_of_database_is_bad_usage(cli):
    assert "is no SQLite database" in cli("--database", "postgresql://host/db", "jobs", code=2).stderr


def test_a_file_that_is_no_database_is_an_error_in_one_line(cli, folder):
    (folder / "notes.txt").write_text("These are notes, and no database at all. " * 50)
    said = cli("--database", "notes.txt", "jobs", code=1).stderr
    assert said.startswith("Error: ")
    assert said.count("\n") == 1


def test_looking_at_a_database_that_is_not_there_is_an_error_and_makes_no_file(cli, folder):
    assert "schedfactory migrate" in cli("--database", "jbos.db", "jobs", code=1).stderr
    assert not (folder / "jbos.db").exists()
