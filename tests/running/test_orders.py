"""Orders to nodes and workers: obeyed, acknowledged and kept, and never left hanging."""

from __future__ import annotations

import signal
import threading

import pytest

from schedfactory import Cancel, Command, NodeInfo, Scheduler, WaitTimeout, current_job
from schedfactory.running import orders as running_orders

LONG = "20s"
APP = """
import os, sys, threading
from schedfactory import Scheduler, current_job

scheduler = Scheduler("jobs.db")


@scheduler.task
def work(number: int) -> int:
    with open("effects", "a") as file:
        file.write(f"{number}\\n")
    return os.getpid()


@scheduler.task
def hold() -> None:
    os.write(1, b"holding\\n")
    os.read(0, 1)


@scheduler.task(isolation="process")
def stuck() -> None:
    with open("stuck", "w") as file:
        file.write(str(os.getpid()))
    threading.Event().wait()


if __name__ == "__main__":
    print("ready", flush=True)
    scheduler.run(workers=int(sys.argv[1]))
    print("over", sorted(thread.name for thread in threading.enumerate()), flush=True)
"""


def line(process):
    said = process.stdout.readline().strip()
    assert said, f"the program ended: {process.communicate()[1]}"
    return said


def kill(process):
    process.kill()
    assert process.wait(20) == -signal.SIGKILL


@pytest.fixture
def start(program, scheduler, eventually):
    """Start a process that runs the app's tasks, and return it with its node's id."""

    def start(workers=1):
        known = {node.id for node in scheduler.nodes.list()}
        process = program(APP, str(workers))
        assert line(process) == "ready"
        [node] = eventually(lambda: [node.id for node in scheduler.nodes.list() if node.id not in known])
        return process, node

    return start


@pytest.fixture
def task(scheduler, gate):
    """A task whose code waits at the gate."""

    @scheduler.task(name="wait")
    def wait() -> int:
        gate()
        return current_job().worker

    return wait


def threads():
    """Return the numbers of the worker threads of this process."""
    names = [thread.name for thread in threading.enumerate()]
    return sorted(int(name.rpartition("-")[2]) for name in names if name.startswith("schedfactory-worker-"))


def only(scheduler) -> NodeInfo:
    [node] = [one for one in scheduler.nodes.list() if one.status not in ("stopped", "dead")]
    return node


# What there is


def test_the_list_tells_of_every_node_what_it_is_and_does(scheduler, task, gate):
    assert scheduler.nodes.list() == []
    scheduler.start(workers=3, queues=["default", "mail"])
    job = task.enqueue()
    gate.await_arrivals()
    node = only(scheduler)
    assert (node.id, node.status, node.workers, node.busy) == (job.refresh().node, "running", 3, 1)
    assert (node.queues, node.tasks) == (["default", "mail"], ("wait",))
    assert node.started_at <= job.refresh().started_at
    gate.open()
    scheduler.stop()
    assert [(one.id, one.status, one.busy) for one in scheduler.nodes.list()] == [(node.id, "stopped", 0)]


def test_the_list_has_the_slots_that_were_said(scheduler):
    with scheduler.running(queues={"mail": 2, "*": 1}):
        assert (only(scheduler).queues, only(scheduler).workers) == ({"mail": 2, "*": 1}, 3)


def test_a_task_that_a_node_gets_later_is_in_the_list_soon(scheduler, eventually):
    scheduler.start(workers=1)

    @scheduler.task(name="late")
    def late() -> None: ...

    late.enqueue().wait(LONG)
    eventually(lambda: only(scheduler).tasks == ("late",))


def test_those_that_are_there_come_first_and_a_limit_cuts_the_others(scheduler):
    for _ in range(3):
        scheduler.run_due()
    scheduler.start(workers=1)
    running = only(scheduler).id
    scheduler.run_due()
    assert [node.id for node in scheduler.nodes.list()] == [running, running + 1, running - 1, running - 2, running - 3]
    assert [node.id for node in scheduler.nodes.list(limit=1)] == [running]
    with pytest.raises(ValueError, match="limit=0"):
        scheduler.nodes.list(limit=0)


