"""Tasks: their names, what may be one, their options, and registries."""

from __future__ import annotations

import functools
import math
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pendulum
import pytest

from schedfactory import NotConfigured, NotSerializable, Retry, Scheduler, TaskRegistry, UnknownTask
from schedfactory.model.options import CallOptions


def double(x: int) -> int:
    return 2 * x


def twice(x: int) -> int:
    return x + x


class Bank:
    def pay(self, euros: int) -> None: ...

    @staticmethod
    def close() -> None: ...


async def later() -> None: ...


def each() -> Any:
    yield 1


async def each_later() -> Any:
    yield 1


# Names


def test_a_task_is_named_after_its_module_and_function_unless_a_name_is_given(still: Scheduler) -> None:
    assert still.task(double).name == f"{__name__}:double"
    assert still.task(name="mail.double")(double).name == "mail.double"


APP = """
from schedfactory import Scheduler

scheduler = Scheduler("jobs.db")


@scheduler.task
def add(x: int, y: int) -> int:
    return x + y


if __name__ == "__main__":
    print(add.name, add.enqueue(2, 3).task)
"""


DECORATOR = """
import functools


def timed(function):
    @functools.wraps(function)
    def run(*args, **kwargs):
        return function(*args, **kwargs)
    return run
"""


def python(folder: Path, *arguments: str, source: str = "") -> str:
    done = subprocess.run(
        [sys.executable, *arguments], input=source, cwd=folder, capture_output=True, text=True, env=os.environ, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("file", "arguments", "name"),
    [
        ("app.py", ["app.py"], "app:add"),
        ("shop/jobs.py", ["-m", "shop.jobs"], "shop.jobs:add"),
        ("shop/__main__.py", ["-m", "shop"], "shop.__main__:add"),
    ],
)
def test_a_program_and_its_workers_agree_on_a_name(tmp_path: Path, file: str, arguments: list[str], name: str) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(APP)
    assert python(tmp_path, *arguments) == f"{name} {name}"
    module = name.partition(":")[0]
    work = f"from {module} import scheduler; print(scheduler.run_due(), scheduler.get(1).result)"
    assert python(tmp_path, "-c", work) == "1 5"


def test_a_decorator_of_another_module_changes_no_name(tmp_path: Path) -> None:
    (tmp_path / "deco.py").write_text(DECORATOR)
    (tmp_path / "app.py").write_text("from deco import timed\n" + APP.replace("def add", "@timed\ndef add"))
    assert python(tmp_path, "app.py") == python(tmp_path, "-m", "app") == "app:add app:add"


def test_a_program_under_a_profiler_has_its_names(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    assert python(tmp_path, "-m", "cProfile", "-o", "profile", "app.py") == "app:add app:add"


@pytest.mark.parametrize("arguments", [["-"], ["-i", "-q"]])
def test_without_a_file_a_task_belongs_to_main(tmp_path: Path, arguments: list[str]) -> None:
    assert python(tmp_path, *arguments, source=APP).endswith("__main__:add __main__:add")


@pytest.mark.parametrize("name", ["", "x" * 256, "a\nb", 7])
def test_a_bad_name_is_a_value_error(still: Scheduler, name: Any) -> None:
    for make in (lambda: still.task(name=name)(double), lambda: still.task(aliases=[name])(double), lambda: still.remote(name)):
        with pytest.raises(ValueError, match="the task name"):
            make()


def test_an_alias_runs_the_rows_of_an_older_name(path: Path) -> None:
    old = Scheduler(path)
    job = old.task(name="double.v1")(double).enqueue(4)
    old.close()
    new = Scheduler(path)
    new.task(name="double", aliases=["double.v1", "double.v0"])(twice)
    new.remote("double.v0").enqueue(x=1)
    assert new.run_due() == 2
    job = new.reload(job.id)
    assert (job.task, job.status, job.result) == ("double.v1", "succeeded", 8)
    new.close()


# What may be a task


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda: 1, "lambda"),
        (Bank().pay, "method"),
        (Bank.pay, "method"),
        (Bank.close, "method"),
        ("text".upper, "method"),
        (later, "coroutine or a generator"),
        (each, "coroutine or a generator"),
        (each_later, "coroutine or a generator"),
        (Bank, "no plain function"),
        (functools.partial(double, 1), "no plain function"),
        ("double", "no plain function"),
        (dict.fromkeys, "method"),
    ],
)
def test_what_no_other_process_could_find_is_a_type_error(still: Scheduler, function: Any, says: str) -> None:
    for refused in (still.task, still.task(name="named"), still.enqueue):
        with pytest.raises(TypeError, match=says):
            refused(function)


