"""The fixture `schedfactory_jobs`, used as a program's own tests would use it."""

from __future__ import annotations

import enum
from datetime import date, datetime, timedelta, timezone
from typing import Any

import freezegun
import pendulum
import pytest

from schedfactory import Job, NotSerializable, Scheduler, Task, UnknownTask
from schedfactory.testing.plugin import SchedfactoryJobs

pytest_plugins = ["pytester"]


class Plan(enum.Enum):
    FREE = "free"
    PAID = "paid"


def sell(plan: Plan, since: date = date(2026, 1, 1), labels: set[str] = frozenset()) -> str:  # type: ignore[assignment]
    return plan.value


@pytest.fixture
def task(schedfactory_jobs: SchedfactoryJobs) -> Task[..., str]:
    return schedfactory_jobs.scheduler.task(sell)


def test_the_clock_starts_now_and_stands_still(schedfactory_jobs: SchedfactoryJobs) -> None:
    before = schedfactory_jobs.clock.now
    assert timedelta() <= pendulum.now("UTC") - before < timedelta(minutes=10)
    assert schedfactory_jobs.clock.now == before
    assert before.tzinfo == pendulum.UTC


@pytest.mark.parametrize(
    "by", ["2m", 120, 120.0, timedelta(minutes=2), pendulum.duration(minutes=2), "1m60s"], ids=lambda by: repr(by)
)
def test_the_clock_advances_by_any_duration(schedfactory_jobs: SchedfactoryJobs, by: str) -> None:
    before = schedfactory_jobs.clock.now
    assert schedfactory_jobs.clock.advance(by) == before.add(minutes=2) == schedfactory_jobs.clock.now


@pytest.mark.parametrize("by", ["2", "-1m", -1, "two minutes"])
def test_the_clock_refuses_a_bad_duration(schedfactory_jobs: SchedfactoryJobs, by: str) -> None:
    with pytest.raises(ValueError, match="Pass a timedelta"):
        schedfactory_jobs.clock.advance(by)


def test_a_delayed_job_runs_once_the_clock_has_advanced(schedfactory_jobs: SchedfactoryJobs, task: Task[..., str]) -> None:
    job = task.options(delay="2m").enqueue(Plan.FREE)
    assert schedfactory_jobs.run_due() == 0
    now = schedfactory_jobs.clock.advance("2m")
    assert schedfactory_jobs.run_due() == 1
    job = job.refresh()
    assert (job.status, job.result) == ("succeeded", "free")
    assert job.started_at == job.finished_at == now


def test_run_due_takes_a_limit(schedfactory_jobs: SchedfactoryJobs, task: Task[..., str]) -> None:
    jobs = [task.enqueue(Plan.FREE) for _ in range(3)]
    assert schedfactory_jobs.run_due(limit=2) == 2
    assert schedfactory_jobs.enqueued(task) == [jobs[2].refresh()]


def test_enqueued_lists_the_unfinished_jobs_of_a_task_oldest_first(
    schedfactory_jobs: SchedfactoryJobs, task: Task[..., str]
) -> None:
    remote = schedfactory_jobs.scheduler.remote("elsewhere")
    first = task.options(priority=-5).enqueue(Plan.FREE)
    other = remote.enqueue(x=1)
    second = task.options(priority=5, delay="1h").enqueue(Plan.PAID)
    assert schedfactory_jobs.enqueued(task) == [first, second]
    assert schedfactory_jobs.enqueued(task.name) == [first, second]
    assert schedfactory_jobs.enqueued(remote) == schedfactory_jobs.enqueued("elsewhere") == [other]
    assert schedfactory_jobs.enqueued() == [first, other, second]
    schedfactory_jobs.run_due()
    assert schedfactory_jobs.enqueued(task) == [second]


def test_assert_enqueued_compares_by_value_and_by_the_arguments_given(
    schedfactory_jobs: SchedfactoryJobs, task: Task[..., str]
) -> None:
    job = task.enqueue(Plan.PAID, date(2026, 5, 1), labels={"north", "south", "east"})
    found: Job[str] = schedfactory_jobs.assert_enqueued(task)
    assert found == job
    schedfactory_jobs.assert_enqueued(task, plan=Plan.PAID)
    schedfactory_jobs.assert_enqueued(task, since=date(2026, 5, 1), plan=Plan.PAID)
    schedfactory_jobs.assert_enqueued(task, labels={"south", "east", "north"})
    schedfactory_jobs.assert_enqueued(task.name, plan="paid", since="2026-05-01")
    schedfactory_jobs.refute_enqueued(task, plan=Plan.FREE)
    schedfactory_jobs.refute_enqueued(task, plan=Plan.PAID, since=date(2026, 5, 2))
    schedfactory_jobs.refute_enqueued(task, labels={"south", "north"})