def test_a_node_that_stops_while_code_runs_is_stopping(scheduler, task, gate, eventually):
    scheduler.start(workers=1)
    task.enqueue()
    gate.await_arrivals()
    scheduler.nodes.quit()
    eventually(lambda: only(scheduler).status == "stopping")
    gate.open()
    scheduler.stop()
    assert scheduler.nodes.list()[0].status == "stopped"


def test_a_killed_node_is_dead_before_anyone_has_rescued_it_and_its_job_tells_so(scheduler, start):
    process, node = start()
    job = scheduler.remote("app:hold").enqueue()
    assert line(process) == "holding"
    kill(process)
    assert [(one.id, one.status) for one in scheduler.nodes.list()] == [(node, "dead")]
    assert job.explain().text.startswith(f"It ran on node {node}, which has died")


# Pause and resume


def test_a_paused_node_claims_nothing_until_it_is_resumed(scheduler, noop):
    scheduler.start(workers=2)
    command = scheduler.nodes.pause()
    assert isinstance(command, Command)
    done = command.wait(LONG)
    assert (done.kind, done.node, done.result) == ("pause", None, "done")
    assert done.given_at <= done.acknowledged_at
    assert only(scheduler).status == scheduler.health().dispatcher == "paused"
    job = noop.enqueue()
    with pytest.raises(WaitTimeout):
        job.wait("300ms")
    assert job.refresh().status == "queued"
    node = only(scheduler).id
    assert scheduler.nodes.resume(node).wait(LONG).result == "done"
    assert job.get_result(LONG) == 1
    assert only(scheduler).status == scheduler.health().dispatcher == "running"


def test_what_runs_goes_on_while_its_node_is_paused(scheduler, task, gate):
    scheduler.start(workers=1)
    job = task.enqueue()
    gate.await_arrivals()
    assert scheduler.nodes.pause().wait(LONG).result == "done"
    assert not job.refresh().is_finished
    gate.open()
    assert job.get_result(LONG) == 1


def test_a_pause_is_done_when_what_was_claimed_ahead_has_gone_back(hands, still, clock):
    @still.task(name="quick")
    def quick(number: int) -> None: ...

    hand, _ = hands
    dispatcher, orders = hand.node._dispatcher, hand.node._orders
    dispatcher.workers = 1
    dispatcher._pace.observe("quick", 0.00002)
    still.enqueue_many([quick.call(number) for number in range(50)])
    job = hand.claim()
    assert len(dispatcher.desk.ahead) > 1
    command = still.nodes.pause(hand.node.id)
    dispatcher.has_orders = True
    orders.round(clock.now)
    assert command.refresh().acknowledged_at == clock.now
    assert command.refresh().result is None
    hand.round()
    orders.round(clock.now)
    assert command.refresh().result == "done"
    assert [one.id for one in still.jobs(status="running")] == [job.id]


def test_a_pause_under_load_loses_nothing(scheduler):
    gone = threading.Event()

    @scheduler.task(name="quick")
    def quick(number: int) -> None:
        if number == 600:
            gone.wait(20)

    with scheduler.running(workers=1):
        scheduler.enqueue_many([quick.call(number) for number in range(3_000)])
        node = only(scheduler).id
        assert scheduler.nodes.pause(node).wait(LONG).result == "done"
        gone.set()
        scheduler.nodes.resume(node)
        scheduler.wait_idle("60s")
    assert scheduler.counts()["succeeded"] == 3_000


def test_a_new_node_is_not_paused(scheduler, noop):
    with scheduler.running(workers=1):
        scheduler.nodes.pause().wait(LONG)
    with scheduler.running(workers=1):
        assert noop.enqueue().get_result(LONG) == 1


def test_pause_and_resume_at_once_are_both_obeyed_in_their_order(scheduler, noop):
    scheduler.start(workers=1)
    commands = [scheduler.nodes.pause(), scheduler.nodes.resume(), scheduler.nodes.pause(), scheduler.nodes.resume()]
    assert [command.wait(LONG).result for command in commands] == ["done"] * 4
    assert noop.enqueue().get_result(LONG) == 1


# Workers


