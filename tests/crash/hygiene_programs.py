"""The programs of test_hygiene, as real processes run them. Each begins with APP; it may be sabotaged before it starts."""

from __future__ import annotations

APP = """
import os, random, signal, sys, threading, time
from schedfactory import Scheduler, current_job

scheduler = Scheduler("jobs.db", keep=None)


def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())


def mb():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


class Custom(BaseException):
    pass


class Broken(Exception):
    def __str__(self):
        raise SystemExit(3)

    __repr__ = __str__


class Hook:
    def __getattr__(self, name):
        raise Custom(name)

    def __repr__(self):
        raise KeyboardInterrupt


ENDS = {"SystemExit": SystemExit(3), "KeyboardInterrupt": KeyboardInterrupt(), "GeneratorExit": GeneratorExit(),
        "Custom": Custom("c"), "Broken": Broken("b"), "StopIteration": StopIteration(1), "MemoryError": MemoryError()}


@scheduler.task
def work(number: int) -> int:
    return number


@scheduler.task
def ends(how: str) -> None:
    raise ENDS[how]


@scheduler.task
def returns(what: str) -> object:
    return {"hook": Hook, "itself": itself, "lock": threading.Lock, "error": Broken}[what]()


def itself():
    found = []
    found.append(found)
    return found


@scheduler.task
def large() -> str:
    return "x" * 100_000_000


@scheduler.task
def endless() -> None:
    say("started")
    while True:
        time.sleep(0.01)


@scheduler.task
def listens() -> None:
    say("started")
    while scheduler.is_running:
        time.sleep(0.005)
    say("stopping")
    time.sleep(3600)


@scheduler.task
def neighbour() -> None:
    say("neighbour")
    if current_job().attempt < 3:
        time.sleep(3600)


@scheduler.task
def poison() -> None:
    say("poison")
    sys.stdin.readline()
    os._exit(3)
"""

RUN = "\nscheduler.run(workers=2)\n"

FORKS = """
import faulthandler, traceback, warnings

warnings.simplefilter("ignore", DeprecationWarning)  # Python's, of forks beside threads
os.register_at_fork(after_in_child=lambda: faulthandler.dump_traceback_later(20, exit=True))  # a child that hangs says where
stop = threading.Event()


def producer(start):
    for number in range(start, start + 10_000):
        if stop.is_set():
            return
        work.enqueue(number)
        time.sleep(0.002)


scheduler.start(workers=3)
threads = [threading.Thread(target=producer, args=(start * 10_000,)) for start in range(2)]
for thread in threads:
    thread.start()
ends = []
for number in range(int(sys.argv[1])):
    pid = os.fork()
    if not pid:
        code = 1
        try:
            assert not scheduler.is_running
            assert scheduler.health().dispatcher == "stopped"
            assert threading.active_count() == 1
            job = work.enqueue(-number - 1)
            assert scheduler.get(job.id).task == job.task
            if number % 3 == 0:
                scheduler.close()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    ends.append(pid)
    time.sleep(random.uniform(0, 0.02))
codes = {os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in ends}
stop.set()
for thread in threads:
    thread.join()
scheduler.wait_idle("30s")
assert scheduler.health().ok and scheduler.health().workers == 3, scheduler.health()
say(codes, len(scheduler.jobs(limit=100_000)), scheduler.counts()["succeeded"])
scheduler.close()
"""

BAD_ENDS = """
scheduler.start(workers=2)
jobs = [ends.enqueue(how) for how in ENDS] + [returns.enqueue(what) for what in sys.argv[1:]]
jobs = [job.wait("5s") for job in jobs]
for job in jobs:
    say(job.args.get("how", "result"), job.status, job.reason)
assert [work.enqueue(number).get_result("10s") for number in range(4)] == [0, 1, 2, 3]
assert scheduler.health().ok and scheduler.health().workers == 2
assert sum("schedfactory-worker" in thread.name for thread in threading.enumerate()) == 2
scheduler.close()
"""

LARGE = """
scheduler.start(workers=1)
work.enqueue(1).wait("10s")
before = mb()
job = large.enqueue().wait("30s")
say(job.status, job.reason, job.error.partition(":")[0])
until = time.monotonic() + 10
while mb() > before + 30 and time.monotonic() < until:
    time.sleep(0.05)
say(round(before), round(mb()))
assert work.enqueue(2).get_result("10s") == 2
scheduler.close()
"""

DIES = """
import schedfactory.running.node as node
from schedfactory.running.dispatcher import Dispatcher

node._AFTER_DEATH_S = 0.05
deaths, begun = 0, threading.Event()
real = Dispatcher.round


def dies(self, now):
    global deaths
    if deaths < int(sys.argv[1]) and self.hand.in_flight:
        deaths += 1
        raise RuntimeError("sabotage")
    return real(self, now)


Dispatcher.round = dies
"""

# Sabotage, for the tests that the harness can fail.

ENDS_ITS_WORKER = """
from schedfactory.running.attempt import Attempts

judge = Attempts._judge


def raises(self, job, retry, error):
    if not isinstance(error, Exception):
        os.write(2, b"sabotage")
        sys.exit()
    return judge(self, job, retry, error)


Attempts._judge = raises
"""

RUNS_ON_AFTER_A_FORK = "\nScheduler._forget_threads = lambda self: None\n"

IS_DEAF = """
from contextlib import contextmanager
import schedfactory.control as control


@contextmanager
def caught(stop):
    signal.signal(signal.SIGTERM, lambda number, frame: stop())
    yield

control.signals.caught = caught
"""

NEVER_GIVES_UP = "\nnode.Node._give_up = lambda self, why: None\n"