@pytest.mark.parametrize("how", ["itself", "name", "remote"])
def test_a_job_has_the_defaults_of_its_task(schedfactory_jobs: SchedfactoryJobs, task: Task[..., str], how: str) -> None:
    asked: Any = {"itself": task, "name": task.name, "remote": schedfactory_jobs.scheduler.remote(task.name)}[how]
    job = task.enqueue(Plan.FREE)
    assert schedfactory_jobs.assert_enqueued(asked, plan=Plan.FREE, since=date(2026, 1, 1), labels=set()) == job
    schedfactory_jobs.refute_enqueued(asked, since=date(2026, 1, 2))
    with pytest.raises(AssertionError, match="is enqueued"):
        schedfactory_jobs.refute_enqueued(asked, since=date(2026, 1, 1))


def test_a_default_that_no_row_could_hold_equals_nothing(schedfactory_jobs: SchedfactoryJobs) -> None:
    @schedfactory_jobs.scheduler.task(name="guess")
    def guess(x: Any = object()) -> None: ...  # noqa: B008

    guess.enqueue()
    schedfactory_jobs.refute_enqueued(guess, x=None)


def test_what_more_keywords_take_is_asked_for_as_in_a_call(schedfactory_jobs: SchedfactoryJobs) -> None:
    @schedfactory_jobs.scheduler.task(name="log")
    def log(text: str = "", **more: int) -> None: ...

    job = log.enqueue("a", x=3, y=4)
    assert schedfactory_jobs.assert_enqueued(log, x=3, text="a") == job
    assert schedfactory_jobs.assert_enqueued("log", more={"x": 3, "y": 4}) == job
    schedfactory_jobs.refute_enqueued(log, x=4)
    schedfactory_jobs.refute_enqueued(log, z=3)
    with pytest.raises(TypeError, match=r"log cannot have more=\{'x': 'three'\}: Expected `int`, got `str`"):
        schedfactory_jobs.refute_enqueued(log, x="three")


@pytest.mark.parametrize(("name", "value"), [("plan", "gratis"), ("plan", 7), ("since", "today"), ("labels", [7])])
def test_a_value_that_a_parameter_cannot_have_is_an_error_and_no_refutation(
    schedfactory_jobs: SchedfactoryJobs, task: Task[..., str], name: str, value: Any
) -> None:
    for asked in (task, task.name):
        with pytest.raises(TypeError, match=f"sell cannot have {name}="):
            schedfactory_jobs.refute_enqueued(asked, **{name: value})


def test_a_misspelt_name_is_an_error_and_no_refutation(schedfactory_jobs: SchedfactoryJobs, task: Task[..., str]) -> None:
    with pytest.raises(UnknownTask, match=r"no task and no job is named 'sel' here. .* scheduler.remote\('sel'\)"):
        schedfactory_jobs.refute_enqueued("sel")
    remote = schedfactory_jobs.scheduler.remote("elsewhere")
    schedfactory_jobs.refute_enqueued(remote)
    remote.enqueue(x=1)
    schedfactory_jobs.refute_enqueued("elsewhere", x=2)
    with pytest.raises(AssertionError, match="No job of sel is enqueued"):
        schedfactory_jobs.assert_enqueued("sel")


def test_an_alias_asks_for_the_jobs_of_its_task(schedfactory_jobs: SchedfactoryJobs) -> None:
    schedfactory_jobs.scheduler.task(name="sell", aliases=["trade"])(sell).enqueue(Plan.PAID)
    schedfactory_jobs.scheduler.remote("trade").enqueue(plan="free")
    assert [job.task for job in schedfactory_jobs.enqueued("trade")] == ["sell", "trade"]
    schedfactory_jobs.assert_enqueued("trade", plan=Plan.PAID)
    with pytest.raises(AssertionError):
        schedfactory_jobs.refute_enqueued("trade", plan=Plan.PAID)


def test_an_argument_may_have_any_name(schedfactory_jobs: SchedfactoryJobs) -> None:
    remote = schedfactory_jobs.scheduler.remote("elsewhere")
    remote.enqueue(task=2, args=3)
    schedfactory_jobs.assert_enqueued(remote, task=2, args=3)
    schedfactory_jobs.refute_enqueued(remote, task=1)


