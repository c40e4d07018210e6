"""What a scheduler is told when it is made, or configured later: each argument, its default, and what is refused."""

from __future__ import annotations

import gc
import logging
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url

from schedfactory import PayloadTooLarge, Scheduler


def file_of(scheduler):
    """Use the scheduler, and return the file that this made."""
    with scheduler.reading() as connection:
        [(_, _, file)] = connection.exec_driver_sql("PRAGMA database_list").all()
    scheduler.close()
    return Path(file)


# database


def test_without_a_database_it_is_schedfactory_db_in_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert file_of(Scheduler()) == tmp_path / "schedfactory.db"


def test_without_a_database_the_environment_names_it(tmp_path, monkeypatch):
    monkeypatch.setenv("SCHEDFACTORY_DATABASE", str(tmp_path / "named.db"))
    assert file_of(Scheduler()) == tmp_path / "named.db"
    assert file_of(Scheduler(tmp_path / "given.db")) == tmp_path / "given.db"


@pytest.mark.parametrize("kind", ["text", "path", "url", "made url", "engine"])
def test_a_database_is_named_by_a_path_a_url_or_an_engine(path, kind):
    url = f"sqlite:///{path}"
    named = {"text": str(path), "path": path, "url": url, "made url": make_url(url), "engine": create_engine(url)}[kind]
    assert file_of(Scheduler(named)) == path


def test_a_database_named_relatively_is_where_it_was_when_that_was_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scheduler = Scheduler("jobs.db")
    monkeypatch.chdir("/")
    assert file_of(scheduler) == tmp_path / "jobs.db"


def test_a_database_in_memory_is_a_private_temporary_file_that_goes_with_its_scheduler():
    one, two = Scheduler(":memory:"), Scheduler(":memory:")
    one.remote("work").enqueue()
    assert (one.counts()["queued"], two.counts()["queued"]) == (1, 0)
    files = [file_of(one), file_of(two)]
    assert files[0] != files[1]
    del one, two
    gc.collect()
    assert not any(file.parent.exists() for file in files)


def test_the_absolute_path_of_the_database_is_logged_once(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    with caplog.at_level(logging.INFO, "schedfactory"), closing(Scheduler("jobs.db")) as scheduler:
        assert not caplog.messages
        scheduler.counts()
        scheduler.remote("work").enqueue()
    assert [message for message in caplog.messages if str(tmp_path / "jobs.db") in message] == caplog.messages
    assert len(caplog.messages) == 1


# durability


@pytest.mark.parametrize(("given", "synchronous"), [({}, 2), ({"durability": "full"}, 2), ({"durability": "normal"}, 1)])
def test_durability_full_syncs_every_commit_and_normal_does_not(path, given, synchronous):
    file_of(Scheduler(path))  # the tables are there already: making them is synced whatever the durability
    with closing(Scheduler(path, **given)) as scheduler:
        found = scheduler._house.database.write(lambda conn: conn.exec_driver_sql("PRAGMA synchronous").scalar())
        assert found == synchronous  # 2 is SQLite's FULL, 1 its NORMAL
        assert scheduler.remote("work").enqueue().refresh().id == 1


# What is refused

REFUSED = {
    "database of another kind": ({"database": "postgresql://host/db"}, ValueError, "no SQLite database"),
    "database url with options": ({"database": "sqlite:///jobs.db?mode=ro"}, ValueError, "options after"),
    "database of no name": ({"database": ""}, ValueError, "database=''"),
    "database that is no path": ({"database": 5}, TypeError, "database=5"),
    "engine in memory": ({"database": create_engine("sqlite://")}, ValueError, "in memory"),
    "durability": ({"durability": "some"}, ValueError, "durability='some'.*full.*normal"),
    "lease that is no duration": ({"lease": "15"}, ValueError, "lease='15'"),
    "lease below a second": ({"lease": "900ms"}, ValueError, "lease='900ms'.*1 s"),
    "lock_timeout that is no duration": ({"lock_timeout": "soon"}, ValueError, "lock_timeout='soon'"),
    "lock_timeout below nothing": ({"lock_timeout": -1}, ValueError, "lock_timeout=-1"),
    "keep that is no duration": ({"keep": "1y"}, ValueError, "keep='1y'"),
    "keep of a status that is not final": ({"keep": {"queued": "1d"}}, ValueError, "'queued' is no final status"),
    "keep of a bad duration for a status": ({"keep": {"failed": "1d2"}}, ValueError, "keep.*failed.*'1d2'"),
    "max_payload of nothing": ({"max_payload": 0}, ValueError, "max_payload=0"),
    "max_payload that is no number": ({"max_payload": "1MB"}, ValueError, "max_payload='1MB'"),
    "max_result of nothing": ({"max_result": 0}, ValueError, "max_result=0"),
    "capture_logs that is no level": ({"capture_logs": "LOUD"}, ValueError, "capture_logs='LOUD' is no level of logging"),
    "capture_logs below zero": ({"capture_logs": -1}, ValueError, "capture_logs=-1"),
    "capture_logs of another kind": ({"capture_logs": True}, TypeError, "capture_logs=True"),
    "max_result that is no number": ({"max_result": True}, ValueError, "max_result=True"),
    "clock that cannot be called": ({"clock": datetime(2026, 1, 1)}, TypeError, "clock="),
    "unknown argument": ({"workers": 4}, TypeError, "workers"),
}


@pytest.mark.parametrize(("given", "kind", "says"), REFUSED.values(), ids=REFUSED)
def test_a_bad_argument_of_a_scheduler_is_refused_where_it_is_made_or_configured(tmp_path, monkeypatch, given, kind, says):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kind, match=says):
        Scheduler(**given)
    with pytest.raises(kind, match=says):
        Scheduler("jobs.db").configure(**given)
    assert list(tmp_path.iterdir()) == []


