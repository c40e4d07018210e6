"""Whatever people, shells and SQL clients write: it is taken, or refused as documented, and the factory goes on.

Random values by Hypothesis, other ones in each run. After each example that may have hurt: SQLite's integrity check, and
one ordinary job, as SQLite's own tests do after each simulated fault (sqlite.org/testing.html).
"""

from __future__ import annotations

import contextlib
import io
import shutil
import sqlite3
import time
from contextlib import closing
from datetime import datetime, timedelta, timezone

import fuzzing
import msgspec
import pytest
from fuzzing import Asked, examples
from hypothesis import given
from hypothesis import strategies as st

from schedfactory import Job, SchedfactoryError, Scheduler
from schedfactory.cli import commands
from schedfactory.model import codec
from schedfactory.running.attempt import Attempts

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
READ = [
    name
    for name in dir(Job)
    if not name.startswith("_") and name not in ("refresh", "wait", "get_result", "cancel", "requeue", "update", "attempts")
]
VIEWS = ("history", "failures", "queue_stats")


def factory(path, **options):
    scheduler = Scheduler(path, durability="normal", lock_timeout="5s", **options)

    @scheduler.task(name="noop", retry=2)
    def noop(x=None):
        return x

    @scheduler.task(name="boom", retry=2)
    def boom(x=None):
        raise ValueError(x)

    return scheduler