def test_a_failed_assertion_lists_what_is_enqueued(schedfactory_jobs: SchedfactoryJobs, task: Task[..., str]) -> None:
    schedfactory_jobs.scheduler.remote("elsewhere").enqueue(x=1)
    task.options(delay="1h").enqueue(Plan.FREE)
    with pytest.raises(AssertionError) as caught:
        schedfactory_jobs.assert_enqueued(task, plan=Plan.PAID)
    at = schedfactory_jobs.clock.now.add(hours=1)
    assert str(caught.value).splitlines() == [
        f"No job of {task.name} with plan=<Plan.PAID: 'paid'> is enqueued.",
        "Enqueued:",
        f"  2: {task.name} {{'plan': 'free'}} scheduled, run_at {at}",
        f"  1: elsewhere {{'x': 1}} queued, run_at {schedfactory_jobs.clock.now}",
    ]


def test_a_failed_assertion_says_what_has_finished(schedfactory_jobs: SchedfactoryJobs, task: Task[..., str]) -> None:
    task.enqueue(Plan.FREE)
    schedfactory_jobs.run_due()
    with pytest.raises(AssertionError, match=r"Enqueued:\n  nothing\nFinished, which does not count: 1$"):
        schedfactory_jobs.assert_enqueued(task)


def test_a_failed_assertion_does_not_list_thousands(schedfactory_jobs: SchedfactoryJobs) -> None:
    remote = schedfactory_jobs.scheduler.remote("elsewhere")
    schedfactory_jobs.scheduler.enqueue_many([remote.call(x=x) for x in range(3_000)])
    with pytest.raises(AssertionError, match=r"\n  and 2980 more$"):
        schedfactory_jobs.assert_enqueued(remote, x=3_000)


def test_a_failed_refutation_lists_what_is_enqueued(schedfactory_jobs: SchedfactoryJobs, task: Task[..., str]) -> None:
    task.enqueue(Plan.FREE)
    with pytest.raises(AssertionError, match=r"^A job of .* is enqueued\.\nEnqueued:\n  1: .*'plan': 'free'"):
        schedfactory_jobs.refute_enqueued(task)


def test_a_misspelt_argument_is_an_error_and_no_refutation(schedfactory_jobs: SchedfactoryJobs, task: Task[..., str]) -> None:
    for asked in (task, task.name):
        with pytest.raises(TypeError, match="has no parameter 'plam'; it has plan, since, labels"):
            schedfactory_jobs.refute_enqueued(asked, plam=Plan.FREE)


def test_what_no_job_could_hold_is_an_error(schedfactory_jobs: SchedfactoryJobs, task: Task[..., str]) -> None:
    with pytest.raises(NotSerializable, match="'plan'"):
        schedfactory_jobs.refute_enqueued(task, plan=object())


def test_only_a_task_or_its_name_can_be_asked_for(schedfactory_jobs: SchedfactoryJobs) -> None:
    with pytest.raises(TypeError, match="is no task"):
        schedfactory_jobs.enqueued(sell)  # type: ignore[arg-type]


def test_workers_run_on_the_clock_too(schedfactory_jobs: SchedfactoryJobs, task: Task[..., str]) -> None:
    with schedfactory_jobs.scheduler.running(workers=1):
        job = task.enqueue(Plan.FREE).wait("30s")
    assert job.finished_at == schedfactory_jobs.clock.now


@freezegun.freeze_time("2026-01-01", auto_tick_seconds=0)
def test_run_due_works_in_frozen_time_without_the_fixture(scheduler: Scheduler) -> None:
    job = scheduler.task(sell).options(delay="1h").enqueue(Plan.FREE)
    assert job.created_at == pendulum.datetime(2026, 1, 1)
    assert scheduler.run_due() == 0
    with freezegun.freeze_time("2026-01-01 01:00"):
        assert scheduler.run_due() == 1
    job = job.refresh()
    assert job.status == "succeeded"
    assert job.started_at == job.finished_at == job.run_at == pendulum.datetime(2026, 1, 1, 1)
    assert job.wait_time == job.run_time == pendulum.duration()