def test_scale_hires_and_lets_go_and_the_list_says_so(scheduler, task, gate):
    scheduler.start(workers=1)
    assert scheduler.nodes.scale(workers=3).wait(LONG).result == "done"
    assert (threads(), only(scheduler).workers, scheduler.health().workers) == ([1, 2, 3], 3, 3)
    jobs = [task.enqueue() for _ in range(3)]
    gate.await_arrivals(3)
    gate.open()
    assert sorted(job.get_result(LONG) for job in jobs) == [1, 2, 3]
    assert scheduler.nodes.scale(workers=1).wait(LONG).result == "done"
    assert (len(threads()), only(scheduler).workers, scheduler.health().workers) == (1, 1, 1)


def test_scaled_down_the_idle_workers_go_first(scheduler, task, gate):
    scheduler.start(workers=3)
    job = task.enqueue()
    gate.await_arrivals()
    assert scheduler.nodes.scale(workers=1).wait(LONG).result == "done"
    assert threads() == [job.refresh().worker]
    gate.open()


def test_scaled_down_and_up_again_never_more_than_that_many_work(scheduler, make_gate, eventually):
    old, new = make_gate(), make_gate()

    @scheduler.task(name="hold")
    def hold(first: bool) -> None:
        (old if first else new)()

    scheduler.start(workers=3)
    for _ in range(3):
        hold.enqueue(True)
    old.await_arrivals(3)
    down = scheduler.nodes.scale(workers=1)
    eventually(lambda: down.refresh().acknowledged_at)
    up = scheduler.nodes.scale(workers=3)
    eventually(lambda: up.refresh().acknowledged_at)
    hold.enqueue(False)
    assert scheduler.counts()["running"] == 3
    assert (down.refresh().result, up.refresh().result) == (None, None)
    old.open()
    new.await_arrivals()
    assert [down.wait(LONG).result, up.wait(LONG).result] == ["done", "done"]
    assert len(threads()) == 3
    new.open()


def test_scaled_up_and_down_under_load_nothing_is_lost_or_done_twice(scheduler):
    done = []

    @scheduler.task(name="note")
    def note(number: int) -> None:
        done.append(number)

    with scheduler.running(workers=2):
        for batch in range(20):
            scheduler.enqueue_many([note.call(batch * 100 + number) for number in range(100)])
            scheduler.nodes.scale(workers=1 + batch * 7 % 5)
        scheduler.wait_idle("60s")
        assert scheduler.nodes.scale(workers=2).wait(LONG).result == "done"
        assert {command.result for command in scheduler.commands.list()} == {"done"}
        assert len(threads()) == 2
    assert sorted(done) == list(range(2_000))
    assert scheduler.counts()["succeeded"] == 2_000


def test_a_worker_told_to_quit_ends_after_its_job_and_the_node_goes_on(scheduler, task, gate):
    scheduler.start(workers=2)
    job = task.enqueue()
    gate.await_arrivals()
    node, worker = job.refresh().node, job.refresh().worker
    command = scheduler.nodes.quit(node, worker=worker)
    with pytest.raises(WaitTimeout, match=r"quit has no result after 0\.3 s\. The order stands"):
        command.wait("300ms")
    assert command.refresh().acknowledged_at is not None
    gate.open()
    assert command.wait(LONG).result == "done"
    assert job.refresh().status == "succeeded"
    assert threads() == [3 - worker]
    assert only(scheduler).workers == 1
    assert task.enqueue().get_result(LONG) == 3 - worker


def test_an_idle_worker_told_to_quit_ends_at_once(scheduler):
    scheduler.start(workers=2)
    node = only(scheduler).id
    assert scheduler.nodes.quit(node, worker=2).wait(LONG).result == "done"
    assert threads() == [1]


def test_a_node_without_workers_stays_and_runs_again_when_it_is_scaled(scheduler, noop):
    scheduler.start(workers=1)
    node = only(scheduler).id
    assert scheduler.nodes.quit(node, worker=1).wait(LONG).result == "done"
    assert (threads(), only(scheduler).workers, scheduler.is_running, scheduler.health().ok) == ([], 0, True, True)
    job = noop.enqueue()
    with pytest.raises(WaitTimeout):
        job.wait("200ms")
    assert job.explain().code == "node_paused"
    assert "scale" in job.explain().text
    assert scheduler.nodes.scale(node, workers=1).wait(LONG).result == "done"
    assert job.get_result(LONG) == 1