def test_a_nested_function_needs_a_name(still: Scheduler) -> None:
    def inner() -> int:
        return 1

    with pytest.raises(TypeError, match=r"inner is defined inside a function.*@task\(name=…\)"):
        still.task(inner)
    with pytest.raises(TypeError, match="inner is defined inside a function"):
        still.enqueue(inner)
    job = still.task(name="inner")(inner).enqueue()
    still.run_due()
    assert job.refresh().result == 1


def test_a_task_is_still_its_function(still: Scheduler) -> None:
    task = still.task(double)
    assert task(4) == 8
    assert (task.__name__, task.__wrapped__, task.__doc__) == ("double", double, double.__doc__)
    assert sum(still.counts().values()) == 0


@pytest.mark.parametrize("name", ["delay", "apply_async"])
def test_the_words_of_other_libraries_lead_to_enqueue(still: Scheduler, name: str) -> None:
    task = still.task(double)
    with pytest.raises(AttributeError, match=rf"has no \.{name}\(\)\. Use \.enqueue"):
        getattr(task, name)
    with pytest.raises(AttributeError, match="no attribute 'enqeue'"):
        task.enqeue  # noqa: B018
    assert not hasattr(task, name)


def test_any_importable_function_is_registered_on_the_way(still: Scheduler) -> None:
    jobs = [
        still.enqueue(twice, 4),
        still.enqueue(twice, x=5),
        still.enqueue(math.sqrt, 9),
        still.enqueue(textwrap.dedent, " a"),
    ]
    assert [job.task for job in jobs] == [f"{__name__}:twice"] * 2 + ["math:sqrt", "textwrap:dedent"]
    still.run_due()
    assert [job.refresh().result for job in jobs] == [8, 10, 3.0, "a"]


def test_a_function_that_is_registered_on_the_way_has_to_be_registered_where_its_jobs_run_too(path: Path) -> None:
    producer, worker = Scheduler(path), Scheduler(path)
    job = producer.enqueue(math.sqrt, 9)
    assert (worker.run_due(), job.refresh().status) == (0, "queued")
    worker.task(math.sqrt)
    assert (worker.run_due(), job.refresh().result) == (1, 3.0)
    for scheduler in (producer, worker):
        scheduler.close()


# Options


ROWS = {
    "queue": ({"queue": "numbers"}, {"queue": "other"}, "queue", ("default", "numbers", "other")),
    "priority": ({"priority": 3}, {"priority": -9}, "priority", (0, 3, -9)),
    "retry": ({"retry": 3}, {"retry": Retry(7)}, "max_attempts", (1, 3, 7)),
    "expires": (
        {"expires": "1d"},
        {"expires": "2026-01-09T00:00:00Z"},
        "expires_at",
        (None, pendulum.datetime(2026, 1, 3, 3, 4, 5), pendulum.datetime(2026, 1, 9)),
    ),
    "tags": ({"tags": ["a", "b"]}, {"tags": ["c"]}, "tags", ([], ["a", "b"], ["c"])),
}


@pytest.mark.parametrize(("of_task", "of_call", "column", "expected"), ROWS.values(), ids=ROWS)
def test_an_option_of_the_task_is_in_its_rows_and_one_of_the_call_stands_over_it(
    still: Scheduler, of_task: Any, of_call: Any, column: str, expected: Any
) -> None:
    plain, special = still.task(name="plain")(twice), still.task(name="special", **of_task)(double)
    jobs = [plain.enqueue(1), special.enqueue(1), special.options(**of_call).enqueue(1)]
    assert tuple(getattr(job.refresh(), column) for job in jobs) == expected


def test_tags_are_kept_once_each_in_their_order(still: Scheduler) -> None:
    job = still.task(name="double", tags=["b", "a", "b"])(double).enqueue(1)
    assert job.refresh().tags == ["b", "a"]