def test_in_frozen_time_the_clock_shows_that(schedfactory_jobs: SchedfactoryJobs, task: Task[..., str]) -> None:
    before = schedfactory_jobs.clock.now
    with freezegun.freeze_time("2030-01-01") as frozen:
        tomorrow = datetime.now(timezone.utc) + timedelta(days=1)
        job = task.options(run_at=tomorrow).enqueue(Plan.FREE)
        assert job.created_at == schedfactory_jobs.clock.now == pendulum.datetime(2030, 1, 1)
        assert schedfactory_jobs.run_due() == 0
        frozen.tick(timedelta(hours=23))
        assert schedfactory_jobs.clock.advance("1h") == tomorrow
        assert schedfactory_jobs.run_due() == 1
        job = job.refresh()
        assert job.started_at == tomorrow
        assert job.finished_at - job.created_at == timedelta(days=1)
    assert schedfactory_jobs.clock.now == before.add(hours=1)


APP = """
    from schedfactory import Scheduler

    scheduler = Scheduler("production.db")

    @scheduler.task
    def welcome(name: str) -> None:
        print("welcome", name)

    def sign_up(name: str) -> None:
        welcome.options(delay="10m").enqueue(name)
"""


def test_the_scheduler_of_the_app_is_moved_to_a_private_file(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nschedfactory_app = app:scheduler")
    pytester.makepyfile(
        app=APP,
        test_app="""
            import app

            def test_a_sign_up_is_welcomed(schedfactory_jobs, capsys):
                assert schedfactory_jobs.scheduler is app.scheduler
                app.sign_up("ada")
                schedfactory_jobs.assert_enqueued(app.welcome, name="ada")
                schedfactory_jobs.clock.advance("10m")
                assert schedfactory_jobs.run_due() == 1
                assert capsys.readouterr().out == "welcome ada\\n"
                app.sign_up("left behind")

            def test_another_test_sees_none_of_its_jobs(schedfactory_jobs):
                assert schedfactory_jobs.scheduler.jobs() == []
                app.sign_up("bob")
                assert [job.id for job in schedfactory_jobs.enqueued()] == [1]

            def test_the_file_of_the_app_is_not_touched(schedfactory_jobs, tmp_path):
                import os
                app.sign_up("eve")
                assert not os.path.exists("production.db")
        """,
    )
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=3)


def test_afterwards_the_app_has_its_own_file_and_clock_again(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nschedfactory_app = app:scheduler")
    pytester.makepyfile(
        app=APP,
        test_app="""
            import os
            from datetime import datetime, timezone

            import app
            import pytest

            @pytest.fixture
            def afterwards():
                yield
                app.sign_up("ada")
                assert os.path.exists("production.db")
                assert abs((app.scheduler.get(1).created_at - datetime.now(timezone.utc)).total_seconds()) < 3600
                app.scheduler.close()

            def test_a_move_far_ahead(afterwards, schedfactory_jobs):
                schedfactory_jobs.clock.advance("30d")
                app.sign_up("bob")
        """,
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=1)


def test_without_a_setting_each_test_has_a_fresh_scheduler(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        import pytest

        @pytest.mark.parametrize("number", [1, 2])
        def test_alone(schedfactory_jobs, number):
            schedfactory_jobs.scheduler.remote("elsewhere").enqueue(number=number)
            assert [job.args for job in schedfactory_jobs.enqueued()] == [{"number": number}]
    """)
    pytester.runpytest_subprocess().assert_outcomes(passed=2)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("app", "*schedfactory_app = app is not of the form module:scheduler.*"),
        ("nowhere:scheduler", "*schedfactory_app = nowhere:scheduler was not found: No module named 'nowhere'*"),
        ("app:missing", "*schedfactory_app = app:missing was not found:*'missing'*"),
        ("app:sign_up", "*schedfactory_app = app:sign_up is <function sign_up*, and no Scheduler.*"),
    ],
)
def test_a_setting_that_names_no_scheduler_is_explained(pytester: pytest.Pytester, setting: str, said: str) -> None:
    pytester.makeini(f"[pytest]\nschedfactory_app = {setting}")
    pytester.makepyfile(app=APP, test_app="def test_it(schedfactory_jobs): pass")
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([said])


def test_a_failure_shows_the_test_and_not_the_plugin(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        def test_it(schedfactory_jobs):
            schedfactory_jobs.scheduler.remote("elsewhere").enqueue(x=1)
            schedfactory_jobs.assert_enqueued("elsewhere", x=2)
    """)
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*No job of elsewhere with x=2 is enqueued.", "*Enqueued:", "*1: elsewhere {'x': 1} queued*"])
    result.stdout.no_fnmatch_line("*raise AssertionError*")