@pytest.fixture
def made(path):
    scheduler = factory(path)
    yield scheduler
    scheduler.close()


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A closed database that has rows of each kind, those of a dead node among them."""
    path = tmp_path_factory.mktemp("filled") / "jobs.db"
    scheduler = factory(path, clock=lambda: NOW)
    jobs = [scheduler.remote(name).enqueue(x=1) for name in ("noop", "boom")]  # 1 succeeded, 2 failed once
    scheduler.run_due()
    scheduler.remote("noop").options(delay="1h", tags=["a"]).enqueue(x=1)
    scheduler.remote("noop").enqueue(x=1).cancel()
    jobs += [scheduler.remote(name).enqueue(x=number) for number, name in enumerate(("noop", "boom", "noop", "noop"))]
    scheduler.close()
    with closing(sqlite3.connect(path)) as connection:
        taken = "UPDATE schedfactory_jobs SET status = 'running', node = 77, fence = 1, attempt = 1, started_at = run_at"
        connection.execute(f"{taken}, worker = 1 WHERE id = 7")
        connection.execute(f"{taken} WHERE id = 8")
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


@pytest.fixture
def copies(filled, tmp_path):
    """Make a copy of that database, one after the other in one place."""

    def make():
        for file in tmp_path.glob("copy.db*"):
            file.unlink()
        return shutil.copy(filled, tmp_path / "copy.db")

    return make


def number_of_rows(scheduler):
    with scheduler.reading() as connection:
        return connection.exec_driver_sql("SELECT count(*) FROM schedfactory_jobs").scalar()


# Values


@pytest.mark.parametrize("option", ["queue", "priority", "run_at", "delay", "retry", "timeout", "expires", "tags"])
def test_an_option_of_any_value_is_taken_or_refused_by_name_and_then_nothing_is_stored(made, factor, figures, option):
    asked, stored = Asked(), 0
    values = {"run_at": fuzzing.moments, "delay": fuzzing.durations, "timeout": fuzzing.durations}.get(option, fuzzing.anything)
    values = values | fuzzing.durations | fuzzing.moments if option == "expires" else values

    @examples(120, factor)
    @given(values)
    def check(value):
        nonlocal stored
        job = asked(option, lambda: made.remote("noop").options(**{option: value}).enqueue(x=1))
        stored += job is not None
        assert number_of_rows(made) == stored
        if job is not None:
            assert job.refresh() == job

    check()
    figures(values=asked.times, refused=asked.refused)


def test_a_name_of_any_value_is_taken_or_refused_by_name(made, factor, figures):
    asked = Asked()

    @examples(150, factor)
    @given(fuzzing.anything)
    def check(value):
        before = number_of_rows(made)
        job = asked("name", lambda: made.remote(value).enqueue())
        assert number_of_rows(made) == before + (job is not None)
        assert job is None or made.get(job.id).task == value

    check()
    figures(values=asked.times, refused=asked.refused)


def test_an_argument_of_any_depth_and_size_comes_back_or_is_refused_by_name(path, factor, figures):
    asked, sent = Asked(), {}
    depths = st.integers(0, 3_000)
    deep = st.builds(fuzzing.nested, depths, st.booleans())
    large = st.integers(9_000, 11_000).flatmap(lambda size: st.sampled_from("x\u20ac\0").map(lambda one: one * size))

    with closing(factory(path, max_payload=10_000)) as scheduler:
        echo = scheduler.tasks.get("noop")

        @examples(200, factor)
        @given(st.one_of(fuzzing.json_values, fuzzing.anything, deep, large))
        def check(x):
            before = number_of_rows(scheduler)
            job = asked("x", lambda: echo.enqueue(x))
            assert number_of_rows(scheduler) == before + (job is not None)
            if job is not None:
                sent[job.id] = x

        check()
        scheduler.run_due()
        assert {job_id: scheduler.get(job_id).get_result("1s") for job_id in sent} == sent
        figures(values=asked.times, refused=asked.refused, returned=len(sent))


FILTERS = ["status", "task", "queue", "tag", "args", "created_after", "finished_after", "limit", "before_id"]
plain_arguments = st.dictionaries(st.text(max_size=9) | st.just("x"), st.text(max_size=9) | st.integers(), max_size=3)


@pytest.mark.parametrize("name", FILTERS)
def test_a_filter_of_any_value_is_taken_or_refused_by_name(copies, factor, figures, name):
    asked = Asked()
    values = fuzzing.moments if name.endswith("_after") else fuzzing.anything
    if name == "args":
        values = values | plain_arguments | st.dictionaries(fuzzing.texts, values)
    with closing(factory(copies())) as scheduler:

        @examples(60, factor)
        @given(values)
        def check(value):
            found = asked(name, lambda: scheduler.jobs(**{name: value}))
            assert found is None or len(found) <= 8

        check()
    figures(values=asked.times, refused=asked.refused)


CHOOSE = ("--status", "--task", "--queue")
COMMANDS = {
    "jobs": (*CHOOSE, "--tag", "--limit", "--before-id", "--json"),
    "show": ("--json", ""),
    "wait": ("--timeout", ""),
    "enqueue": ("--priority", "--delay", "--run-at", "--queue", "--tag", ""),
    "cancel": (*CHOOSE, ""),
    "requeue": (*CHOOSE, ""),
    "prune": ("--older-than", "--status"),
    "migrate": ("--sql", "--app", "--database"),
}
told = st.one_of(
    st.integers(-1, 9).map(str), fuzzing.words,
    st.sampled_from(("failed", "noop", "a", "0s", "1h", "x=1", "x=[", "x=NaN", "2026-12-24T18:00+01:00", "--", "--help")),
)  # fmt: skip
command_lines = st.sampled_from(sorted(COMMANDS)).flatmap(
    lambda command: st.lists(st.tuples(st.sampled_from(COMMANDS[command]), told), max_size=3).map(
        lambda pairs: [command, *(word for pair in pairs for word in pair if word)]
    )
)


def test_any_command_line_ends_with_a_documented_code_and_never_with_a_traceback(
    copies, tmp_path, monkeypatch, factor, figures
):
    monkeypatch.chdir(tmp_path)
    ended = {0: 0, 1: 0, 2: 0}

    @examples(150, factor)
    @given(command_lines)
    def check(words):
        if words[0] == "wait":
            words = [*words, "--timeout", "0s"]
        with contextlib.redirect_stdout(stream()), contextlib.redirect_stderr(stream()), pytest.raises(SystemExit) as end:
            commands(["--database", str(copies()), *words], prog_name="schedfactory")
        ended[end.value.code or 0] += 1

    check()
    figures(**{f"exit_{code}": number for code, number in ended.items()})


def stream():
    return io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace")


# Rows


def look_at_all(scheduler):
    """Read all there is to read of the jobs, as people do."""
    jobs = scheduler.jobs()
    for job in jobs:
        for name in READ:
            getattr(job, name)
        repr(job), hash(job), job.attempts(), scheduler.get(job.id)
    for filters in ({"tag": "a"}, {"args": {"x": 1}}, {"status": "queued"}, {"finished_after": NOW}):
        scheduler.jobs(**filters)
    scheduler.counts()
    with scheduler.reading() as connection:
        for view in VIEWS:
            connection.exec_driver_sql(f"SELECT * FROM schedfactory_{view}").all()


def one_ordinary_job(scheduler):
    job = scheduler.remote("noop").options(priority=100).enqueue(x=7)
    scheduler.run_due(100)
    assert job.get_result("1s") == 7
    with scheduler.reading() as connection:
        assert connection.exec_driver_sql("PRAGMA integrity_check").all() == [("ok",)]
        left = "SELECT id FROM schedfactory_jobs WHERE status = 'running' AND node < (SELECT max(id) FROM schedfactory_nodes)"
        assert connection.exec_driver_sql(left).all() == []


def go_through(path, job_id=None):
    """Read, run, change and run again; then all is as it should be."""
    with closing(factory(path, clock=lambda: NOW)) as scheduler:
        look_at_all(scheduler)
        scheduler.run_due(20)  # raises what would end a dispatcher
        for one in (1, 3, 6, 7) if job_id is None else (job_id,):
            scheduler.cancel(one)
            scheduler.requeue(one)
        one_ordinary_job(scheduler)
        look_at_all(scheduler)
        scheduler.prune(older_than=0)


def test_rows_edited_by_sql_end_nothing_but_themselves(copies, factor, figures):
    taken = refused = 0

    @examples(50, factor)
    @given(st.lists(st.tuples(fuzzing.edits, st.sampled_from((1, 2, 3, 4, 5, 6, 7, 8, None))), min_size=1, max_size=5))
    def check(changes):
        nonlocal taken, refused
        path = copies()
        for edit, job_id in changes:
            if fuzzing.apply(path, edit if job_id else {"task": ("?", "noop"), **edit}, job_id):
                taken += 1
            else:
                refused += 1
        go_through(path)

    check()
    figures(edits=taken, refused_by_the_table=refused)


def test_a_running_dispatcher_outlives_what_sql_does_to_its_rows(copies, factor, figures, caplog):
    path, changes = copies(), []

    @examples(60, factor)
    @given(st.lists(st.tuples(fuzzing.edits, st.integers(1, 40)), min_size=1, max_size=5))
    def collect(some):
        changes.extend(some)

    collect()  # before there are other threads, which Hypothesis does not like to share the random module with
    with closing(factory(path)) as scheduler:
        scheduler.start(workers=2)
        taken = 0
        for number, (edit, job_id) in enumerate(changes):
            if number % 4 == 0:
                scheduler.remote("boom").enqueue(x=1)
            taken += fuzzing.apply(path, edit, job_id)
        job = scheduler.remote("noop").options(priority=100).enqueue(x=7)
        assert job.get_result("20s") == 7
        assert scheduler.health().dispatcher == "running"
    assert [record.message for record in caplog.records if "dispatcher died" in record.message] == []
    figures(edits=taken)


def test_the_harness_catches_a_read_that_trusts_its_rows(copies, monkeypatch):
    path = copies()
    assert fuzzing.apply(path, {"args": ("?", "{")}, 5)
    monkeypatch.setattr("schedfactory.model.codec.decode_or_none", codec.decode_plain)
    with pytest.raises(msgspec.DecodeError):
        go_through(path)


def test_the_harness_catches_a_job_whose_row_ends_the_dispatcher(copies, monkeypatch):
    path = copies()
    assert fuzzing.apply(path, {"timeout_ms": ("?", 2**62)}, 5)
    monkeypatch.setattr(Attempts, "limit_of", lambda self, job: timedelta(milliseconds=job.timeout_ms or 0))
    with pytest.raises(OverflowError):
        go_through(path)


# Bytes

DOCUMENTED = (SchedfactoryError,)
places = st.floats(0, 1, exclude_max=True)
heads = st.floats(0, 0.05)  # the header and the schema
damages = st.one_of(
    st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=30).map(lambda flips: ("flip", flips)),
    st.lists(st.tuples(places.map(lambda place: place / 20), st.integers(0, 255)), min_size=1, max_size=3).map(
        lambda one: ("flip", one)
    ),
    places.map(lambda place: ("cut", place)),
    st.tuples(places, st.binary(min_size=1, max_size=64)).map(lambda page: ("page", page)),
    st.binary(max_size=9_000).map(lambda data: ("garbage", data)),
    st.binary(max_size=9_000).map(lambda data: ("garbage", b"SQLite format 3\0" + data)),
)


def damaged(data, kind, how):
    if kind == "garbage":
        return how
    if kind == "cut":
        return data[: int(len(data) * how)]
    data = bytearray(data)
    if kind == "flip":
        for place, byte in how:
            data[int(len(data) * place)] = byte
    else:
        place, pattern = how
        start = int(len(data) * place) // 4096 * 4096
        data[start : start + 4096] = (pattern * 4096)[:4096]
    return bytes(data)


def test_a_damaged_file_is_a_storage_error_or_works_and_hangs_nobody(filled, tmp_path, factor, figures):
    data, path = filled.read_bytes(), tmp_path / "damaged.db"
    said = {"worked": 0, "documented": 0}
    longest = 0.0

    @examples(70, factor)
    @given(damages)
    def check(damage):
        nonlocal longest
        for file in tmp_path.glob("damaged.db*"):
            file.unlink()
        path.write_bytes(damaged(data, *damage))
        began = time.monotonic()
        scheduler = factory(path)
        for call in (
            lambda: look_at_all(scheduler),
            lambda: scheduler.remote("noop").enqueue(x=1),
            lambda: scheduler.run_due(20),
            lambda: scheduler.cancel(status="queued"),
            lambda: scheduler.requeue(status="failed"),
            scheduler.close,
        ):
            try:
                call()
                said["worked"] += 1
            except DOCUMENTED:
                said["documented"] += 1
        longest = max(longest, time.monotonic() - began)

    check()
    assert longest < 30
    figures(**said, longest_s=f"{longest:.1f}")


# What was found


def by_sql(job_id, sql):
    def run(path):
        with closing(sqlite3.connect(path)) as connection, connection:
            assert connection.execute(f"UPDATE schedfactory_jobs SET {sql} WHERE id = ?", (job_id,)).rowcount == 1
        go_through(path, job_id)

    return run


def by_filter(**filters):
    def run(path):
        with closing(factory(path)) as scheduler:
            Asked()(next(iter(filters)), lambda: scheduler.jobs(**filters))

    return run


def by_tags(tags):
    def run(path):
        with closing(factory(path)) as scheduler:
            Asked()("tags", lambda: scheduler.remote("noop").options(tags=tags).enqueue())

    return run


def by_bytes(old, new):
    def run(path):
        data = path.read_bytes()
        assert len(old) == len(new)
        assert old in data
        path.write_bytes(data.replace(old, new))
        scheduler, said = factory(path), []
        for call in (scheduler.counts, scheduler.jobs, lambda: scheduler.remote("noop").enqueue(x=1), scheduler.run_due):
            try:
                call()
            except SchedfactoryError:
                continue
            except Exception as error:
                said.append(repr(error))
        scheduler.close()
        assert said == []

    return run


LAST = 2**63 - 1
KNOWN = [
    *(("utf8", by_sql(5, f"{name} = CAST(x'ff' AS TEXT)")) for name in ("args", "task", "queue", "tags", "uid", "on_crash")),
    ("utf8", by_sql(1, "error = CAST(x'ff' AS TEXT)")),
    ("utf8", by_sql(7, "queue = CAST(x'ff' AS TEXT)")),
    *(("counters", by_sql(5, f"{name} = {LAST}")) for name in ("attempt", "fence")),
    ("failures", by_sql(6, f"failures = {LAST}")),
    ("counters", by_sql(7, f"crashes = {LAST}")),
    ("counters", by_sql(8, f"attempt = {-LAST - 1}")),
    ("bytes of nodes", by_sql(5, "status = 'running', node = -1")),
    ("bytes of nodes", by_sql(5, f"leftover = 1, node = {LAST}")),
    ("attempts again", by_sql(2, "status = 'queued', node = NULL, attempt = 0")),
    ("attempts again", by_sql(2, "status = 'running', node = 77, worker = 1, attempt = 1")),
    ("timeouts", by_sql(6, "timeout_ms = -1, retry = '{'")),
    ("timeouts", by_sql(5, "timeout_ms = -1, max_attempts = 0")),
    ("times", by_sql(1, "started_at = 'soon'")),
    ("times", by_sql(1, "created_at = ''")),
    ("results", by_sql(1, "result = '{'")),
    ("filters", by_filter(status=5)),
    ("filters", by_filter(task=[])),
    ("filters", by_filter(tag=10**400)),
    ("filters", by_filter(queue="\ud800")),
    ("filters", by_filter(args=[1])),
    ("values of arguments", by_filter(args={"\ud800": 1})),
    ("values of arguments", by_filter(args={"": float("inf")})),
    ("filters", by_filter(before_id="7")),
    ("filters", by_filter(before_id=True)),
    ("tags", by_tags(5)),
    ("tags", by_tags([[]])),
    ("tags", by_tags(["\ud800"])),
    ("damage", by_bytes(b"retry TEXT", b"retrx TEXT")),
    ("damage", by_bytes(b"indexschedfactory_jobs_waiting", b"indexschedfactory_jobs_waitin\xff")),
    ("damage", by_bytes(b"schedfactory_version", b"schedfactory_versiom")),
    ("damage", by_bytes(b"2026-01-02 03:", b"2026-01-02 03\x00")),  # most times
]


@pytest.mark.parametrize("run", [pytest.param(run, id=name) for name, run in KNOWN])
def test_a_fault_that_was_found_before_stays_mended(copies, run):
    run(copies())