def test_who_is_not_there_cannot_quit_and_the_result_says_who_is(scheduler):
    scheduler.start(workers=2)
    node = only(scheduler).id
    command = scheduler.nodes.quit(node, worker=7).wait(LONG)
    assert command.result == f"node {node} has no worker 7; its workers: 1, 2"
    scheduler.stop()
    assert command.refresh().result == command.result  # which the end of its node leaves alone


def test_a_worker_forced_to_quit_has_its_job_asked_to_stop_and_another_runs_it(scheduler, eventually):
    stopped = threading.Event()

    @scheduler.task(name="patient")
    def patient() -> int:
        job = current_job()
        try:
            while job.attempt == 1:
                job.raise_if_cancelled()
        except Cancel:
            stopped.set()
            raise
        return job.worker

    scheduler.start(workers=2)
    job = patient.enqueue()
    eventually(lambda: job.refresh().status == "running")
    first = job.refresh().worker
    assert scheduler.nodes.quit(job.refresh().node, worker=first, force=True).wait(LONG).result == "done"
    assert job.get_result(LONG) == 3 - first
    assert stopped.is_set()


# A node that quits


def test_run_returns_when_its_node_is_told_to_quit(scheduler, start):
    process, node = start()
    assert scheduler.nodes.quit(node).wait(LONG).result == "done"
    output, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors
    assert output == "over ['MainThread']\n"
    assert scheduler.nodes.list()[0].status == "stopped"


def test_the_thread_of_a_worker_that_quit_is_gone_from_its_process(scheduler, program, eventually):
    process = program(
        APP.replace("scheduler.run(workers=int(sys.argv[1]))", "scheduler.start(workers=3)\n    sys.stdin.readline()"), "3"
    )
    assert line(process) == "ready"
    [node] = eventually(lambda: [node.id for node in scheduler.nodes.list()])
    assert scheduler.nodes.quit(node, worker=2).wait(LONG).result == "done"
    process.stdin.write("\n")
    process.stdin.flush()
    names = ["MainThread", f"schedfactory-dispatcher-{node}", "schedfactory-worker-1", "schedfactory-worker-3"]
    assert line(process) == f"over {names}"


def test_a_started_node_told_to_quit_lets_its_jobs_end_and_is_stopped(scheduler, task, gate, noop):
    scheduler.start(workers=1)
    job = task.enqueue()
    gate.await_arrivals()
    command = scheduler.nodes.quit()
    with pytest.raises(WaitTimeout):
        command.wait("200ms")
    assert not scheduler.is_running
    gate.open()
    assert command.wait(LONG).result == "done"
    assert job.refresh().status == "succeeded"
    assert threads() == []
    scheduler.start(workers=1)
    assert noop.enqueue().get_result(LONG) == 1


def test_after_its_time_the_jobs_of_a_node_that_quits_are_asked_to_stop(scheduler, monkeypatch, eventually):
    monkeypatch.setattr(running_orders, "PATIENCE_S", 0.2)

    @scheduler.task(name="patient")
    def patient() -> None:
        while True:
            current_job().raise_if_cancelled()

    scheduler.start(workers=1)
    job = patient.enqueue()
    eventually(lambda: job.refresh().status == "running")
    assert scheduler.nodes.quit().wait(LONG).result == "done"
    assert (job.refresh().status, job.refresh().reason) == ("queued", "shutdown")


def test_forced_to_quit_a_node_asks_its_jobs_to_stop_at_once_and_run_waits_no_longer(scheduler, start, tmp_path, eventually):
    process, node = start()
    job = scheduler.remote("app:stuck").enqueue()
    eventually((tmp_path / "stuck").exists)
    assert scheduler.nodes.quit(node, force=True).wait(LONG).result == "done"
    process.communicate(timeout=20)
    assert process.returncode == 0
    assert (job.refresh().status, job.refresh().reason) == ("queued", "shutdown")