@pytest.mark.parametrize(
    "run_at",
    [
        pendulum.datetime(2026, 12, 24, 18, tz="Europe/Berlin"),
        datetime(2026, 12, 24, 17, tzinfo=timezone.utc),
        "2026-12-24T18:00:00+01:00",
    ],
    ids=["pendulum", "datetime", "text"],
)
def test_a_run_at_is_kept_as_its_instant_however_it_is_written(still: Scheduler, clock: Any, run_at: Any) -> None:
    job = still.task(name="double")(double).options(run_at=run_at).enqueue(4).refresh()
    assert (job.status, job.run_at) == ("scheduled", datetime(2026, 12, 24, 17, tzinfo=timezone.utc))
    clock.now = job.run_at - timedelta(microseconds=1)
    assert still.run_due() == 0
    clock.now = job.run_at
    assert still.run_due() == 1


def test_a_run_at_that_is_past_is_due_at_once(still: Scheduler) -> None:
    job = still.task(name="double")(double).options(run_at="2020-01-01T00:00:00Z").enqueue(1)
    assert (job.status, still.run_due()) == ("queued", 1)


@pytest.mark.parametrize("others", [{"run_at": "2027-01-01T00:00:00Z"}, {"delay": "1h"}], ids=["run_at", "delay"])
def test_the_later_said_of_run_at_and_delay_counts_and_both_at_once_are_a_value_error(still: Scheduler, others: Any) -> None:
    task = still.task(name="double")(double)
    with pytest.raises(ValueError, match=r"run_at=.*and delay=.*Pass one"):
        task.options(run_at="2027-01-01T00:00:00Z", delay="1h")
    first = {"delay": "1d"} if "run_at" in others else {"run_at": "2028-01-01T00:00:00Z"}
    assert task.options(**first).options(**others).enqueue(1).run_at == task.options(**others).enqueue(1).run_at


FOR_TASKS = ["name", "aliases", "on_crash", "isolation", "keep", "limit"]


@pytest.mark.parametrize("option", ["run_at", "delay"])
def test_run_at_and_delay_are_for_a_call_and_a_type_error_at_the_decorator(option: str) -> None:
    with pytest.raises(TypeError, match=rf"{option}= is for one call, not for a task.*\.options\({option}=…\)"):
        TaskRegistry().task(**{option: "1h"})(double)


@pytest.mark.parametrize("option", FOR_TASKS)
def test_what_is_for_a_task_alone_is_a_type_error_at_the_call_that_says_so(still: Scheduler, option: str) -> None:
    for task in (still.task(name="double")(double), still.remote("double")):
        with pytest.raises(TypeError, match=rf"^{option}= is for a task, not for one call.*@scheduler\.task\({option}=…\)"):
            task.options(**{option: "fail"})


def test_an_option_that_there_is_not_is_a_type_error_that_lists_those_that_can_be_given_there(still: Scheduler) -> None:
    with pytest.raises(TypeError, match="'nope' is no option") as at_the_task:
        still.task(nope=1)(double)
    task = still.task(name="double")(double)
    with pytest.raises(TypeError, match="'nope' is no option") as at_the_call:
        task.options(nope=1)
    for_calls = set(CallOptions.__annotations__)
    for error, expected in ((at_the_task, for_calls - {"run_at", "delay"} | set(FOR_TASKS)), (at_the_call, for_calls)):
        assert set(str(error.value).partition("There are: ")[2].rstrip(".").split(", ")) == expected


BAD_PER_TASK = {
    "on_crash that is unknown": ({"on_crash": "ignore"}, ValueError, "on_crash='ignore'.*requeue.*fail"),
    "on_crash of None": ({"on_crash": None}, ValueError, "on_crash=None"),
    "keep that is no duration": ({"keep": "90"}, ValueError, "keep='90'"),
    "keep of a status that is not final": ({"keep": {"running": "1d"}}, ValueError, "'running' is no final status"),
    "aliases as one text": ({"aliases": "old"}, TypeError, "aliases='old' is one text"),
    "aliases that are no list": ({"aliases": 5}, TypeError, "aliases=5 is no list of names. Pass one"),
    "aliases of None": ({"aliases": None}, TypeError, "aliases=None is no list of names. Pass one"),
}


