"""Limits over all nodes: three real processes, one of which is killed, and what the rows say afterwards."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections import defaultdict
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

from floor import attempts_in, most_at_once, most_in_a_window

from schedfactory import Scheduler

PROGRAM = """
    import os, threading
    from schedfactory import Limit, Scheduler

    scheduler = Scheduler("jobs.db", durability="normal")

    @scheduler.task(name="work", limit=[Limit(4), Limit(2, key="account:{account}"), Limit(rate="60/s")])
    def work(account: int) -> int:
        threading.Event().wait(0.02)
        return os.getpid()

    @scheduler.task(name="mail", queue="mail")
    def mail() -> int:
        threading.Event().wait(0.02)
        return os.getpid()

    if __name__ == "__main__":
        scheduler.run(workers=4)
"""
JOBS, MAILS, ACCOUNTS = 120, 40, 5


def test_over_three_processes_one_of_them_killed_no_limit_is_exceeded(
    path: Path, program: Any, eventually: Any, sql: Any, scheduler: Scheduler
) -> None:
    scheduler.queues.set("mail", concurrency=3, rate="30/s")
    processes = [program(PROGRAM) for _ in range(3)]
    eventually(lambda: sql("SELECT count(*) FROM schedfactory_nodes") == [(3,)])
    for number in range(JOBS):
        scheduler.remote("work").enqueue(account=number % ACCOUNTS)
    scheduler.enqueue_many(
        [scheduler.remote("mail").options(queue="mail", priority=number % 2).call() for number in range(MAILS)]
    )
    eventually(lambda: scheduler.counts()["succeeded"] > 20)
    [victim] = eventually(
        lambda: sql(
            "SELECT DISTINCT pid FROM schedfactory_nodes AS nodes JOIN schedfactory_jobs AS jobs ON jobs.node = nodes.id"
            " WHERE jobs.status = 'running' AND jobs.task = 'work' LIMIT 1"
        )
    )
    os.kill(victim[0], signal.SIGKILL)
    eventually(lambda: scheduler.counts()["succeeded"] == JOBS + MAILS)
    for process in processes:
        process.send_signal(signal.SIGTERM)

    of_task: dict[int, str] = {}
    of_account: dict[int, int] = {}
    with closing(sqlite3.connect(path)) as connection:
        for job, task, account in connection.execute("SELECT id, task, args ->> 'account' FROM schedfactory_jobs"):
            of_task[job], of_account[job] = task, account
    spans: dict[object, list[tuple[str, str | None]]] = defaultdict(list)
    for job, attempts in attempts_in(path).items():
        spans[of_task[job]] += attempts
        if of_task[job] == "work":
            spans[of_account[job]] += attempts
    assert most_at_once(spans["work"]) <= 4
    assert most_at_once(spans["mail"]) <= 3
    assert max(most_at_once(spans[account]) for account in range(ACCOUNTS)) <= 2
    second = timedelta(seconds=1)
    assert most_in_a_window([start for start, _ in spans["work"]], second) <= 60
    assert most_in_a_window([start for start, _ in spans["mail"]], second) <= 30


def test_a_queue_that_another_process_pauses_starts_nothing_more_until_it_resumes(
    program: Any, eventually: Any, sql: Any, scheduler: Scheduler
) -> None:
    program(PROGRAM)
    mail = scheduler.remote("mail").options(queue="mail")
    mail.enqueue().wait("20s")
    scheduler.queues.pause("mail")
    jobs = [mail.enqueue() for _ in range(3)]
    scheduler.remote("work").enqueue(account=1).wait("20s")  # which came later, and so was looked at later
    assert [job.refresh().status for job in jobs] == ["queued"] * 3
    scheduler.queues.resume("mail")
    assert [job.wait("20s").status for job in jobs] == ["succeeded"] * 3