def test_forced_to_quit_a_node_whose_code_runs_on_has_obeyed_and_the_log_names_the_job(scheduler, start):
    process, node = start()
    job = scheduler.remote("app:hold").enqueue()
    assert line(process) == "holding"
    assert scheduler.nodes.quit(node, force=True).wait(LONG).result == "done"
    said = process.communicate(timeout=20)[1]
    assert process.returncode == 0
    assert f"node {node} has stopped, but code of the jobs [{job.id}] runs on" in said
    assert [one.result for one in scheduler.commands.list()] == ["done"]


def test_an_order_that_waits_for_code_which_a_stop_left_behind_waits_no_longer(scheduler, task, gate):
    scheduler.start(workers=2)
    for _ in range(2):
        task.enqueue()
    gate.await_arrivals(2)
    node = only(scheduler).id
    command = scheduler.nodes.scale(node, workers=1)
    with pytest.raises(WaitTimeout):
        command.wait("200ms")
    scheduler.stop("10ms")
    assert command.wait(LONG).result == f"node {node} has stopped"


def test_a_job_may_tell_its_own_node_to_quit(scheduler):
    @scheduler.task(name="last")
    def last() -> int:
        command = scheduler.nodes.quit(current_job().node)
        with pytest.raises(RuntimeError, match="without a timeout inside a task"):
            command.wait()
        return command.id

    scheduler.start(workers=1)
    job = last.enqueue()
    number = job.get_result(LONG)
    scheduler.stop()
    assert [(one.id, one.result) for one in scheduler.commands.list()] == [(number, "done")]


def test_an_order_to_a_stopping_node_says_so(scheduler, task, gate, eventually):
    scheduler.start(workers=1)
    task.enqueue()
    gate.await_arrivals()
    node = only(scheduler).id
    scheduler.nodes.quit(node)
    said = f"node {node} is stopping"
    assert scheduler.nodes.scale(node, workers=3).wait(LONG).result == said
    assert scheduler.nodes.pause(node).wait(LONG).result == said
    gate.open()


def test_run_due_ends_after_its_job_when_it_is_told_to_quit_or_pause(scheduler, path):
    for kind in ("quit", "pause"):

        @scheduler.task(name=kind)
        def give(kind: str) -> None:
            getattr(scheduler.nodes, kind)(current_job().node).wait("200ms" if kind == "quit" else LONG)

        first, second = give.options(retry=1).enqueue(kind), give.options(priority=-1).enqueue(kind)
        assert scheduler.run_due() == 1
        assert second.refresh().status == "queued"
        assert first.refresh().is_finished
        second.cancel()
    assert [command.result for command in scheduler.commands.list()] == ["done", "done"]


def test_run_due_cannot_be_scaled(scheduler):
    @scheduler.task(name="scale")
    def scale() -> str:
        return scheduler.nodes.scale(current_job().node, workers=2).wait(LONG).result

    job = scale.enqueue()
    assert scheduler.run_due() == 1
    assert "run_due(), which works in one thread" in job.refresh().result


# Nothing hangs


@pytest.mark.parametrize("kind", ["pause", "resume", "quit"])
def test_an_order_to_no_node_at_all_is_undeliverable_at_once(scheduler, kind):
    command = getattr(scheduler.nodes, kind)()
    assert (command.result, command.acknowledged_at) == ("undeliverable", None)
    assert getattr(scheduler.nodes, kind)(77).result == "undeliverable"
    scheduler.run_due()
    [stopped] = scheduler.nodes.list()
    assert getattr(scheduler.nodes, kind)(stopped.id).result == "undeliverable"


def test_an_order_to_a_killed_node_is_undeliverable_at_once_though_no_other_lives(scheduler, start):
    process, node = start()
    kill(process)
    assert scheduler.nodes.scale(node, workers=2).result == "undeliverable"
    assert scheduler.nodes.scale(workers=2).result == "undeliverable"


def test_a_node_killed_with_a_pending_order_is_noticed_by_who_waits_though_no_other_lives(scheduler, start, freeze):
    process, node = start()
    freeze(process)
    command = scheduler.nodes.pause(node)
    with pytest.raises(WaitTimeout):
        command.wait("200ms")
    kill(process)
    done = command.wait(LONG)
    assert (done.result, done.acknowledged_at) == ("undeliverable", None)