@pytest.mark.parametrize(("options", "kind", "says"), BAD_PER_TASK.values(), ids=BAD_PER_TASK)
def test_a_bad_option_that_is_for_a_task_alone_is_refused(options: Any, kind: Any, says: str) -> None:
    tasks = TaskRegistry()
    with pytest.raises(kind, match=says):
        tasks.task(name="double", **options)(double)
    assert tasks.names() == ()


def test_options_make_a_new_task_and_never_change_one(still: Scheduler) -> None:
    task = still.task(name="double", queue="numbers", priority=3, tags=["a"])(double)
    one = task.options(priority=9, delay="10m", tags=["b", "b", "c"])
    two = one.options(queue="other", run_at=pendulum.datetime(2026, 1, 2, 3, 4, 5))
    rows = [found.enqueue(1) for found in (task, one, two, task)]
    assert [(job.queue, job.priority, job.tags, job.status) for job in rows] == [
        ("numbers", 3, ["a"], "queued"),
        ("numbers", 9, ["b", "c"], "scheduled"),
        ("other", 9, ["b", "c"], "queued"),
        ("numbers", 3, ["a"], "queued"),
    ]
    assert task.options().enqueue(1).priority == 3
    assert one(4) == 8


def test_none_for_an_option_of_a_call_lifts_nothing_but_a_long_one_does(still: Scheduler) -> None:
    task = still.task(name="double", timeout="1s", expires="1h", queue="numbers", retry=3, unique="{x}")(double)
    nothing = dict.fromkeys(CallOptions.__annotations__)
    assert task.options(**nothing).call(1) == task.call(1)
    options = task.options(timeout="365d", expires="365d").call(1).options
    assert options.timeout == options.expires == timedelta(days=365)


def test_the_options_of_a_call_travel_with_it(still: Scheduler) -> None:
    task = still.task(name="double")(double)
    jobs = still.enqueue_many(
        [task.call(1), task.options(priority=9).call(2), still.remote("other").options(queue="q").call(x=3)]
    )
    assert [(job.id, job.task, job.priority, job.queue, job.args) for job in jobs] == [
        (1, "double", 0, "default", {"x": 1}),
        (2, "double", 9, "default", {"x": 2}),
        (3, "other", 0, "q", {"x": 3}),
    ]
    assert still.enqueue_many([]) == []
    with pytest.raises(TypeError, match="is no call"):
        still.enqueue_many([task.call(1), task])
    assert still.counts()["queued"] == 3


def test_a_call_that_is_not_in_a_list_is_a_type_error_that_says_how_to_enqueue_it(still: Scheduler) -> None:
    task = still.task(name="double")(double)
    for enqueue in (still.enqueue, still.enqueue_many):
        with pytest.raises(TypeError, match=r"call,? of double.*enqueue_many\(\[call\]\)"):
            enqueue(task.call(1))
    for given in (5, None, task):
        with pytest.raises(TypeError, match=r"is no list of calls\. Pass .*enqueue_many\(\[call\]\)"):
            still.enqueue_many(given)
    assert [job.args for job in still.enqueue_many(task.call(x) for x in (1, 2))] == [{"x": 1}, {"x": 2}]


def test_a_delay_counts_from_the_enqueue_and_an_expiry_from_the_start(still: Scheduler, clock: Any) -> None:
    task = still.task(name="double", expires="1h")(double)
    job = task.options(delay="10m").enqueue(1)
    assert job.expires_at is not None
    assert (job.run_at - clock.now, job.expires_at - job.run_at) == (timedelta(minutes=10), timedelta(hours=1))
    job = task.options(expires="2026-01-02T05:00:00+01:00").enqueue(1)
    assert job.expires_at == pendulum.datetime(2026, 1, 2, 4)


