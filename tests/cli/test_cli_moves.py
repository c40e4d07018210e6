"""`enqueue`, `cancel`, `requeue`, `prune` and `migrate`."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest

from schedfactory import Scheduler

APP = ("--app", "app:scheduler")
FILE = ("--database", "jobs.db")


@pytest.fixture
def job(cli):
    """Enqueue with these arguments, and return the job as JSON."""

    def enqueue(*arguments):
        number = cli(*arguments).stdout.strip()
        return json.loads(cli(*FILE, "show", number, "--json").stdout)

    return enqueue


def test_enqueue_prints_the_id_alone(cli):
    assert [cli(*FILE, "enqueue", "t").stdout for _ in range(2)] == ["1\n", "2\n"]


def test_arguments_are_json_by_name(job):
    args = job(*FILE, "enqueue", "t", "n=42", 'name="Ada = 1"', "to=[1, {}]", "none=null")["args"]
    assert args == {"n": 42, "name": "Ada = 1", "to": [1, {}], "none": None}


def test_options_end_up_in_the_row(job):
    options = ("--priority", "-5", "--queue", "mail", "--tag", "a", "--tag", "b", "--run-at", "2999-12-24T18:00:00+01:00")
    found = job(*FILE, "enqueue", "t", *options)
    assert (found["priority"], found["queue"], found["tags"], found["status"]) == (-5, "mail", ["a", "b"], "scheduled")
    assert found["run_at"] == "2999-12-24T17:00:00+00:00"


def test_a_delay_makes_the_job_scheduled(job):
    assert job(*FILE, "enqueue", "t", "--delay", "1h30m")["status"] == "scheduled"


@pytest.mark.parametrize("name", ["mail.welcome", "welcome"])
def test_the_options_of_a_known_task_apply(job, name):
    found = job(*APP, "enqueue", name, 'name="Ada"')
    assert (found["task"], found["queue"], found["priority"], found["max_attempts"]) == ("mail.welcome", "mail", 7, 3)


def test_an_option_of_the_call_counts_more_than_the_task_s(job):
    found = job(*APP, "enqueue", "mail.welcome", 'name="Ada"', "--priority", "9", "--queue", "slow")
    assert (found["queue"], found["priority"]) == ("slow", 9)


def test_arguments_of_a_known_task_are_read_by_its_types(job):
    assert job(*APP, "enqueue", "sum", "x=1", 'at="2026-01-02T03:04:05Z"')["args"]["x"] == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("add", "y=1"), "missing required field `x`"),
        (("add", "x=1", "z=1"), "unknown field `z`"),
        (("add", 'x="1"'), "Expected `int`, got `str`"),
        (("sum", "x=1", 'at="soon"'), "RFC3339"),
    ],
)
def test_arguments_that_do_not_fit_a_known_task_are_bad_usage(cli, arguments, said):
    assert said in cli(*APP, "enqueue", *arguments, code=2).stderr


def test_a_task_that_the_app_does_not_know_is_stored_with_a_note(cli):
    done = cli(*APP, "enqueue", "elsewhere", "x=1")
    assert done.stdout == "1\n"
    assert "a worker that knows it will run it" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("name=Ada",), """'name="Ada"'"""),
        (("name=it's",), "is not JSON"),
        (("n=NaN",), "is not JSON"),
        (("n=",), "is not JSON"),
        (("Ada",), "is not NAME=JSON"),
        (("=1",), "is not NAME=JSON"),
        (("n=1", "n=2"), "given twice"),
        (("--priority", "101"), "is not in -100…100"),
        (("--delay", "90"), "is not understood"),
        (("--run-at", "2026-12-24T18:00"), "add an offset such as +01:00"),
        (("--run-at", "2999-01-01T00:00Z", "--delay", "1h"), "Pass one of them"),
        (("--queue", "*"), "is no name"),
    ],
)
def test_bad_arguments_and_options_are_bad_usage_and_store_nothing(cli, folder, sql, arguments, said):
    assert said in cli(*FILE, "enqueue", "t", *arguments, code=2).stderr
    assert not (folder / "jobs.db").exists() or not sql("jobs.db", "SELECT 1 FROM schedfactory_jobs")


def test_too_large_arguments_are_an_error_in_one_line(cli):
    said = cli(*FILE, "enqueue", "t", *(f'a{n}="{"x" * 100_000}"' for n in range(11)), code=1).stderr
    assert said.startswith("Error: the arguments of t have")


@pytest.fixture
def filled(folder):
    """Two mails (1, 2), a report (3), and a cancelled report (4)."""
    scheduler = Scheduler(folder / "jobs.db")
    for task, queue in (("mail", "a"), ("mail", "b"), ("report", "a"), ("report", "b")):
        scheduler.remote(task).options(queue=queue).enqueue()
    scheduler.cancel(4)
    yield scheduler
    scheduler.close()


@pytest.mark.parametrize(
    ("arguments", "ids", "said"),
    [
        ((1, 3), [1, 3], "2 jobs cancelled\n"),
        ((1, 1, 4), [1], "1 job cancelled\n"),
        (("--task", "mail"), [1, 2], "2 jobs cancelled\n"),
        (("--queue", "a", "--task", "report"), [3], "1 job cancelled\n"),
        (("--status", "queued"), [1, 2, 3], "3 jobs cancelled\n"),
        (("--status", "running"), [], "0 jobs cancelled\n"),
    ],
)
def test_cancel_takes_ids_or_filters_and_prints_how_many(cli, filled, arguments, ids, said):
    assert cli(*FILE, "cancel", *arguments).stdout == said
    assert [job.id for job in reversed(filled.jobs(status="cancelled"))] == [*ids, 4]


@pytest.mark.parametrize("arguments", [(4,), ("--status", "cancelled"), ("--task", "report", "--queue", "b")])
def test_requeue_takes_ids_or_filters_and_prints_how_many(cli, filled, arguments):
    assert cli(*FILE, "requeue", *arguments).stdout == "1 job requeued\n"
    assert filled.get(4).status == "queued"


@pytest.mark.parametrize("command", ["cancel", "requeue"])
@pytest.mark.parametrize("arguments", [(), (1, "--task", "mail")])
def test_neither_ids_nor_filters_or_both_are_bad_usage(cli, filled, command, arguments):
    assert "either job IDs, or filters" in cli(*FILE, command, *arguments, code=2).stderr


@pytest.mark.parametrize("command", ["cancel", "requeue"])
def test_an_unknown_id_is_an_error_and_nothing_changes(cli, filled, command):
    assert "there is no job 99" in cli(*FILE, command, 1, 99, code=1).stderr
    assert filled.get(1).status == "queued"


def test_enqueue_of_a_unique_task_prints_the_job_that_is_there_and_show_has_its_key(cli, job):
    first = job(*APP, "enqueue", "sync", "account=7")
    assert job(*APP, "enqueue", "sync", "account=7", "deep=true", "--priority", "5") == first
    assert first["unique_key"] == "sync:7"
    assert "\nunique_key        sync:7\n" in cli(*FILE, "show", first["id"]).stdout
    assert job(*APP, "enqueue", "sync", "account=8")["id"] == first["id"] + 1


def test_enqueue_of_a_duplicate_job_is_an_error(cli):
    cli(*APP, "enqueue", "once")
    assert "once is to be unique, and job 1 (queued) has its key '{}'" in cli(*APP, "enqueue", "once", code=1).stderr


@pytest.mark.parametrize(
    ("arguments", "done", "states"),
    [
        ((2,), 0, ["cancelled", "cancelled", "queued"]),
        (("--task", "sync"), 0, ["cancelled", "cancelled", "queued"]),
        ((1, 2), 1, ["queued", "cancelled", "queued"]),
    ],
)
def test_requeue_where_the_unique_key_is_taken_is_an_error_that_says_what_was_done(cli, folder, arguments, done, states):
    scheduler = Scheduler(folder / "jobs.db")
    for account in (6, 7, 7):
        if account == 7:
            scheduler.cancel(task="sync")
        scheduler.remote("sync").options(unique="{account}").enqueue(account=account)
    said = cli(*FILE, "requeue", *arguments, code=1).stderr
    assert "job 2 of sync cannot run again: job 3 holds, or would get, the unique key '7'" in said
    assert (f"The {done} before it had been changed already" in said) is bool(done)
    assert [job.status for job in reversed(scheduler.jobs())] == states
    scheduler.close()


def test_prune_deletes_what_ended_long_ago(cli, filled):
    filled.cancel(1)
    assert cli(*FILE, "prune").stdout == "0 jobs pruned\n"
    assert cli(*FILE, "prune", "--older-than", "0s", "--status", "failed").stdout == "0 jobs pruned\n"
    assert cli(*FILE, "prune", "--older-than", "0s", "--status", "cancelled").stdout == "1 job pruned\n"
    assert filled.get(1) is None


def test_prune_of_unfinished_jobs_is_bad_usage(cli, filled):
    assert "is not one of" in cli(*FILE, "prune", "--status", "queued", code=2).stderr


def test_migrate_makes_the_tables_and_may_be_repeated(cli, sql):
    for _ in range(2):
        assert cli(*FILE, "migrate").stdout == "The tables are up to date.\n"
    assert sql("jobs.db", "SELECT count(*) FROM schedfactory_history") == [(0,)]


def test_the_sql_of_migrate_runs_as_it_stands(cli, folder, sql):
    script = cli("migrate", "--sql").stdout
    assert not list(folder.glob("*.db"))
    with closing(sqlite3.connect(folder / "by_hand.db")) as connection:
        connection.executescript(script)
    sql("by_hand.db", "INSERT INTO schedfactory_jobs (task) VALUES ('t')")
    scheduler = Scheduler(folder / "by_hand.db", migrate=False)
    assert [job.task for job in scheduler.jobs()] == ["t"]
    scheduler.close()