def test_who_waits_already_notices_a_death_after_which_nobody_commits_anything(scheduler, start, freeze, eventually):
    process, node = start()
    freeze(process)
    command = scheduler.nodes.pause(node)
    found, looks = [], []
    load = command._orders._load
    command._orders._load = lambda *given: looks.append(given) or load(*given)
    waiter = threading.Thread(target=lambda: found.append(command.wait(LONG).result))
    waiter.start()
    eventually(lambda: len(looks) >= 2)  # before and after it has looked for the node
    kill(process)
    waiter.join(20)
    assert found == ["undeliverable"]


def test_a_node_killed_with_a_pending_order_is_noticed_by_other_nodes_though_nobody_waits(scheduler, start, freeze, eventually):
    process, node = start()
    scheduler.start(workers=1)
    freeze(process)
    command = scheduler.nodes.pause(node)
    kill(process)
    assert eventually(lambda: command.refresh().result) == "undeliverable"


def test_a_node_that_dies_after_it_has_taken_an_order_is_told_of(scheduler, start, eventually):
    process, node = start()
    scheduler.remote("app:hold").enqueue()
    assert line(process) == "holding"
    command = scheduler.nodes.quit(node)
    eventually(lambda: command.refresh().acknowledged_at)
    kill(process)
    assert command.wait(LONG).result == "the node died"


def test_a_stopped_process_obeys_when_it_goes_on(scheduler, start, freeze):
    process, node = start()
    freeze(process)
    command = scheduler.nodes.pause(node)
    with pytest.raises(WaitTimeout):
        command.wait("200ms")
    process.send_signal(signal.SIGCONT)
    assert command.wait(LONG).result == "done"


def test_orders_in_the_very_moment_of_a_stop_all_get_a_result(scheduler):
    results = set()
    for _ in range(10):
        scheduler.start(workers=2)
        node = only(scheduler).id
        given = threading.Barrier(2)
        found = []

        def give(node=node, given=given, found=found):
            given.wait()
            found.extend(scheduler.nodes.pause(node) for _ in range(5))

        thread = threading.Thread(target=give)
        thread.start()
        given.wait()
        scheduler.stop()
        thread.join()
        results |= {command.wait(LONG).result for command in found}
    assert results <= {"done", "undeliverable", *(f"node {node.id} is stopping" for node in scheduler.nodes.list())}


def test_a_node_that_leaves_ends_its_own_orders_only(scheduler, start, freeze):
    process, node = start()
    scheduler.start(workers=1)
    freeze(process)
    command = scheduler.nodes.pause(node)
    scheduler.stop()
    assert command.refresh().result is None
    process.send_signal(signal.SIGCONT)
    assert command.wait(LONG).result == "done"


def test_a_node_out_of_sight_has_the_time_of_a_lease_to_answer(path, sql):
    with Scheduler(path, lease="1s").override(path) as scheduler:
        with scheduler.running(workers=1):
            node = only(scheduler).id
        sql("UPDATE schedfactory_nodes SET status = 'running', boot_id = 'another', host = 'elsewhere' WHERE id = ?", node)
        command = scheduler.nodes.pause(node)
        assert command.result is None
        assert command.wait(LONG).result == "undeliverable"


def test_a_node_out_of_sight_that_does_not_answer_is_noticed_by_others_though_nobody_waits(path, sql, eventually):
    with Scheduler(path, lease="1s").override(path) as scheduler:
        with scheduler.running(workers=1):
            node = only(scheduler).id
        sql("UPDATE schedfactory_nodes SET status = 'running', boot_id = 'another', host = 'elsewhere' WHERE id = ?", node)
        command = scheduler.nodes.pause(node)
        with scheduler.running(workers=1):
            assert eventually(lambda: command.refresh().result) == "undeliverable"


# Given in other ways


