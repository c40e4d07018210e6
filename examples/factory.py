"""A factory: workers take jobs from the queue as they become free, and report when they start and end one.

    python examples/factory.py [WORKERS [PARTS]]

Each job has an id of its own, a start, an end, a status and a result. They stay in factory.db when this program has ended.
"""

import sys
import threading
import time
from collections.abc import Iterator

from schedfactory import Scheduler, StatusReport

scheduler = Scheduler("factory.db")


@scheduler.task(name="factory.build")
def build(part: int) -> str:
    time.sleep(part % 4 / 10)  # some parts take longer than others
    return f"part {part}"


def tell(reports: Iterator[StatusReport]) -> None:
    for report in reports:
        print(f"{report.at:HH:mm:ss.SSS}  job {report.id} {report.status} {report.detail}".rstrip(), flush=True)


def main(workers: int = 10, parts: int = 20) -> None:
    teller = threading.Thread(target=tell, args=[scheduler.reports("job")], daemon=True)
    with scheduler.running(workers):  # fewer than one is a ValueError
        teller.start()
        jobs = scheduler.enqueue_many([build.call(part) for part in range(1, parts + 1)])
        scheduler.wait_idle()
    scheduler.close()  # ends the reports
    teller.join()

    print("\n job  worker  start         end           status     result")
    for job in (job.refresh() for job in jobs):
        start, end = (f"{moment:HH:mm:ss.SSS}" for moment in (job.started_at, job.finished_at))
        print(f"{job.id:4}  {job.worker:6}  {start}  {end}  {job.status}  {job.result}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