BAD = [
    ({"queue": ""}, ValueError, "queue=''"),
    ({"queue": "*"}, ValueError, r"queue='\*'"),
    ({"queue": "a\n"}, ValueError, "queue="),
    ({"queue": "x" * 256}, ValueError, "queue="),
    ({"queue": 7}, TypeError, "queue=7"),
    ({"priority": 101}, ValueError, "priority=101.*-100…100"),
    ({"priority": -101}, ValueError, "priority=-101"),
    ({"priority": 1.0}, TypeError, "priority=1.0"),
    ({"priority": "high"}, TypeError, "priority='high'"),
    ({"priority": True}, TypeError, "priority=True"),
    ({"retry": 0}, ValueError, "retry=0 is not in 1…1,000,000"),
    ({"retry": "3"}, TypeError, "retry='3'"),
    ({"timeout": 0}, ValueError, "timeout=0"),
    ({"timeout": "10"}, ValueError, "timeout='10'"),
    ({"expires": "2026-01-01T00:00:00"}, ValueError, "expires=.*no time zone"),
    ({"expires": "soon"}, ValueError, "expires='soon'"),
    ({"tags": "mail"}, TypeError, r"tags='mail'.*\['mail'\]"),
    ({"tags": [1]}, TypeError, "1 is no text label"),
    ({"tags": [""]}, TypeError, "'' is no text label"),
    ({"nonsense": 1}, TypeError, "nonsense"),
]
BAD_PER_CALL = [
    ({"run_at": "2026-01-01T00:00:00"}, ValueError, "run_at=.*no time zone"),
    ({"run_at": 5}, TypeError, "run_at=5"),
    ({"delay": "90"}, ValueError, "delay='90'"),
    ({"delay": -1}, ValueError, "delay=-1"),
    ({"run_at": "2026-01-01T00:00:00Z", "delay": 1}, ValueError, "both say when to start"),
]


@pytest.mark.parametrize(("options", "kind", "says"), BAD)
def test_a_bad_option_is_refused_at_the_decorator(options: Any, kind: Any, says: str) -> None:
    tasks = TaskRegistry()
    with pytest.raises(kind, match=says):
        tasks.task(name="double", **options)(double)
    assert tasks.names() == ()


@pytest.mark.parametrize(("options", "kind", "says"), BAD + BAD_PER_CALL)
def test_a_bad_option_is_refused_at_the_call(still: Scheduler, options: Any, kind: Any, says: str) -> None:
    for task in (still.task(name="double")(double), still.remote("double")):
        with pytest.raises(kind, match=says):
            task.options(**options)


@pytest.mark.parametrize("priority", [-100, 0, 100])
def test_the_ends_of_the_range_of_priorities_are_inside(still: Scheduler, priority: int) -> None:
    assert still.task(name="double")(double).options(priority=priority).enqueue(1).priority == priority


def test_an_expiry_beyond_the_calendar_is_a_value_error_and_nothing_is_stored(still: Scheduler) -> None:
    task = still.task(name="double")(double)
    with pytest.raises(ValueError, match="beyond the year 9999"):
        task.options(run_at="9999-12-31T00:00:00Z", expires="7d").enqueue(1)
    assert sum(still.counts().values()) == 0


# Registries


def test_a_task_of_a_registry_is_not_configured_until_a_scheduler_includes_it(still: Scheduler) -> None:
    tasks = TaskRegistry()
    task = tasks.task(name="double")(double)
    assert task(4) == 8
    with pytest.raises(NotConfigured, match=r"scheduler\.include\(registry\)"):
        task.options(priority=1).enqueue(1)
    still.include(tasks)
    after = tasks.task(name="twice")(twice)
    jobs = [task.options(priority=1).enqueue(1), after.enqueue(2)]
    assert still.run_due() == 2
    assert [job.refresh().result for job in jobs] == [2, 4]


def test_registries_may_be_included_in_one_another(still: Scheduler) -> None:
    inner, outer = TaskRegistry(), TaskRegistry()
    outer.include(inner)
    still.include(outer)
    job = inner.task(name="double")(double).enqueue(2)
    still.run_due()
    assert job.refresh().result == 4


def test_a_registry_belongs_to_one_scheduler(still: Scheduler, tmp_path: Path) -> None:
    tasks = TaskRegistry()
    tasks.task(name="double")(double)
    still.include(tasks)
    still.include(tasks)
    other = Scheduler(tmp_path / "other.db")
    with pytest.raises(ValueError, match="already belongs to another scheduler"):
        other.include(tasks)