def test_an_insert_is_an_order(scheduler, sql, eventually):
    scheduler.start(workers=1)
    node = only(scheduler).id
    sql("INSERT INTO schedfactory_commands (kind, node) VALUES ('pause', ?)", node)
    [command] = eventually(lambda: [one for one in scheduler.commands.list() if one.result])
    assert (command.kind, command.node, command.result) == ("pause", node, "done")
    assert only(scheduler).status == "paused"


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ("'scale', {node}, NULL, NULL", "workers=None is fewer than one"),
        ("'scale', {node}, NULL, -3", "workers=-3 is fewer than one"),
        ("'quit', {node}, -1, NULL", "node {node} has no worker -1; its workers: 1"),
        ("'pause', NULL, NULL, NULL", "undeliverable"),
        ("'pause', 99, NULL, NULL", "undeliverable"),
    ],
)
def test_an_inserted_order_that_makes_no_sense_gets_a_result_that_says_so(scheduler, sql, eventually, columns, said):
    scheduler.start(workers=1)
    node = only(scheduler).id
    sql(f"INSERT INTO schedfactory_commands (kind, node, worker, workers) VALUES ({columns.format(node=node)})")
    [command] = eventually(lambda: [one for one in scheduler.commands.list() if one.result])
    assert command.result == said.format(node=node)
    assert scheduler.health().ok


def test_one_order_reaches_all_nodes_of_all_processes(scheduler, start, eventually):
    (first, one), (second, two) = start(), start()
    command = scheduler.nodes.quit().wait(LONG)
    assert (command.node, command.result) == (None, "done")
    assert {(given.node, given.result) for given in scheduler.commands.list()} == {(one, "done"), (two, "done")}
    for process in (first, second):
        process.communicate(timeout=20)
        assert process.returncode == 0


def test_where_one_of_all_nodes_cannot_obey_the_result_names_it(scheduler, start, freeze):
    process, node = start()
    scheduler.start(workers=1)
    freeze(process)
    command = scheduler.nodes.pause()
    kill(process)
    assert command.wait(LONG).result == f"node {node}: undeliverable"


# Under adverse conditions


def test_a_node_all_of_whose_workers_are_busy_obeys(scheduler, task, gate):
    scheduler.start(workers=1)
    job = task.enqueue()
    gate.await_arrivals()
    assert scheduler.nodes.scale(workers=2).wait(LONG).result == "done"
    assert not job.refresh().is_finished
    gate.open()


def test_a_node_in_trouble_obeys_and_says_so_when_the_database_works_again(scheduler, task, gate, monkeypatch, eventually):
    from schedfactory.running.dispatcher import Dispatcher
    from schedfactory.storage.database import Database

    scheduler.start(workers=1)
    task.enqueue()
    gate.await_arrivals()
    node = only(scheduler).id
    dispatcher, broken = scheduler._node._dispatcher, threading.Event()
    write, leader = Database.write, scheduler._node._thread
    assert isinstance(dispatcher, Dispatcher)

    def failing(database, work, **how):
        if broken.is_set() and threading.current_thread() is leader:
            from schedfactory import StorageError

            raise StorageError("the disk is gone")
        return write(database, work, **how)

    monkeypatch.setattr(Database, "write", failing)
    broken.set()
    gate.open()
    eventually(lambda: dispatcher.trouble)
    command = scheduler.nodes.pause(node)
    eventually(lambda: dispatcher.is_paused)
    assert command.refresh().acknowledged_at is None
    broken.clear()
    assert command.wait(LONG).result == "done"


def test_a_trigger_that_refuses_the_acknowledgement_does_not_stop_the_node(scheduler, noop, sql, eventually):
    scheduler.start(workers=1)
    node = only(scheduler).id
    sql("CREATE TRIGGER refuse BEFORE UPDATE ON schedfactory_commands BEGIN SELECT RAISE(ABORT, 'no'); END")
    command = scheduler.nodes.scale(node, workers=2)
    eventually(lambda: len(threads()) == 2)
    assert noop.enqueue().get_result(LONG) == 1
    sql("DROP TRIGGER refuse")
    assert command.wait(LONG).result == "done"
    assert len(threads()) == 2


