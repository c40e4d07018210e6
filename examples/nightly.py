"""Work for the night: planned by one process, done by another, and it survives what lies between.

    python examples/nightly.py plan [MOMENT]     queue it for MOMENT, such as 2026-12-24T02:00+01:00; the next 02:00 unless said
    python examples/nightly.py list              show what is planned and what has been done
    python examples/nightly.py work              do it when its time has come; stop with Ctrl-C, start again, nothing is lost

Plan in the afternoon, switch the machine off and on, start `work`: the jobs are in nightly.db. What was due meanwhile
starts at once.
"""

import shutil
import sys
from datetime import date
from pathlib import Path

import pendulum

from schedfactory import Retry, Scheduler

scheduler = Scheduler("nightly.db")


@scheduler.task(name="nightly.report", retry=Retry(3, base="1m"))
def report(day: date) -> Path:
    file = Path(f"report-{day}.txt")
    counts = scheduler.counts()
    file.write_text("".join(f"{status:10} {number}\n" for status, number in counts.items()))
    return file


@scheduler.task(name="nightly.warn_if_full", priority=10)
def warn_if_full(folder: Path) -> str:
    usage = shutil.disk_usage(folder)
    return f"{usage.free / usage.total:.0%} of the disk is free"


def plan(moment: str | None = None) -> None:
    run_at = moment or next_night()
    jobs = scheduler.enqueue_many(
        [
            report.options(run_at=run_at).call(date.today()),
            warn_if_full.options(run_at=run_at).call(Path.cwd()),  # due at the same time, and first by its priority
        ]
    )
    for job in jobs:
        print(f"job {job.id}: {job.task} at {job.run_at}")


def next_night() -> pendulum.DateTime:
    night = pendulum.now().at(2)
    return night if night.is_future() else night.add(days=1)


def show() -> None:
    for job in scheduler.jobs():
        print(f"job {job.id}: {job.task} {job.status}, due {job.run_at}, {job.result or job.error or 'not run yet'}")


def work() -> None:
    scheduler.run(workers=1)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["plan", *moment]:
            plan(*moment)
        case ["list"]:
            show()
        case ["work"]:
            work()
        case _:
            sys.exit(__doc__)