def test_a_clock_without_a_time_zone_is_a_value_error_and_nothing_is_stored(path):
    with closing(Scheduler(path, clock=lambda: datetime(2026, 1, 1))) as scheduler:
        with pytest.raises(ValueError, match=r"the clock gave .*no time zone"):
            scheduler.remote("work").enqueue()
        assert sum(scheduler.counts().values()) == 0


# configure, close


def test_configure_says_everything_later(tmp_path, clock):
    scheduler = Scheduler(tmp_path / "never.db", max_payload=5)
    scheduler.configure(tmp_path / "jobs.db", clock=clock, max_payload=20)
    job = scheduler.remote("work").enqueue(text="short")
    assert job.created_at == clock.now
    with pytest.raises(PayloadTooLarge, match="max_payload=20"):
        scheduler.remote("work").enqueue(text="not so short")
    assert file_of(scheduler) == tmp_path / "jobs.db"
    assert not (tmp_path / "never.db").exists()


def test_configure_after_the_first_use_is_a_runtime_error_until_it_is_closed(tmp_path):
    scheduler = Scheduler(tmp_path / "first.db")
    scheduler.remote("work").enqueue()
    with pytest.raises(RuntimeError, match=r"first\.db is open.*close\(\)"):
        scheduler.configure(tmp_path / "second.db")
    assert scheduler.counts()["queued"] == 1
    scheduler.close()
    scheduler.configure(tmp_path / "second.db")
    assert scheduler.counts()["queued"] == 0
    scheduler.close()


def test_configure_keeps_the_tasks(path):
    scheduler = Scheduler()

    @scheduler.task(name="add")
    def add(x: int, y: int) -> int:
        return x + y

    scheduler.configure(path)
    job = add.enqueue(2, 3)
    scheduler.run_due()
    assert job.refresh().result == 5
    scheduler.close()


# override


def test_override_uses_another_file_and_clock_inside_its_block_only(still, clock, tmp_path):
    job = still.remote("work").enqueue()
    with still.override(tmp_path / "other.db", clock=lambda: clock.now + timedelta(days=1)) as same:
        assert same is still
        assert still.counts()["queued"] == 0
        assert still.remote("work").enqueue().created_at == clock.now + timedelta(days=1)
    assert still.jobs() == [job]
    assert still.remote("work").enqueue().created_at == clock.now


def test_override_of_a_scheduler_that_runs_is_a_runtime_error(scheduler, tmp_path):
    with scheduler.running(workers=1), pytest.raises(RuntimeError, match=r"stop\(\) first"):
        scheduler.override(tmp_path / "other.db").__enter__()