def test_a_worker_whose_code_ran_over_its_timeout_quits_when_that_code_ends(scheduler, gate, noop):
    @scheduler.task(name="slow", timeout="100ms")
    def slow() -> None:
        gate()

    scheduler.start(workers=1)
    job = slow.enqueue()
    assert job.wait(LONG).reason == "timeout"
    command = scheduler.nodes.quit(job.refresh().node, worker=1)
    assert noop.enqueue().get_result(LONG) == 1  # by the one who took its place
    gate.open()
    assert command.wait(LONG).result == "done"
    assert threads() == [2]
    assert only(scheduler).workers == 1


# What is kept, and what is refused


def test_commands_are_listed_the_newest_first_and_kept_for_a_week(still, clock):
    still.nodes.pause(7)
    still.nodes.quit(8, worker=3, force=True)
    still.nodes.scale(9, workers=2)
    found = [(one.kind, one.node, one.worker, one.workers, one.force) for one in still.commands.list()]
    assert found == [("scale", 9, None, 2, False), ("quit", 8, 3, None, True), ("pause", 7, None, None, False)]
    assert [one.kind for one in still.commands.list(limit=1)] == ["scale"]
    clock.advance(days=6)
    still.run_due()
    assert len(still.commands.list()) == 3
    clock.advance(days=2)
    still.run_due()
    assert still.commands.list() == []


def test_a_command_whose_row_is_gone_says_so(scheduler, sql):
    command = scheduler.nodes.pause(7)
    sql("DELETE FROM schedfactory_commands")
    with pytest.raises(LookupError, match="the command 1 is gone"):
        command.refresh()
    with pytest.raises(LookupError, match="the command 1 is gone"):
        command.wait()


@pytest.mark.parametrize(
    ("give", "said"),
    [
        (lambda nodes: nodes.scale(workers=0), "workers=0"),
        (lambda nodes: nodes.scale(1, workers=True), "workers=True"),
        (lambda nodes: nodes.pause(0), "node=0"),
        (lambda nodes: nodes.pause("one"), "node='one'"),
        (lambda nodes: nodes.pause(2**63), "node=9223372036854775808 is more than a row can hold"),
        (lambda nodes: nodes.quit(1, worker=0), "worker=0"),
        (lambda nodes: nodes.quit(worker=2), "worker=2 of which node"),
    ],
)
def test_an_order_that_makes_no_sense_is_a_value_error_and_nothing_is_stored(scheduler, give, said):
    with pytest.raises(ValueError, match=said):
        give(scheduler.nodes)
    assert scheduler.commands.list() == []


@pytest.mark.parametrize("force", ["no", 0, None])
def test_force_is_true_or_false_and_nothing_is_stored_otherwise(scheduler, force):
    with pytest.raises(TypeError, match=f"force={force!r} is neither True nor False. Pass one of them"):
        scheduler.nodes.quit(1, force=force)
    assert scheduler.commands.list() == []


def test_reports_tell_of_orders_from_their_begin_to_their_end(scheduler):
    reports = scheduler.reports("node", "command", "worker")
    with scheduler.running(workers=1):
        node = only(scheduler).id
        scheduler.nodes.pause(node).wait(LONG)
        scheduler.nodes.resume(node).wait(LONG)
        scheduler.nodes.scale(node, workers=2).wait(LONG)
        scheduler.nodes.quit(node, worker=2).wait(LONG)
    scheduler.nodes.pause(node)
    scheduler.close()
    told = [(one.subject, one.id, one.status, one.detail) for one in reports]
    of_node = [(status, detail) for subject, _, status, detail in told if subject == "node"]
    assert of_node == [("start", ""), ("pause", ""), ("resume", ""), ("scale", "2"), ("stop", "")]
    of_workers = [(number, status) for subject, number, status, _ in told if subject == "worker"]
    assert of_workers == [(1, "start"), (2, "start"), (2, "quit"), (1, "quit")]
    of_first = {(status, detail) for subject, number, status, detail in told if (subject, number) == ("command", 1)}
    assert of_first == {("given", "pause"), ("acknowledged", ""), ("done", "done")}
    of_last = {(status, detail) for subject, number, status, detail in told if (subject, number) == ("command", 5)}
    assert of_last == {("given", "pause"), ("done", "undeliverable")}
