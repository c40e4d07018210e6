"""`jobs`, `show` and `wait`: tables, JSON and exit codes."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from contextlib import closing
from datetime import datetime, timedelta

import pytest

from schedfactory import Retry, Scheduler
from schedfactory.cli import render
from schedfactory.model.job import COLUMNS


def fail() -> None:
    raise ValueError("no such page")


def add(x: int, y: int = 1) -> int:
    return x + y


@pytest.fixture
def filled(folder):
    """A sum (1), a failure after two attempts (2), and two mails (3, 4) that wait, the second for tomorrow."""
    scheduler = Scheduler(folder / "jobs.db")
    scheduler.task(name="add", tags=["sums"])(add).enqueue(2, y=3)
    scheduler.task(name="fail", retry=Retry(2, base=0))(fail).enqueue()
    scheduler.run_due()
    mail = scheduler.remote("mail").options(queue="mail")
    mail.enqueue(to={"name": "Ada"})
    mail.options(delay="1d").enqueue()
    scheduler.close()
    return folder / "jobs.db"


@pytest.fixture
def listed(cli, filled):
    """Return the jobs that `jobs --json` with these arguments prints."""
    return lambda *arguments: json.loads(cli("--database", filled, "jobs", "--json", *arguments).stdout)


def test_json_is_one_list_of_objects_with_the_columns_as_keys(listed):
    jobs = listed()
    assert [job["id"] for job in jobs] == [4, 3, 2, 1]
    assert all(set(job) == set(COLUMNS) for job in jobs)


def test_json_nests_arguments_tags_and_results(listed):
    mail, _, done = listed()[1:]
    assert mail["args"] == {"to": {"name": "Ada"}}
    assert (mail["tags"], mail["result"]) == ([], None)
    assert (done["args"], done["tags"], done["result"]) == ({"x": 2, "y": 3}, ["sums"], 5)


def test_json_has_times_as_iso_text_with_an_offset(listed):
    job = listed("--task", "add")[0]
    for name in ("run_at", "created_at", "started_at", "finished_at"):
        assert datetime.fromisoformat(job[name]).utcoffset() == timedelta(0)
    assert job["expires_at"] is None


def test_the_result_in_json_is_what_is_stored_even_where_the_app_knows_its_type(cli, folder):
    app = ("--app", "app:scheduler")
    cli(*app, "enqueue", "sum", "x=1", 'at="2026-01-02T03:04:05+01:00"')
    subprocess.run([sys.executable, "-c", "import app; app.scheduler.run_due()"], cwd=folder, check=True, timeout=60)
    assert json.loads(cli(*app, "show", 1, "--json").stdout)["result"] == {"value": 1, "at": "2026-01-02T03:04:05+01:00"}


@pytest.mark.parametrize(
    ("arguments", "ids"),
    [
        (("--status", "failed"), [2]),
        (("--status", "queued", "--status", "scheduled"), [4, 3]),
        (("--task", "mail"), [4, 3]),
        (("--queue", "default"), [2, 1]),
        (("--tag", "sums"), [1]),
        (("--limit", "1"), [4]),
        (("--before-id", "3", "--limit", "1"), [2]),
        (("--queue", "mail", "--status", "succeeded"), []),
    ],
)
def test_jobs_are_filtered_and_paged(listed, arguments, ids):
    assert [job["id"] for job in listed(*arguments)] == ids


def test_an_unknown_status_is_bad_usage(cli, filled):
    assert "'done' is not one of" in cli("--database", filled, "jobs", "--status", "done", code=2).stderr


def test_the_table_in_a_pipe_is_cut_nowhere(cli, filled, sql):
    long = "reports." + "quarterly." * 20
    sql(filled, "INSERT INTO schedfactory_jobs (task) VALUES (?)", long)
    lines = cli("--database", filled, "jobs").stdout.splitlines()
    assert lines[0].split()[:3] == ["id", "status", "task"]
    assert lines[1].split()[2] == long
    assert "failed/error" in lines[4]
    assert "ValueError: no such page" in lines[4]


def test_a_very_long_cell_takes_nothing_from_the_others_in_a_pipe(folder, cli):
    with closing(Scheduler(folder / "jobs.db")) as scheduler:
        scheduler.remote("mail").enqueue(body="y" * 1_000_000)
        scheduler.remote("add").enqueue(x=1)
    heads, short, long = cli("--database", "jobs.db", "jobs").stdout.splitlines()
    assert long.split()[:5] == ["1", "queued", "mail", "default", "0"]
    assert long.endswith(f' {{"body": "{"y" * 1_000_000}"}}')
    place = heads.index("error, progress")
    assert short[place:] == '{"x": 1}'
    assert long[place:].startswith('{"body"')


def test_columns_in_a_pipe_are_as_wide_as_their_widest_cell_is_on_a_screen_with_two_blanks_between(capsys):
    render.print_table(("name", "n", "last"), [("世界", "1", "x" * 20_000), ("a\tb", "1000", "")])
    assert capsys.readouterr().out == f"name  n     last\n世界  1     {'x' * 20_000}\na b   1000\n"


@pytest.mark.parametrize("columns", [80, 200])
def test_on_a_terminal_the_leftmost_columns_stay_whole_whatever_the_others_hold(folder, columns):
    with closing(Scheduler(folder / "jobs.db")) as scheduler:
        scheduler.remote("mail").options(queue="q" * 255).enqueue(body="y" * 1_000_000)
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "schedfactory", "--database", "jobs.db", "jobs"]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": str(columns)}
    with subprocess.Popen(command, cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        assert process.wait(60) == 0
    read = b""
    while read.count(b"\n") < 2:
        read += os.read(ours, 10_000)
    said = re.sub(r"\x1b\[[0-9;]*m", "", read.decode()).splitlines()
    os.close(theirs)
    os.close(ours)
    row = "1   queued  mail  " + "q" * 255
    assert [said[0].split(), said[1]] == [["id", "status", "task", "queue"], row[:columns]]


def test_no_match_prints_nothing_on_standard_output(cli, filled):
    done = cli("--database", filled, "jobs", "--queue", "none")
    assert (done.stdout, done.stderr) == ("", "No job matches.\n")


@pytest.mark.parametrize(("option", "first"), [("--json", "[\n"), ("", "id  ")])
def test_a_reader_that_leaves_early_is_no_traceback(folder, option, first):
    scheduler = Scheduler(folder / "jobs.db")
    scheduler.enqueue_many([scheduler.remote("t").call(n=number) for number in range(2_000)])
    scheduler.close()
    line = f'"{sys.executable}" -m schedfactory --database jobs.db jobs --limit 2000 {option} | head -n 1'
    done = subprocess.run(line, shell=True, cwd=folder, capture_output=True, text=True, timeout=60)
    assert (done.stdout[: len(first)], done.stdout.count("\n"), done.stderr) == (first, 1, "")


def test_output_that_cannot_be_written_is_an_error_in_one_line(folder):
    line = f'"{sys.executable}" -m schedfactory migrate --sql > /dev/full'
    done = subprocess.run(line, shell=True, cwd=folder, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (1, "Error: [Errno 28] No space left on device\n")


@pytest.mark.parametrize("arguments", ["jobs", "stats", "--app app:scheduler enqueue unheard"])
def test_a_remark_that_cannot_be_written_is_no_failure(folder, cli, arguments):
    cli("--database", "schedfactory.db", "migrate")
    line = f'"{sys.executable}" -m schedfactory {arguments} 2>/dev/full'
    assert subprocess.run(line, shell=True, cwd=folder, capture_output=True, timeout=60).returncode == 0


def test_arguments_that_are_no_json_are_listed_as_none(cli, filled, sql, listed):
    sql(filled, "INSERT INTO schedfactory_jobs (task, args) VALUES ('t', 'x=1')")
    assert listed()[0]["args"] == {}
    assert " t " in cli("--database", filled, "jobs").stdout


def test_text_of_a_job_gives_no_orders_to_the_terminal(cli, filled, sql):
    sql(filled, "INSERT INTO schedfactory_jobs (task, queue) VALUES (?, '[red]q[/red]')", "t\x1b[2J\nu")
    for arguments in (("jobs",), ("show", 5)):
        said = cli("--database", filled, *arguments).stdout
        assert "\x1b" not in said
        assert "t [2J u" in said
        assert "[red]q[/red]" in said


def test_show_prints_all_columns_and_each_attempt_with_its_traceback(cli, filled):
    said = cli("--database", filled, "show", 2).stdout
    assert {line.split()[0] for line in said.partition("\n\n")[0].splitlines()} == set(COLUMNS)
    assert said.count("Traceback (most recent call last)") == 2
    assert said.count("ValueError: no such page") >= 2
    assert "attempt 1: failed/error" in said
    assert "attempt 2: failed/error" in said


def test_show_as_json_is_one_object_with_its_attempts(cli, filled):
    job = json.loads(cli("--database", filled, "show", 2, "--json").stdout)
    assert set(job) == {*COLUMNS, "attempts", "logs"}
    assert [one["number"] for one in job["attempts"]] == [1, 2]
    assert "no such page" in job["attempts"][0]["traceback"]


def test_explain_prints_the_code_and_the_sentence_and_as_json_a_list_of_one_object(cli, filled):
    assert cli("--database", filled, "explain", 2).stdout.startswith("job 2 [finished] ")
    [found] = json.loads(cli("--database", filled, "explain", 4, "--json").stdout)
    assert list(found) == ["code", "text", "ahead", "estimated_start"]
    assert found["code"] == "scheduled"


def test_show_prints_what_the_job_has_said_attempt_by_attempt(cli, filled, sql):
    line = "INSERT INTO schedfactory_logs VALUES (2, ?, 1, '2026-01-02 03:04:05.678901', 'INFO', ?, ?)"
    sql(filled, line, 1, "shop", "one\n\x1b[2Jtwo")
    sql(filled, line, 2, None, "three")
    said = cli("--database", filled, "show", 2).stdout
    first = "log of attempt 1:\n    2026-01-02 03:04:05.678 INFO shop: one\n         [2Jtwo\n"
    assert said.endswith(f"\n{first}\nlog of attempt 2:\n    2026-01-02 03:04:05.678 INFO: three\n")
    at = "2026-01-02T03:04:05.678901+00:00"
    assert json.loads(cli("--database", filled, "show", 2, "--json").stdout)["logs"] == [
        {"attempt": 1, "at": at, "level": "INFO", "logger": "shop", "message": "one\n\x1b[2Jtwo"},
        {"attempt": 2, "at": at, "level": "INFO", "logger": None, "message": "three"},
    ]


def test_to_show_an_unknown_job_is_an_error(cli, filled):
    assert cli("--database", filled, "show", 99, code=1).stderr.startswith("Error: there is no job 99")


@pytest.mark.parametrize("arguments", [("show", 2**70), ("wait", 0), ("show", "one"), ("jobs", "--before-id", 2**70)])
def test_what_cannot_be_an_id_is_bad_usage(cli, filled, arguments):
    cli("--database", filled, *arguments, code=2)


def test_wait_says_how_the_job_ended_and_its_exit_code_is_1_unless_it_succeeded(cli, filled):
    assert cli("--database", filled, "wait", 1).stdout.startswith("job 1 succeeded in 0.")
    failed = cli("--database", filled, "wait", 2, code=1).stdout
    assert failed.startswith("job 2 failed/error in 0.")
    assert failed.endswith("ValueError: no such page\n")


def test_wait_gives_up_after_its_timeout_with_exit_code_1(cli, filled):
    assert "Error: job 4 had not ended" in cli("--database", filled, "wait", 4, "--timeout", "10ms", code=1).stderr


def test_ctrl_c_while_it_waits_is_exit_code_130_and_no_traceback(begin, filled, folder):
    (folder / "tells.py").write_text("from app import scheduler\nprint('loaded', flush=True)\n")
    process = begin("--app", "tells:scheduler", "wait", "4")
    assert process.stdout.readline() == "loaded\n"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, "")


def test_wait_for_an_unknown_job_is_an_error(cli, filled):
    assert "there is no job 99" in cli("--database", filled, "wait", 99, code=1).stderr


@pytest.mark.parametrize("length", ["soon", "90", "-1s"])
@pytest.mark.parametrize(
    "command",
    [
        ("wait", 1, "--timeout"), ("enqueue", "t", "--delay"), ("prune", "--older-than"), ("tail", "--for"),
        ("nodes", "pause", "--timeout"),
    ],
)  # fmt: skip
def test_what_is_no_length_of_time_is_bad_usage_that_says_what_to_write_there(cli, filled, sql, command, length):
    said = cli("--database", filled, *command, length, code=2).stderr
    assert said.endswith(
        f"Error: Invalid value for '{command[-1]}': {length!r} is not understood. Pass a number with its unit, such as "
        '"90s" or "10m".\n'
    )
    assert (sql(filled, "SELECT count(*) FROM schedfactory_jobs"), sql(filled, "SELECT * FROM schedfactory_commands")) == (
        [(4,)],
        [],
    )


def test_a_newer_schema_is_an_error_in_one_line(cli, filled, sql):
    sql(filled, "UPDATE schedfactory_version SET version_num = '9999'")
    said = cli("--database", filled, "jobs", code=1).stderr
    assert said.startswith("Error: ")
    assert "Install a newer schedfactory" in said
