"""A factory at a steady pace, with retention: memory, descriptors, threads and the file stay as large as they were.

A process of its own enqueues and runs 200 jobs a second (fewer, where the machine cannot), which are pruned a second after
their end, and measures itself by /proc. Compared is the last quarter of the jobs with the second one; the first one is for
warming up.
"""

from __future__ import annotations

import json
import sys
import time
from statistics import median

import pytest

SECONDS = 40
PACE = 200
MIB = 1 << 20
BACKLOG = 256 << 10  # bytes that jobs fill while a busy machine holds up their pruning

SOAK = """
import json, os, sys, threading, time
from pathlib import Path
from schedfactory import Scheduler, current_job

path, jobs, pace = Path("jobs.db"), int(sys.argv[1]), int(sys.argv[2])
scheduler = Scheduler(path, keep="1s")
hoard = []
SAMPLES = 40


@scheduler.task(retry=2)
def work(number: int, text: str) -> str:
    if number % 50 == 0 and current_job().attempt == 1:
        raise ValueError(text)
    on_job(number)
    return text[::-1]


def on_job(number):
    pass


def measure():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    descriptors, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
    with scheduler.reading() as connection:
        size = connection.exec_driver_sql("PRAGMA page_count").scalar() * 4096
    return [pages * os.sysconf("SC_PAGE_SIZE"), descriptors, threads, size, Path("jobs.db-wal").stat().st_size]
"""

RUN = """
measured, number, began = [], 0, time.monotonic()
with scheduler.running(workers=4):
    while number < jobs:
        due = min(jobs, int((time.monotonic() - began) * pace))
        if due > number:
            some = range(number, min(due, number + 50))
            for one in some[::2]:
                work.enqueue(one, "some text of a job" * 5)
            scheduler.enqueue_many(work.options(priority=one % 9).call(one, "more of it" * 9) for one in some[1::2])
            number = some[-1] + 1
        if number >= len(measured) * jobs / SAMPLES:
            measured.append(measure())
        time.sleep(0.01)
    scheduler.wait_idle("60s")
    rows = sum(scheduler.counts().values())
    with scheduler.reading() as connection:
        integrity = connection.exec_driver_sql("PRAGMA integrity_check").scalar()
print(json.dumps({"measured": measured, "jobs": number, "rows": rows, "integrity": integrity}))
scheduler.close()
"""

SABOTAGE = {
    "memory": "def on_job(number):\n    hoard.append(bytearray(40_000))\n",
    "descriptors": "def on_job(number):\n    hoard.append(os.open('/dev/null', 0)) if number % 20 == 0 else None\n",
    "threads": (
        "def on_job(number):\n"
        "    if number % 40 == 0:\n"
        "        threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    ),
    "file": "scheduler.configure(path, keep=None)\n",
}


def soak(program, jobs, pace, sabotage=""):
    output, errors = program(SOAK + sabotage + RUN, str(jobs), str(pace)).communicate(timeout=jobs / pace * 3 + 120)
    assert errors == "", errors
    found = json.loads(output)
    assert found["integrity"] == "ok"
    return found


def judge(found):
    """Return what has grown, by name, as text."""
    measured = found["measured"]
    quarter = len(measured) // 4
    second, last = measured[quarter : 2 * quarter], measured[-quarter:]
    before, after = ([max(column) for column in zip(*part)] for part in (second, last))
    limits = {
        "memory": (median(row[0] for row in last), before[0] + 2 * MIB),
        "descriptors": (after[1], before[1]),
        "threads": (after[2], before[2]),
        "file": (after[3], before[3] * 1.2 + BACKLOG),
        "log": (after[4], max(before[4], 8 * MIB) * 1.2),
    }
    return {name: f"{value:.0f} over {limit:.0f}" for name, (value, limit) in limits.items() if value > limit}


@pytest.mark.skipif(sys.platform != "linux", reason="measures itself by /proc")
def test_nothing_grows_while_jobs_come_run_and_go(program, factor, figures):
    began = time.monotonic()
    found = soak(program, SECONDS * PACE * factor, PACE)
    measured = found["measured"]
    grown = judge(found)
    second, last = measured[len(measured) // 4], measured[-1]
    figures(
        jobs=found["jobs"],
        seconds=round(time.monotonic() - began),
        rss_mib=f"{second[0] / MIB:.1f} to {last[0] / MIB:.1f}",
        descriptors=f"{second[1]} to {last[1]}",
        threads=f"{second[2]} to {last[2]}",
        file_kib=f"{second[3] // 1024} to {last[3] // 1024}",
    )
    assert grown == {}
    assert found["rows"] < found["jobs"] / 2


@pytest.mark.skipif(sys.platform != "linux", reason="measures itself by /proc")
@pytest.mark.parametrize("what", SABOTAGE)
def test_the_harness_catches_what_grows(program, what):
    jobs, pace = (4_000, 2_000) if what == "file" else (600, PACE)
    assert what in judge(soak(program, jobs, pace, SABOTAGE[what]))