def test_a_task_of_another_scheduler_is_not_enqueued_there_instead(still: Scheduler, tmp_path: Path) -> None:
    other = Scheduler(tmp_path / "other.db")
    theirs = other.task(name="double")(double)
    still.task(name="double")(double)
    for task in (theirs, theirs.options(priority=1)):
        with pytest.raises(ValueError, match="already belongs to another scheduler"):
            still.enqueue(task, 1)
    assert (still.jobs(), other.jobs()) == ([], [])
    other.close()


@pytest.mark.parametrize("through", [0, 1], ids=["at once", "through another registry"])
def test_an_include_that_is_refused_takes_in_nothing(still: Scheduler, tmp_path: Path, through: int) -> None:
    still.task(name="double")(double)
    tasks = TaskRegistry()
    first = tasks.task(name="first", aliases=["older"])(twice)
    tasks.task(name="double")(twice)
    taken_in: TaskRegistry | Scheduler = still
    if through:
        taken_in = TaskRegistry()
        still.include(taken_in)
    with pytest.raises(ValueError, match="the task name 'double' is taken"):
        taken_in.include(tasks)
    tasks.task(name="later")(twice)
    assert still.tasks.names() == ("double",)
    with pytest.raises(NotConfigured):
        first.enqueue(1)
    other = Scheduler(tmp_path / "other.db")
    other.include(tasks)
    assert first.enqueue(1).task == "first"
    assert (sum(still.counts().values()), other.run_due()) == (0, 1)
    other.close()


def test_a_task_that_one_of_the_including_registries_refuses_is_in_none(still: Scheduler) -> None:
    still.task(name="double")(double)
    inner, free = TaskRegistry(), TaskRegistry()
    free.include(inner)
    still.include(inner)
    with pytest.raises(ValueError, match="the task name 'double' is taken"):
        inner.task(name="double")(twice)
    assert (inner.names(), free.names(), still.tasks.names()) == ((), (), ("double",))


def test_a_name_is_one_functions_and_a_redefinition_replaces_it(still: Scheduler) -> None:
    still.task(name="double", aliases=["old"])(double)
    for again in ({"name": "double"}, {"name": "old"}, {"name": "new", "aliases": ["double"]}):
        with pytest.raises(ValueError, match=f"is taken by {__name__}.double"):
            still.task(**again)(twice)
    others = TaskRegistry()
    others.task(name="double")(twice)
    with pytest.raises(ValueError, match="is taken by"):
        still.include(others)

    job = still.task(name="double", queue="second")(double).enqueue(3)
    assert job.queue == "second"
    still.run_due()
    assert job.refresh().result == 6


def test_a_registry_knows_its_names(still: Scheduler) -> None:
    tasks = TaskRegistry()
    task = tasks.task(name="b", aliases=["a"])(double)
    assert tasks.names() == ("a", "b")
    assert tasks.get("a") is task is tasks.find("b")
    assert tasks.find("c") is None
    with pytest.raises(UnknownTask, match="no task is named 'c' here"):
        tasks.get("c")


# Remote


def test_a_producer_without_the_code_leaves_the_options_to_the_task(path: Path, clock: Any) -> None:
    producer = Scheduler(path, clock=clock)
    job = producer.remote("fetch").options(queue="web", priority=7, tags=["a"]).enqueue(url="x")
    assert (job.task, job.queue, job.priority, job.tags, job.max_attempts) == ("fetch", "web", 7, ["a"], None)
    assert producer.run_due() == 0
    producer.close()

    worker = Scheduler(path, clock=clock)

    @worker.task(name="fetch", retry=Retry(2, base="1s", jitter=False))
    def fetch(url: str) -> str:
        raise OSError(url)

    worker.run_due()
    clock.advance(seconds=1)
    worker.run_due()
    job = worker.reload(job.id)
    assert (job.status, job.attempt, job.max_attempts, job.error) == ("failed", 2, 2, "OSError: x")
    worker.close()


def test_a_remote_call_takes_keywords_that_json_can_hold(still: Scheduler) -> None:
    remote: Callable[..., Any] = still.remote("fetch").enqueue
    with pytest.raises(TypeError):
        remote(1)
    with pytest.raises(NotSerializable, match="parameter 'b' = "):
        remote(a=1, b=object())
    with pytest.raises(NotSerializable, match="parameter 'a' = nan"):
        remote(a=math.nan)
    assert sum(still.counts().values()) == 0
